//! What was found before and after, place by place.

use serde::Serialize;
use tidings_replay::erasure::Erasing;

use super::{announce::Announced, folder::Before};
use crate::replay::exit::{Code, Outcome, WithCode};

/// A topic of the log, the views, or a table of the archive.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    place: String,
    /// Records that it has; none where nobody has counted.
    records: Option<u64>,
    /// Records or rows that held content of what is erased.
    held_before: u64,
    /// Those that hold some now.
    held_after: u64,
    /// Records or rows in which one of the texts searched for stands now, whoever's they are.
    found_after: u64,
}

impl Place {
    pub(super) fn new(place: String, records: Option<u64>, held: u64, holds: u64, found: u64) -> Self {
        Self { place, records, held_before: held, held_after: holds, found_after: found }
    }
}

/// What was done, and what was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) data: String,
    /// Ids: their names are gone.
    pub(super) users: Vec<String>,
    pub(super) is_dry_run: bool,
    /// Views and archive were not looked at: the program that runs has them open.
    pub(super) is_of_log_alone: bool,
    pub(super) announced: Announced,
    pub(super) log_records_rewritten: u64,
    pub(super) log_files_rewritten: u64,
    pub(super) places: Vec<Place>,
    /// Texts, names and hashes that were searched for, byte for byte, everywhere.
    pub(super) searched_for: u64,
    /// Those that are too short to say whose they are.
    pub(super) too_short_to_search: u64,
    /// Those that are more than one run searches for.
    pub(super) beyond_the_limit: u64,
    /// Those that stand in what others wrote, too, and may be found there.
    pub(super) said_by_others: u64,
    pub(super) files_searched: u64,
    /// Files of the data folder in which one stands as it is on the disk.
    pub(super) files_found: Vec<String>,
    /// What has all of it until somebody does something about it.
    pub(super) still_held_in: Vec<String>,
    /// Of the old topics, and of those that take their place.
    #[serde(skip)]
    pub(super) prefixes: Option<(String, String)>,
}

impl Report {
    /// What would be done.
    pub(super) fn planned(place: String, named: &[Erasing], before: Before) -> Self {
        let topics = before.topics.iter();
        let mut places: Vec<Place> = topics
            .map(|(topic, records, held)| Place::new(format!("log {}", topic.name()), Some(*records), *held, *held, 0))
            .collect();
        if !before.is_of_log_alone {
            places.push(Place::new("views".to_owned(), None, before.view_rows, before.view_rows, 0));
        }
        let tables = before.tables.iter();
        places.extend(tables.map(|of| Place::new(format!("archive {}", of.table), None, of.rows, of.rows, 0)));
        Self {
            data: place,
            users: named.iter().map(|erasing| erasing.user.to_string()).collect(),
            is_dry_run: true,
            is_of_log_alone: before.is_of_log_alone,
            announced: Announced::default(),
            log_records_rewritten: 0,
            log_files_rewritten: 0,
            places,
            searched_for: before.needles.found.len() as u64,
            too_short_to_search: before.needles.short,
            beyond_the_limit: before.needles.beyond,
            said_by_others: 0,
            files_searched: 0,
            files_found: Vec::new(),
            still_held_in: Vec::new(),
            prefixes: None,
        }
    }

    /// Whether nothing of what was erased was found.
    pub(super) fn is_clean(&self) -> bool {
        self.files_found.is_empty() && self.places.iter().all(|place| place.held_after + place.found_after == 0)
    }

    pub(super) fn show(&self, as_json: bool) -> Outcome {
        if as_json {
            let mut report = serde_json::to_value(self).code(Code::Target)?;
            report["is_clean"] = (!self.is_dry_run && self.is_clean()).into();
            outln!("{}", serde_json::to_string_pretty(&report).code(Code::Target)?);
            return Ok(());
        }
        let Announced { messages_deleted, groups_left, accounts_ended } = self.announced;
        if self.is_dry_run {
            outln!("would be erased from {}:", self.data);
        } else {
            outln!("erased from {}:", self.data);
            outln!("  {accounts_ended} accounts ended, {messages_deleted} messages deleted, {groups_left} groups left");
            let (records, files) = (self.log_records_rewritten, self.log_files_rewritten);
            match &self.prefixes {
                None => outln!("  {records} records of the log rewritten, in {files} files"),
                Some((_, new)) => outln!("  {records} records of the log rewritten, on their way into {new}*"),
            }
        }
        outln!("{:28} {:>12} {:>12} {:>12} {:>12}", "PLACE", "RECORDS", "HELD BEFORE", "HOLD NOW", "FOUND NOW");
        for place in &self.places {
            let records = place.records.map_or_else(String::new, |records| records.to_string());
            let after = |count: u64| if self.is_dry_run { String::new() } else { count.to_string() };
            let (held, holds, found) = (place.held_before, after(place.held_after), after(place.found_after));
            outln!("{:28} {records:>12} {held:>12} {holds:>12} {found:>12}", place.place);
        }
        if self.is_dry_run {
            if self.is_of_log_alone {
                outln!("views and archive were not counted: the program that runs on the folder has them open");
            }
            outln!("nothing was changed");
            return Ok(());
        }
        outln!(
            "searched for {} texts, names and hashes in every record, row and {} files ({} too short, {} beyond the \
             limit, {} that others wrote, too)",
            self.searched_for,
            self.files_searched,
            self.too_short_to_search,
            self.beyond_the_limit,
            self.said_by_others
        );
        for file in &self.files_found {
            outln!("found in {file}");
        }
        outln!("{}", if self.is_clean() { "nothing is left" } else { "something is left" });
        for place in &self.still_held_in {
            outln!("still has all of it: {place}");
        }
        if let Some((old, new)) = &self.prefixes {
            outln!("next: set kafka.topic_prefix to {new:?} in all roles and start the fleet; if all is well, run");
            outln!("      tidings erase --drop-prefix {old}");
        }
        outln!("dumps, backups and other systems' copies are outside of this: erase from them, too");
        Ok(())
    }
}

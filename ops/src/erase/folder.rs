//! What something is erased from: the log, the views and the archive, one after the other, in a data folder or on the servers of
//! a fleet. Each step can be repeated, so an attempt that was interrupted is simply made again.

use std::path::PathBuf;

use anyhow::Context;
use tidings_dataflow::archive::erasure::ErasedTable;
use tidings_ingest::Log;
use tidings_replay::{
    Scan,
    erasure::{Erasing, Needles, Rules, needles, rules},
};
use tidings_schemas::{clock::SystemClock, ids::UserId, topics::Topic};
use tokio::runtime::Runtime;

use super::{
    announce::announce,
    logs::Logs,
    report::{Place, Report},
    search::Search,
    stores::{OpenArchive, Views},
};
use crate::{
    config::{LogKind, Settings, ViewsKind},
    replay::{
        exit::{Code, Failure, WithCode},
        progress,
        target::Target,
    },
};

/// An open data folder, which nobody else has open, or the log and the stores of a fleet.
pub(super) struct Folder {
    logs: Logs,
    log: Target,
    views: Views,
    archive: Option<OpenArchive>,
    runtime: Runtime,
    /// Where files are that are searched.
    data: Option<PathBuf>,
}

/// What there is to erase.
pub(super) struct Before {
    /// Of each topic: its records, and those that hold some of it.
    pub(super) topics: Vec<(Topic, u64, u64)>,
    /// Rows of the views that hold some of it.
    pub(super) view_rows: u64,
    /// Of each table of the archive; none: there is no archive.
    pub(super) tables: Vec<ErasedTable>,
    /// The texts themselves.
    pub(super) needles: Needles,
    /// Views and archive were not looked at: the program that runs has them open.
    pub(super) is_of_log_alone: bool,
}

impl Before {
    /// What there is in the log, which may be in use.
    ///
    /// # Errors
    /// Something cannot be read.
    pub(super) fn of_log(log: &dyn Log, named: &[Erasing]) -> Result<Self, Failure> {
        let rules = rules(log, &users_of(named), || {})?;
        let (topics, needles) = (holding(log, &rules)?, needles(log, &rules)?);
        Ok(Self { topics, view_rows: 0, tables: Vec::new(), needles, is_of_log_alone: true })
    }

    pub(super) fn log_records(&self) -> u64 {
        self.topics.iter().map(|(_, _, holding)| holding).sum()
    }

    pub(super) fn archive_rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

impl Folder {
    /// Opens it.
    ///
    /// # Errors
    /// A program runs on it, or something in it cannot be opened.
    pub(super) fn open(settings: &Settings, logs: Logs) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.code(Code::Target)?;
        let log = logs.write(settings)?;
        let archive = OpenArchive::of(settings, &runtime)?;
        let views = {
            let _in_runtime = runtime.enter();
            Views::of(settings, log.log.log_id())?
        };
        let has_folder = settings.node.log == LogKind::Embedded
            || settings.node.views == ViewsKind::Embedded
            || matches!(archive, Some(OpenArchive::Embedded(_)));
        let data = has_folder.then(|| settings.node.data.clone()).filter(|data| data.is_dir());
        Ok(Self { logs, log, views, archive, runtime, data })
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        self.logs.place()
    }

    /// Refuses while a fleet is at work on it.
    ///
    /// # Errors
    /// It is, or the log cannot be read.
    pub(super) fn check_stopped(&self) -> Result<(), Failure> {
        self.logs.check_stopped(&*self.log.log)
    }

    /// Looks what there is.
    ///
    /// # Errors
    /// Something cannot be read.
    pub(super) fn look(&self, named: &[Erasing]) -> Result<Before, Failure> {
        let log = &*self.log.log;
        let rules = rules(log, &users_of(named), || {})?;
        Ok(Before {
            topics: holding(log, &rules)?,
            view_rows: self.views.count(&self.runtime, log.log_id(), &rules, |_| false)?.0,
            tables: self.tables(&rules)?,
            needles: needles(log, &rules)?,
            is_of_log_alone: false,
        })
    }

    fn tables(&self, rules: &Rules) -> Result<Vec<ErasedTable>, Failure> {
        let Some(archive) = &self.archive else { return Ok(Vec::new()) };
        let users: Vec<UserId> = rules.users.iter().copied().collect();
        self.runtime.block_on(archive.erasable(&users)).code(Code::Target)
    }

    /// Erases, and looks again.
    ///
    /// # Errors
    /// Something cannot be read or written. Run again, it goes on.
    pub(super) fn erase(self, named: &[Erasing], before: Before) -> Result<Report, Failure> {
        let (place, log_id) = (self.place(), self.log.log.log_id());
        let known = rules(&*self.log.log, &users_of(named), || {})?;
        let announced = announce(&self.log, named, &known, &SystemClock::new())?;
        // With what was said just now.
        let rules = rules(&*self.log.log, &users_of(named), || {})?;
        let users: Vec<UserId> = rules.users.iter().copied().collect();
        let Self { logs, log, views, archive, runtime, data } = self;
        // Its threads end before the rewriting takes the lock.
        drop(log);
        let total = before.topics.iter().map(|(_, records, _)| records).sum();
        let bar = progress::Shown(progress::bar("records", total));
        let rewritten = logs.rewrite(&rules, || bar.0.inc(1))?;
        drop(bar);
        if let Some(archive) = &archive {
            runtime.block_on(archive.erase(&users)).code(Code::Target)?;
        }
        let mut still_held_in: Vec<String> = views.rewrite(&runtime, log_id, &rules)?.into_iter().collect();

        // From here on only to look.
        let log = logs.rewritten()?;
        let search = Search::new(&before.needles, &*log, &rules)?;
        let mut places = Vec::new();
        for ((topic, records, held), (_, _, holds)) in before.topics.iter().zip(holding(&*log, &rules)?) {
            let found = search.in_topic(&*log, *topic)?;
            places.push(Place::new(format!("log {}", topic.name()), Some(*records), *held, holds, found));
        }
        drop(log);
        if let Some((old, _)) = logs.prefixes() {
            still_held_in.insert(0, format!("topics {old}*"));
        }
        let prefixes = logs.prefixes().map(|(old, new)| (old.to_owned(), new.to_owned()));
        let looked = Looking { views, runtime, archive };
        places.extend(looked.stores(&before, log_id, &rules, &search)?);
        let (files, with_needles) = match &data {
            Some(data) => {
                search.in_files(data).with_context(|| format!("cannot search {}", data.display())).code(Code::Target)?
            }
            None => (0, Vec::new()),
        };
        Ok(Report {
            data: place,
            users: named.iter().map(|erasing| erasing.user.to_string()).collect(),
            is_dry_run: false,
            is_of_log_alone: false,
            announced,
            log_records_rewritten: rewritten.changed,
            log_files_rewritten: rewritten.files,
            places,
            searched_for: search.len() as u64,
            too_short_to_search: before.needles.short,
            beyond_the_limit: before.needles.beyond,
            said_by_others: search.said_by_others as u64,
            files_searched: files,
            files_found: with_needles.iter().map(|path| path.display().to_string()).collect(),
            still_held_in,
            prefixes,
        })
    }
}

/// What is looked at after the erasure, besides the log.
struct Looking {
    views: Views,
    runtime: Runtime,
    archive: Option<OpenArchive>,
}

impl Looking {
    fn stores(&self, before: &Before, log_id: u128, rules: &Rules, search: &Search) -> Result<Vec<Place>, Failure> {
        let mut places = Vec::new();
        let (holds, found) = self.views.count(&self.runtime, log_id, rules, |value| search.is_in(value))?;
        places.push(Place::new("views".to_owned(), None, before.view_rows, holds, found));
        let Some(archive) = &self.archive else { return Ok(places) };
        let users: Vec<UserId> = rules.users.iter().copied().collect();
        let tables = self.runtime.block_on(archive.erasable(&users)).code(Code::Target)?;
        for (before, after) in before.tables.iter().zip(tables) {
            places.push(Place::new(format!("archive {}", before.table), None, before.rows, after.rows, 0));
        }
        let found = self.runtime.block_on(archive.search(&search.as_slices())).code(Code::Target)?;
        places.push(Place::new("archive, all tables".to_owned(), None, before.archive_rows(), 0, found));
        Ok(places)
    }
}

fn users_of(named: &[Erasing]) -> Vec<UserId> {
    named.iter().map(|erasing| erasing.user).collect()
}

/// Of each topic: its records, and those that hold something to erase.
fn holding(log: &dyn Log, rules: &Rules) -> Result<Vec<(Topic, u64, u64)>, Failure> {
    let mut topics = Vec::new();
    for topic in Topic::ALL {
        let (mut records, mut holding) = (0, 0);
        for partition in 0..log.partitions(topic) {
            for record in Scan::new(log, topic, partition, 0..u64::MAX)? {
                records += 1;
                holding += u64::from(rules.replace(topic, partition, &record?).is_some());
            }
        }
        topics.push((topic, records, holding));
    }
    Ok(topics)
}

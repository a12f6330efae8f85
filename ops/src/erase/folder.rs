//! A data folder from which something is erased: the log, the views and the archive, one after the other. Each step can be
//! repeated, so an attempt that was interrupted is simply made again.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use anyhow::Context;
use tidings_dataflow::{
    archive::{
        Archive as _, ArchiveSettings, EmbeddedArchive, erasure::ErasedTable,
        libchdb::configuration::EngineConfiguration,
    },
    views::store::rewrite::{self as views, Rewrite},
};
use tidings_ingest::{Log, ReadOnlyLog, Rewritten, rewrite};
use tidings_replay::{
    Scan,
    erasure::{Erasing, Needles, Rules, needles, rules},
};
use tidings_schemas::{
    clock::{Clock, Entropy, SystemClock, SystemEntropy},
    ids::UserId,
    topics::Topic,
};
use tokio::runtime::Runtime;

use super::{
    announce::announce,
    report::{Place, Report},
    search::Search,
};
use crate::{
    config::Settings,
    replay::{
        exit::{Code, Failure, WithCode},
        progress,
        target::Target,
    },
};

/// An open data folder: nobody else has it open.
pub(super) struct Folder {
    pub(super) settings: Settings,
    log: Target,
    archive: Option<EmbeddedArchive>,
    runtime: Runtime,
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
    pub(super) fn open(settings: Settings) -> Result<Self, Failure> {
        let data = settings.node.data.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.code(Code::Target)?;
        let log = Target::folder(&settings, &data)?;
        let folder = data.join("archive");
        let archive = if folder.join("engine").is_dir() {
            let mut engine = EngineConfiguration::in_folder(&folder);
            if let Some(library) = &settings.archive.library {
                engine.library.clone_from(library);
            }
            let of = ArchiveSettings { retention_days: settings.archive.retention_days, ..ArchiveSettings::default() };
            let archive = EmbeddedArchive::open(&engine, of)
                .context("the archive cannot be opened, and it may hold what is to be erased")
                .code(Code::Target)?;
            runtime.block_on(archive.migrate()).code(Code::Target)?;
            Some(archive)
        } else {
            None
        };
        Ok(Self { settings, log, archive, runtime })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.settings.node.data.clone()
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
            view_rows: in_views(&self.settings, log.log_id(), &rules, |_| false)?.0,
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
        let data = self.data();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let log_id = self.log.log.log_id();
        let known = rules(&*self.log.log, &users_of(named), || {})?;
        let announced = announce(&self.log, named, &known, &*clock)?;
        // With what was said just now.
        let rules = rules(&*self.log.log, &users_of(named), || {})?;
        let users: Vec<UserId> = rules.users.iter().copied().collect();
        let Self { settings, log, archive, runtime } = self;
        // Its threads end before the rewriting takes the lock.
        drop(log);
        let total = before.topics.iter().map(|(_, records, _)| records).sum();
        let bar = progress::Shown(progress::bar("records", total));
        let mut config = settings.log.clone();
        config.directory = data.join("log");
        let rewritten = rewrite(&config, &clock, &entropy, |topic, partition, record| {
            bar.0.inc(1);
            rules.replace(topic, partition, record)
        });
        let rewritten: Rewritten = rewritten.code(Code::Target)?;
        drop(bar);
        if let Some(archive) = &archive {
            runtime.block_on(archive.erase_alone(&users)).code(Code::Target)?;
        }
        let folder = data.join("views");
        views::rewrite(&folder, log_id, &settings.views, |table, value| rules.row(table, value)).code(Code::Target)?;

        // From here on only to look.
        let log = ReadOnlyLog::open(&config.directory)?;
        let search = Search::new(&before.needles, &log, &rules)?;
        let mut places = Vec::new();
        for ((topic, records, held), (_, _, holds)) in before.topics.iter().zip(holding(&log, &rules)?) {
            let found = search.in_topic(&log, *topic)?;
            places.push(Place::new(format!("log {}", topic.name()), Some(*records), *held, holds, found));
        }
        drop(log);
        let looked = Looking { settings, runtime, archive };
        places.extend(looked.stores(&before, log_id, &rules, &search)?);
        let (files, with_needles) =
            search.in_files(&data).with_context(|| format!("cannot search {}", data.display())).code(Code::Target)?;
        Ok(Report {
            data: data.display().to_string(),
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
        })
    }
}

/// What is looked at after the erasure, besides the log.
struct Looking {
    settings: Settings,
    runtime: Runtime,
    archive: Option<EmbeddedArchive>,
}

impl Looking {
    fn stores(&self, before: &Before, log_id: u128, rules: &Rules, search: &Search) -> Result<Vec<Place>, Failure> {
        let mut places = Vec::new();
        let (holds, found) = in_views(&self.settings, log_id, rules, |value| search.is_in(value))?;
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

/// Rows of the views that hold something to erase, and rows in which something is found.
fn in_views(
    settings: &Settings,
    log_id: u128,
    rules: &Rules,
    is_found: impl Fn(&[u8]) -> bool,
) -> Result<(u64, u64), Failure> {
    let (mut holding, mut found) = (0, 0);
    let look = |table, value: &bytes::Bytes| {
        holding += u64::from(rules.row(table, value) != Rewrite::Keep);
        found += u64::from(is_found(value));
        ControlFlow::Continue(())
    };
    views::each_row(&settings.node.data.join("views"), log_id, &settings.views, look).code(Code::Target)?;
    Ok((holding, found))
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

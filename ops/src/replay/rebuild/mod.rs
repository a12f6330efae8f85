//! `tidings replay rebuild`: the views or the archive built anew from the log, compared with those in use, and put in their
//! place, while the system runs.
//!
//! - [`request`]: what is to be rebuilt, and what comes of it. [`job`]: the rebuild, by whoever has the stores open.
//!   [`show`]: how it is told.

pub(crate) mod job;
pub(crate) mod request;
mod show;

use std::sync::Arc;

use tidings_dataflow::{
    archive::{
        ArchiveSettings, ClickHouseArchive, EmbeddedArchive, libchdb::configuration::EngineConfiguration,
        projection as archive_projection, rebuild::Rebuilding,
    },
    views::{projection as views_projection, redis::RedisViews, store::FjallViews},
};
use tidings_replay::{
    Bound,
    rebuild::{Progress, RebuildError, Step},
};
use tidings_schemas::{
    clock::{Entropy, SystemEntropy},
    topics::Topic,
};

use self::{
    job::{Job, OpenViews},
    request::{Answer, Report, Request, SpanOf, What},
};
use super::{
    exit::{Code, Failure, Outcome, WithCode},
    progress,
    ranges::{RangeArgs, topics},
    source::{Source, SourceArgs},
};
use crate::{
    config::{ArchiveKind, LogKind, ViewsKind},
    node::admin,
};

/// What is built anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// What edges read: conversation lists, members, recent entries, inboxes.
    Views,
    /// What SQL reads: every message.
    Archive,
}

/// What to rebuild, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct RebuildArgs {
    /// The store.
    #[arg(value_enum)]
    pub store: Store,
    /// Which log, and by its settings the stores that are filled from it (node.views, redis, node.archive, clickhouse).
    #[command(flatten)]
    pub source: SourceArgs,
    /// Archive: only the rows of these records, which are put right where they are.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Archive: only these topics' tables (timeline, inbox, signals).
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    pub topic: Vec<String>,
    /// Build and compare only: the old ones stay in use, the new ones beside them.
    #[arg(long)]
    pub beside: bool,
    /// Redis: the number of the database that the new views are built in, which is empty. Left out: the next one.
    #[arg(long, value_name = "N")]
    pub database: Option<u32>,
    /// Show the first differences, at most this many (of each table).
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub show: usize,
    /// Only say what would be read.
    #[arg(long)]
    pub dry_run: bool,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Rebuilds.
pub fn run(args: &RebuildArgs) -> Outcome {
    let source = args.source.open()?;
    let what = what(args, &source)?;
    if args.dry_run {
        return plan(args, &source, &what);
    }
    let request = Request { what, beside: args.beside, show: args.show };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let report = runtime.code(Code::Target)?.block_on(rebuild(args, &source, &request))?;
    show::report(args, &source, &report)?;
    let found = match &report {
        Report::Views(report) => report.comparison.as_ref().map_or(0, |comparison| comparison.differences()),
        Report::Archive(report) => report.tables.iter().map(|table| table.differences()).sum(),
    };
    if args.beside && found > 0 {
        return Err(Failure::new(Code::Found, format!("{found} rows in use are not what follows from the log")));
    }
    Ok(())
}

/// By the program that runs on the data folder, if there is one; else here.
async fn rebuild(args: &RebuildArgs, source: &Source, request: &Request) -> Result<Report, Failure> {
    let bar = progress::Shown(progress::bar("records", 0));
    let on_progress = |at: Progress| {
        let what = match at.step {
            Step::Building => "records",
            Step::Comparing => "compared",
            Step::Switching => "switched",
        };
        bar.0.set_message(what);
        bar.0.set_length(at.total.max(at.done));
        bar.0.set_position(at.done);
    };
    let settings = &source.settings;
    let is_own = match args.store {
        Store::Views => settings.node.views == ViewsKind::Embedded,
        Store::Archive => settings.node.archive == ArchiveKind::Embedded,
    };
    if is_own && settings.node.log == LogKind::Kafka {
        let hint = match args.store {
            Store::Views => "node.views = \"redis\"",
            Store::Archive => "node.archive = \"clickhouse\"",
        };
        let error = format!(
            "with the log on Kafka the settings must say where the store is (hint: --config FILE, or --set {hint})"
        );
        return Err(Failure::new(Code::Usage, error));
    }
    if is_own && let Some(answer) = admin::ask(&settings.node.data, request, on_progress).await.code(Code::Target)? {
        return match answer {
            Answer::Done(report) => Ok(report),
            Answer::Failed { error, is_not_kept } => {
                Err(Failure::new(if is_not_kept { Code::Usage } else { Code::Target }, error))
            }
            Answer::Progress(_) => Err(Failure::new(Code::Target, "the program ended in the middle of an answer")),
        };
    }
    let job = open(args, source).await?;
    Ok(job.run(request, &on_progress).await?)
}

impl From<RebuildError> for Failure {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::Scan(error) => error.into(),
            RebuildError::NotKept { .. } => Self { code: Code::Usage, error: error.into() },
            error => Self { code: Code::Target, error: error.into() },
        }
    }
}

/// The stores, opened here: no program runs on them, or they are servers.
async fn open(args: &RebuildArgs, source: &Source) -> Result<Job, Failure> {
    let settings = &source.settings;
    let data = settings.node.data.clone();
    let token = || SystemEntropy.next_u64();
    let mut job = Job {
        log: Arc::clone(&source.log),
        views: None,
        archive: None,
        projection: settings.projection.clone(),
        is_alone: false,
    };
    match args.store {
        Store::Views if settings.node.views == ViewsKind::Embedded => {
            let views = FjallViews::open(&data.join("views"), source.log.log_id(), &settings.views);
            let views = views.code(Code::Target)?;
            job.is_alone = true;
            job.views = Some(OpenViews::Embedded { views, data, config: settings.views.clone() });
        }
        Store::Views => {
            let log_id = source.log.log_id();
            let old = RedisViews::new(&settings.redis, log_id, token()).code(Code::Usage)?;
            if !old.are_ours().await.code(Code::Target)? {
                let error = "the views in Redis are not this log's (hint: redis.address, redis.prefix; the program that \
                             writes them fills them by itself when they are empty)";
                return Err(Failure::new(Code::Target, error));
            }
            let mut config = settings.redis.clone();
            config.database = args.database.unwrap_or(config.database + 1);
            if config.database == settings.redis.database {
                return Err(Failure::new(Code::Usage, "--database is the database of the views in use"));
            }
            let new = RedisViews::new(&config, log_id, token()).code(Code::Usage)?;
            job.views = Some(OpenViews::Redis { old, new });
        }
        Store::Archive => {
            let days = settings.archive.retention_days;
            let archive: Option<Arc<dyn Rebuilding>> = match settings.node.archive {
                ArchiveKind::Embedded => {
                    let mut engine = EngineConfiguration::in_folder(data.join("archive"));
                    if let Some(library) = &settings.archive.library {
                        engine.library.clone_from(library);
                    }
                    let own = ArchiveSettings { retention_days: days, ..ArchiveSettings::default() };
                    Some(Arc::new(EmbeddedArchive::open(&engine, own).code(Code::Target)?))
                }
                ArchiveKind::ClickHouse => {
                    let archive = ClickHouseArchive::new(&settings.clickhouse, days, token());
                    Some(Arc::new(archive.code(Code::Usage)?))
                }
                ArchiveKind::None => None,
            };
            job.archive = archive;
        }
    }
    Ok(job)
}

fn what(args: &RebuildArgs, source: &Source) -> Result<What, Failure> {
    let RangeArgs { partition, offset, from, to } = &args.range;
    let is_whole = partition.is_empty() && *offset == (Bound::Beginning, None) && from.is_none() && to.is_none();
    match args.store {
        Store::Views if is_whole && args.topic.is_empty() => Ok(What::Views),
        Store::Views => Err(Failure::new(
            Code::Usage,
            "views are built of the whole log: a part of it says nothing of a member's role or a cursor (hint: leave the range out)",
        )),
        Store::Archive => {
            let named = topics(&args.topic).code(Code::Usage)?;
            let archived = archive_projection::TOPICS;
            if let Some(other) = named.iter().find(|topic| !archived.contains(topic)) {
                let error = format!("{} is not archived (hint: timeline, inbox, signals)", other.name());
                return Err(Failure::new(Code::Usage, error));
            }
            let named = if named.is_empty() { archived.to_vec() } else { named };
            if is_whole {
                return Ok(What::Archive(named.iter().map(|topic| topic.name().to_owned()).collect()));
            }
            let selection = args.range.selection(named).code(Code::Usage)?;
            let spans = selection.resolve(&*source.log)?;
            Ok(What::ArchiveSpans(spans.iter().map(SpanOf::of).collect()))
        }
    }
}

fn plan(args: &RebuildArgs, source: &Source, what: &What) -> Outcome {
    let whole = |topics: &[Topic]| -> Result<Vec<SpanOf>, Failure> {
        let mut spans = Vec::new();
        for topic in topics {
            for partition in 0..source.log.partitions(*topic) {
                let range = source.log.range(*topic, partition)?;
                let topic = topic.name().to_owned();
                spans.push(SpanOf { topic, partition, start: range.start, end: range.end });
            }
        }
        Ok(spans)
    };
    let spans = match what {
        What::Views => whole(&views_projection::TOPICS)?,
        What::Archive(names) => {
            let topics: Vec<Topic> = names.iter().filter_map(|name| Topic::from_name(name)).collect();
            whole(&topics)?
        }
        What::ArchiveSpans(spans) => spans.clone(),
    };
    show::plan(args, source, &spans)
}

//! `tidings replay import`: a raw dump into an empty log.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
    sync::Arc,
};

use serde::Serialize;
use tidings_ingest::{BulkLog, KafkaBulkLog};
use tidings_replay::{
    import::{self, ImportError, Imported},
    raw::{Header, RawError, RawReader},
};
use tidings_schemas::clock::{Entropy, SystemClock, SystemEntropy};

use super::{
    exit::{Code, Failure, Outcome, WithCode},
    progress,
    target::TargetArgs,
};
use crate::config::{Settings, SettingsArgs};

/// What to import, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportArgs {
    /// A raw dump (`tidings replay dump … --output raw`); - for standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Only read the dump, check it, and say what is in it.
    #[arg(long)]
    pub dry_run: bool,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    header: &'a Header,
    is_whole: bool,
    #[serde(flatten)]
    imported: Imported,
    log_id: Option<String>,
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let code = match &error {
            ImportError::Raw(RawError::Io { .. }) => Code::Source,
            ImportError::Raw(RawError::NotADump | RawError::Newer { .. }) | ImportError::Selection => Code::Usage,
            ImportError::Raw(_) | ImportError::Gap { .. } => Code::Found,
            ImportError::Log(_) => Code::Target,
            ImportError::Partitions => Code::Usage,
        };
        Self { code, error: error.into() }
    }
}

/// Imports.
pub fn run(args: &ImportArgs) -> Outcome {
    let input: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.file).map_err(anyhow::Error::from);
        let file = file.map_err(|error| error.context(format!("cannot open {}", args.file.display())));
        Box::new(file.code(Code::Source)?)
    };
    let dump = RawReader::new(BufReader::with_capacity(1024 * 1024, input)).map_err(ImportError::Raw)?;
    let header = dump.header().clone();
    let records: u64 = header.ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
    if args.dry_run {
        let imported = check(dump)?;
        return show(&header, imported, None, args);
    }
    let plan = import::plan(&header, SystemEntropy.next_u128())?;
    let (imported, log_id) = if let Some(data) = &args.target.data {
        let directory = data.join("log");
        let plan = plan.taking_over(BulkLog::unfinished(&directory).code(Code::Target)?);
        let log_id = plan.log_id;
        let bar = progress::Shown(progress::bar("records", records));
        let log = BulkLog::open(&directory, plan, &SystemClock::new()).code(Code::Target)?;
        (import::into_log(dump, log, |_| bar.0.inc(1))?, log_id)
    } else {
        let settings = SettingsArgs { config: args.target.config.clone(), set: args.target.set.clone(), check: false };
        let mut settings = Settings::read(&settings).code(Code::Usage)?;
        settings.kafka.brokers = args.target.brokers.clone().unwrap_or(settings.kafka.brokers);
        let plan = plan.taking_over(KafkaBulkLog::unfinished(&settings.kafka).code(Code::Target)?);
        let log_id = plan.log_id;
        // What was before the dump is filled up, too.
        let filled: u64 = plan.starts.iter().map(|(_, _, start)| *start).sum();
        let bar = progress::Shown(progress::bar("records", records + filled));
        let clock = Arc::new(SystemClock::new());
        let log = KafkaBulkLog::open(&settings.kafka, plan, clock, |count| bar.0.inc(count)).code(Code::Target)?;
        (import::into_log(dump, log, |_| bar.0.inc(1))?, log_id)
    };
    show(&header, imported, Some(log_id), args)
}

fn check(mut dump: RawReader<impl Read>) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    while let Some(block) = dump.next_block().map_err(ImportError::Raw)? {
        imported.records += block.records.len() as u64;
    }
    Ok(imported)
}

fn show(header: &Header, imported: Imported, log_id: Option<u128>, args: &ImportArgs) -> Outcome {
    let log_id = log_id.map(|id| format!("{id:032x}"));
    let is_whole = header.is_whole();
    if args.json {
        let report = Report { header, is_whole, imported, log_id };
        outln!("{}", serde_json::to_string_pretty(&report).code(Code::Target)?);
        return Ok(());
    }
    let what = if is_whole { "all" } else { "a part" };
    outln!("dump of {what} of log {}, {} ranges", header.log_id, header.ranges.len());
    for range in header.ranges.iter().filter(|range| range.end > range.start) {
        outln!("{:16} {:>3} {:>12} {:>12}", range.topic, range.partition, range.start, range.end);
    }
    match log_id {
        None => outln!("{} records, all checksums right", imported.records),
        Some(_) if imported.was_done => outln!("it had been imported already"),
        Some(id) => {
            outln!("{} records are in log {id} ({} of them from an attempt before)", imported.records, imported.kept)
        }
    }
    Ok(())
}

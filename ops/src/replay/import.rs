//! `tidings replay import`: a raw dump into an empty log.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
};

use serde::Serialize;
use tidings_ingest::{BulkLog, NewRecord, StoredRecord, WaitingReader};
use tidings_replay::{
    import::{self, ImportError, Imported},
    raw::{Header, RawError, RawReader},
};
use tidings_schemas::{
    clock::{Entropy, SystemClock, SystemEntropy},
    limits::SCAN_PATIENCE,
    topics::Topic,
};

use super::{
    exit::{Code, Failure, Outcome, WithCode},
    progress,
    target::{Target, TargetArgs},
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
    /// Let the records have the times of the import. Kafka gives no others.
    #[arg(long)]
    pub new_times: bool,
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
    let total = header.ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
    if args.dry_run {
        let imported = check(dump)?;
        return show(&header, imported, None, args);
    }
    let mut plan = import::plan(&header, SystemEntropy.next_u128())?;
    let bar = progress::Shown(progress::bar("records", total));
    let (imported, log_id) = if let Some(data) = &args.target.data {
        let directory = data.join("log");
        // An attempt that was interrupted has given the log its identity.
        if let Some(before) = BulkLog::unfinished(&directory).code(Code::Target)?
            && before.origin == plan.origin
        {
            plan.log_id = before.log_id;
        }
        let log_id = plan.log_id;
        (import::into_folder(dump, &directory, plan, &SystemClock::new(), |_| bar.0.inc(1))?, log_id)
    } else {
        if !args.new_times {
            let what = "Kafka gives records the times at which they are imported, and what is derived from them differs then \
                        (say --new-times if that is as it should be)";
            return Err(Failure::new(Code::Usage, what));
        }
        if let Some(range) = header.ranges.iter().find(|range| range.start > 0) {
            let what = format!(
                "{} partition {} of the dump begins with offset {}, and Kafka begins with 0 (hint: `replay into` republishes)",
                range.topic, range.partition, range.start
            );
            return Err(Failure::new(Code::Usage, what));
        }
        let settings = SettingsArgs { config: args.target.config.clone(), set: args.target.set.clone(), check: false };
        let mut settings = Settings::read(&settings).code(Code::Usage)?;
        settings.kafka.brokers = args.target.brokers.clone().unwrap_or(settings.kafka.brokers);
        let target = Target::kafka(&settings, Some(plan.partitions))?;
        (into_log(dump, &target, |count| bar.0.inc(count))?, target.log.log_id())
    };
    drop(bar);
    show(&header, imported, Some(log_id), args)
}

fn check(mut dump: RawReader<impl Read>) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    while let Some(block) = dump.next_block().map_err(ImportError::Raw)? {
        imported.records += block.records.len() as u64;
    }
    Ok(imported)
}

/// Appends what the log does not have yet. Each record must come to stand where it stood.
fn into_log(mut dump: RawReader<impl Read>, target: &Target, mut each: impl FnMut(u64)) -> Result<Imported, Failure> {
    let header = dump.header().clone();
    for topic in Topic::ALL {
        for partition in 0..target.log.partitions(topic) {
            let end = target.log.range(topic, partition).code(Code::Target)?.end;
            if end > header.range(topic, partition).map_or(0, |range| range.end) {
                let what = format!("{} partition {partition} of {} is not empty", topic.name(), target.place);
                return Err(Failure::new(
                    Code::Target,
                    what + " (import into a new log, or under another kafka.topic_prefix)",
                ));
            }
        }
    }
    let mut imported = Imported::default();
    while let Some(block) = dump.next_block().map_err(ImportError::Raw)? {
        let (name, partition) = header.partition(block.slot).unwrap_or_default();
        let topic = Topic::from_name(name).ok_or(ImportError::Partitions)?;
        let end = target.log.range(topic, partition).code(Code::Target)?.end;
        imported.records += block.records.len() as u64;
        let (there, new): (Vec<&StoredRecord>, Vec<&StoredRecord>) =
            block.records.iter().partition(|record| record.offset < end);
        imported.kept += there.len() as u64;
        if let Some(last) = there.last()
            && last.offset + 1 == end
        {
            compare(target, topic, partition, last)?;
        }
        let records: Vec<NewRecord> = new
            .iter()
            .map(|record| NewRecord { topic, partition, key: record.key.clone(), value: record.value.clone() })
            .collect();
        if let Some(first) = new.first() {
            let offsets = target.append(&records)?;
            if offsets.first() != Some(&first.offset) {
                let expected = offsets.first().copied().unwrap_or(end);
                let topic = name.to_owned();
                return Err(ImportError::Gap { topic, partition, expected, found: first.offset }.into());
            }
        }
        each(block.records.len() as u64);
    }
    Ok(imported)
}

/// What an earlier attempt has written is what this one would have.
fn compare(target: &Target, topic: Topic, partition: u32, expected: &StoredRecord) -> Outcome {
    let reader = target.log.reader(topic, partition, expected.offset).code(Code::Target)?;
    let mut found = Vec::new();
    WaitingReader::new(reader).poll(1, &mut found, SCAN_PATIENCE).code(Code::Target)?;
    if found.first().is_some_and(|found| (&found.key, &found.value) == (&expected.key, &expected.value)) {
        return Ok(());
    }
    let what = format!("{} partition {partition} of {} holds something else", topic.name(), target.place);
    Err(Failure::new(Code::Target, what + " (import into a new log, or under another kafka.topic_prefix)"))
}

#[allow(clippy::print_stdout, reason = "the program's output")]
fn show(header: &Header, imported: Imported, log_id: Option<u128>, args: &ImportArgs) -> Outcome {
    let log_id = log_id.map(|id| format!("{id:032x}"));
    let is_whole = header.is_whole();
    if args.json {
        let report = Report { header, is_whole, imported, log_id };
        println!("{}", serde_json::to_string_pretty(&report).code(Code::Target)?);
        return Ok(());
    }
    let what = if is_whole { "all" } else { "a part" };
    println!("dump of {what} of log {}, {} ranges", header.log_id, header.ranges.len());
    for range in header.ranges.iter().filter(|range| range.end > range.start) {
        println!("{:16} {:>3} {:>12} {:>12}", range.topic, range.partition, range.start, range.end);
    }
    match log_id {
        None => println!("{} records, all checksums right", imported.records),
        Some(_) if imported.was_done => println!("it had been imported already"),
        Some(id) => {
            println!("{} records are in log {id} ({} of them from an attempt before)", imported.records, imported.kept)
        }
    }
    Ok(())
}

//! `tidings replay verify`: what was derived from the events, derived again and compared.
//!
//! - `archive`: which archive is compared, too. `checkpoints`: where shards begin.

mod archive;
mod checkpoints;

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};
use tidings_dataflow::shard::SavedState;
use tidings_ingest::{Log, StoredRecord};
use tidings_replay::{
    decode,
    verify::{Difference, Report, StreamReport, Verify, VerifyError, archive::TableReport},
};
use tidings_schemas::{
    clock::{Clock, SystemClock},
    limits::VERIFY_PUT_BY_BYTES_MAX,
    topics::Topic,
};

use self::{archive::Archived, checkpoints::Checkpoints};
use super::{
    exit::{Code, Failure, Outcome, WithCode},
    progress,
    source::{Source, SourceArgs},
    table::{self, Columns},
    work::WorkArgs,
};

/// What to verify, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// Which log. Its settings of the stages (dataflow.*) must be those that it was made with.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Nothing runs that could catch up: what was not derived to the log's end is missing.
    #[arg(long)]
    pub complete: bool,
    /// Show the first differences of each partition, at most this many.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub show: usize,
    /// Compare with the archive behind this port, too (ClickHouse's HTTP interface). Left out: with the archive that the
    /// settings name, or, of a data folder, with that of the program that runs on it.
    #[arg(long, value_name = "URL")]
    pub archive_url: Option<String>,
    /// Do not compare with the archive.
    #[arg(long, conflicts_with = "archive_url")]
    pub no_archive: bool,
    /// Begin each partition where the oldest checkpoint of its shard stands, not where the log does: for a log that no longer
    /// has its beginning, and to look at the newest only.
    #[arg(long)]
    pub checkpoint: bool,
    /// How it is gone about.
    #[command(flatten)]
    pub work: WorkArgs,
}

/// The topics that take part, inputs first.
const TOPICS: [Topic; 4] = [Topic::Events, Topic::Timeline, Topic::Fanout, Topic::Inbox];

/// Verifies.
pub fn run(args: &VerifyArgs) -> Outcome {
    let source = args.source.open()?;
    let log = &*source.log;
    if args.work.dry_run {
        return plan(&source, args.work.json);
    }
    let checkpoints = args.checkpoint.then(|| Checkpoints::open(&source)).transpose()?;
    let from_checkpoint = |shard| checkpoints.as_ref().map_or(Ok(SavedState::default()), |known| known.oldest(shard));
    let (events, fanout) = (records(log, Topic::Events)?, records(log, Topic::Fanout)?);
    let bar = progress::Shown(progress::bar("records", events + fanout));
    let clock = SystemClock::new();
    let began = clock.monotonic();
    let verify = Verify {
        log,
        config: &source.settings.dataflow,
        checkpoints: args.checkpoint.then_some(&from_checkpoint),
        is_complete: args.complete,
        kept_max: args.show,
        threads: args.work.threads(),
        put_by_bytes_max: VERIFY_PUT_BY_BYTES_MAX,
        progress: &|count| bar.0.inc(count),
    };
    let report = verify.run()?;
    let seconds = clock.monotonic().saturating_sub(began).as_secs_f64();
    drop(bar);
    let bar = progress::Shown(progress::counter("records held against the archive"));
    let archived = archive::verify(args, &source, &|count| bar.0.inc(count))?;
    drop(bar);
    show(&source, &report, &archived, seconds, args.work.json)?;
    let (found, events) = (report.difference_count(), events_of(&report));
    let rows: u64 = archived.tables.iter().map(TableReport::differences).sum();
    match (found, rows) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::new(Code::Found, format!("{rows} rows of the archive are not what the log leads to"))),
        _ => Err(Failure::new(Code::Found, format!("{found} records are not what {events} events lead to"))),
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Scan(error) => error.into(),
            VerifyError::Stage(_) => Self { code: Code::Found, error: error.into() },
            VerifyError::NotKept { .. } | VerifyError::NoCheckpoint { .. } => {
                Self { code: Code::Usage, error: error.into() }
            }
        }
    }
}

fn records(log: &dyn Log, topic: Topic) -> Result<u64, Failure> {
    let mut records = 0;
    for partition in 0..log.partitions(topic) {
        let range = log.range(topic, partition)?;
        records += range.end - range.start;
    }
    Ok(records)
}

#[derive(Serialize)]
struct Planned {
    topic: &'static str,
    partition: u32,
    start: u64,
    end: u64,
}

fn plan(source: &Source, as_json: bool) -> Outcome {
    let mut planned = Vec::new();
    for topic in TOPICS {
        for partition in 0..source.log.partitions(topic) {
            let range = source.log.range(topic, partition)?;
            planned.push(Planned { topic: topic.name(), partition, start: range.start, end: range.end });
        }
    }
    let records: u64 = planned.iter().map(|range| range.end - range.start).sum();
    if as_json {
        let report = json!({"source": source.place, "records": records, "ranges": planned});
        return table::print(&table::pretty(&report)?);
    }
    let mut columns = Columns::new(["TOPIC", "P", "FROM", "TO", "RECORDS"]);
    for Planned { topic, partition, start, end } in planned.iter().filter(|range| range.end > 0) {
        let [partition, start, end, count] = [u64::from(*partition), *start, *end, end - start].map(|n| n.to_string());
        columns.row([(*topic).to_owned(), partition, start, end, count]);
    }
    table::print(&format!("{columns}\n{records} records of {} would be read", source.place))
}

/// How many events were compared.
fn events_of(report: &Report) -> u64 {
    report
        .streams
        .iter()
        .filter(|stream| stream.topic == Topic::Timeline)
        .map(|stream| stream.verified_to - stream.verified_from)
        .sum()
}

fn source_name(stream: &StreamReport) -> String {
    stream.source.map_or_else(String::new, |(topic, partition)| format!("{} {partition}", topic.name()))
}

fn stream_json(stream: &StreamReport) -> Value {
    json!({
        "topic": stream.topic.name(),
        "partition": stream.partition,
        "source_topic": stream.source.map(|(topic, _)| topic.name()),
        "source_partition": stream.source.map(|(_, partition)| partition),
        "verified_from": stream.verified_from,
        "verified_to": stream.verified_to,
        "source_end": stream.source_end,
        "agreeing": stream.agreeing,
        "repeats": stream.repeats,
        "not_kept": stream.not_kept,
        "ahead": stream.ahead,
        "missing": stream.missing,
        "extra": stream.extra,
        "differing": stream.differing,
        "out_of_order": stream.out_of_order,
        "stray": stream.stray,
    })
}

fn difference_json(difference: &Difference) -> Result<Value, Failure> {
    let Difference { kind, topic, partition, of, source, expected, found } = difference;
    let shown = |record: &StoredRecord| -> Result<Value, Failure> {
        serde_json::from_str(&decode::json(*topic, *partition, record)).code(Code::Target)
    };
    let expected = expected.as_ref().map(|record| {
        let (key, value) = (record.key.clone(), record.value.clone());
        let mut expected = shown(&StoredRecord { offset: 0, timestamp_ms: 0, key, value })?;
        // It has none: it was not recorded.
        if let Some(fields) = expected.as_object_mut() {
            fields.retain(|name, _| name != "offset" && name != "timestamp");
        }
        Ok::<_, Failure>(expected)
    });
    Ok(json!({
        "kind": kind,
        "topic": topic.name(),
        "partition": partition,
        "offset": found.as_ref().map(|record| record.offset),
        "source_topic": of.map(|(topic, _)| topic.name()),
        "source_partition": of.map(|(_, partition)| partition),
        "source_offset": source,
        "expected": expected.transpose()?,
        "found": found.as_ref().map(shown).transpose()?,
    }))
}

#[allow(clippy::cast_precision_loss, reason = "a rate, for people")]
fn show(source: &Source, report: &Report, archived: &Archived, seconds: f64, as_json: bool) -> Outcome {
    let events = events_of(report);
    let rate = events as f64 / seconds.max(0.001);
    let differences = report.differences.iter().map(difference_json).collect::<Result<Vec<_>, _>>()?;
    if as_json {
        let report = json!({
            "source": source.place,
            "log_id": format!("{:032x}", source.log.log_id()),
            "events": events,
            "seconds": seconds,
            "differences": report.difference_count(),
            "streams": report.streams.iter().map(stream_json).collect::<Vec<_>>(),
            "first_differences": differences,
            "archive": archived,
        });
        return table::print(&table::pretty(&report)?);
    }
    let head = ["RECORDED", "FROM", "VERIFIED TO", "BEHIND", "AGREEING", "REPEATS", "DIFFERENT"];
    let mut columns = Columns::new(head);
    let is_shown = |stream: &&StreamReport| stream.source_end > 0 || stream.differences() > 0;
    for stream in report.streams.iter().filter(is_shown) {
        let recorded = format!("{} {}", stream.topic.name(), stream.partition);
        let StreamReport { verified_to, source_end, agreeing, repeats, .. } = stream;
        let behind = source_end.saturating_sub(*verified_to);
        let counts = [*verified_to, behind, *agreeing, *repeats, stream.differences()].map(|count| count.to_string());
        let [verified_to, behind, agreeing, repeats, different] = counts;
        columns.row([recorded, source_name(stream), verified_to, behind, agreeing, repeats, different]);
    }
    let mut text = format!("{columns}\n");
    for difference in &differences {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{difference}");
    }
    text += &archive::text(archived)?;
    table::print(&format!("{text}{events} events of {} in {seconds:.1} s ({rate:.0}/s)", source.place))
}

//! `tidings replay into`: history played into another system, which derives the rest itself.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tidings_ingest::{Bulk as _, BulkLog, BulkPlan, Log, NewRecord, PartitionCounts};
use tidings_replay::{
    Span, decode,
    history::{History, HistoryError, Outgoing},
    ids::IdMap,
};
use tidings_schemas::{
    clock::{Clock, Entropy, SystemClock, SystemEntropy},
    topics::{Partitions, Topic},
};

use super::{
    exit::{Code, Failure, Outcome, WithCode},
    progress,
    ranges::{RangeArgs, topics},
    source::{Source, SourceArgs},
    table,
    target::Target,
};
use crate::config::{Settings, SettingsArgs};

/// Records that go into a log in use together.
const BATCH_RECORDS: usize = 500;

/// What to play where, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct IntoArgs {
    /// Topics: events and directory.
    #[arg(value_name = "TOPIC", default_values = ["directory", "events"])]
    pub topics: Vec<String>,
    /// Which log.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Which records of it.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Into this data folder. An empty one becomes a log whose records have the times that they had.
    #[arg(long, value_name = "DIR", required_unless_present = "into_brokers", conflicts_with = "into_brokers")]
    pub into_data: Option<PathBuf>,
    /// Into the log on these Kafka brokers. The history happens now, there.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub into_brokers: Option<String>,
    /// One setting of the target (such as kafka.topic_prefix=…, log.partitions.conversations=…); may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub into_set: Vec<String>,
    /// How fast: 1x as it happened, 10x ten times as fast, max as fast as can be.
    #[arg(long, value_parser = rate, default_value = "max")]
    pub rate: Rate,
    /// Give conversations, users and messages other ids, and users other names: the same seed, the same ids.
    #[arg(long, value_name = "SEED")]
    pub map_ids: Option<String>,
    /// Allow the data folder to have a log: the history is appended to it, and happens now.
    #[arg(long, requires = "into_data")]
    pub append: bool,
    /// Allow the target to be the source itself.
    #[arg(long)]
    pub into_source: bool,
    /// Where it is noted how far a target in use has come, for an attempt after an interruption.
    #[arg(long, value_name = "FILE", default_value = "tidings-into.json")]
    pub progress: PathBuf,
    /// Only say what would be played.
    #[arg(long)]
    pub dry_run: bool,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// As fast as can be.
    Max,
    /// As it happened, this many times as fast.
    Times(f64),
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let times = text.strip_suffix('x').and_then(|times| times.parse().ok());
    times
        .filter(|times: &f64| times.is_finite() && *times > 0.0)
        .map(Rate::Times)
        .ok_or_else(|| format!("{text:?} is no rate (hint: 1x, 10x, max)"))
}

/// What is played, so that an attempt after an interruption plays the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    source_log_id: String,
    /// Topic, partition, first offset, one past the last.
    ranges: Vec<(String, u32, u64, u64)>,
    map_ids: Option<String>,
    /// Of a target in use.
    target_log_id: Option<String>,
    /// Records of the source that are in the target.
    done: u64,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    source: String,
    target: String,
    target_log_id: String,
    records_read: u64,
    records_written: u64,
    records_kept: u64,
    was_done: bool,
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Scan(error) => error.into(),
            HistoryError::Undecodable { .. } => Self { code: Code::Found, error: error.into() },
            HistoryError::Map(_) | HistoryError::Topic { .. } => Self { code: Code::Usage, error: error.into() },
        }
    }
}

/// Plays.
pub fn run(args: &IntoArgs) -> Outcome {
    let named = topics(&args.topics).code(Code::Usage)?;
    if args.range.from.is_some() || args.range.to.is_some() {
        // The ends of a range of times may hold others, and history must have no holes.
        return Err(Failure::new(Code::Usage, "a history is chosen by --offset, not by --from and --to"));
    }
    let selection = args.range.selection(named).code(Code::Usage)?;
    let source = args.source.open()?;
    let settings = SettingsArgs { config: None, set: args.into_set.clone(), check: false };
    let settings = Settings::read(&settings).code(Code::Usage)?;
    let spans = selection.resolve(&*source.log)?;
    if let Some(span) = spans.iter().find(|span| !matches!(span.topic, Topic::Events | Topic::Directory)) {
        return Err(HistoryError::Topic { topic: span.topic }.into());
    }
    let plan = Plan {
        source_log_id: format!("{:032x}", source.log.log_id()),
        ranges: spans.iter().map(range_of).collect(),
        map_ids: args.map_ids.clone(),
        target_log_id: None,
        done: 0,
    };
    let mut playing = Playing { args, source, settings, plan, report: Report::default() };
    playing.report.source.clone_from(&playing.source.place);
    if args.dry_run {
        playing.report.records_read = spans.iter().map(Span::records).sum();
        return playing.show();
    }
    match &args.into_data {
        Some(data) if !data.join("log").join("log.json").exists() || unfinished(data)?.is_some() => {
            playing.fill_folder(data)?;
        }
        Some(data) if !args.append => {
            let what = format!("there is a log in {} already: this was done before, or is another's", data.display());
            return Err(Failure::new(Code::Target, what + " (say --append to play the history into it now)"));
        }
        Some(data) => playing.append_to(&Target::folder(&playing.settings, data)?)?,
        None => {
            playing.settings.kafka.brokers =
                args.into_brokers.clone().unwrap_or_else(|| playing.settings.kafka.brokers.clone());
            let counts = Some(playing.counts());
            playing.append_to(&Target::kafka(&playing.settings, counts)?)?;
        }
    }
    playing.show()
}

fn range_of(span: &Span) -> (String, u32, u64, u64) {
    (span.topic.name().to_owned(), span.partition, span.offsets.start, span.offsets.end)
}

fn unfinished(data: &Path) -> Result<Option<BulkPlan>, Failure> {
    BulkLog::unfinished(&data.join("log")).code(Code::Target)
}

struct Playing<'a> {
    args: &'a IntoArgs,
    source: Source,
    settings: Settings,
    plan: Plan,
    report: Report,
}

impl Playing<'_> {
    /// The partitions of a log that is made: those that are set, else the source's.
    fn counts(&self) -> PartitionCounts {
        let of = |topic| self.source.log.partitions(topic);
        PartitionCounts {
            conversations: of(Topic::Events),
            recipients: of(Topic::Inbox),
            edges: of(Topic::Deliveries),
            directory: of(Topic::Directory),
        }
    }

    /// Goes on with what was planned before an interruption, if it is the same in all but how much there is now.
    fn adopt(&mut self, before: Plan) -> Outcome {
        let begins = |plan: &Plan| -> Vec<(String, u32, u64)> {
            plan.ranges.iter().map(|(topic, partition, start, _)| (topic.clone(), *partition, *start)).collect()
        };
        let is_same = before.source_log_id == self.plan.source_log_id
            && before.map_ids == self.plan.map_ids
            && begins(&before) == begins(&self.plan);
        if !is_same {
            let what = "something else was begun there (finish that, or remove what it left: the folder, or the file of --progress)";
            return Err(Failure::new(Code::Target, what));
        }
        self.plan = before;
        Ok(())
    }

    fn history<'a>(&self, log: &'a dyn Log, partitions: Partitions) -> Result<History<'a>, Failure> {
        let mut spans = Vec::with_capacity(self.plan.ranges.len());
        for (name, partition, start, end) in &self.plan.ranges {
            let Some(topic) = Topic::from_name(name) else { continue };
            let kept = log.range(topic, *partition)?;
            if kept.start > *start {
                let what = format!("offset {start} of {name} partition {partition} is no longer in the source");
                return Err(Failure::new(Code::Source, what + " (retention has dropped it since this was begun)"));
            }
            spans.push(Span { topic, partition: *partition, offsets: *start..*end, kept: kept.start..kept.end });
        }
        let map = self.plan.map_ids.as_ref().map(IdMap::new);
        Ok(History::new(log, &spans, partitions, map)?)
    }

    fn total(&self) -> u64 {
        self.plan.ranges.iter().map(|(_, _, start, end)| end.saturating_sub(*start)).sum()
    }

    /// A new log, whose records have the times that they had.
    fn fill_folder(&mut self, data: &Path) -> Outcome {
        let directory = data.join("log");
        let (mut log_id, mut partitions) =
            (SystemEntropy.next_u128(), self.settings.log.partitions.unwrap_or_else(|| self.counts()));
        if let Some(before) = unfinished(data)? {
            (log_id, partitions) = (before.log_id, before.partitions);
            let planned: Plan = serde_json::from_str(&before.origin)
                .context("an import of something else was begun in the folder (finish that, or remove it)")
                .code(Code::Target)?;
            self.adopt(planned)?;
        }
        self.report.target = data.display().to_string();
        self.report.target_log_id = format!("{log_id:032x}");
        let origin = serde_json::to_string(&self.plan).code(Code::Target)?;
        let plan = BulkPlan { log_id, partitions, starts: Vec::new(), origin };
        let Some(mut log) = BulkLog::open(&directory, plan, &SystemClock::new()).code(Code::Target)? else {
            self.report.was_done = true;
            return Ok(());
        };
        self.report.records_kept = log.kept();
        let source = Arc::clone(&self.source.log);
        let mut history = self.history(&*source, partitions.into())?;
        let bar = progress::Shown(progress::bar("records", self.total()));
        let mut pace = Pace::new(self.args.rate);
        while let Some(records) = history.play()? {
            for Outgoing { topic, partition, record } in records {
                pace.wait(record.timestamp_ms);
                log.append(topic, partition, &record).code(Code::Target)?;
                self.report.records_written += 1;
            }
            self.report.records_read += 1;
            bar.0.inc(1);
        }
        log.finish().code(Code::Target)
    }

    /// A log in use: appended at its end, at the moment.
    fn append_to(&mut self, target: &Target) -> Outcome {
        let target_log_id = format!("{:032x}", target.log.log_id());
        if target_log_id == self.plan.source_log_id && !self.args.into_source {
            let what = "the target is the source (say --into-source if its history is to happen in it once more)";
            return Err(Failure::new(Code::Usage, what));
        }
        self.report.target.clone_from(&target.place);
        self.report.target_log_id.clone_from(&target_log_id);
        let file = &self.args.progress;
        if file.exists() {
            let text = fs::read(file).map_err(anyhow::Error::from);
            let before: Plan = text
                .and_then(|text| Ok(serde_json::from_slice(&text)?))
                .with_context(|| format!("cannot read {}", file.display()))
                .code(Code::Target)?;
            if before.target_log_id.as_ref() == Some(&target_log_id) {
                self.adopt(before)?;
            } else {
                let what = format!("{} is about another target (name another --progress)", file.display());
                return Err(Failure::new(Code::Usage, what));
            }
        }
        self.plan.target_log_id = Some(target_log_id);
        let counts = target.log.partition_counts();
        let source = Arc::clone(&self.source.log);
        let mut history = self.history(&*source, counts)?;
        let bar = progress::Shown(progress::bar("records", self.total()));
        let mut pace = Pace::new(self.args.rate);
        let clock = SystemClock::new();
        let mut batch = Vec::new();
        while let Some(records) = history.play()? {
            bar.0.inc(1);
            self.report.records_read += 1;
            if self.report.records_read <= self.plan.done {
                self.report.records_kept += 1;
                continue;
            }
            for outgoing in records {
                if pace.wait(outgoing.record.timestamp_ms) && !batch.is_empty() {
                    self.append(target, &mut batch)?;
                }
                batch.push(now(outgoing, clock.now_ms()));
            }
            if batch.len() >= BATCH_RECORDS || matches!(self.args.rate, Rate::Times(_)) {
                self.append(target, &mut batch)?;
                self.note(self.report.records_read)?;
            }
        }
        self.append(target, &mut batch)?;
        self.note(self.report.records_read)
    }

    fn append(&mut self, target: &Target, batch: &mut Vec<NewRecord>) -> Outcome {
        if !batch.is_empty() {
            target.append(batch)?;
            self.report.records_written += batch.len() as u64;
            batch.clear();
        }
        Ok(())
    }

    fn note(&mut self, done: u64) -> Outcome {
        self.plan.done = done;
        let file = &self.args.progress;
        let new = file.with_extension("new");
        let text = serde_json::to_vec_pretty(&self.plan).code(Code::Target)?;
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, file));
        written.with_context(|| format!("cannot write {}", file.display())).code(Code::Target)
    }

    fn show(&self) -> Outcome {
        let report = &self.report;
        if self.args.json {
            return table::print(&table::pretty(report)?);
        }
        let Report { records_read, records_written, records_kept, source, target, target_log_id, was_done } = report;
        if *was_done {
            return table::print(&format!("it was done already: {target} holds it"));
        }
        if self.args.dry_run {
            return table::print(&format!("{records_read} records of {source} would be played"));
        }
        let mut text = format!(
            "{records_read} records of {source} played into {target} (log {target_log_id}), as {records_written}"
        );
        if *records_kept > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{records_kept} of them by an attempt before");
        }
        table::print(&text)
    }
}

/// The event as if it had happened now: its stamp stands to the moment as it stood to its time.
fn now(outgoing: Outgoing, now_ms: i64) -> NewRecord {
    let Outgoing { topic, partition, mut record } = outgoing;
    if topic == Topic::Events
        && let Ok(mut event) = decode::message(topic, &record.value)
        && let Some(before) = event.get_field_by_name("stamped_at_ms").and_then(|stamp| stamp.as_i64())
    {
        let after = now_ms.saturating_add(before.saturating_sub(record.timestamp_ms));
        decode::set_time(&mut event, "stamped_at_ms", after);
        record.value = decode::encode(&event);
    }
    NewRecord { topic, partition, key: record.key, value: record.value }
}

/// Waits so that moments pass as fast as they are to.
struct Pace {
    rate: Rate,
    clock: SystemClock,
    /// The first record's time, and when it was played.
    began: Option<(i64, Duration)>,
}

impl Pace {
    fn new(rate: Rate) -> Self {
        Self { rate, clock: SystemClock::new(), began: None }
    }

    /// Until it is this moment's turn; whether that took any time.
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of a history")]
    fn wait(&mut self, moment_ms: i64) -> bool {
        let Rate::Times(times) = self.rate else { return false };
        let (first_ms, began) = *self.began.get_or_insert((moment_ms, self.clock.monotonic()));
        let after = moment_ms.saturating_sub(first_ms).max(0) as f64 / 1000.0 / times;
        let due = began + Duration::try_from_secs_f64(after).unwrap_or(Duration::MAX / 2);
        let mut has_waited = false;
        while let Some(left) = due.checked_sub(self.clock.monotonic()).filter(|left| !left.is_zero()) {
            has_waited = true;
            std::thread::park_timeout(left);
        }
        has_waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_times_or_max() {
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("2.5x"), Ok(Rate::Times(2.5)));
        for text in ["", "x", "0x", "-1x", "infx", "NaNx", "10", "fast"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}

//! Verification of what the production host made of random histories: clean through repeats and restarts, and no change
//! of a record goes unnoticed.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../dataflow/tests/conversations/history.rs"]
mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use history::History;
use prometheus_client::registry::Registry;
use prost::Message;
use tempfile::TempDir;
use tidings_dataflow::{
    conversations::ConversationsConfig,
    host::{self, HostConfig},
};
use tidings_ingest::{
    AsyncReader, EmbeddedConfig, EmbeddedLog, Log, LogError, LogExt, LogReader, NewRecord, OffsetRange, OnAppended,
    PartitionCounts, StoredRecord, Wake,
};
use tidings_replay::{
    Scan,
    verify::{Kind, Report, Verify, VerifyError},
};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    topics::{Partitions, Topic},
    wire,
};

const PARTITIONS: Partitions = Partitions { conversations: 2, recipients: 2, edges: 4, directory: 1 };

fn config() -> ConversationsConfig {
    ConversationsConfig { group_members_max: 25, ..Default::default() }
}

fn host_config() -> HostConfig {
    HostConfig { worker_threads: 1, conversations: config(), ..Default::default() }
}

/// A log as it was recorded, on which nothing is appended: its records can be tampered with.
#[derive(Clone)]
struct Held {
    records: BTreeMap<(Topic, u32), Vec<StoredRecord>>,
    /// The first offset of each partition that retention has overtaken.
    starts: BTreeMap<(Topic, u32), u64>,
}

impl Held {
    fn of(log: &dyn Log) -> Self {
        let mut records = BTreeMap::new();
        for topic in [Topic::Events, Topic::Timeline, Topic::Fanout, Topic::Inbox] {
            for partition in 0..log.partitions(topic) {
                let scan = Scan::new(log, topic, partition, 0..u64::MAX).unwrap();
                records.insert((topic, partition), scan.map(Result::unwrap).collect());
            }
        }
        Self { records, starts: BTreeMap::new() }
    }

    fn all(&mut self, topic: Topic, partition: u32) -> &mut Vec<StoredRecord> {
        self.records.get_mut(&(topic, partition)).unwrap()
    }

    /// Tampers with a partition, whose records then have the offsets of their places.
    fn with(&self, topic: Topic, tamper: impl FnOnce(&mut Vec<StoredRecord>)) -> Self {
        let mut held = self.clone();
        let records = held.all(topic, 0);
        tamper(records);
        for (offset, record) in (0..).zip(records) {
            record.offset = offset;
        }
        held
    }
}

impl Log for Held {
    fn log_id(&self) -> u128 {
        7
    }
    fn partitions(&self, topic: Topic) -> u32 {
        PARTITIONS.of(topic)
    }
    fn append_with(&self, _: Vec<NewRecord>, _: OnAppended) {
        unreachable!("verification changes nothing")
    }
    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        let start = self.starts.get(&(topic, partition)).copied().unwrap_or(0);
        Ok(OffsetRange { start, end: self.records[&(topic, partition)].len() as u64 })
    }
    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        let records = self.records[&(topic, partition)].clone();
        Ok(Box::new(HeldReader { records, next: from }))
    }
}

struct HeldReader {
    records: Vec<StoredRecord>,
    next: u64,
}

impl LogReader for HeldReader {
    fn poll(&mut self, _: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        // Cut anywhere: what comes must not depend on it.
        let from = usize::try_from(self.next).unwrap();
        let records = &self.records[from..self.records.len().min(from + 37)];
        into.extend_from_slice(records);
        self.next += records.len() as u64;
        Ok(records.len())
    }
    fn wake_with(&mut self, _: Wake) {}
    fn position(&self) -> u64 {
        self.next
    }
}

/// What the host makes of two histories, started anew `runs` times without a checkpoint: each run repeats all before.
async fn made(runs: usize) -> (TempDir, Held) {
    let directory = tempfile::tempdir().unwrap();
    let Partitions { conversations, recipients, edges, directory: names } = PARTITIONS;
    let embedded = EmbeddedConfig {
        directory: directory.path().join("log"),
        partitions: Some(PartitionCounts { conversations, recipients, edges, directory: names }),
        ..Default::default()
    };
    let log: Arc<dyn Log> =
        Arc::new(EmbeddedLog::open(&embedded, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap());
    let mut histories: Vec<History> = (0..2).map(|seed| History::new(seed + 11)).collect();
    for _ in 0..runs {
        let all: BTreeSet<_> = host::all_shards(&*log);
        let fanout_before: Vec<u64> = (0..recipients).map(|p| log.range(Topic::Fanout, p).unwrap().end).collect();
        let host =
            host::start(host_config(), &all, Arc::clone(&log), Arc::new(SystemClock::new()), &mut Registry::default());
        let host = host.unwrap();
        for (partition, history) in (0..).zip(&mut histories) {
            let records = history.take(300).into_iter().map(|event| {
                let (key, value) = (event.key, event.value);
                NewRecord { topic: Topic::Events, partition, key, value }
            });
            log.append(records.collect()).await.unwrap();
        }
        for partition in 0..conversations {
            let end = log.range(Topic::Events, partition).unwrap().end;
            let source = |value| wire::TimelineRecord::decode(value).unwrap().source.unwrap().offset;
            wait(&*log, Topic::Timeline, partition, 0, |record| source(record.value.clone()) + 1 == end).await;
        }
        for partition in 0..recipients {
            // The newest that is no repeat: it has an inbox record.
            let mut newest = BTreeMap::new();
            let mut last = None;
            for record in Scan::new(&*log, Topic::Fanout, partition, 0..u64::MAX).unwrap().map(Result::unwrap) {
                let source = wire::FanoutRecord::decode(record.value).unwrap().source.unwrap();
                if newest.get(&source.partition).is_none_or(|newest| *newest < source.offset) {
                    newest.insert(source.partition, source.offset);
                    last = Some(record.offset);
                }
            }
            assert!(last.unwrap() >= fanout_before[partition as usize]);
            let source = |value| wire::InboxRecord::decode(value).unwrap().source.unwrap().offset;
            wait(&*log, Topic::Inbox, partition, 0, |record| Some(source(record.value.clone())) == last).await;
        }
        host.shutdown().await;
    }
    let held = Held::of(&*log);
    (directory, held)
}

async fn wait(log: &dyn Log, topic: Topic, partition: u32, from: u64, is_it: impl Fn(&StoredRecord) -> bool) {
    let mut reader = AsyncReader::new(log.reader(topic, partition, from).unwrap());
    let found = async { while !reader.next_batch(1 << 20).await.unwrap().iter().any(&is_it) {} };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap();
}

fn verify(log: &dyn Log, is_complete: bool) -> Result<Report, VerifyError> {
    let config = host_config();
    Verify { log, checkpoints: None, config: &config, is_complete, kept_max: 5, threads: 2, progress: &|_| {} }.run()
}

fn agreeing(report: &Report, topic: Topic) -> u64 {
    report.streams.iter().filter(|stream| stream.topic == topic).map(|stream| stream.agreeing).sum()
}

#[tokio::test]
async fn what_the_host_made_agrees_through_restarts_and_repeats() {
    let (_folder, once) = made(1).await;
    let report = verify(&once, true).unwrap();
    assert_eq!(report.difference_count(), 0, "{:#?}", report.differences);
    assert_eq!(agreeing(&report, Topic::Timeline), 600);
    let (_folder, thrice) = made(3).await;
    let report = verify(&thrice, true).unwrap();
    assert_eq!(report.difference_count(), 0, "{:#?}", report.differences);
    assert_eq!(agreeing(&report, Topic::Timeline), 1_800);
    for topic in [Topic::Timeline, Topic::Fanout, Topic::Inbox] {
        let of_topic = || report.streams.iter().filter(|stream| stream.topic == topic);
        assert!(of_topic().map(|stream| stream.repeats).sum::<u64>() > 100, "{topic:?}");
        let records: u64 = (0..2).map(|partition| thrice.records[&(topic, partition)].len() as u64).sum();
        let counted: u64 = of_topic().map(|stream| stream.repeats + stream.agreeing).sum();
        assert_eq!(counted, records, "{topic:?}: each is either");
    }
}

#[tokio::test]
async fn what_was_tampered_with_is_found_and_named() {
    let (_folder, log) = made(1).await;
    let changed = |records: &mut Vec<StoredRecord>| {
        // The time at its end is another.
        let mut value = records[100].value.to_vec();
        let last = value.last_mut().unwrap();
        *last ^= 1;
        records[100].value = value.into();
    };
    let dropped = |records: &mut Vec<StoredRecord>| drop(records.remove(100));
    let swapped = |records: &mut Vec<StoredRecord>| {
        let value = records[100].value.clone();
        // The source is the first field of all three.
        let source = |record: &StoredRecord| {
            let end = 2 + usize::from(record.value[1]);
            wire::Source::decode(&record.value[2..end]).unwrap().partition
        };
        let partition = source(&records[100]);
        let next = (101..records.len()).find(|place| source(&records[*place]) == partition).unwrap();
        records[100].value = std::mem::replace(&mut records[next].value, value);
    };
    let extra = |records: &mut Vec<StoredRecord>| {
        let mut record = records[100].clone();
        // Nothing stands at this source: it is behind the end.
        let source = Some(wire::Source { partition: 0, offset: 1_000_000 });
        record.value = wire::TimelineRecord { source, ..Default::default() }.encode_to_vec().into();
        records.push(record);
    };
    let unreadable = |records: &mut Vec<StoredRecord>| records[100].value = vec![0xff; 9].into();
    let truncated = |records: &mut Vec<StoredRecord>| records.truncate(100);
    let key = |records: &mut Vec<StoredRecord>| records[100].key = vec![1, 2, 3].into();
    type Tamper<'a> = &'a dyn Fn(&mut Vec<StoredRecord>);
    let table: [(&str, Tamper<'_>, Kind); 7] = [
        ("changed", &changed, Kind::Differing),
        ("dropped", &dropped, Kind::Missing),
        ("swapped", &swapped, Kind::OutOfOrder),
        ("extra", &extra, Kind::Extra),
        ("unreadable", &unreadable, Kind::Stray),
        ("truncated", &truncated, Kind::Missing),
        ("key", &key, Kind::Differing),
    ];
    for topic in [Topic::Timeline, Topic::Fanout, Topic::Inbox] {
        for (name, tamper, kind) in table {
            // What is missing at the end of the inbox may only be late, unless nothing runs.
            let report = verify(&log.with(topic, tamper), topic == Topic::Inbox).unwrap();
            let named = report
                .differences
                .iter()
                .any(|found| found.kind == kind && found.topic == topic && found.partition == 0);
            assert!(named, "{} {name}: {:#?}", topic.name(), report.streams);
        }
    }
}

#[tokio::test]
async fn what_is_late_is_said_and_is_no_difference() {
    let (_folder, log) = made(1).await;
    let late = log.with(Topic::Inbox, |records| records.truncate(100));
    let report = verify(&late, false).unwrap();
    assert_eq!(report.difference_count(), 0, "{:#?}", report.differences);
    let inbox = report.streams.iter().find(|stream| stream.topic == Topic::Inbox).unwrap();
    assert!(inbox.verified_to < inbox.source_end && inbox.agreeing == 100, "{inbox:?}");
}

#[tokio::test]
async fn a_beginning_that_is_gone_is_said() {
    let (_folder, log) = made(1).await;
    let mut kept = log.clone();
    kept.starts.insert((Topic::Timeline, 0), 50);
    kept.starts.insert((Topic::Inbox, 1), 50);
    let report = verify(&kept, true).unwrap();
    assert_eq!(report.difference_count(), 0, "{:#?}", report.differences);
    assert_eq!(report.streams.iter().map(|stream| stream.not_kept).collect::<BTreeSet<_>>(), [0, 50].into());
    kept.starts.insert((Topic::Events, 1), 1);
    let error = verify(&kept, true).unwrap_err();
    assert!(error.to_string().contains("retention"), "{error}");
}

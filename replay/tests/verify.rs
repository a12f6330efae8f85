//! Verification of what the production host made of random histories: clean through repeats and restarts, and no change
//! of a record goes unnoticed.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../dataflow/tests/conversations/history.rs"]
mod history;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use history::History;
use prometheus_client::registry::Registry;
use prost::Message;
use support::{Held, empty_log, host_config, wait};
use tempfile::TempDir;
use tidings_dataflow::{conversations::ConversationsConfig, host};
use tidings_ingest::{Log, LogExt, NewRecord, StoredRecord};
use tidings_replay::{
    Scan,
    verify::{Kind, Report, Verify, VerifyError},
};
use tidings_schemas::{
    clock::SystemClock,
    topics::{Partitions, Topic},
    wire,
};

const PARTITIONS: Partitions = Partitions { conversations: 2, recipients: 2, edges: 4, directory: 1 };

fn config() -> ConversationsConfig {
    ConversationsConfig { group_members_max: 25, ..Default::default() }
}

/// The log with records of a topic's first partition changed, which then have the offsets of their places.
fn tampered(log: &Held, topic: Topic, tamper: impl FnOnce(&mut Vec<StoredRecord>)) -> Held {
    let mut log = log.clone();
    let records = log.records.get_mut(&(topic, 0)).unwrap();
    tamper(records);
    for (offset, record) in (0..).zip(records) {
        record.offset = offset;
    }
    log
}

/// What the host makes of two histories, started anew `runs` times without a checkpoint: each run repeats all before.
async fn made(runs: usize) -> (TempDir, Held) {
    let (directory, log) = empty_log();
    let Partitions { conversations, recipients, .. } = PARTITIONS;
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
            wait(&*log, Topic::Timeline, partition, |record| source(record.value.clone()) + 1 == end).await;
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
            wait(&*log, Topic::Inbox, partition, |record| Some(source(record.value.clone())) == last).await;
        }
        host.shutdown().await;
    }
    let held = Held::of(&*log);
    (directory, held)
}

fn verify(log: &dyn Log, is_complete: bool) -> Result<Report, VerifyError> {
    let config = host_config();
    // Each shard alone; both side by side; and with so little room that one leaves the other now and then, or at once.
    let ways = [(2, usize::MAX), (1, usize::MAX), (1, 20_000), (1, 0)];
    let mut reports = ways.map(|(threads, put_by_bytes_max)| {
        let (kept_max, progress) = (5, &|_| {});
        Verify { log, checkpoints: None, config: &config, is_complete, kept_max, threads, put_by_bytes_max, progress }
            .run()
    });
    if let [Ok(alone), others @ ..] = &reports {
        for other in others.iter().map(|other| other.as_ref().unwrap()) {
            assert_eq!(other.streams, alone.streams);
            assert_eq!(format!("{:?}", other.differences), format!("{:?}", alone.differences));
        }
    }
    std::mem::replace(&mut reports[0], Ok(Report::default()))
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
            let report = verify(&tampered(&log, topic, tamper), topic == Topic::Inbox).unwrap();
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
    let late = tampered(&log, Topic::Inbox, |records| records.truncate(100));
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

//! A log made from records that have their places and times already.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use support::{append, read_from, record};
use tidings_ingest::{
    Bulk, BulkLog, BulkPlan, EmbeddedConfig, EmbeddedLog, Log, LogError, PartitionCounts, Retention, StoredRecord,
};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

const RECORDS: u64 = 5_000;

fn plan() -> BulkPlan {
    let starts = vec![(Topic::Inbox.name().to_owned(), 1, 1_000), (Topic::Fanout.name().to_owned(), 0, 77)];
    BulkPlan { log_id: 42, partitions: PartitionCounts::default(), starts, origin: "a test".to_owned() }
}

fn given(number: u64) -> StoredRecord {
    let value = Bytes::from(vec![u8::try_from(number % 251).unwrap(); usize::try_from(number % 300).unwrap()]);
    // The clock stands still, goes, and steps back.
    let timestamp_ms = 1_700_000_000_000 + i64::try_from(number / 3).unwrap() - i64::try_from(number % 7).unwrap();
    StoredRecord { offset: 0, timestamp_ms, key: Bytes::from(number.to_string()), value }
}

/// All, or what comes before an interruption.
fn fill(log: &mut BulkLog, records: u64) {
    for number in 0..records {
        assert_eq!(log.append(Topic::Events, 0, &given(number)).unwrap(), number);
        assert_eq!(log.append(Topic::Inbox, 1, &given(number)).unwrap(), 1_000 + number);
    }
}

fn check(directory: &Path) {
    // The records are years old: they are not to be dropped for that.
    let retention = Topic::ALL.iter().map(|topic| (topic.name().to_owned(), Retention::default())).collect();
    let config = EmbeddedConfig { directory: directory.to_owned(), retention, ..EmbeddedConfig::default() };
    let log = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    assert_eq!(log.log_id(), 42);
    for (topic, partition, start) in [(Topic::Events, 0, 0), (Topic::Inbox, 1, 1_000)] {
        let records = read_from(&log, topic, partition, start);
        assert_eq!(records.len() as u64, RECORDS);
        for (number, record) in (0..).zip(records) {
            assert_eq!(record, StoredRecord { offset: start + number, ..given(number) });
        }
        assert_eq!(log.range(topic, partition).unwrap().start, start);
        assert_eq!(append(&log, vec![record(topic, partition, "next")]).unwrap(), [start + RECORDS]);
    }
    let empty = log.range(Topic::Fanout, 0).unwrap();
    assert_eq!((empty.start, empty.end), (77, 77));
}

#[test]
fn it_is_a_log_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = BulkLog::open(&path, plan(), &SystemClock::new()).unwrap().unwrap();
    fill(&mut log, RECORDS);
    log.finish().unwrap();
    check(&path);
}

#[test]
fn an_interrupted_attempt_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for records in [0, 10, 2_000, 4_000] {
        let mut log = BulkLog::open(&path, plan(), &SystemClock::new()).unwrap().unwrap();
        fill(&mut log, records);
        drop(log);
        // What a kill leaves: an unfinished block at the end.
        let file = path.join("partitions/events.v1-0/00000000000000000000.segment");
        if file.exists() {
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, [&bytes[..], b"TBLK and no more"].concat()).unwrap();
        }
    }
    let config = EmbeddedConfig { directory: path.clone(), ..EmbeddedConfig::default() };
    let opened = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let Err(error) = opened else { panic!("it is no log yet") };
    assert!(error.to_string().contains("was not finished"), "{error}");
    let mut log = BulkLog::open(&path, plan(), &SystemClock::new()).unwrap().unwrap();
    assert!(log.kept() > 1_000, "what was written is kept: {}", log.kept());
    fill(&mut log, RECORDS);
    log.finish().unwrap();
    check(&path);
}

#[test]
fn a_log_and_another_plan_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let open = |plan: BulkPlan| BulkLog::open(&path, plan, &SystemClock::new());
    drop(open(plan()).unwrap());
    let other = BulkPlan { origin: "another".to_owned(), ..plan() };
    assert!(matches!(open(other.clone()), Err(LogError::Mismatch { .. })));
    open(plan()).unwrap().unwrap().finish().unwrap();
    for plan in [plan(), other] {
        let Err(error) = open(plan) else { panic!("there is a log") };
        assert!(error.to_string().contains("there is a log already"), "{error}");
    }
}

//! Records replaced where they stand: everything else is what it was, and the old bytes are in no file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, LogError, LogExt as _, NewRecord, StoredRecord, rewrite};
use tidings_schemas::{
    clock::{Clock, Entropy, SystemClock, SystemEntropy},
    topics::Topic,
};

const SECRET: &[u8] = b"a-secret-of-somebody";

fn parts() -> (Arc<dyn Clock>, Arc<dyn Entropy>) {
    (Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
}

fn open(config: &EmbeddedConfig) -> EmbeddedLog {
    let (clock, entropy) = parts();
    EmbeddedLog::open(config, clock, entropy).unwrap()
}

fn all(log: &EmbeddedLog) -> Vec<(Topic, u32, StoredRecord)> {
    let mut found = Vec::new();
    for topic in [Topic::Events, Topic::Timeline] {
        for partition in 0..log.partitions(topic) {
            let mut records = Vec::new();
            let mut reader = log.reader(topic, partition, 0).unwrap();
            while reader.poll(1 << 20, &mut records).unwrap() > 0 {}
            found.extend(records.into_iter().map(|record| (topic, partition, record)));
        }
    }
    found
}

fn is_anywhere(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_anywhere(&path),
            false => fs::read(&path).unwrap().windows(SECRET.len()).any(|window| window == SECRET),
        }
    })
}

async fn fill(log: &EmbeddedLog, rounds: u64) {
    for round in 0..rounds {
        let record = |number: u64| {
            let is_secret = (round + number).is_multiple_of(7);
            let value =
                if is_secret { SECRET.to_vec() } else { vec![b'v'; usize::try_from(number * 37 % 900).unwrap()] };
            NewRecord {
                topic: if number.is_multiple_of(3) { Topic::Timeline } else { Topic::Events },
                partition: u32::from(number.is_multiple_of(2)),
                key: Bytes::from(format!("key-{round}-{number}")),
                value: value.into(),
            }
        };
        log.append((0..50).map(record).collect()).await.unwrap();
    }
}

/// The record without the secret.
fn without(record: &StoredRecord) -> Option<(Bytes, Bytes)> {
    (record.value == SECRET).then(|| (Bytes::from_static(b"k"), Bytes::from_static(b"gone")))
}

#[tokio::test]
async fn what_is_replaced_is_gone_and_the_rest_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        directory: folder.path().to_owned(),
        journal_segment_bytes: 256 * 1024,
        partition_segment_bytes: 64 * 1024,
        ..EmbeddedConfig::default()
    };
    let log = open(&config);
    fill(&log, 40).await;
    // Closed files, open ones, segments that are used again, and what only the journal has.
    log.maintain().unwrap();
    fill(&log, 40).await;
    log.maintain().unwrap();
    fill(&log, 3).await;
    let before = all(&log);
    let (clock, entropy) = parts();
    let locked = rewrite(&config, &clock, &entropy, |_, _, _| None);
    assert!(matches!(locked, Err(LogError::Locked { .. })), "{locked:?}");
    drop(log);
    assert!(is_anywhere(folder.path()));

    let mut seen = 0;
    let done = rewrite(&config, &clock, &entropy, |_, _, record| {
        seen += 1;
        without(record)
    });
    let done = done.unwrap();
    assert!(!is_anywhere(folder.path()));
    let secrets = before.iter().filter(|(_, _, record)| record.value == SECRET).count() as u64;
    assert_eq!((done.records, done.changed, seen), (before.len() as u64, secrets, before.len() as u64));
    assert!(done.files > 4, "{done:?}");
    let expected: Vec<(Topic, u32, StoredRecord)> = before
        .into_iter()
        .map(|(topic, partition, record)| match without(&record) {
            Some((key, value)) => (topic, partition, StoredRecord { key, value, ..record }),
            None => (topic, partition, record),
        })
        .collect();
    let again = rewrite(&config, &clock, &entropy, |_, _, record| without(record)).unwrap();
    assert_eq!((again.changed, again.files), (0, 0), "there is nothing left to do");
    let log = open(&config);
    assert_eq!(all(&log), expected);
    // It is a log to go on with.
    fill(&log, 5).await;
    log.maintain().unwrap();
    drop(log);
    let log = open(&config);
    let found = all(&log);
    assert_eq!(found.len(), expected.len() + 250);
    let of = |topic| found.iter().filter(move |(of, partition, _)| *of == topic && *partition == 0);
    for (place, (_, _, record)) in of(Topic::Events).enumerate() {
        assert_eq!(record.offset, place as u64);
    }
}

//! The embedded log read beside its writer: nothing is missed while files come and go, nothing is seen too early, nothing
//! in the folder is changed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::{PATIENCE, append, record};
use tempfile::TempDir;
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, LogError, ReadOnlyLog, Retention, WaitingReader};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

fn config(directory: &TempDir) -> EmbeddedConfig {
    EmbeddedConfig {
        directory: directory.path().join("log"),
        journal_segment_bytes: 64 * 1024,
        partition_segment_bytes: 8 * 1024,
        ..EmbeddedConfig::default()
    }
}

fn open(config: &EmbeddedConfig) -> EmbeddedLog {
    EmbeddedLog::open(config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap()
}

/// Every file: its size, and when it was changed.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let about = entry.metadata().unwrap();
        if about.is_dir() {
            found.extend(snapshot(&entry.path()));
        }
        found.insert(entry.path(), (about.len(), about.modified().unwrap()));
    }
    found
}

/// The writer fills, splits and uses segments again, and retention drops files, all while somebody reads from the start.
/// He may be overtaken by retention; what he gets is right and without a gap.
#[test]
fn a_busy_writer_with_retention_is_followed() {
    const RECORDS: u64 = 30_000;
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory);
    let kept = Retention { age_seconds: None, partition_bytes: Some(64 * 1024) };
    config.retention.insert(Topic::Inbox.name().to_owned(), kept);
    let writer = open(&config);
    let reader = ReadOnlyLog::open(&config.directory).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for first in (0..RECORDS).step_by(50) {
                let both = |number: u64| {
                    let value = number.to_le_bytes().to_vec();
                    [record(Topic::Events, 0, value.clone()), record(Topic::Inbox, 1, value)]
                };
                append(&writer, (first..first + 50).flat_map(both).collect()).unwrap();
                if first % 1_000 == 0 {
                    writer.maintain().unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        for (topic, partition, may_miss) in [(Topic::Events, 0, false), (Topic::Inbox, 1, true)] {
            let reader = &reader;
            scope.spawn(move || {
                let mut position = 0;
                while position < RECORDS {
                    let opened = match reader.reader(topic, partition, position) {
                        Err(LogError::OutOfRange { start, .. }) if may_miss => {
                            assert!(start > position);
                            position = start;
                            continue;
                        }
                        opened => opened.unwrap(),
                    };
                    let mut opened = WaitingReader::new(opened);
                    while position < RECORDS {
                        let mut records = Vec::new();
                        match opened.poll(16 * 1024, &mut records, PATIENCE) {
                            Err(LogError::OutOfRange { .. }) if may_miss => break,
                            read => assert!(read.unwrap() > 0, "nothing came"),
                        }
                        for record in records {
                            assert_eq!(record.offset, position);
                            assert_eq!(record.value[..], position.to_le_bytes());
                            position += 1;
                        }
                    }
                }
            });
        }
    });
    assert!(done.load(Ordering::SeqCst));
    assert!(reader.range(Topic::Inbox, 1).unwrap().start > 0, "retention has dropped files");
    assert_eq!(reader.range(Topic::Events, 0).unwrap(), writer.range(Topic::Events, 0).unwrap());
    assert_eq!(reader.range(Topic::Inbox, 1).unwrap(), writer.range(Topic::Inbox, 1).unwrap());
}

/// The last commit in the journal may not be synced yet: it counts when the writer has said so, or when another follows.
#[test]
fn the_last_commit_counts_when_it_is_said_to_be_durable() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory);
    let writer = open(&config);
    for number in 0..5_u8 {
        append(&writer, vec![record(Topic::Events, 0, vec![number])]).unwrap();
    }
    drop(writer);
    let end = || ReadOnlyLog::open(&config.directory).unwrap().range(Topic::Events, 0).unwrap().end;
    assert_eq!(end(), 5);
    let said = config.directory.join("durable");
    let whole = fs::read(&said).unwrap();
    for damaged in [whole[..10].to_vec(), vec![0; whole.len()], Vec::new()] {
        fs::write(&said, damaged).unwrap();
        assert_eq!(end(), 4, "nobody has said that the last one is durable");
    }
    fs::remove_file(&said).unwrap();
    assert_eq!(end(), 4);
    // The next opening begins a segment behind it, and that tells.
    drop(open(&config));
    assert_eq!(end(), 5);
}

#[test]
fn nothing_in_the_folder_changes_and_appends_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory);
    let writer = open(&config);
    append(&writer, (0..100).map(|_| record(Topic::Events, 0, vec![1; 1000])).collect()).unwrap();
    writer.maintain().unwrap();
    drop(writer);
    let before = snapshot(&config.directory);
    let reader = ReadOnlyLog::open(&config.directory).unwrap();
    assert_eq!(support::read_from(&reader, Topic::Events, 0, 0).len(), 100);
    let refused = append(&reader, vec![record(Topic::Events, 0, "x")]).unwrap_err();
    assert!(refused.to_string().contains("read only"), "{refused}");
    // It holds no lock: the program can be started beside it.
    drop(open(&EmbeddedConfig { directory: config.directory.clone(), ..config.clone() }));
    drop(reader);
    let other = tempfile::tempdir().unwrap();
    let copy = EmbeddedConfig { directory: other.path().join("log"), ..config.clone() };
    drop(open(&copy));
    let untouched = snapshot(&copy.directory);
    drop(ReadOnlyLog::open(&copy.directory).unwrap());
    assert_eq!(snapshot(&copy.directory), untouched);
    assert!(before.len() > 3);
}

#[test]
fn a_folder_without_a_log_is_refused_and_stays_empty() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nothing");
    let Err(error) = ReadOnlyLog::open(&missing) else { panic!("there is no log") };
    assert!(error.to_string().contains("there is no log"), "{error}");
    assert!(!missing.exists());
}

/// A flipped bit in the journal is an error that names the file, not a shorter log.
#[test]
fn damage_in_the_journal_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory);
    let writer = open(&config);
    for _ in 0..5 {
        append(&writer, vec![record(Topic::Events, 0, vec![7; 100])]).unwrap();
    }
    drop(writer);
    let journal = config.directory.join("journal");
    let segment = fs::read_dir(&journal)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "journal"))
        .max()
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let second = bytes.windows(4).enumerate().filter(|(_, magic)| magic == b"TFRM").map(|(at, _)| at).nth(1).unwrap();
    bytes[second + 80] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let Err(error) = ReadOnlyLog::open(&config.directory) else { panic!("it is damaged") };
    assert!(matches!(&error, LogError::Corrupt { file, .. } if *file == segment), "{error}");
}

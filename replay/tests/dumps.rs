//! Raw dumps of a real log: they come back as they were, become a log again, and no flipped or missing byte goes unnoticed.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use tempfile::TempDir;
use tidings_ingest::{
    BulkLog, BulkPlan, EmbeddedConfig, EmbeddedLog, Log, LogError, LogReader, NewRecord, OffsetRange, OnAppended,
    ReadOnlyLog, Retention, StoredRecord, Wake,
};
use tidings_replay::import::{self, ImportError, Imported};
use tidings_replay::raw::{Header, RawError, RawReader, RawWriter};
use tidings_replay::{Bound, Scan, Selection};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

fn append(log: &dyn Log, topic: Topic, partition: u32, value: Vec<u8>) {
    let (answer, answered) = mpsc::channel();
    let key = Bytes::from_static(b"key");
    let records = vec![NewRecord { topic, partition, key, value: value.into() }];
    log.append_with(records, Box::new(move |result| answer.send(result).unwrap_or_default()));
    answered.recv().unwrap().unwrap();
}

/// A log with some records of several topics; of many, retention has dropped the first of `inbox`.
fn made(records: usize) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut config = EmbeddedConfig {
        directory: directory.path().join("log"),
        journal_segment_bytes: 32 * 1024,
        partition_segment_bytes: 1024,
        ..EmbeddedConfig::default()
    };
    let kept = Retention { age_seconds: None, partition_bytes: Some(2 * 1024) };
    config.retention.insert(Topic::Inbox.name().to_owned(), kept);
    let log = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    for number in 0..records {
        let value = vec![u8::try_from(number % 256).unwrap(); 50];
        append(&log, Topic::Events, 1, value.clone());
        append(&log, Topic::Inbox, 0, value.clone());
        append(&log, Topic::Directory, 0, value);
    }
    log.maintain().unwrap();
    directory
}

fn open(directory: &Path) -> ReadOnlyLog {
    ReadOnlyLog::open(&directory.join("log")).unwrap()
}

fn dump(log: &dyn Log, selection: &Selection) -> Vec<u8> {
    let spans = selection.resolve(log).unwrap();
    let mut writer = RawWriter::new(Vec::new(), Header::new(log, &spans, 1, true)).unwrap();
    for span in spans {
        for record in Scan::new(log, span.topic, span.partition, span.offsets).unwrap() {
            writer.write(span.topic, span.partition, &record.unwrap()).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn all() -> Selection {
    Selection { topics: Topic::ALL.into(), ..Selection::default() }
}

type Partition = (Topic, u32, u64, Vec<StoredRecord>);

fn everything(log: &dyn Log) -> Vec<Partition> {
    let spans = all().resolve(log).unwrap();
    let records = |span: tidings_replay::Span| {
        let scan = Scan::new(log, span.topic, span.partition, span.offsets.clone()).unwrap();
        (span.topic, span.partition, span.kept.start, scan.map(Result::unwrap).collect())
    };
    spans.into_iter().map(records).collect()
}

fn read(dump: &[u8]) -> Result<u64, RawError> {
    let mut reader = RawReader::new(dump)?;
    let mut records = 0;
    while let Some(block) = reader.next_block()? {
        records += block.records.len() as u64;
    }
    Ok(records)
}

#[test]
fn a_dump_of_everything_becomes_the_same_log() {
    let source = made(400);
    let log = open(source.path());
    assert!(log.range(Topic::Inbox, 0).unwrap().start > 0, "retention has dropped some");
    let dump = dump(&log, &all());
    let target = tempfile::tempdir().unwrap();
    let directory = target.path().join("log");
    let reader = RawReader::new(&dump[..]).unwrap();
    let plan = import::plan(reader.header(), 7).unwrap();
    let imported = into_folder(reader, &directory, plan).unwrap();
    assert_eq!(imported.records, read(&dump).unwrap());
    let copy = open(target.path());
    assert_eq!(copy.log_id(), log.log_id());
    assert_eq!(everything(&copy), everything(&log));
}

fn into_folder(reader: RawReader<&[u8]>, directory: &Path, plan: BulkPlan) -> Result<Imported, ImportError> {
    let log = BulkLog::open(directory, plan, &SystemClock::new()).map_err(ImportError::Log)?;
    import::into_log(reader, log, |_| {})
}

/// Interrupted anywhere and run again, it is the same log.
#[test]
fn an_interrupted_import_is_gone_on_with() {
    let source = made(40);
    let log = open(source.path());
    let dump = dump(&log, &all());
    let target = tempfile::tempdir().unwrap();
    let directory = target.path().join("log");
    let plan = || import::plan(RawReader::new(&dump[..]).unwrap().header(), 7).unwrap();
    for cut in [dump.len() * 2 / 3, dump.len() * 4 / 5, dump.len() - 1] {
        let reader = RawReader::new(&dump[..cut]).unwrap();
        let error = into_folder(reader, &directory, plan()).unwrap_err();
        assert!(matches!(error, ImportError::Raw(RawError::Truncated { .. })), "{error}");
        assert!(ReadOnlyLog::open(&directory).is_err(), "it is no log yet");
    }
    let reader = RawReader::new(&dump[..]).unwrap();
    into_folder(reader, &directory, plan()).unwrap();
    assert_eq!(everything(&open(target.path())), everything(&log));
}

#[test]
fn no_flipped_byte_goes_unnoticed() {
    let source = made(3);
    let dump = dump(&open(source.path()), &all());
    assert_eq!(read(&dump).unwrap(), 9);
    for at in 0..dump.len() {
        let mut damaged = dump.clone();
        damaged[at] ^= 0x10;
        assert!(read(&damaged).is_err(), "byte {at} of {}", dump.len());
    }
}

#[test]
fn a_dump_that_was_cut_off_is_truncated() {
    let source = made(3);
    let dump = dump(&open(source.path()), &all());
    for length in 0..dump.len() {
        let error = read(&dump[..length]).unwrap_err();
        match error {
            RawError::Truncated { position } => assert_eq!(position, length as u64, "where it ends"),
            error => assert!(matches!(error, RawError::NotADump) && length < 20, "{length}: {error}"),
        }
    }
    let error = read(&[&dump[..], b"x"].concat()).unwrap_err();
    assert!(error.to_string().contains("follows the end"), "{error}");
    assert!(matches!(read(b"PK\x03\x04 something else altogether"), Err(RawError::NotADump)));
}

#[test]
fn a_newer_version_is_named() {
    let source = made(1);
    let mut dump = dump(&open(source.path()), &all());
    dump[8] = 9;
    assert!(matches!(read(&dump), Err(RawError::Newer { found: 9 })));
}

#[test]
fn a_part_becomes_another_log_and_a_selection_none() {
    let source = made(20);
    let log = open(source.path());
    let part =
        Selection { topics: vec![Topic::Events], partitions: vec![1], start: Bound::At(5), ..Selection::default() };
    let dump = dump(&log, &part);
    let reader = RawReader::new(&dump[..]).unwrap();
    let target = tempfile::tempdir().unwrap();
    let directory = target.path().join("log");
    let plan = import::plan(reader.header(), 7).unwrap();
    into_folder(reader, &directory, plan).unwrap();
    let copy = open(target.path());
    assert_eq!(copy.log_id(), 7, "it is not the same log");
    let range = copy.range(Topic::Events, 1).unwrap();
    assert_eq!((range.start, range.end), (5, 20));

    let spans = all().resolve(&log).unwrap();
    let filtered = Header::new(&log, &spans, 1, false);
    assert!(matches!(import::plan(&filtered, 7), Err(ImportError::Selection)));
}

#[test]
fn ranges_are_found_by_offset_and_by_time() {
    let source = made(50);
    let log = open(source.path());
    let one =
        |start, end| Selection { topics: vec![Topic::Events], partitions: vec![1], start, end, ..Selection::default() };
    for (start, end, expected) in [
        (Bound::Beginning, None, 0..50),
        (Bound::End, None, 50..50),
        (Bound::BeforeEnd(10), None, 40..50),
        (Bound::BeforeEnd(1000), None, 0..50),
        (Bound::At(3), Some(Bound::At(9)), 3..9),
        (Bound::At(50), None, 50..50),
        (Bound::Beginning, Some(Bound::BeforeEnd(1)), 0..49),
    ] {
        assert_eq!(one(start, end).resolve(&log).unwrap()[0].offsets, expected);
    }
    assert!(one(Bound::At(51), None).resolve(&log).is_err());
    let none = Selection { from_ms: Some(i64::MAX), ..one(Bound::Beginning, None) };
    assert_eq!(none.resolve(&log).unwrap()[0].records(), 0);
    let before = Selection { to_ms: Some(1), ..one(Bound::Beginning, None) };
    assert_eq!(before.resolve(&log).unwrap()[0].records(), 0);
    let missing = Selection { partitions: vec![99], ..one(Bound::Beginning, None) };
    assert!(missing.resolve(&log).unwrap_err().to_string().contains("no partition 99"));
}

/// Its first reader never gives anything.
struct Deaf {
    log: ReadOnlyLog,
    opened: AtomicU32,
}

struct Nothing;

impl LogReader for Nothing {
    fn poll(&mut self, _max_bytes: usize, _into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        Ok(0)
    }

    fn wake_with(&mut self, _wake: Wake) {}

    fn position(&self) -> u64 {
        0
    }
}

impl Log for Deaf {
    fn log_id(&self) -> u128 {
        self.log.log_id()
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }

    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        self.log.append_with(records, on_appended);
    }

    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        self.log.range(topic, partition)
    }

    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        match self.opened.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(Box::new(Nothing)),
            _ => self.log.reader(topic, partition, from),
        }
    }
}

#[test]
fn a_reader_that_gives_nothing_is_given_up_for_another() {
    let source = made(5);
    let deaf = Deaf { log: open(source.path()), opened: AtomicU32::new(0) };
    let records: Vec<StoredRecord> = Scan::new(&deaf, Topic::Events, 1, 0..5).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 5);
    assert_eq!(deaf.opened.load(Ordering::SeqCst), 2);
}

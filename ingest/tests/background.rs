//! The background's work, seen from outside: splits, retention, a reader that is slow, the counters.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::{io, thread};

use prometheus_client::registry::Registry;
use support::disk::{Operation, SimulatedDisk};
use support::{PATIENCE, TestClock, append, read_from, record};
use tidings_ingest::embedded::config::Retention;
use tidings_ingest::embedded::disk::{DirectoryLock, Disk, DiskFile};
use tidings_ingest::embedded::metrics;
use tidings_ingest::{AppendError, EmbeddedConfig, EmbeddedLog, Log, LogError, LogExt};
use tidings_schemas::clock::SystemEntropy;
use tidings_schemas::topics::Topic;

fn config() -> EmbeddedConfig {
    EmbeddedConfig {
        directory: PathBuf::from("/log"),
        journal_segment_bytes: 64 * 1024,
        partition_segment_bytes: 8 * 1024,
        tail_cache_bytes_max: 0,
        ..EmbeddedConfig::default()
    }
}

fn open(disk: impl Disk, config: &EmbeddedConfig, clock: &Arc<TestClock>) -> EmbeddedLog {
    let clock: Arc<TestClock> = Arc::clone(clock);
    EmbeddedLog::open_on(Arc::new(disk), config, clock, Arc::new(SystemEntropy)).unwrap()
}

fn fill(log: &EmbeddedLog, topic: Topic, count: u32) {
    for number in 0..count {
        append(log, vec![record(topic, 0, number.to_le_bytes().repeat(100))]).unwrap();
    }
}

#[test]
fn retention_by_age_drops_what_is_old_and_tells_who_reads_there() {
    let retention = Retention { age_seconds: Some(3_600), partition_bytes: None };
    let config = EmbeddedConfig { retention: [(Topic::Signals.name().to_owned(), retention)].into(), ..config() };
    let (disk, clock) = (SimulatedDisk::new(1), Arc::new(TestClock::new()));
    {
        let log = open(disk.clone(), &config, &clock);
        let mut slow = log.reader(Topic::Signals, 0, 0).unwrap();
        fill(&log, Topic::Signals, 100);
        fill(&log, Topic::Directory, 100);
        clock.advance_ms(3_600_001);
        fill(&log, Topic::Signals, 10);
        fill(&log, Topic::Directory, 10);
        log.maintain().unwrap();
        let range = log.range(Topic::Signals, 0).unwrap();
        assert!(range.start > 50 && range.end == 110, "{range:?}");
        assert!(log.stats().retention_dropped_files_total > 1);
        let error = slow.poll(1, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, LogError::OutOfRange { asked: 0, start, .. } if start == range.start), "{error}");
        assert_eq!(log.range(Topic::Directory, 0).unwrap().start, 0, "kept for good");
    }
    let log = open(disk, &config, &clock);
    let start = log.range(Topic::Signals, 0).unwrap().start;
    assert!(start > 50);
    assert_eq!(read_from(&log, Topic::Signals, 0, start).len() as u64, 110 - start);
}

#[test]
fn a_partition_of_which_nothing_is_kept_goes_on_where_it_was() {
    let retention = Retention { age_seconds: Some(1), partition_bytes: None };
    let config = EmbeddedConfig { retention: [(Topic::Signals.name().to_owned(), retention)].into(), ..config() };
    let (disk, clock) = (SimulatedDisk::new(2), Arc::new(TestClock::new()));
    fill(&open(disk.clone(), &config, &clock), Topic::Signals, 10);
    let log = open(disk.clone(), &config, &clock);
    clock.advance_ms(2_000);
    log.maintain().unwrap();
    let range = log.range(Topic::Signals, 0).unwrap();
    assert_eq!((range.start, range.end), (10, 10));
    drop(log);
    let log = open(disk, &config, &clock);
    assert_eq!(append(&log, vec![record(Topic::Signals, 0, "next")]).unwrap(), [10]);
}

#[test]
fn retention_by_size_keeps_at_least_that_much() {
    let retention = Retention { age_seconds: None, partition_bytes: Some(20_000) };
    let config = EmbeddedConfig { retention: [(Topic::Events.name().to_owned(), retention)].into(), ..config() };
    let (disk, clock) = (SimulatedDisk::new(3), Arc::new(TestClock::new()));
    fill(&open(disk.clone(), &config, &clock), Topic::Events, 200);
    let log = open(disk, &config, &clock);
    log.maintain().unwrap();
    let bytes = log.stats().partitions_disk_bytes;
    assert!((20_000..20_000 + 3 * 8 * 1024).contains(&bytes), "{bytes}");
}

/// The page that a failed sync has left in memory alone is served after a restart: then it must outlive the next power
/// loss.
#[test]
fn what_was_perhaps_written_is_durable_once_it_was_seen() {
    let mut seen = 0;
    for seed in 0..200 {
        let (disk, clock) = (SimulatedDisk::new(seed), Arc::new(TestClock::new()));
        let log = open(disk.clone(), &config(), &clock);
        append(&log, vec![record(Topic::Events, 0, "certain")]).unwrap();
        disk.fail(&[(Operation::Sync, 1), (Operation::SyncDirectory, 1)]);
        let error = append(&log, vec![record(Topic::Events, 0, "perhaps")]).unwrap_err();
        assert!(matches!(error, AppendError::Unknown { .. }), "{error}");
        assert_eq!(log.range(Topic::Events, 0).unwrap().end, 1, "nobody sees it now");
        drop(log);
        disk.fail(&[]);
        let end = open(disk.clone(), &config(), &clock).range(Topic::Events, 0).unwrap().end;
        let disk = disk.lose_power();
        let log = open(disk, &config(), &clock);
        assert!(log.range(Topic::Events, 0).unwrap().end >= end);
        seen += u64::from(end == 2);
    }
    assert!(seen > 0, "no run came to the case in question");
}

#[test]
fn a_failed_append_is_refused_for_good_and_the_next_one_takes_its_place() {
    let (disk, clock) = (SimulatedDisk::new(4), Arc::new(TestClock::new()));
    let log = open(disk.clone(), &config(), &clock);
    let mut next = 0;
    for round in 0..20 {
        // Either the write of the frame fails, or its sync: then the next segment's header may well be written.
        disk.fail(&[(if round % 2 == 0 { Operation::Write } else { Operation::Sync }, 2)]);
        let result = append(&log, vec![record(Topic::Events, 0, "lost"), record(Topic::Inbox, 1, "lost")]);
        disk.fail(&[]);
        next += u64::from(result.is_ok());
        assert_eq!(append(&log, vec![record(Topic::Events, 0, "kept")]).unwrap(), [next]);
        next += 1;
    }
    assert!(log.stats().refused_unavailable_total > 0 && log.stats().io_errors_total > 0);
    drop(log);
    let log = open(disk.lose_power(), &config(), &clock);
    assert_eq!(read_from(&log, Topic::Events, 0, 0).len() as u64, next);
    let lost = read_from(&log, Topic::Events, 0, 0).iter().filter(|record| record.value == "lost").count();
    assert_eq!(log.range(Topic::Inbox, 1).unwrap().end, lost as u64, "calls are there whole");
}

/// Stops a read of the journal until it is let go on.
#[derive(Clone)]
struct Gate {
    disk: SimulatedDisk,
    closed: Arc<AtomicBool>,
    reached: mpsc::Sender<()>,
    open: Arc<Mutex<mpsc::Receiver<()>>>,
    panics: Arc<AtomicBool>,
}

struct GatedFile(Arc<dyn DiskFile>, Gate);

impl Disk for Gate {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GatedFile(self.disk.create(path)?, self.clone())))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GatedFile(self.disk.open(path)?, self.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<DirectoryLock, String>> {
        Disk::lock(&self.disk, path, holder)
    }
}

impl DiskFile for GatedFile {
    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        assert!(!self.1.panics.load(Ordering::SeqCst), "a defect (expected here)");
        self.0.write_at(parts, position)
    }
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        if thread::current().name() == Some("slow reader") && self.1.closed.swap(false, Ordering::SeqCst) {
            self.1.reached.send(()).unwrap();
            self.1.open.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        self.0.read_at(into, position)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }
    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

#[test]
fn a_journal_file_is_not_used_again_while_it_is_being_read() {
    let clock = Arc::new(TestClock::new());
    let (reached, reach) = mpsc::channel();
    let (let_go, opened) = mpsc::channel();
    let closed = Arc::new(AtomicBool::new(false));
    let open_gate = Arc::new(Mutex::new(opened));
    let panics = Arc::default();
    let gate = Gate { disk: SimulatedDisk::new(5), closed: Arc::clone(&closed), reached, open: open_gate, panics };
    let log = Arc::new(open(gate, &config(), &clock));
    // Some into the segment being filled, where the reader finds all but the newest.
    fill(&log, Topic::Events, 5);
    let mut reader = log.reader(Topic::Events, 0, 0).unwrap();
    closed.store(true, Ordering::SeqCst);
    let slow = thread::Builder::new().name("slow reader".to_owned()).spawn(move || {
        let mut records = Vec::new();
        reader.poll(1, &mut records).map(|_| records)
    });
    reach.recv_timeout(PATIENCE).unwrap();
    // Meanwhile that segment is filled, split and retired, and several more after it.
    for _ in 0..4 {
        fill(&log, Topic::Events, 30);
        log.maintain().unwrap();
    }
    assert!(log.stats().splits_total > 3);
    let_go.send(()).unwrap();
    let records = slow.unwrap().join().unwrap().unwrap();
    assert_eq!((records[0].offset, &records[0].value[..4]), (0, &[0; 4][..]));
}

/// A defect of the program must not leave callers waiting.
#[test]
fn a_writer_that_panics_leaves_nobody_waiting() {
    let clock = Arc::new(TestClock::new());
    let (reached, _reach) = mpsc::channel();
    let (_let_go, opened) = mpsc::channel();
    let panics = Arc::new(AtomicBool::new(false));
    let gate = Gate {
        disk: SimulatedDisk::new(7),
        closed: Arc::default(),
        reached,
        open: Arc::new(Mutex::new(opened)),
        panics: Arc::clone(&panics),
    };
    let log = open(gate, &config(), &clock);
    fill(&log, Topic::Events, 1);
    panics.store(true, Ordering::SeqCst);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(log.append(vec![record(Topic::Events, 0, "lost")])).unwrap_err();
    assert!(matches!(error, AppendError::Unknown { .. }), "{error}");
    let error = append(&log, vec![record(Topic::Events, 0, "too late")]).unwrap_err();
    assert!(matches!(error, AppendError::Unavailable { .. }), "{error}");
    assert_eq!(read_from(&log, Topic::Events, 0, 0).len(), 1, "it can still be read");
}

#[test]
fn the_counters_are_on_the_metrics_page() {
    let log = Arc::new(open(SimulatedDisk::new(6), &config(), &Arc::new(TestClock::new())));
    let mut registry = Registry::default();
    metrics::register(&log, &mut registry);
    fill(&log, Topic::Events, 3);
    let too_large = vec![0; tidings_schemas::limits::RECORD_BYTES_MAX + 1];
    append(&*log, vec![record(Topic::Events, 0, too_large)]).unwrap_err();
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    for line in [
        "tidings_ingest_records_total 3",
        "tidings_ingest_record_bytes_total 1200",
        "tidings_ingest_refused_total{reason=\"invalid\"} 1",
        "tidings_ingest_refused_total{reason=\"full\"} 0",
        "tidings_ingest_queue_records 0",
        "tidings_ingest_commit_latency_seconds_count 3",
        "tidings_ingest_commit_latency_seconds_bucket{le=\"+Inf\"} 3",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

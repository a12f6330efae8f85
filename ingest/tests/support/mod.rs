//! What several of these tests need.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "each test crate uses a part of it; and these are tests"
)]

pub mod disk;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use tidings_ingest::{AppendError, Log, LogError, NewRecord, StoredRecord};
use tidings_schemas::clock::Clock;
use tidings_schemas::topics::Topic;

/// A wait that takes this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that goes when it is told to.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn new() -> Self {
        Self(AtomicI64::new(1_700_000_000_000))
    }

    pub fn advance_ms(&self, by: i64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.now_ms()).unwrap())
    }
}

/// A small, seeded generator (SplitMix64): the same seed, the same run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// The seed of this run: `TIDINGS_SEED`, or one that differs from run to run. Printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let given = std::env::var("TIDINGS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed =
        given.unwrap_or_else(|| tidings_schemas::clock::Entropy::next_u64(&tidings_schemas::clock::SystemEntropy));
    println!("TIDINGS_SEED={seed}");
    seed
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A record without a key.
pub fn record(topic: Topic, partition: u32, value: impl Into<Bytes>) -> NewRecord {
    NewRecord { topic, partition, key: Bytes::new(), value: value.into() }
}

/// Appends and waits.
pub fn append(log: &dyn Log, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
    let (answer, answered) = mpsc::channel();
    log.append_with(records, Box::new(move |result| answer.send(result).unwrap_or_default()));
    answered.recv_timeout(PATIENCE).unwrap()
}

/// All records from `from` on (or the oldest kept, if that is later, whenever retention comes) to the present end; their
/// offsets are dense.
pub fn read_from(log: &dyn Log, topic: Topic, partition: u32, from: u64) -> Vec<StoredRecord> {
    'again: loop {
        let range = log.range(topic, partition).unwrap();
        let from = from.max(range.start);
        let mut reader = match log.reader(topic, partition, from) {
            Err(LogError::OutOfRange { start, .. }) if start > from => continue,
            reader => reader.unwrap(),
        };
        let mut records = Vec::new();
        while reader.position() < range.end {
            match reader.poll(1024 * 1024, &mut records) {
                Err(LogError::OutOfRange { start, .. }) if start > reader.position() => continue 'again,
                read => assert!(read.unwrap() > 0, "a durable record is readable at once"),
            }
        }
        assert!(records.iter().map(|record| record.offset).eq(from..range.end), "offsets are dense");
        return records;
    }
}

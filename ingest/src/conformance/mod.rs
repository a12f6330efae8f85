//! What every log must do: run by the tests of each implementation (feature `conformance`), through
//! [`conformance_tests!`](crate::conformance_tests).
//!
//! - [`appending`]: order, density, batches, refusals. [`reading`]: readers and wake-ups. [`reopening`]: what stays.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a suite of tests: it fails by panicking"
)]

pub mod appending;
pub mod reading;
pub mod reopening;

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tidings_schemas::topics::Topic;

use crate::error::AppendError;
use crate::log::{Log, LogReader, NewRecord, StoredRecord};

/// A wait that takes this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An implementation under test. Dropping it takes the log away.
pub trait Fixture {
    /// The log, empty at first, with at least two partitions of `events` and of `inbox`.
    fn log(&self) -> Arc<dyn Log>;

    /// Closes the log and opens it again. The suite holds no reference to it at that time.
    fn reopen(&mut self);
}

/// Makes one test of each case of the suite, on a new fixture each: `conformance_tests!(make_fixture)`, where
/// `make_fixture` is a function without arguments. Attributes before it stand at each test.
#[macro_export]
macro_rules! conformance_tests {
    ($(#[$attribute:meta])* $make:path) => {
        $crate::conformance_tests!(@module appending, [$(#[$attribute])*], $make,
            offsets_are_dense_and_in_call_order,
            threads_interleave_without_a_gap,
            a_batch_across_partitions_is_seen_whole,
            an_empty_call_is_answered_in_its_turn,
            what_is_too_large_is_refused_with_its_code,
            an_unknown_partition_is_refused,
            a_full_queue_refuses_at_once_and_recovers,
            a_panicking_caller_harms_nobody);
        $crate::conformance_tests!(@module reading, [$(#[$attribute])*], $make,
            any_bytes_come_back_untouched,
            readers_start_anywhere,
            out_of_range_is_an_error,
            partitions_are_independent,
            polls_keep_to_their_size_and_always_get_on,
            no_wake_up_is_lost,
            each_record_is_followed_by_its_wake_up,
            a_wake_up_may_come_from_before,
            readers_of_one_partition_do_not_share_a_position,
            the_range_is_told_without_waiting,
            a_dropped_reader_is_not_woken,
            async_callers_append_and_wait);
        $crate::conformance_tests!(@module reopening, [$(#[$attribute])*], $make,
            everything_is_still_there,
            the_log_keeps_its_identity);
    };
    (@module $module:ident, $attributes:tt, $make:path, $($case:ident),* $(,)?) => {
        $($crate::conformance_tests!(@case $module, $attributes, $make, $case);)*
    };
    (@case $module:ident, [$(#[$attribute:meta])*], $make:path, $case:ident) => {
        #[test]
        $(#[$attribute])*
        fn $case() {
            $crate::conformance::$module::$case(&mut $make());
        }
    };
}

/// A record without a key.
pub fn record(topic: Topic, partition: u32, value: impl Into<Bytes>) -> NewRecord {
    NewRecord { topic, partition, key: Bytes::new(), value: value.into() }
}

/// Appends and waits.
///
/// # Errors
/// The log's.
pub fn append(log: &dyn Log, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
    let (answer, answered) = mpsc::channel();
    log.append_with(records, Box::new(move |result| answer.send(result).unwrap_or_default()));
    answered.recv_timeout(PATIENCE).expect("an append is answered")
}

/// Waits for wake-ups.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// How often it has rung.
    pub fn count(&self) -> u64 {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has rung more than `before` times.
    pub fn wait_past(&self, before: u64) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (_rung, waited) = self
            .changed
            .wait_timeout_while(rung, PATIENCE, |rung| *rung <= before)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "no wake-up came: it was lost");
    }
}

/// Reads `count` records, waiting by wake-ups alone.
pub fn follow(reader: &mut dyn LogReader, count: usize) -> Vec<StoredRecord> {
    let bell = Arc::new(Bell::default());
    let ringer = Arc::clone(&bell);
    reader.wake_with(Arc::new(move || ringer.ring()));
    let mut records = Vec::new();
    while records.len() < count {
        let rung = bell.count();
        if reader.poll(64 * 1024, &mut records).expect("readable") == 0 {
            bell.wait_past(rung);
        }
    }
    records
}

/// One poll that gives something: waits for the wake-up if the records are still on their way.
pub fn poll_some(reader: &mut dyn LogReader, max_bytes: usize, into: &mut Vec<StoredRecord>) -> usize {
    let bell = Arc::new(Bell::default());
    let ringer = Arc::clone(&bell);
    reader.wake_with(Arc::new(move || ringer.ring()));
    loop {
        let rung = bell.count();
        match reader.poll(max_bytes, into).expect("readable") {
            0 => bell.wait_past(rung),
            count => return count,
        }
    }
}

/// All records of a partition from `from` to its present end.
pub fn read_all(log: &dyn Log, topic: Topic, partition: u32, from: u64) -> Vec<StoredRecord> {
    let end = log.range(topic, partition).expect("a known partition").end;
    let mut reader = log.reader(topic, partition, from).expect("in range");
    let mut records = Vec::new();
    while reader.position() < end {
        poll_some(&mut *reader, usize::MAX, &mut records);
    }
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.offset, from + index as u64, "offsets are dense");
    }
    records
}

//! What the operator's metrics read: counters kept by the log's threads, read without disturbing them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the append latency's buckets, in microseconds; one more bucket holds the rest.
pub const APPEND_LATENCY_BUCKETS_US: [u64; 14] = [
    400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600, 1_638_400, 6_553_600, 26_214_400,
];

/// A snapshot of a Kafka log's counters. Totals count from the opening of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Append calls that were acknowledged.
    pub appends_total: u64,
    /// Records that were acknowledged.
    pub records_total: u64,
    /// Keys and values that were acknowledged.
    pub record_bytes_total: u64,
    /// Groups of records of one partition that were on their way together.
    pub groups_total: u64,
    /// Time from the call to its acknowledgement, summed, in microseconds.
    pub append_latency_us_sum: u64,
    /// Acknowledged calls by that time: [`APPEND_LATENCY_BUCKETS_US`], then the rest. Not cumulative.
    pub append_latency_us_buckets: [u64; APPEND_LATENCY_BUCKETS_US.len() + 1],
    /// Calls refused because the queue was full.
    pub refused_full_total: u64,
    /// Calls refused because they, or a record, were too large or for no partition.
    pub refused_invalid_total: u64,
    /// Calls that failed, and whose records are not in the log.
    pub refused_unavailable_total: u64,
    /// Calls of which it is not known whether their records are in the log.
    pub refused_unknown_total: u64,
    /// Records that wait to be acknowledged.
    pub queue_records: u64,
    /// Their keys and values.
    pub queue_bytes: u64,
    /// Partitions whose brokers have not answered for longer than `delivery_timeout_ms`.
    pub partitions_stalled: u64,
    /// Records that were read.
    pub read_records_total: u64,
    /// Their keys and values.
    pub read_bytes_total: u64,
    /// Readers that are open.
    pub readers: u64,
    /// Times that a reader was given another consumer, because nothing came though there was more.
    pub readers_moved_total: u64,
    /// What the clients complained about: lost connections and the like.
    pub client_errors_total: u64,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) record_bytes: AtomicU64,
    pub(crate) groups: AtomicU64,
    append_latency_us_sum: AtomicU64,
    append_latency_us_buckets: [AtomicU64; APPEND_LATENCY_BUCKETS_US.len() + 1],
    pub(crate) refused_full: AtomicU64,
    pub(crate) refused_invalid: AtomicU64,
    pub(crate) refused_unavailable: AtomicU64,
    pub(crate) refused_unknown: AtomicU64,
    pub(crate) partitions_stalled: AtomicU64,
    pub(crate) read_records: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) readers: AtomicU64,
    pub(crate) readers_moved: AtomicU64,
    pub(crate) client_errors: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Takes from a counter that goes up and down.
pub(crate) fn take(counter: &AtomicU64, by: u64) {
    counter.fetch_sub(by, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn appended(&self, records: usize, bytes: usize, took: Duration) {
        add(&self.appends, 1);
        add(&self.records, records as u64);
        add(&self.record_bytes, bytes as u64);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.append_latency_us_sum, us);
        let bucket = APPEND_LATENCY_BUCKETS_US.partition_point(|bound| *bound < us);
        add(&self.append_latency_us_buckets[bucket], 1);
    }

    pub(crate) fn totals(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut append_latency_us_buckets = [0; APPEND_LATENCY_BUCKETS_US.len() + 1];
        for (total, counter) in append_latency_us_buckets.iter_mut().zip(&self.append_latency_us_buckets) {
            *total = get(counter);
        }
        Stats {
            appends_total: get(&self.appends),
            records_total: get(&self.records),
            record_bytes_total: get(&self.record_bytes),
            groups_total: get(&self.groups),
            append_latency_us_sum: get(&self.append_latency_us_sum),
            append_latency_us_buckets,
            refused_full_total: get(&self.refused_full),
            refused_invalid_total: get(&self.refused_invalid),
            refused_unavailable_total: get(&self.refused_unavailable),
            refused_unknown_total: get(&self.refused_unknown),
            queue_records: 0,
            queue_bytes: 0,
            partitions_stalled: get(&self.partitions_stalled),
            read_records_total: get(&self.read_records),
            read_bytes_total: get(&self.read_bytes),
            readers: get(&self.readers),
            readers_moved_total: get(&self.readers_moved),
            client_errors_total: get(&self.client_errors),
        }
    }
}

//! What the operator's metrics read: counters kept by the log's threads, read without disturbing them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the commit latency's buckets, in microseconds; one more bucket holds the rest.
pub const COMMIT_LATENCY_BUCKETS_US: [u64; 14] =
    [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600, 1_638_400];

/// A snapshot of an embedded log's counters. Totals count from the opening of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Append calls that were acknowledged.
    pub appends_total: u64,
    /// Records that were acknowledged.
    pub records_total: u64,
    /// Keys and values that were acknowledged.
    pub record_bytes_total: u64,
    /// Writes and syncs of the journal that succeeded.
    pub commits_total: u64,
    /// Bytes that commits wrote to the journal, with padding.
    pub journal_written_bytes_total: u64,
    /// Time from taking a commit's calls off the queue until it was durable, summed, in microseconds.
    pub commit_latency_us_sum: u64,
    /// Commits by that time: [`COMMIT_LATENCY_BUCKETS_US`], then the rest. Not cumulative.
    pub commit_latency_us_buckets: [u64; COMMIT_LATENCY_BUCKETS_US.len() + 1],
    /// Calls refused because the queue was full.
    pub refused_full_total: u64,
    /// Calls refused because they, or a record, were too large or for no partition.
    pub refused_invalid_total: u64,
    /// Calls that failed in writing.
    pub refused_unavailable_total: u64,
    /// Records that wait to be committed.
    pub queue_records: u64,
    /// Their keys and values.
    pub queue_bytes: u64,
    /// Recent records kept in memory for live readers.
    pub tail_cache_bytes: u64,
    /// Journal segments that hold records not yet in the partitions' files.
    pub journal_segments: u64,
    /// Disk space of the journal, spare files included.
    pub journal_disk_bytes: u64,
    /// Disk space of the partitions' files.
    pub partitions_disk_bytes: u64,
    /// Journal segments split into the partitions' files.
    pub splits_total: u64,
    /// Files dropped by retention.
    pub retention_dropped_files_total: u64,
    /// Errors of the disk, in commits and in the background.
    pub io_errors_total: u64,
    /// Places where what is stored is not what was written. Anything but 0 means that somebody must act.
    pub corruptions_total: u64,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) record_bytes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) journal_written_bytes: AtomicU64,
    commit_latency_us_sum: AtomicU64,
    commit_latency_us_buckets: [AtomicU64; COMMIT_LATENCY_BUCKETS_US.len() + 1],
    pub(crate) refused_full: AtomicU64,
    pub(crate) refused_invalid: AtomicU64,
    pub(crate) refused_unavailable: AtomicU64,
    pub(crate) splits: AtomicU64,
    pub(crate) retention_dropped_files: AtomicU64,
    pub(crate) io_errors: AtomicU64,
    pub(crate) corruptions: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn committed(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = COMMIT_LATENCY_BUCKETS_US.partition_point(|bound| *bound < us);
        add(&self.commits, 1);
        add(&self.commit_latency_us_sum, us);
        add(&self.commit_latency_us_buckets[bucket], 1);
    }

    /// The totals; the rest is left at 0 for the caller to fill in.
    pub(crate) fn totals(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            appends_total: get(&self.appends),
            records_total: get(&self.records),
            record_bytes_total: get(&self.record_bytes),
            commits_total: get(&self.commits),
            journal_written_bytes_total: get(&self.journal_written_bytes),
            commit_latency_us_sum: get(&self.commit_latency_us_sum),
            commit_latency_us_buckets: std::array::from_fn(|bucket| get(&self.commit_latency_us_buckets[bucket])),
            refused_full_total: get(&self.refused_full),
            refused_invalid_total: get(&self.refused_invalid),
            refused_unavailable_total: get(&self.refused_unavailable),
            splits_total: get(&self.splits),
            retention_dropped_files_total: get(&self.retention_dropped_files),
            io_errors_total: get(&self.io_errors),
            corruptions_total: get(&self.corruptions),
            ..Stats::default()
        }
    }
}

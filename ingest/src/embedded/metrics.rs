//! [`Stats`](super::stats::Stats) as the operator's `/metrics` shows them.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::EmbeddedLog;
use super::stats::COMMIT_LATENCY_BUCKETS_US;
use crate::collector::{self, Counted, Counts, Latency};

/// Adds the log's metrics, `tidings_ingest_…`, to the registry. They are read from the log at each scrape, and end with
/// it.
pub fn register(log: &Arc<EmbeddedLog>, registry: &mut Registry) {
    collector::register(log, registry);
}

impl Counts for EmbeddedLog {
    fn counted(&self) -> Counted {
        let stats = self.stats();
        Counted {
            counters: vec![
                ("appends", "Append calls acknowledged", stats.appends_total),
                ("records", "Records acknowledged", stats.records_total),
                ("record_bytes", "Keys and values acknowledged", stats.record_bytes_total),
                ("journal_written_bytes", "Bytes written to the journal", stats.journal_written_bytes_total),
                ("splits", "Journal segments split into partitions' files", stats.splits_total),
                ("retention_dropped_files", "Files dropped by retention", stats.retention_dropped_files_total),
                ("io_errors", "Errors of the disk", stats.io_errors_total),
                ("corruptions", "Places where what is stored is not what was written", stats.corruptions_total),
            ],
            refused: vec![
                ("full", stats.refused_full_total),
                ("invalid", stats.refused_invalid_total),
                ("unavailable", stats.refused_unavailable_total),
            ],
            gauges: vec![
                ("queue_records", "Records waiting to be committed", stats.queue_records),
                ("queue_bytes", "Keys and values waiting to be committed", stats.queue_bytes),
                ("tail_cache_bytes", "Recent records kept in memory", stats.tail_cache_bytes),
                (
                    "journal_segments",
                    "Journal segments not yet split, with the one being filled",
                    stats.journal_segments,
                ),
                ("journal_disk_bytes", "Disk space of the journal", stats.journal_disk_bytes),
                ("partitions_disk_bytes", "Disk space of the partitions' files", stats.partitions_disk_bytes),
            ],
            latency: Latency {
                name: "commit_latency_seconds",
                help: "From taking a commit off the queue until it is durable",
                bounds_us: &COMMIT_LATENCY_BUCKETS_US,
                buckets: stats.commit_latency_us_buckets.to_vec(),
                sum_us: stats.commit_latency_us_sum,
                count: stats.commits_total,
            },
        }
    }
}

//! [`Stats`] as the operator's `/metrics` shows them.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::EmbeddedLog;
use super::stats::{COMMIT_LATENCY_BUCKETS_US, Stats};

/// Adds the log's metrics, `tidings_ingest_…`, to the registry. They are read from the log at each scrape, and end with
/// it.
pub fn register(log: &Arc<EmbeddedLog>, registry: &mut Registry) {
    registry.register_collector(Box::new(LogCollector(Arc::downgrade(log))));
}

struct LogCollector(Weak<EmbeddedLog>);

impl fmt::Debug for LogCollector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LogCollector")
    }
}

impl Collector for LogCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.upgrade() {
            Some(log) => encode(&log.stats(), encoder),
            None => Ok(()),
        }
    }
}

fn encode(stats: &Stats, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
    let counters = [
        ("appends", "Append calls acknowledged", stats.appends_total),
        ("records", "Records acknowledged", stats.records_total),
        ("record_bytes", "Keys and values acknowledged", stats.record_bytes_total),
        ("journal_written_bytes", "Bytes written to the journal", stats.journal_written_bytes_total),
        ("splits", "Journal segments split into partitions' files", stats.splits_total),
        ("retention_dropped_files", "Files dropped by retention", stats.retention_dropped_files_total),
        ("io_errors", "Errors of the disk", stats.io_errors_total),
        ("corruptions", "Places where what is stored is not what was written", stats.corruptions_total),
    ];
    for (name, help, value) in counters {
        let name = format!("tidings_ingest_{name}");
        encoder
            .encode_descriptor(&name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    let mut refused = encoder.encode_descriptor(
        "tidings_ingest_refused",
        "Append calls refused, by reason",
        None,
        MetricType::Counter,
    )?;
    let reasons = [
        ("full", stats.refused_full_total),
        ("invalid", stats.refused_invalid_total),
        ("unavailable", stats.refused_unavailable_total),
    ];
    for (reason, value) in reasons {
        refused.encode_family(&[("reason", reason)])?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    let gauges = [
        ("queue_records", "Records waiting to be committed", stats.queue_records),
        ("queue_bytes", "Keys and values waiting to be committed", stats.queue_bytes),
        ("tail_cache_bytes", "Recent records kept in memory", stats.tail_cache_bytes),
        ("journal_segments", "Journal segments not yet split, with the one being filled", stats.journal_segments),
        ("journal_disk_bytes", "Disk space of the journal", stats.journal_disk_bytes),
        ("partitions_disk_bytes", "Disk space of the partitions' files", stats.partitions_disk_bytes),
    ];
    for (name, help, value) in gauges {
        let name = format!("tidings_ingest_{name}");
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
    }
    let bounds = COMMIT_LATENCY_BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(stats.commit_latency_us_buckets).collect();
    let seconds = stats.commit_latency_us_sum as f64 / 1e6;
    encoder
        .encode_descriptor(
            "tidings_ingest_commit_latency_seconds",
            "From taking a commit off the queue until it is durable",
            None,
            MetricType::Histogram,
        )?
        .encode_histogram::<NoLabelSet>(seconds, stats.commits_total, &buckets, None)
}

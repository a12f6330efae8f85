//! [`Stats`] as the operator's `/metrics` shows them.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::KafkaLog;
use super::stats::{APPEND_LATENCY_BUCKETS_US, Stats};

/// Adds the log's metrics, `tidings_ingest_…`, to the registry. They are read from the log at each scrape, and end with
/// it. Those that the embedded log has, too, have the same names.
pub fn register(log: &Arc<KafkaLog>, registry: &mut Registry) {
    registry.register_collector(Box::new(LogCollector(Arc::downgrade(log))));
}

struct LogCollector(Weak<KafkaLog>);

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
        ("groups", "Groups of records of one partition that were on their way together", stats.groups_total),
        ("read_records", "Records read", stats.read_records_total),
        ("read_bytes", "Keys and values read", stats.read_bytes_total),
        ("readers_moved", "Readers given another consumer because nothing came", stats.readers_moved_total),
        ("client_errors", "Lost connections and other complaints of the clients", stats.client_errors_total),
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
        ("unknown", stats.refused_unknown_total),
    ];
    for (reason, value) in reasons {
        refused.encode_family(&[("reason", reason)])?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    let gauges = [
        ("queue_records", "Records waiting to be acknowledged", stats.queue_records),
        ("queue_bytes", "Keys, values and overhead waiting to be acknowledged", stats.queue_bytes),
        ("partitions_stalled", "Partitions whose brokers do not answer appends", stats.partitions_stalled),
        ("readers", "Readers that are open", stats.readers),
    ];
    for (name, help, value) in gauges {
        let name = format!("tidings_ingest_{name}");
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
    }
    let bounds = APPEND_LATENCY_BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(stats.append_latency_us_buckets).collect();
    let seconds = stats.append_latency_us_sum as f64 / 1e6;
    encoder
        .encode_descriptor(
            "tidings_ingest_append_latency_seconds",
            "From an append call until it is acknowledged",
            None,
            MetricType::Histogram,
        )?
        .encode_histogram::<NoLabelSet>(seconds, stats.appends_total, &buckets, None)
}

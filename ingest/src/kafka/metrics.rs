//! [`Stats`](super::stats::Stats) as the operator's `/metrics` shows them.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use super::KafkaLog;
use super::stats::APPEND_LATENCY_BUCKETS_US;
use crate::collector::{self, Counted, Counts, Latency};

/// Adds the log's metrics, `tidings_ingest_…`, to the registry. They are read from the log at each scrape, and end with
/// it. Those that the embedded log has, too, have the same names.
pub fn register(log: &Arc<KafkaLog>, registry: &mut Registry) {
    collector::register(log, registry);
}

impl Counts for KafkaLog {
    fn counted(&self) -> Counted {
        let stats = self.stats();
        Counted {
            counters: vec![
                ("appends", "Append calls acknowledged", stats.appends_total),
                ("records", "Records acknowledged", stats.records_total),
                ("record_bytes", "Keys and values acknowledged", stats.record_bytes_total),
                ("groups", "Groups of records of one partition that were on their way together", stats.groups_total),
                ("read_records", "Records read", stats.read_records_total),
                ("read_bytes", "Keys and values read", stats.read_bytes_total),
                ("readers_moved", "Readers given another consumer because nothing came", stats.readers_moved_total),
                ("client_errors", "Lost connections and other complaints of the clients", stats.client_errors_total),
            ],
            refused: vec![
                ("full", stats.refused_full_total),
                ("invalid", stats.refused_invalid_total),
                ("unavailable", stats.refused_unavailable_total),
                ("unknown", stats.refused_unknown_total),
            ],
            gauges: vec![
                ("queue_records", "Records waiting to be acknowledged", stats.queue_records),
                ("queue_bytes", "Keys, values and overhead waiting to be acknowledged", stats.queue_bytes),
                ("partitions_stalled", "Partitions whose brokers do not answer appends", stats.partitions_stalled),
                ("readers", "Readers that are open", stats.readers),
            ],
            latency: Latency {
                name: "append_latency_seconds",
                help: "From an append call until it is acknowledged",
                bounds_us: &APPEND_LATENCY_BUCKETS_US,
                buckets: stats.append_latency_us_buckets.to_vec(),
                sum_us: stats.append_latency_us_sum,
                count: stats.appends_total,
            },
        }
    }
}

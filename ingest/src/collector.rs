//! What a log has counted, as the operator's `/metrics` shows it: `tidings_ingest_…`, of whichever log it is.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What was counted. Names are without `tidings_ingest_`.
pub(crate) struct Counted {
    /// Name, help and value of what only grows.
    pub(crate) counters: Vec<(&'static str, &'static str, u64)>,
    /// Append calls refused, by reason.
    pub(crate) refused: Vec<(&'static str, u64)>,
    /// Name, help and value of what is so at the moment.
    pub(crate) gauges: Vec<(&'static str, &'static str, u64)>,
    /// How long something took.
    pub(crate) latency: Latency,
}

/// A histogram in microseconds, shown in seconds.
pub(crate) struct Latency {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Upper bounds of the buckets but for the last one, which has none.
    pub(crate) bounds_us: &'static [u64],
    pub(crate) buckets: Vec<u64>,
    pub(crate) sum_us: u64,
    pub(crate) count: u64,
}

/// A log that counts.
pub(crate) trait Counts: Send + Sync + 'static {
    /// What it has counted.
    fn counted(&self) -> Counted;
}

/// Adds the log's metrics to the registry. They are read from the log at each scrape, and end with it.
pub(crate) fn register<L: Counts>(log: &Arc<L>, registry: &mut Registry) {
    registry.register_collector(Box::new(LogCollector(Arc::downgrade(log))));
}

struct LogCollector<L>(Weak<L>);

impl<L> fmt::Debug for LogCollector<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LogCollector")
    }
}

impl<L: Counts> Collector for LogCollector<L> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.upgrade() {
            Some(log) => encode(&log.counted(), encoder),
            None => Ok(()),
        }
    }
}

fn encode(counted: &Counted, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
    let full = |name: &str| format!("tidings_ingest_{name}");
    for (name, help, value) in &counted.counters {
        encoder
            .encode_descriptor(&full(name), help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(value, None)?;
    }
    let help = "Append calls refused, by reason";
    let name = full("refused");
    let mut refused = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
    for (reason, value) in &counted.refused {
        refused.encode_family(&[("reason", *reason)])?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
    }
    for (name, help, value) in &counted.gauges {
        let value = i64::try_from(*value).unwrap_or(i64::MAX);
        encoder.encode_descriptor(&full(name), help, None, MetricType::Gauge)?.encode_gauge(&value)?;
    }
    let Latency { name, help, bounds_us, buckets, sum_us, count } = &counted.latency;
    let bounds = bounds_us.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(buckets.iter().copied()).collect();
    encoder.encode_descriptor(&full(name), help, None, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
        *sum_us as f64 / 1e6,
        *count,
        &buckets,
        None,
    )
}

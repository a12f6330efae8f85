//! What the projection counts.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tidings_schemas::topics::Topic;

type Labels = [(&'static str, &'static str); 1];
type SkippedLabels = [(&'static str, &'static str); 2];

/// Metrics of the views' projection.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    records: Family<Labels, Counter>,
    skipped: Family<SkippedLabels, Counter>,
    lag: Family<Labels, Gauge>,
    writes: Counter,
    apply: Histogram,
    failures: Counter,
    overtaken: Counter,
}

/// Upper bounds of an apply's duration, in seconds.
const APPLY_SECONDS: [f64; 9] = [0.0001, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let inner = Inner {
            records: Family::default(),
            skipped: Family::default(),
            lag: Family::default(),
            writes: Counter::default(),
            apply: Histogram::new(APPLY_SECONDS),
            failures: Counter::default(),
            overtaken: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("tidings_dataflow_views");
        registry.register("records", "Records read from the log", inner.records.clone());
        registry.register("skipped_records", "Records without an effect, by reason", inner.skipped.clone());
        registry.register("lag_records", "Records on the log that are not in the views", inner.lag.clone());
        registry.register("writes", "Rows put or removed", inner.writes.clone());
        registry.register_with_unit("apply_duration", "Time to apply one batch", Unit::Seconds, inner.apply.clone());
        registry.register("failures", "Times that the projection had to start over", inner.failures.clone());
        let overtaken = "Times that the views stood elsewhere than the projection had left them";
        registry.register("overtaken", overtaken, inner.overtaken.clone());
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn taken(&self, topic: Topic, count: usize) {
        self.inner.records.get_or_create(&[("topic", topic.name())]).inc_by(count as u64);
    }

    pub(super) fn skipped(&self, topic: Topic, reason: &'static str) {
        self.inner.skipped.get_or_create(&[("topic", topic.name()), ("reason", reason)]).inc();
    }

    pub(super) fn lag(&self, topic: Topic, records: u64) {
        self.inner.lag.get_or_create(&[("topic", topic.name())]).set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    pub(super) fn applied(&self, writes: usize, took: Duration) {
        self.inner.writes.inc_by(writes as u64);
        self.inner.apply.observe(took.as_secs_f64());
    }

    pub(super) fn overtaken(&self) {
        self.inner.overtaken.inc();
    }

    pub(super) fn failed(&self) {
        self.inner.failures.inc();
    }
}

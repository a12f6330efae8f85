//! What the projection counts.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tidings_schemas::topics::Topic;

use crate::archive::store::Batch;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Upper bounds of an insert's duration, in seconds.
const INSERT_SECONDS: [f64; 9] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];

/// Metrics of the archive's projection.
#[derive(Debug, Clone)]
pub struct Metrics {
    records: Family<Labels<1>, Counter>,
    skipped: Family<Labels<2>, Counter>,
    lag: Family<Labels<1>, Gauge>,
    rows: Family<Labels<1>, Counter>,
    insert: Histogram,
    failures: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            skipped: Family::default(),
            lag: Family::default(),
            rows: Family::default(),
            insert: Histogram::new(INSERT_SECONDS),
            failures: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("tidings_dataflow_archive");
        registry.register("records", "Records read from the log", metrics.records.clone());
        registry.register("skipped_records", "Records that were not archived, by reason", metrics.skipped.clone());
        registry.register("lag_records", "Records on the log that are not in the archive", metrics.lag.clone());
        registry.register("rows", "Rows inserted", metrics.rows.clone());
        registry.register_with_unit(
            "insert_duration",
            "Time to insert one batch",
            Unit::Seconds,
            metrics.insert.clone(),
        );
        registry.register(
            "failures",
            "Calls of the archive that failed and were tried again",
            metrics.failures.clone(),
        );
        metrics
    }

    pub(super) fn taken(&self, topic: Topic, count: u64) {
        self.records.get_or_create(&[("topic", topic.name())]).inc_by(count);
    }

    pub(super) fn skipped(&self, topic: Topic, reason: &'static str, count: u64) {
        self.skipped.get_or_create(&[("topic", topic.name()), ("reason", reason)]).inc_by(count);
    }

    pub(super) fn lag(&self, topic: Topic, records: u64) {
        self.lag.get_or_create(&[("topic", topic.name())]).set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    pub(super) fn inserted(&self, batch: &Batch, took: Duration) {
        for rows in &batch.rows {
            self.rows.get_or_create(&[("table", rows.table.name())]).inc_by(rows.count as u64);
        }
        self.insert.observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }
}

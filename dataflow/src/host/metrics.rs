//! What the host counts.

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// Labels of a stage.
pub(super) type StageLabel = [(&'static str, &'static str); 1];
type CountLabels = [(&'static str, &'static str); 2];

/// The host's metrics.
pub(crate) struct Metrics {
    /// Records taken in, by stage.
    pub(super) records: Family<StageLabel, Counter>,
    /// Records of one turn of a shard, by stage.
    pub(super) batch_records: Family<StageLabel, Histogram>,
    /// What one turn of a shard took, by stage.
    pub(super) run_seconds: Family<StageLabel, Histogram>,
    /// From the append of the oldest record of a turn to the end of the turn, by stage: how far the stage is behind.
    pub(super) lag_seconds: Family<StageLabel, Histogram>,
    /// Records in the input partitions that a stage's shards have not taken in yet, by stage.
    pub(super) offset_lag: Family<StageLabel, Gauge>,
    /// Shards that run here, by stage.
    pub(super) shards: Family<StageLabel, Gauge>,
    /// Times that a shard could not be opened and was tried again, by stage.
    pub(super) open_failures: Family<StageLabel, Counter>,
    /// Reads that failed and were tried again.
    pub(super) read_failures: Counter,
    /// Bytes of output that are not durable yet, by stage.
    pub(super) pending_bytes: Family<StageLabel, Gauge>,
    /// From the begin of an append of what a shard gave out until all of it was durable, by stage.
    pub(super) append_seconds: Family<StageLabel, Histogram>,
    /// Appends that failed and were tried again.
    pub(super) append_failures: Counter,
    /// The pause of a shard for a snapshot of what changed, by stage.
    pub(super) snapshot_seconds: Family<StageLabel, Histogram>,
    /// What it took to write a checkpoint, by stage.
    pub(super) checkpoint_seconds: Family<StageLabel, Histogram>,
    /// Bytes of checkpoints' parts, by stage.
    pub(super) checkpoint_bytes: Family<StageLabel, Counter>,
    /// Checkpoints that could not be written or used, by stage.
    pub(super) checkpoint_failures: Family<StageLabel, Counter>,
    /// When the newest checkpoint was written, in seconds since the Unix epoch, by stage.
    pub(super) checkpoint_written_at_seconds: Family<StageLabel, Gauge>,
    /// What the shards counted, by stage and kind.
    pub(super) counts: Family<CountLabels, Counter>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 2.0, 20))
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            batch_records: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 2.0, 13))),
            run_seconds: Family::new_with_constructor(seconds),
            lag_seconds: Family::new_with_constructor(seconds),
            offset_lag: Family::default(),
            shards: Family::default(),
            open_failures: Family::default(),
            read_failures: Counter::default(),
            pending_bytes: Family::default(),
            append_seconds: Family::new_with_constructor(seconds),
            append_failures: Counter::default(),
            snapshot_seconds: Family::new_with_constructor(seconds),
            checkpoint_seconds: Family::new_with_constructor(seconds),
            checkpoint_bytes: Family::default(),
            checkpoint_failures: Family::default(),
            checkpoint_written_at_seconds: Family::default(),
            counts: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("tidings_dataflow");
        registry.register("records", "Records taken in by a stage", metrics.records.clone());
        registry.register("batch_records", "Records in one turn of a shard", metrics.batch_records.clone());
        registry.register_with_unit(
            "run",
            "Duration of one turn of a shard",
            Unit::Seconds,
            metrics.run_seconds.clone(),
        );
        registry.register_with_unit(
            "lag",
            "Age of the oldest record of a turn when the turn ended",
            Unit::Seconds,
            metrics.lag_seconds.clone(),
        );
        registry.register_with_unit(
            "pending",
            "Output that is not durable yet",
            Unit::Bytes,
            metrics.pending_bytes.clone(),
        );
        registry.register(
            "offset_lag",
            "Records that a stage's shards have yet to take in",
            metrics.offset_lag.clone(),
        );
        registry.register("shards", "Shards that run in this process", metrics.shards.clone());
        registry.register("open_failures", "Opening a shard tried again", metrics.open_failures.clone());
        registry.register("read_failures", "Reads of the log tried again", metrics.read_failures.clone());
        registry.register_with_unit(
            "append",
            "Time until all that a shard gave out was durable",
            Unit::Seconds,
            metrics.append_seconds.clone(),
        );
        registry.register("append_failures", "Appends tried again", metrics.append_failures.clone());
        metrics.register_checkpoints(registry);
        registry.register("counts", "What the shards counted, by kind", metrics.counts.clone());
        metrics
    }

    fn register_checkpoints(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "snapshot",
            "Pause of a shard for a snapshot of what changed",
            Unit::Seconds,
            self.snapshot_seconds.clone(),
        );
        registry.register_with_unit(
            "checkpoint",
            "Duration of writing a checkpoint",
            Unit::Seconds,
            self.checkpoint_seconds.clone(),
        );
        registry.register_with_unit(
            "checkpoint_written",
            "Size of the parts of checkpoints",
            Unit::Bytes,
            self.checkpoint_bytes.clone(),
        );
        registry.register(
            "checkpoint_failures",
            "Checkpoints that could not be written or used",
            self.checkpoint_failures.clone(),
        );
        registry.register_with_unit(
            "checkpoint_written_at",
            "When the newest checkpoint was written, since the Unix epoch",
            Unit::Seconds,
            self.checkpoint_written_at_seconds.clone(),
        );
    }
}

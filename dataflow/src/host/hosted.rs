//! One shard with its readers, its way back to the log and its checkpoints.

use std::{mem, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use tidings_ingest::{LogReader, NewRecord, StoredRecord};
use tidings_schemas::{
    limits::{
        SHARD_BATCH_RECORDS_MAX, SHARD_LAG_INTERVAL, SHARD_POLL_BYTES_MAX, SHARD_RETRY_BACKOFF, SHARD_SETTLE_PATIENCE,
        SHARD_TURN_BYTES_MAX,
    },
    topics::Topic,
};
use timely::worker::Worker as TimelyWorker;

use super::{
    Context,
    backoff::Backoff,
    checkpointing::{Checkpointing, Ending},
    output::Output,
    worker::WorkerError,
};
use crate::shard::{InputPosition, Intake, Shard, ShardId};

/// One input of a shard.
pub(super) struct Input {
    pub(super) topic: Topic,
    pub(super) reader: Box<dyn LogReader>,
    /// What was read and not yet taken in.
    pub(super) pending: Vec<StoredRecord>,
}

/// A shard that runs here.
pub(super) struct Hosted {
    id: ShardId,
    shard: Box<dyn Shard>,
    inputs: Vec<Input>,
    output: Output,
    checkpointing: Option<Checkpointing>,
    /// Signals are taken in only when the fan-out has been taken in up to here, which was its end when the shard was
    /// opened. A session that attaches is told the end of its user's stream; while that is still being made up again,
    /// it would be told one that its client has passed already.
    signals_after: Option<u64>,
    /// How many records the next turn takes in from each input: fewer after a turn that gave out much.
    turn_records_max: usize,
    reading: Backoff,
    lag: Lag,
}

impl Hosted {
    pub(super) fn new(
        shard: Box<dyn Shard>,
        inputs: Vec<Input>,
        output: Output,
        checkpointing: Option<Checkpointing>,
        signals_after: Option<u64>,
        context: &Context,
    ) -> Self {
        let id = shard.id();
        Self {
            id,
            shard,
            inputs,
            output,
            checkpointing,
            signals_after,
            turn_records_max: SHARD_BATCH_RECORDS_MAX,
            reading: Backoff::new(SHARD_RETRY_BACKOFF),
            lag: Lag::new(id, context),
        }
    }

    /// Takes in what there is, as far as there is room, and gives out what follows. False: there was nothing to do.
    pub(super) fn turn(&mut self, timely: &mut TimelyWorker, context: &Context) -> Result<bool, WorkerError> {
        if !self.output.has_room() || !self.reading.is_due(context.clock.monotonic()) {
            return Ok(false);
        }
        let intake = match self.read() {
            Ok(intake) => {
                self.reading.succeeded();
                intake
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "the log cannot be read for the moment: tried again");
                context.metrics.read_failures.inc();
                self.reading.failed(context.clock.monotonic());
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let count: usize = intake.iter().map(|intake| intake.records.len()).sum();
        if count == 0 {
            return Ok(false);
        }
        let oldest_ms =
            intake.iter().filter_map(|intake| intake.records.first()).map(|record| record.timestamp_ms).min();
        let started = context.clock.monotonic();
        let mut out: Vec<NewRecord> = Vec::with_capacity(4 * count);
        self.shard.run(timely, intake, &mut out)?;
        let took = context.clock.monotonic().saturating_sub(started);
        let bytes: usize = out.iter().map(|record| record.value.len()).sum();
        self.turn_records_max = if bytes > SHARD_TURN_BYTES_MAX {
            (self.turn_records_max / 2).max(1)
        } else {
            (self.turn_records_max * 2).min(SHARD_BATCH_RECORDS_MAX)
        };
        self.output.push(out, self.shard.positions());
        self.measure(context, count, took, oldest_ms);
        Ok(true)
    }

    /// What the next turn takes in. What one input gave before another failed is kept for later.
    fn read(&mut self) -> Result<Vec<Intake>, WorkerError> {
        let holds_signals_back = self.holds_signals_back();
        let (shard, is_taken_in) = (self.id, |topic| topic != Topic::Signals || !holds_signals_back);
        for Input { topic, reader, pending } in &mut self.inputs {
            if pending.is_empty() && is_taken_in(*topic) {
                let failed = |error| WorkerError::Read { shard, topic: *topic, error };
                reader.poll(SHARD_POLL_BYTES_MAX, pending).map_err(failed)?;
            }
        }
        let mut intake = Vec::with_capacity(self.inputs.len());
        for Input { topic, pending, .. } in &mut self.inputs {
            if is_taken_in(*topic) && !pending.is_empty() {
                let rest = pending.split_off(pending.len().min(self.turn_records_max));
                intake.push(Intake { topic: *topic, records: mem::replace(pending, rest) });
            }
        }
        Ok(intake)
    }

    fn holds_signals_back(&mut self) -> bool {
        let Some(after) = self.signals_after else { return false };
        let positions = self.shard.positions();
        let behind = positions.iter().any(|position| position.topic == Topic::Fanout && position.next_offset < after);
        if !behind {
            self.signals_after = None;
        }
        behind
    }

    #[allow(clippy::cast_precision_loss, reason = "counts and milliseconds below 2^53")]
    fn measure(&mut self, context: &Context, count: usize, took: Duration, oldest_ms: Option<i64>) {
        let metrics = &context.metrics;
        let stage = self.id.stage.name();
        let label = [("stage", stage)];
        metrics.records.get_or_create(&label).inc_by(count as u64);
        metrics.batch_records.get_or_create(&label).observe(count as f64);
        metrics.run_seconds.get_or_create(&label).observe(took.as_secs_f64());
        if let Some(oldest_ms) = oldest_ms {
            let lag_ms = context.clock.now_ms().saturating_sub(oldest_ms).max(0);
            metrics.lag_seconds.get_or_create(&label).observe(lag_ms as f64 / 1000.0);
        }
        let pending = i64::try_from(self.output.pending_bytes()).unwrap_or(i64::MAX);
        metrics.pending_bytes.get_or_create(&label).set(pending);
        self.shard.take_counts(&mut |counted| {
            metrics.counts.get_or_create(&[("stage", stage), ("what", counted.what)]).inc_by(counted.count);
        });
    }

    /// Sees to a failed append and to the checkpoints.
    pub(super) fn step(&mut self, context: &Context, now: Duration) -> Result<(), WorkerError> {
        if let Some(error) = self.output.step(now) {
            context.metrics.append_failures.inc();
            let shard = self.id;
            if !error.is_retryable() {
                return Err(WorkerError::Append { shard, error });
            }
            tracing::warn!(%shard, %error, "an append failed and is tried again");
        }
        if let Some(checkpointing) = &mut self.checkpointing {
            checkpointing.step(&mut *self.shard, &self.output, &*context.clock, &context.metrics);
        }
        self.lag.step(now, &*self.shard, context);
        Ok(())
    }

    /// When something is to be done next, if no record comes.
    pub(super) fn due(&self) -> Option<Duration> {
        let checkpoint = self.checkpointing.as_ref().and_then(Checkpointing::due);
        self.output.retry_at().into_iter().chain(checkpoint).chain(self.reading.due()).chain(self.lag.due()).min()
    }

    /// Ends the shard at once: it belongs to another, or the process ends.
    pub(super) fn drop_now(self, timely: &mut TimelyWorker) {
        let Self { shard, output, .. } = self;
        // First, so that no further append begins.
        drop(output);
        shard.close(timely);
    }
}

/// A shard that is given up in order: first what it gave out becomes durable, then a last checkpoint is written. Both
/// are waited for only so long; without, whoever opens the shard next repeats more.
pub(super) struct Closing {
    hosted: Hosted,
    patience_ends: Duration,
    ending: Option<Ending>,
}

impl Closing {
    pub(super) fn new(hosted: Hosted, now: Duration) -> Self {
        Self { hosted, patience_ends: now + SHARD_SETTLE_PATIENCE, ending: None }
    }

    /// Goes on; true once the shard may be ended.
    pub(super) fn step(&mut self, context: &Context, now: Duration) -> Result<bool, WorkerError> {
        if let Some(ending) = &self.ending {
            return Ok(ending.has_ended(now));
        }
        let Hosted { id, shard, output, checkpointing, .. } = &mut self.hosted;
        if let Some(error) = output.step(now) {
            context.metrics.append_failures.inc();
            if !error.is_retryable() {
                return Err(WorkerError::Append { shard: *id, error });
            }
        }
        if output.is_durable(&shard.positions()) {
            let Some(checkpointing) = checkpointing.take() else { return Ok(true) };
            self.ending = Some(checkpointing.finish(&mut **shard, &*context.clock, &context.metrics));
            return Ok(false);
        }
        if now >= self.patience_ends {
            tracing::warn!(shard = %id, "the last outputs were not durable in time: no last checkpoint is written");
            return Ok(true);
        }
        Ok(false)
    }

    /// When something is to be done next, if nothing wakes the worker.
    pub(super) fn due(&self) -> Duration {
        match &self.ending {
            Some(ending) => ending.due(),
            None => self.hosted.output.retry_at().map_or(self.patience_ends, |at| at.min(self.patience_ends)),
        }
    }

    /// Ends the shard.
    pub(super) fn drop_now(self, timely: &mut TimelyWorker) {
        self.hosted.drop_now(timely);
    }
}

/// How many records a shard is behind the ends of its input partitions, as its part of the stage's gauge.
struct Lag {
    gauge: Gauge,
    /// How many shards the stage has here.
    shards: Gauge,
    shown: i64,
    due: Duration,
}

impl Lag {
    fn new(id: ShardId, context: &Context) -> Self {
        let label = [("stage", id.stage.name())];
        let shards = context.metrics.shards.get_or_create_owned(&label);
        shards.inc();
        let gauge = context.metrics.offset_lag.get_or_create_owned(&label);
        Self { gauge, shards, shown: 0, due: Duration::ZERO }
    }

    fn step(&mut self, now: Duration, shard: &dyn Shard, context: &Context) {
        if now < self.due {
            return;
        }
        self.due = now + SHARD_LAG_INTERVAL;
        let partition = shard.id().partition;
        let behind = |position: InputPosition| {
            let end = context.log.end_seen(position.topic, partition)?;
            Some(end.saturating_sub(position.next_offset))
        };
        // While the log does not say, the gauge stays.
        let Some(lags) = shard.positions().into_iter().map(behind).collect::<Option<Vec<_>>>() else { return };
        self.show(i64::try_from(lags.into_iter().sum::<u64>()).unwrap_or(i64::MAX));
    }

    fn show(&mut self, lag: i64) {
        self.gauge.inc_by(lag - self.shown);
        self.shown = lag;
    }

    /// A worker that sleeps has nothing to take in: that is to be seen once.
    fn due(&self) -> Option<Duration> {
        (self.shown != 0).then_some(self.due)
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.show(0);
        self.shards.dec();
    }
}

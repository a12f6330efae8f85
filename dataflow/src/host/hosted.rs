//! One shard with its readers, its way back to the log and its checkpoints.

use std::{mem, time::Duration};

use tidings_ingest::{LogReader, NewRecord, StoredRecord};
use tidings_schemas::{
    limits::{SHARD_BATCH_RECORDS_MAX, SHARD_POLL_BYTES_MAX, SHARD_TURN_BYTES_MAX},
    topics::Topic,
};
use timely::worker::Worker as TimelyWorker;

use super::{Context, checkpointing::Checkpointing, output::Output, worker::WorkerError};
use crate::shard::{Intake, Shard, ShardId};

/// One input of a shard.
pub(super) struct Input {
    pub(super) topic: Topic,
    pub(super) reader: Box<dyn LogReader>,
    /// What was read and not yet taken in.
    pub(super) pending: Vec<StoredRecord>,
}

/// A shard that runs here.
pub(super) struct Hosted {
    pub(super) id: ShardId,
    pub(super) shard: Box<dyn Shard>,
    pub(super) inputs: Vec<Input>,
    pub(super) output: Output,
    pub(super) checkpointing: Option<Checkpointing>,
    /// Signals are taken in only when the fan-out has been taken in up to here, which was its end when the shard was
    /// opened. A session that attaches is told the end of its user's stream; while that is still being made up again,
    /// it would be told one that its client has passed already.
    pub(super) signals_after: Option<u64>,
    /// How many records the next turn takes in from each input: fewer after a turn that gave out much.
    pub(super) turn_records_max: usize,
}

impl Hosted {
    /// Takes in what there is, as far as there is room, and gives out what follows. False: there was nothing to do.
    pub(super) fn turn(&mut self, timely: &mut TimelyWorker, context: &Context) -> Result<bool, WorkerError> {
        if !self.output.has_room() {
            return Ok(false);
        }
        let mut intake = Vec::with_capacity(self.inputs.len());
        let holds_signals_back = self.holds_signals_back();
        for input in &mut self.inputs {
            let (shard, topic) = (self.id, input.topic);
            if topic == Topic::Signals && holds_signals_back {
                continue;
            }
            if input.pending.is_empty() {
                input.reader.poll(SHARD_POLL_BYTES_MAX, &mut input.pending).map_err(|error| WorkerError::Read {
                    shard,
                    topic,
                    error,
                })?;
            }
            let rest = input.pending.split_off(input.pending.len().min(self.turn_records_max));
            let records = mem::replace(&mut input.pending, rest);
            if !records.is_empty() {
                intake.push(Intake { topic, records });
            }
        }
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
        Ok(())
    }

    /// When something is to be done next, if no record comes.
    pub(super) fn due(&self) -> Option<Duration> {
        let checkpoint = self.checkpointing.as_ref().and_then(Checkpointing::due);
        self.output.retry_at().into_iter().chain(checkpoint).min()
    }

    /// Whether all that the shard gave out is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.output.is_durable(&self.shard.positions())
    }

    /// Ends the shard, with a last checkpoint if all that it gave out is durable.
    pub(super) fn close(mut self, timely: &mut TimelyWorker, context: &Context) {
        if let (Some(checkpointing), Some((_, runtime))) = (self.checkpointing.take(), &context.checkpoints)
            && self.is_settled()
        {
            checkpointing.finish(runtime, &mut *self.shard, &*context.clock, &context.metrics);
        }
        self.shard.close(timely);
    }
}

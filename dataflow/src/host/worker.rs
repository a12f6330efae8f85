//! A worker thread: polls its shards' readers, runs them, and sleeps until the log wakes it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use tidings_ingest::{LogError, LogReader, NewRecord, Wake};
use tidings_schemas::{limits::POLL_BYTES_MAX, topics::Topic};
use timely::worker::Worker as TimelyWorker;
use tokio::sync::mpsc;

use super::{Context, Waker, output::Output};
use crate::{
    conversations::ConversationsShard,
    recipients::RecipientsShard,
    shard::{Intake, SavedState, Shard, ShardId, Stage, StageError},
};

/// How long a worker that stops waits for its last appends.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("{shard} cannot read {}: {error}", topic.name())]
    Read { shard: ShardId, topic: Topic, error: LogError },
}

/// A worker and its shards, before it starts.
pub(super) struct Worker {
    context: Arc<Context>,
    waker: Arc<Waker>,
    shards: Vec<ShardId>,
}

struct Input {
    topic: Topic,
    reader: Box<dyn LogReader>,
}

struct Hosted {
    id: ShardId,
    shard: Box<dyn Shard>,
    inputs: Vec<Input>,
    output: Output,
}

/// Runs the worker on this thread until it is told to stop; a failure and a panic are reported.
pub(super) fn run_guarded(worker: Worker, failed: &mpsc::Sender<String>) {
    let failure = match catch_unwind(AssertUnwindSafe(|| timely::execute_directly(move |timely| worker.run(timely)))) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("a dataflow worker panicked: {}", panic_text(&*panic)),
    };
    tracing::error!(%failure, "a dataflow worker ended");
    // There is room for one of each worker; if nobody listens any more the process is ending anyway.
    let _ = failed.try_send(failure);
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

impl Worker {
    pub(super) fn new(context: Arc<Context>, waker: Arc<Waker>, shards: Vec<ShardId>) -> Self {
        Self { context, waker, shards }
    }

    fn run(self, timely: &mut TimelyWorker) -> Result<(), WorkerError> {
        self.waker.adopt_current_thread();
        let mut hosted = Vec::new();
        for id in &self.shards {
            hosted.push(self.open(timely, *id, &SavedState::default())?);
        }
        let mut out = Vec::new();
        let mut stop_by = None;
        loop {
            let now = self.context.clock.monotonic();
            let stopping = self.context.is_stopping();
            let mut progressed = false;
            for shard in &mut hosted {
                if !stopping {
                    progressed |= self.turn(timely, shard, &mut out)?;
                }
                progressed |= self.step_output(shard, now);
            }
            if stopping {
                let stop_by = *stop_by.get_or_insert(now + STOP_PATIENCE);
                if now >= stop_by || hosted.iter().all(|shard| shard.output.is_settled()) {
                    break;
                }
            }
            if !progressed {
                let retry_at = hosted.iter().filter_map(|shard| shard.output.retry_at()).chain(stop_by).min();
                match retry_at {
                    Some(at) => thread::park_timeout(at.saturating_sub(now)),
                    None => thread::park(),
                }
            }
        }
        for shard in hosted {
            shard.shard.close(timely);
        }
        Ok(())
    }

    /// Builds a shard from a saved state.
    fn open(&self, timely: &mut TimelyWorker, id: ShardId, saved: &SavedState) -> Result<Hosted, WorkerError> {
        let Context { config, log, partitions, .. } = &*self.context;
        let shard: Box<dyn Shard> = match id.stage {
            Stage::Conversations => Box::new(ConversationsShard::build(
                timely,
                &config.conversations,
                *partitions,
                id.partition,
                Some(saved),
            )?),
            Stage::Recipients => {
                Box::new(RecipientsShard::build(timely, id.partition, partitions.edges, &config.recipients, saved)?)
            }
        };
        let mut inputs = Vec::new();
        for position in shard.positions() {
            let topic = position.topic;
            let unreadable = |error| WorkerError::Read { shard: id, topic, error };
            let mut from = position.next_offset;
            if topic == Topic::Signals {
                // Nothing durable follows from signals, and they are kept only for a while.
                from = from.max(log.range(topic, id.partition).map_err(unreadable)?.start);
            }
            let mut reader = log.reader(topic, id.partition, from).map_err(unreadable)?;
            let waker = Arc::clone(&self.waker);
            let wake: Wake = Arc::new(move || waker.wake());
            reader.wake_with(wake);
            inputs.push(Input { topic, reader });
        }
        let output = Output::new(Arc::clone(log), Arc::clone(&self.waker), shard.positions());
        Ok(Hosted { id, shard, inputs, output })
    }

    /// Takes in what there is, as far as there is room, and gives out what follows.
    fn turn(
        &self,
        timely: &mut TimelyWorker,
        hosted: &mut Hosted,
        out: &mut Vec<NewRecord>,
    ) -> Result<bool, WorkerError> {
        if !hosted.output.has_room() {
            return Ok(false);
        }
        let mut intake = Vec::with_capacity(hosted.inputs.len());
        for input in &mut hosted.inputs {
            let mut records = Vec::new();
            let (shard, topic) = (hosted.id, input.topic);
            input.reader.poll(POLL_BYTES_MAX, &mut records).map_err(|error| WorkerError::Read {
                shard,
                topic,
                error,
            })?;
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
        let started = self.context.clock.monotonic();
        hosted.shard.run(timely, intake, out)?;
        self.measure(hosted, count, started, oldest_ms);
        let positions = hosted.shard.positions();
        hosted.output.push(out, positions);
        Ok(true)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts and milliseconds below 2^53")]
    fn measure(&self, hosted: &mut Hosted, count: usize, started: Duration, oldest_ms: Option<i64>) {
        let metrics = &self.context.metrics;
        let stage = hosted.id.stage.name();
        let label = [("stage", stage)];
        metrics.records.get_or_create(&label).inc_by(count as u64);
        metrics.batch_records.get_or_create(&label).observe(count as f64);
        let took = self.context.clock.monotonic().saturating_sub(started);
        metrics.run_seconds.get_or_create(&label).observe(took.as_secs_f64());
        if let Some(oldest_ms) = oldest_ms {
            let lag_ms = self.context.clock.now_ms().saturating_sub(oldest_ms).max(0);
            metrics.lag_seconds.get_or_create(&label).observe(lag_ms as f64 / 1000.0);
        }
        hosted.shard.take_counts(&mut |counted| {
            metrics.counts.get_or_create(&[("stage", stage), ("what", counted.what)]).inc_by(counted.count);
        });
    }

    fn step_output(&self, hosted: &mut Hosted, now: Duration) -> bool {
        let step = hosted.output.step(now);
        if let Some(error) = &step.failed {
            self.context.metrics.append_failures.inc();
            tracing::warn!(shard = %hosted.id, %error, "an append failed and is tried again");
        }
        let label = [("stage", hosted.id.stage.name())];
        let pending = i64::try_from(hosted.output.pending_bytes()).unwrap_or(i64::MAX);
        self.context.metrics.pending_bytes.get_or_create(&label).set(pending);
        step.progressed
    }
}

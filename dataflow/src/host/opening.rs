//! Opens a shard: takes its checkpoints over, builds it from the newest that can be used, and sets its readers where it
//! stands. A task does what waits for the store; the worker only builds. What fails for the moment is tried again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tidings_ingest::{Log, OffsetRange, Wake};
use tidings_schemas::{limits::SHARD_RETRY_BACKOFF, topics::Topic};
use timely::worker::Worker as TimelyWorker;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Context,
    backoff::Backoff,
    checkpointing::Checkpointing,
    hosted::{Hosted, Input},
    output::Output,
    wake::Waker,
    worker::WorkerError,
};
use crate::{
    checkpoints::{CheckpointError, CheckpointWriter, Restored},
    conversations::ConversationsShard,
    recipients::RecipientsShard,
    shard::{SavedState, Shard, ShardId, Stage, StageError},
};

/// A shard that is being opened.
pub(super) struct Opening {
    id: ShardId,
    started: Duration,
    backoff: Backoff,
    stage: Waiting,
}

/// What it waits for.
enum Waiting {
    /// For its turn: at once, or when the back-off ends.
    Turn,
    /// For the task that reads the store.
    Store(Loading),
}

struct Loading {
    loaded: oneshot::Receiver<Result<Loaded, WorkerError>>,
    task: JoinHandle<()>,
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task found.
struct Loaded {
    writer: CheckpointWriter,
    /// The newest that can be read; none: the log is read from its start.
    restored: Option<Restored>,
    /// Older ones, should the shard not be able to read that one.
    older: VecDeque<u64>,
}

impl Opening {
    pub(super) fn new(id: ShardId, context: &Context) -> Self {
        let started = context.clock.monotonic();
        Self { id, started, backoff: Backoff::new(SHARD_RETRY_BACKOFF), stage: Waiting::Turn }
    }

    /// When something is to be done next, if the task does not wake the worker before.
    pub(super) fn due(&self) -> Option<Duration> {
        match self.stage {
            Waiting::Turn => Some(self.backoff.due().unwrap_or_default()),
            Waiting::Store(_) => None,
        }
    }

    /// Goes on as far as it can; the shard, once it is open.
    pub(super) fn step(
        &mut self,
        context: &Arc<Context>,
        waker: &Arc<Waker>,
        timely: &mut TimelyWorker,
    ) -> Result<Option<Hosted>, WorkerError> {
        let now = context.clock.monotonic();
        match self.try_step(context, waker, timely, now) {
            Err(error) if error.is_retryable() => {
                let shard = self.id;
                tracing::warn!(%shard, %error, "a shard cannot be opened for the moment: tried again");
                context.metrics.open_failures.get_or_create(&[("stage", shard.stage.name())]).inc();
                self.backoff.failed(now);
                self.stage = Waiting::Turn;
                Ok(None)
            }
            ended => ended,
        }
    }

    fn try_step(
        &mut self,
        context: &Arc<Context>,
        waker: &Arc<Waker>,
        timely: &mut TimelyWorker,
        now: Duration,
    ) -> Result<Option<Hosted>, WorkerError> {
        let loaded = match &mut self.stage {
            Waiting::Turn if !self.backoff.is_due(now) => return Ok(None),
            Waiting::Turn => match &context.checkpoints {
                Some((_, runtime)) => {
                    self.stage = Waiting::Store(spawn(runtime, waker, take_over(Arc::clone(context), self.id)));
                    return Ok(None);
                }
                None => None,
            },
            Waiting::Store(loading) => match loading.loaded.try_recv() {
                Ok(loaded) => Some(loaded?),
                Err(oneshot::error::TryRecvError::Empty) => return Ok(None),
                // The task was cut short.
                Err(oneshot::error::TryRecvError::Closed) => {
                    return Err(WorkerError::Checkpoints { shard: self.id, error: CheckpointError::Stopped });
                }
            },
        };
        self.build(loaded, context, waker, timely)
    }

    fn build(
        &mut self,
        loaded: Option<Loaded>,
        context: &Arc<Context>,
        waker: &Arc<Waker>,
        timely: &mut TimelyWorker,
    ) -> Result<Option<Hosted>, WorkerError> {
        let id = self.id;
        let (mut writer, restored, older) = match loaded {
            Some(Loaded { writer, restored, older }) => (Some(writer), restored, older),
            None => (None, None, VecDeque::new()),
        };
        let is_restored = restored.is_some();
        let (state, chain) = restored.map_or_else(Default::default, |restored| (restored.state, restored.chain));
        // First what may fail for the moment: a shard that is built and thrown away costs its building.
        let inputs = inputs(context, waker, id, &state)?;
        let signals_after = match id.stage {
            Stage::Conversations => None,
            Stage::Recipients => Some(range(&*context.log, id, Topic::Fanout)?.end),
        };
        let shard = match build(context, timely, id, &state) {
            Ok(shard) => shard,
            Err(error) if is_restored => {
                say_unusable(context, id, &error);
                let (Some((_, runtime)), Some(writer)) = (&context.checkpoints, writer) else {
                    return Err(error.into());
                };
                let older = load(Arc::clone(context), id, writer, older);
                self.stage = Waiting::Store(spawn(runtime, waker, older));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let positions = shard.positions();
        tracing::info!(
            shard = %id,
            ?positions,
            milliseconds = context.clock.monotonic().saturating_sub(self.started).as_millis(),
            "shard opened"
        );
        let checkpointing = writer.take().zip(context.checkpoints.as_ref()).map(|(mut writer, (_, runtime))| {
            writer.go_on_from(chain);
            let with = (runtime, &context.clock, &context.metrics, waker);
            let interval = Duration::from_millis(context.config.checkpoints.interval_ms.max(1));
            Checkpointing::new(with, id, writer, interval, positions.clone())
        });
        let output = Output::new(context, id.stage, Arc::clone(waker), positions);
        Ok(Some(Hosted::new(shard, inputs, output, checkpointing, signals_after, context)))
    }
}

/// Runs the task, and wakes the worker when it has ended.
fn spawn(
    runtime: &tokio::runtime::Handle,
    waker: &Arc<Waker>,
    loading: impl Future<Output = Result<Loaded, WorkerError>> + Send + 'static,
) -> Loading {
    let (loaded, receiver) = oneshot::channel();
    let waker = Arc::clone(waker);
    let task = runtime.spawn(async move {
        // A worker that waits no more has dropped its end.
        let _ = loaded.send(loading.await);
        waker.wake();
    });
    Loading { loaded: receiver, task }
}

/// Takes the checkpoints of a shard over, and loads the newest that can be read.
async fn take_over(context: Arc<Context>, id: ShardId) -> Result<Loaded, WorkerError> {
    let Some((store, _)) = &context.checkpoints else {
        return Err(WorkerError::Checkpoints { shard: id, error: CheckpointError::Stopped });
    };
    let failed = |error| WorkerError::Checkpoints { shard: id, error };
    let config = &context.config.checkpoints;
    let (clock, bounds) = (Arc::clone(&context.clock), (config.deltas_max, config.kept));
    let writer = CheckpointWriter::take_over(store.clone(), id, clock, bounds).await.map_err(failed)?;
    let sequences = store.sequences(id).await.map_err(failed)?;
    load(Arc::clone(&context), id, writer, sequences.into()).await
}

/// Loads the newest of these that can be read; says of each other why not.
async fn load(
    context: Arc<Context>,
    id: ShardId,
    writer: CheckpointWriter,
    mut sequences: VecDeque<u64>,
) -> Result<Loaded, WorkerError> {
    let Some((store, _)) = &context.checkpoints else { return Ok(Loaded { writer, restored: None, older: sequences }) };
    let mut held = Vec::new();
    for topic in id.stage.inputs() {
        let range = range(&*context.log, id, *topic)?;
        // Of signals, those that retention has dropped are not missed.
        let start = if *topic == Topic::Signals { 0 } else { range.start };
        held.push((*topic, OffsetRange { start, ..range }));
    }
    let held = |topic| {
        let found = held.iter().find(|(held, _)| *held == topic);
        found.map_or(OffsetRange { start: 0, end: 0 }, |(_, range)| *range)
    };
    while let Some(sequence) = sequences.pop_front() {
        match store.load(id, sequence, held).await {
            Ok(restored) => return Ok(Loaded { writer, restored: Some(restored), older: sequences }),
            Err(error) if error.is_retryable() => return Err(WorkerError::Checkpoints { shard: id, error }),
            Err(error) => say_unusable(&context, id, &error),
        }
    }
    Ok(Loaded { writer, restored: None, older: sequences })
}

fn say_unusable(context: &Context, shard: ShardId, error: &dyn std::error::Error) {
    context.metrics.checkpoint_failures.get_or_create(&[("stage", shard.stage.name())]).inc();
    tracing::error!(%shard, %error, "a checkpoint cannot be used: the one before is tried");
}

fn range(log: &dyn Log, shard: ShardId, topic: Topic) -> Result<OffsetRange, WorkerError> {
    log.range(topic, shard.partition).map_err(|error| WorkerError::Read { shard, topic, error })
}

/// The readers, set where the state stands.
fn inputs(
    context: &Context,
    waker: &Arc<Waker>,
    shard: ShardId,
    state: &SavedState,
) -> Result<Vec<Input>, WorkerError> {
    let mut inputs = Vec::new();
    for topic in shard.stage.inputs() {
        let topic = *topic;
        let mut from = state.next_offset(topic);
        if topic == Topic::Signals {
            // Nothing durable follows from signals, and they are kept only for a while.
            from = from.max(range(&*context.log, shard, topic)?.start);
        }
        let reader = context.log.reader(topic, shard.partition, from);
        let mut reader = reader.map_err(|error| WorkerError::Read { shard, topic, error })?;
        let waker = Arc::clone(waker);
        let wake: Wake = Arc::new(move || waker.wake());
        reader.wake_with(wake);
        inputs.push(Input { topic, reader, pending: Vec::new() });
    }
    Ok(inputs)
}

/// Builds a shard from a state.
fn build(
    context: &Context,
    timely: &mut TimelyWorker,
    id: ShardId,
    state: &SavedState,
) -> Result<Box<dyn Shard>, StageError> {
    let Context { config, partitions, .. } = context;
    Ok(match id.stage {
        Stage::Conversations => {
            let (config, partition) = (&config.conversations, id.partition);
            Box::new(ConversationsShard::build(timely, config, *partitions, partition, Some(state))?)
        }
        Stage::Recipients => {
            Box::new(RecipientsShard::build(timely, id.partition, partitions.edges, &config.recipients, state)?)
        }
    })
}

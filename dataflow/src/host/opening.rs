//! Builds a shard from its newest checkpoint that can be used, and sets its readers where it stands.

use std::{sync::Arc, time::Duration};

use tidings_ingest::{OffsetRange, Wake};
use tidings_schemas::{limits::SHARD_BATCH_RECORDS_MAX, topics::Topic, wire::CheckpointPart};
use timely::worker::Worker as TimelyWorker;

use super::{
    Context,
    checkpointing::Checkpointing,
    hosted::{Hosted, Input},
    output::Output,
    wake::Waker,
    worker::WorkerError,
};
use crate::{
    checkpoints::{CheckpointStore, CheckpointWriter},
    conversations::ConversationsShard,
    recipients::RecipientsShard,
    shard::{SavedState, Shard, ShardId, Stage, StageError},
};

/// A shard that was built, and the parts of the checkpoint that it was built from.
type Built = (Box<dyn Shard>, Vec<CheckpointPart>);

/// Opens a shard.
pub(super) fn open(
    context: &Context,
    waker: &Arc<Waker>,
    timely: &mut TimelyWorker,
    id: ShardId,
) -> Result<Hosted, WorkerError> {
    let started = context.clock.monotonic();
    let restored = match &context.checkpoints {
        Some((store, runtime)) => restore(context, (store, runtime), timely, id)?,
        None => None,
    };
    let (shard, chain) = match restored {
        Some(built) => built,
        None => (build(context, timely, id, &SavedState::default())?, Vec::new()),
    };
    let positions = shard.positions();
    tracing::info!(
        shard = %id,
        ?positions,
        milliseconds = (context.clock.monotonic().saturating_sub(started)).as_millis(),
        "shard built"
    );
    let mut inputs = Vec::new();
    for position in &positions {
        let topic = position.topic;
        let unreadable = |error| WorkerError::Read { shard: id, topic, error };
        let mut from = position.next_offset;
        if topic == Topic::Signals {
            // Nothing durable follows from signals, and they are kept only for a while.
            from = from.max(context.log.range(topic, id.partition).map_err(unreadable)?.start);
        }
        let mut reader = context.log.reader(topic, id.partition, from).map_err(unreadable)?;
        let waker = Arc::clone(waker);
        let wake: Wake = Arc::new(move || waker.wake());
        reader.wake_with(wake);
        inputs.push(Input { topic, reader, pending: Vec::new() });
    }
    let checkpointing = match &context.checkpoints {
        Some((store, runtime)) => {
            let config = &context.config.checkpoints;
            let run = context.clock.now_ms().cast_unsigned();
            let clock = Arc::clone(&context.clock);
            let bounds = (config.deltas_max, config.kept);
            let writer = CheckpointWriter::new(store.clone(), id, clock, run, bounds, chain);
            let writer = runtime.block_on(writer).map_err(|error| WorkerError::Checkpoints { shard: id, error })?;
            let with = (runtime, &context.clock, &context.metrics, waker);
            let interval = Duration::from_millis(config.interval_ms.max(1));
            Some(Checkpointing::new(with, id, writer, interval, positions.clone()))
        }
        None => None,
    };
    let signals_after = match id.stage {
        Stage::Conversations => None,
        Stage::Recipients => {
            let topic = Topic::Fanout;
            let unreadable = |error| WorkerError::Read { shard: id, topic, error };
            Some(context.log.range(topic, id.partition).map_err(unreadable)?.end)
        }
    };
    let output = Output::new(Arc::clone(&context.log), Arc::clone(waker), positions);
    Ok(Hosted { id, shard, inputs, output, checkpointing, signals_after, turn_records_max: SHARD_BATCH_RECORDS_MAX })
}

/// Builds the shard from the newest checkpoint that can be used; says of each other why not.
fn restore(
    context: &Context,
    (store, runtime): (&CheckpointStore, &tokio::runtime::Handle),
    timely: &mut TimelyWorker,
    id: ShardId,
) -> Result<Option<Built>, WorkerError> {
    let unusable = |error| WorkerError::Checkpoints { shard: id, error };
    let sequences = runtime.block_on(store.sequences(id)).map_err(unusable)?;
    let held = |topic| {
        let range = context.log.range(topic, id.partition).unwrap_or(OffsetRange { start: 0, end: 0 });
        // Of signals, those that retention has dropped are not missed.
        if topic == Topic::Signals { OffsetRange { start: 0, ..range } } else { range }
    };
    for sequence in sequences {
        let failed = match runtime.block_on(store.load(id, sequence, held)) {
            Ok(restored) => match build(context, timely, id, &restored.state) {
                Ok(shard) => return Ok(Some((shard, restored.chain))),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        let label = [("stage", id.stage.name())];
        context.metrics.checkpoint_failures.get_or_create(&label).inc();
        tracing::error!(shard = %id, sequence, error = %failed, "a checkpoint cannot be used: the one before is tried");
    }
    Ok(None)
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

//! One shard on the caller's own thread, without a host: for who wants to see what a stage makes of a log.

use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::topics::{Partitions, Topic};
use timely::{
    communication::allocator::{Allocator, Thread},
    worker::{Config, Worker},
};

use crate::{
    conversations::ConversationsShard,
    host::HostConfig,
    recipients::RecipientsShard,
    shard::{Intake, SavedState, Shard, ShardId, SnapshotKind, Stage, StageError, StateSink},
};

/// A shard and its worker. Stays on the thread that built it.
pub struct SoloShard {
    worker: Worker,
    /// `None` only while it is being dropped.
    shard: Option<Box<dyn Shard>>,
}

impl SoloShard {
    /// Builds the shard as the host does, from this state.
    ///
    /// # Errors
    /// [`StageError::State`] when the state cannot be read.
    pub fn build(
        id: ShardId,
        config: &HostConfig,
        partitions: Partitions,
        state: &SavedState,
    ) -> Result<Self, StageError> {
        let mut worker = Worker::new(Config::default(), Allocator::Thread(Thread::default()), None);
        let shard: Box<dyn Shard> = match id.stage {
            Stage::Conversations => {
                let config = &config.conversations;
                Box::new(ConversationsShard::build(&mut worker, config, partitions, id.partition, Some(state))?)
            }
            Stage::Recipients => {
                let config = &config.recipients;
                Box::new(RecipientsShard::build(&mut worker, id.partition, partitions.edges, config, state)?)
            }
        };
        Ok(Self { worker, shard: Some(shard) })
    }

    /// Takes records of one input topic in; what follows from them is in `out`, in its order.
    ///
    /// # Errors
    /// [`StageError::Gap`] when records are missing before these.
    pub fn take(
        &mut self,
        topic: Topic,
        records: Vec<StoredRecord>,
        out: &mut Vec<NewRecord>,
    ) -> Result<(), StageError> {
        match &mut self.shard {
            Some(shard) => shard.run(&mut self.worker, vec![Intake { topic, records }], out),
            None => Ok(()),
        }
    }

    /// Writes the state as of everything taken in so far; `Changes`: since the last time, or since it was built.
    pub fn snapshot(&mut self, kind: SnapshotKind, sink: &mut dyn StateSink) {
        if let Some(shard) = &mut self.shard {
            shard.snapshot(kind, sink);
        }
    }
}

impl Drop for SoloShard {
    fn drop(&mut self) {
        if let Some(shard) = self.shard.take() {
            shard.close(&mut self.worker);
        }
    }
}

//! Which checkpoint of a shard is nearest to a moment.

use tidings_dataflow::{
    checkpoints::{CheckpointError, CheckpointStore},
    shard::{SavedState, ShardId},
};
use tidings_ingest::OffsetRange;
use tidings_schemas::topics::Topic;

use super::Told;

/// The checkpoints of a log's shards. They are only read: nobody's ownership is touched.
pub struct Checkpoints {
    store: CheckpointStore,
    runtime: tokio::runtime::Handle,
}

/// A checkpoint.
#[derive(Debug)]
pub struct Nearest {
    /// What it holds.
    pub state: SavedState,
    /// Its number.
    pub sequence: u64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub written_at_ms: i64,
}

impl Checkpoints {
    /// Those in this store. `runtime`: of a multi-threaded runtime; the calls here are made from other threads.
    pub fn new(store: CheckpointStore, runtime: tokio::runtime::Handle) -> Self {
        Self { store, runtime }
    }

    /// The newest one that stands within these offsets. Of one that cannot be used for another reason it is told why (the
    /// running system may just have removed it), and the one before is tried.
    pub fn nearest(
        &self,
        shard: ShardId,
        within: impl Fn(Topic) -> OffsetRange,
        told: &(dyn Fn(Told) + Sync),
    ) -> Option<Nearest> {
        let unusable = |error: CheckpointError| told(Told::Unusable { shard, error: error.to_string() });
        let sequences = match self.runtime.block_on(self.store.sequences(shard)) {
            Ok(sequences) => sequences,
            Err(error) => {
                unusable(error);
                return None;
            }
        };
        let mut is_said = false;
        for sequence in sequences {
            match self.runtime.block_on(self.store.load(shard, sequence, &within)) {
                Ok(restored) => {
                    return Some(Nearest { state: restored.state, sequence, written_at_ms: restored.written_at_ms });
                }
                Err(CheckpointError::OutsideLog { .. }) => {}
                // Where one is of another log, all may be.
                Err(CheckpointError::OtherLog { .. }) if is_said => {}
                Err(error @ CheckpointError::OtherLog { .. }) => {
                    is_said = true;
                    unusable(error);
                }
                Err(error) => unusable(error),
            }
        }
        None
    }
}

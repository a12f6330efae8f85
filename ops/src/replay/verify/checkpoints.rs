//! Where shards begin that are not taken through the whole log: the checkpoints of the program that runs.

use std::sync::Arc;

use tidings_dataflow::{
    checkpoints::{self, CheckpointStore},
    shard::{SavedState, ShardId},
};
use tidings_ingest::{Log, OffsetRange};
use tidings_schemas::topics::Topic;
use tokio::runtime::Runtime;

use crate::{
    config::LogKind,
    replay::{
        exit::{Code, Failure, WithCode},
        source::Source,
    },
};

/// Checkpoints, only read.
pub(super) struct Checkpoints {
    store: CheckpointStore,
    log: Arc<dyn Log>,
    runtime: Runtime,
}

impl Checkpoints {
    /// Those that the settings name; of a data folder, those in it.
    pub(super) fn open(source: &Source) -> Result<Self, Failure> {
        let mut config = source.settings.dataflow.checkpoints.clone();
        if source.settings.node.log == LogKind::Embedded {
            config.directory.get_or_insert_with(|| source.settings.node.data.join("checkpoints"));
        }
        let is_there = config.s3.is_some() || config.directory.as_ref().is_some_and(|folder| folder.is_dir());
        let objects = if is_there { checkpoints::open(&config).code(Code::Source)? } else { None };
        let objects = objects.ok_or_else(|| {
            let error = "there are no checkpoints (hint: --set dataflow.checkpoints.directory=DIR, or .s3)";
            Failure::new(Code::Usage, error)
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let store = CheckpointStore::new(objects, source.log.log_id());
        Ok(Self { store, log: Arc::clone(&source.log), runtime: runtime.code(Code::Source)? })
    }

    /// The oldest that can be used: most of the log follows it. Blocks.
    pub(super) fn oldest(&self, shard: ShardId) -> Result<SavedState, String> {
        let held = |topic| match self.log.range(topic, shard.partition) {
            // Nothing that is compared follows from signals: those that are gone are not missed.
            Ok(range) if topic == Topic::Signals => OffsetRange { start: 0, ..range },
            Ok(range) => range,
            Err(_) => OffsetRange { start: 0, end: 0 },
        };
        self.runtime.block_on(async {
            let sequences = self.store.sequences(shard).await.map_err(|error| error.to_string())?;
            let mut why = "none was written".to_owned();
            for sequence in sequences.into_iter().rev() {
                match self.store.load(shard, sequence, held).await {
                    Ok(restored) => return Ok(restored.state),
                    // The program that runs removes the oldest.
                    Err(error) => why = error.to_string(),
                }
            }
            Err(why)
        })
    }
}

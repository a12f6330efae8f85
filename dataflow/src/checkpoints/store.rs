//! Lists and loads the checkpoints of a shard.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use hashbrown::HashMap;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tidings_ingest::OffsetRange;
use tidings_schemas::{
    limits::CHECKPOINT_INLINE_BYTES_MAX,
    topics::Topic,
    wire::{CheckpointManifest, CheckpointPart},
};

use super::{CheckpointError, manifest, parts};
use crate::shard::{InputPosition, SavedState, ShardId};

/// The checkpoints of one log's shards.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) log_id: u128,
}

/// A checkpoint, loaded.
#[derive(Debug)]
pub struct Restored {
    /// The state.
    pub state: SavedState,
    /// The parts that it is made of, for the next checkpoint to add to.
    pub chain: Vec<CheckpointPart>,
    /// When it was written, in milliseconds since the Unix epoch.
    pub written_at_ms: i64,
}

impl CheckpointStore {
    /// The checkpoints in this store of the log with this identity.
    pub fn new(objects: Arc<dyn ObjectStore>, log_id: u128) -> Self {
        Self { objects, log_id }
    }

    /// The sequence numbers of a shard's manifests, newest first.
    ///
    /// # Errors
    /// [`CheckpointError::Store`].
    pub async fn sequences(&self, shard: ShardId) -> Result<Vec<u64>, CheckpointError> {
        let names = self.names(shard).await?;
        let mut sequences: Vec<u64> =
            names.iter().filter(|name| name.ends_with(MANIFEST)).filter_map(|name| sequence_of(name)).collect();
        sequences.sort_unstable_by(|one, other| other.cmp(one));
        Ok(sequences)
    }

    /// Loads a checkpoint, if it is whole and of this log, and the log holds what comes after it.
    ///
    /// # Errors
    /// [`CheckpointError`] says what is wrong with it.
    pub async fn load(
        &self,
        shard: ShardId,
        sequence: u64,
        held: impl Fn(Topic) -> OffsetRange,
    ) -> Result<Restored, CheckpointError> {
        let name = manifest_name(sequence);
        let manifest = self.manifest(shard, &name).await?;
        if !self.is_of_this_log(&manifest) {
            let found = (u128::from(manifest.log_id_high) << 64) | u128::from(manifest.log_id_low);
            return Err(CheckpointError::OtherLog { name, found, expected: self.log_id });
        }
        let mut positions = Vec::new();
        for topic in shard.stage.inputs() {
            let input = manifest.inputs.iter().find(|input| input.topic == topic.name());
            let Some(offset) = input.map(|input| input.next_offset) else {
                return Err(CheckpointError::Damaged { name, what: "an input topic is missing" });
            };
            let OffsetRange { start, end } = held(*topic);
            // Nothing taken in stands nowhere: whether the log still has its start is seen when it is read.
            if (offset > 0 || !manifest.parts.is_empty()) && !(start..=end).contains(&offset) {
                return Err(CheckpointError::OutsideLog { name, topic: *topic, offset, start, end });
            }
            positions.push(InputPosition { topic: *topic, next_offset: offset });
        }
        let rows = self.rows(shard, &manifest.parts).await?;
        let state = SavedState { positions, rows };
        Ok(Restored { state, chain: manifest.parts, written_at_ms: manifest.written_at_ms })
    }

    /// The identity of the log, as a manifest names it.
    pub(super) fn log_id_halves(&self) -> (u64, u64) {
        #[allow(clippy::cast_possible_truncation, reason = "the halves")]
        ((self.log_id >> 64) as u64, self.log_id as u64)
    }

    pub(super) fn is_of_this_log(&self, manifest: &CheckpointManifest) -> bool {
        (manifest.log_id_high, manifest.log_id_low) == self.log_id_halves()
    }

    /// The rows of a chain of parts, checked against their checksums.
    pub(super) async fn rows(
        &self,
        shard: ShardId,
        chain: &[CheckpointPart],
    ) -> Result<HashMap<Bytes, Bytes>, CheckpointError> {
        let mut parts = Vec::with_capacity(chain.len());
        for part in chain {
            let bytes = match self.objects.get(&path(shard, &part.name)).await {
                Ok(found) => found.bytes().await?,
                Err(object_store::Error::NotFound { .. }) => {
                    return Err(CheckpointError::Damaged { name: part.name.clone(), what: "it is missing" });
                }
                Err(error) => return Err(error.into()),
            };
            parts.push((part.clone(), bytes));
        }
        let bytes = parts.iter().map(|(_, bytes)| bytes.len()).sum();
        off_thread_if_large(bytes, move || {
            let mut rows = HashMap::new();
            for (part, bytes) in &parts {
                let damaged = |what| CheckpointError::Damaged { name: part.name.clone(), what };
                if bytes.len() as u64 != part.size || crc32c::crc32c(bytes) != part.crc32c {
                    return Err(damaged("the checksum does not match"));
                }
                parts::lay_over(&mut rows, bytes).ok_or_else(|| damaged("its rows cannot be read"))?;
            }
            Ok(rows)
        })
        .await
    }

    pub(super) async fn manifest(&self, shard: ShardId, name: &str) -> Result<CheckpointManifest, CheckpointError> {
        let bytes = self.objects.get(&path(shard, name)).await?.bytes().await?;
        let manifest = manifest::decode(name, bytes)?;
        if manifest.stage != shard.stage.name() || manifest.partition != shard.partition {
            return Err(CheckpointError::Damaged { name: name.to_owned(), what: "it is of another shard" });
        }
        Ok(manifest)
    }

    /// The names of all of a shard's objects.
    pub(super) async fn names(&self, shard: ShardId) -> Result<Vec<String>, CheckpointError> {
        let folder = Path::from(shard.to_string());
        let listed = self.objects.list(Some(&folder));
        let names = listed.map_ok(|object| object.location.filename().unwrap_or_default().to_owned());
        Ok(names.try_collect().await?)
    }
}

/// Checksums and millions of rows are not for a thread that others wait for; a few rows are not worth another thread.
pub(super) async fn off_thread_if_large<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, CheckpointError> + Send + 'static,
) -> Result<T, CheckpointError> {
    if bytes <= CHECKPOINT_INLINE_BYTES_MAX {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| CheckpointError::Stopped)?
}

/// How the name of a manifest ends.
pub(super) const MANIFEST: &str = ".manifest";

pub(super) fn manifest_name(sequence: u64) -> String {
    format!("{sequence:020}{MANIFEST}")
}

/// The sequence number that an object's name begins with.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    name.get(..20)?.parse().ok()
}

pub(super) fn path(shard: ShardId, name: &str) -> Path {
    Path::from(format!("{shard}/{name}"))
}

//! Writes the checkpoints of a shard: puts the parts, then the manifest; lays the changes over the base when there are
//! many; and removes what no kept manifest needs.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use tidings_schemas::{
    clock::Clock,
    wire::{CheckpointInput, CheckpointManifest, CheckpointPart},
};

use super::{
    CheckpointError, PartWriter, SCHEMA_VERSION, manifest,
    store::{CheckpointStore, MANIFEST, manifest_name, path, sequence_of},
};
use crate::shard::{InputPosition, ShardId, StateSink};

/// A shard's changes since the last snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// How far the shard had taken in its inputs.
    pub positions: Vec<InputPosition>,
    /// The rows, as [`PartWriter`] writes them.
    pub parts: Vec<Bytes>,
    /// All of the state, not only what changed.
    pub is_full: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The bytes of the new parts.
    pub bytes: u64,
    /// A new base was made of the one before and its changes.
    pub merged: bool,
}

/// Writes one shard's checkpoints, one after the other.
pub struct CheckpointWriter {
    store: CheckpointStore,
    shard: ShardId,
    clock: Arc<dyn Clock>,
    deltas_max: usize,
    kept: usize,
    /// Tells the parts of this writer from those of another owner of the shard.
    run: u64,
    /// The sequence number of the next manifest.
    sequence: u64,
    /// The parts of the state as last written.
    chain: Vec<CheckpointPart>,
}

impl CheckpointWriter {
    /// A writer that goes on after what the store holds: `chain` is what the shard was built from, or nothing.
    ///
    /// # Errors
    /// [`CheckpointError::Store`] when the store cannot be listed.
    pub async fn new(
        store: CheckpointStore,
        shard: ShardId,
        clock: Arc<dyn Clock>,
        run: u64,
        (deltas_max, kept): (usize, usize),
        chain: Vec<CheckpointPart>,
    ) -> Result<Self, CheckpointError> {
        let sequence = store.sequences(shard).await?.first().map_or(0, |newest| newest + 1);
        Ok(Self { store, shard, clock, deltas_max, kept: kept.max(1), run, sequence, chain })
    }

    /// Writes a checkpoint. After an error the same snapshot is to be written again: the next one is only what changed
    /// since.
    ///
    /// # Errors
    /// [`CheckpointError::Store`] when the store fails; [`CheckpointError::Damaged`] when a part that it holds can no
    /// longer be read (then only a full snapshot helps).
    pub async fn write(&mut self, snapshot: &Snapshot) -> Result<Written, CheckpointError> {
        let deltas = self.chain.iter().filter(|part| part.delta).count();
        let merge = !snapshot.is_full && deltas + 1 > self.deltas_max;
        let merged;
        let (parts, kept_chain) = if merge {
            merged = self.merge(&snapshot.parts).await?;
            (&merged, &[][..])
        } else {
            (&snapshot.parts, if snapshot.is_full { &[][..] } else { &self.chain[..] })
        };
        let is_base = merge || snapshot.is_full;
        let mut chain = kept_chain.to_vec();
        let mut bytes = 0;
        for (number, part) in parts.iter().enumerate() {
            let kind = if is_base { "base" } else { "delta" };
            let name = format!("{:020}-{number:04}-{:016x}.{kind}", self.sequence, self.run);
            let described =
                CheckpointPart { name, size: part.len() as u64, crc32c: crc32c::crc32c(part), delta: !is_base };
            self.store.objects.put(&path(self.shard, &described.name), part.clone().into()).await?;
            bytes += described.size;
            chain.push(described);
        }
        self.put_manifest(&chain, &snapshot.positions).await?;
        self.chain = chain;
        if let Err(error) = self.prune().await {
            tracing::warn!(shard = %self.shard, %error, "old checkpoints cannot be removed");
        }
        Ok(Written { bytes, merged: merge })
    }

    /// Forgets what was written: the next snapshot must be a full one.
    pub fn start_anew(&mut self) {
        self.chain.clear();
    }

    /// Lays the changes over the base and the changes before; returns the whole as parts.
    async fn merge(&self, changes: &[Bytes]) -> Result<Vec<Bytes>, CheckpointError> {
        let mut rows = self.store.rows(self.shard, &self.chain).await?;
        let (changes, shard) = (changes.to_vec(), self.shard);
        let merged = tokio::task::spawn_blocking(move || {
            for part in &changes {
                super::parts::lay_over(&mut rows, part).ok_or_else(|| CheckpointError::Damaged {
                    name: shard.to_string(),
                    what: "the shard's own snapshot cannot be read",
                })?;
            }
            let mut writer = PartWriter::default();
            for (key, value) in rows {
                writer.put(&key, &value);
            }
            Ok(writer.finish())
        });
        merged.await.map_err(|_| CheckpointError::Stopped)?
    }

    /// Puts the manifest whole, under the next free number: another owner of the shard may write, too.
    async fn put_manifest(
        &mut self,
        chain: &[CheckpointPart],
        positions: &[InputPosition],
    ) -> Result<(), CheckpointError> {
        loop {
            let sequence = self.sequence;
            let manifest = CheckpointManifest {
                schema_version: SCHEMA_VERSION,
                stage: self.shard.stage.name().to_owned(),
                partition: self.shard.partition,
                log_id_high: u64::try_from(self.store.log_id >> 64).unwrap_or_default(),
                log_id_low: u64::try_from(self.store.log_id & u128::from(u64::MAX)).unwrap_or_default(),
                inputs: positions
                    .iter()
                    .map(|position| CheckpointInput {
                        topic: position.topic.name().to_owned(),
                        next_offset: position.next_offset,
                    })
                    .collect(),
                parts: chain.to_vec(),
                written_at_ms: self.clock.now_ms(),
                sequence,
            };
            let name = manifest_name(sequence);
            let options = PutOptions { mode: PutMode::Create, ..Default::default() };
            let place = path(self.shard, &name);
            match self.store.objects.put_opts(&place, manifest::encode(&manifest).into(), options).await {
                Ok(_) => {
                    self.sequence += 1;
                    return Ok(());
                }
                Err(object_store::Error::AlreadyExists { .. }) => self.sequence += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes the manifests past those that are kept, and the parts that none of the kept ones names.
    async fn prune(&self) -> Result<(), CheckpointError> {
        let names = self.store.names(self.shard).await?;
        let mut manifests: Vec<&String> = names.iter().filter(|name| name.ends_with(MANIFEST)).collect();
        manifests.sort_unstable_by(|one, other| other.cmp(one));
        let mut needed = HashSet::new();
        let mut kept = 0;
        let mut all_are_known = true;
        for name in manifests {
            if kept == self.kept {
                self.store.objects.delete(&path(self.shard, name)).await?;
                continue;
            }
            match self.store.manifest(self.shard, name).await {
                Ok(manifest) => {
                    kept += 1;
                    needed.extend(manifest.parts.into_iter().map(|part| part.name));
                }
                // A newer program may come back to it, and which parts it needs only that one knows.
                Err(CheckpointError::NewerSchema { .. }) => all_are_known = false,
                Err(CheckpointError::Damaged { .. }) => self.store.objects.delete(&path(self.shard, name)).await?,
                Err(error) => return Err(error),
            }
        }
        if !all_are_known {
            return Ok(());
        }
        // Parts of a manifest that is still to come have at least this number.
        let unneeded = names.iter().filter(|name| {
            !name.ends_with(MANIFEST)
                && !needed.contains(*name)
                && sequence_of(name).is_some_and(|sequence| sequence < self.sequence)
        });
        for name in unneeded {
            self.store.objects.delete(&path(self.shard, name)).await?;
        }
        Ok(())
    }
}

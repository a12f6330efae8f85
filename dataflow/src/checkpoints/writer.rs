//! Writes the checkpoints of a shard: puts the parts, then the manifest; lays the changes over the base when there are
//! many; and removes what no kept manifest needs. Why two owners do no harm to each other is said in the folder's module.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use tidings_schemas::{
    clock::Clock,
    topics::Topic,
    wire::{CheckpointInput, CheckpointManifest, CheckpointPart},
};

use super::{
    CheckpointError, PartWriter, SCHEMA_VERSION, manifest,
    store::{CheckpointStore, MANIFEST, manifest_name, off_thread_if_large, path, sequence_of},
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

/// Writes one shard's checkpoints, one after the other, for as long as no other owner takes the shard over.
pub struct CheckpointWriter {
    store: CheckpointStore,
    shard: ShardId,
    clock: Arc<dyn Clock>,
    deltas_max: usize,
    kept: usize,
    /// The sequence of the manifest with which this writer took the shard over.
    owner: u64,
    /// The sequence number of the next manifest.
    sequence: u64,
    /// Tells the parts of one attempt to write from those of another.
    attempt: u64,
    /// The parts of the state as last written.
    chain: Vec<CheckpointPart>,
    /// Another owner has taken the shard over; this was its newest manifest when last looked at.
    superseded_by: Option<u64>,
}

impl CheckpointWriter {
    /// Takes the shard over: repeats the newest manifest under a number of its own, so that whoever wrote before finds
    /// that it is not the owner any more. What the shard is then built from is told by [`CheckpointWriter::go_on_from`].
    ///
    /// A store that can be read but takes nothing (its disk is full) keeps no shard from running: then the writer
    /// takes over later ([`CheckpointWriter::is_owner`]).
    ///
    /// # Errors
    /// [`CheckpointError::Store`] when the store cannot be read.
    pub async fn take_over(
        store: CheckpointStore,
        shard: ShardId,
        clock: Arc<dyn Clock>,
        (deltas_max, kept): (usize, usize),
    ) -> Result<Self, CheckpointError> {
        let kept = kept.max(1);
        let mut writer = Self {
            store,
            shard,
            clock,
            deltas_max,
            kept,
            owner: 0,
            sequence: 0,
            attempt: 0,
            chain: Vec::new(),
            superseded_by: None,
        };
        loop {
            let sequences = writer.store.sequences(shard).await?;
            let next = sequences.first().map_or(0, |newest| newest + 1);
            (writer.owner, writer.sequence) = (next, next);
            let newest = writer.newest_usable(&sequences).await?;
            let manifest = match newest {
                Some(newest) => CheckpointManifest { sequence: next, owner: next, ..newest },
                // It stands at the beginning, with nothing.
                None => {
                    let start = |topic: &Topic| InputPosition { topic: *topic, next_offset: 0 };
                    let positions: Vec<_> = shard.stage.inputs().iter().map(start).collect();
                    writer.manifest(Vec::new(), &positions)
                }
            };
            match writer.put_manifest(&manifest).await {
                Ok(true) => {
                    writer.sequence += 1;
                    return Ok(writer);
                }
                // Somebody else was quicker.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%shard, %error, "the checkpoints can be read but not written: taken over later");
                    writer.superseded_by = Some(sequences.first().copied().unwrap_or_default());
                    return Ok(writer);
                }
            }
        }
    }

    /// The newest manifest that can be read, of this log.
    async fn newest_usable(&self, sequences: &[u64]) -> Result<Option<CheckpointManifest>, CheckpointError> {
        for sequence in sequences {
            match self.store.manifest(self.shard, &manifest_name(*sequence)).await {
                Ok(manifest) if self.store.is_of_this_log(&manifest) => return Ok(Some(manifest)),
                // Why it cannot be used is said when the shard is restored.
                Ok(_) | Err(CheckpointError::Damaged { .. } | CheckpointError::NewerSchema { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether it has taken the shard over. If not, it does so with a full snapshot, and writes no other before.
    pub fn is_owner(&self) -> bool {
        self.superseded_by.is_none()
    }

    /// The parts that the shard was built from: the next checkpoint adds to them.
    pub fn go_on_from(&mut self, chain: Vec<CheckpointPart>) {
        self.chain = chain;
    }

    /// Writes a checkpoint. After an error the same snapshot is to be written again: the next one is only what changed
    /// since.
    ///
    /// # Errors
    /// [`CheckpointError::Store`] when the store fails; [`CheckpointError::Damaged`] when a part that it holds can no
    /// longer be read (then only a full snapshot helps); [`CheckpointError::Superseded`] when another owner writes.
    /// After that, a full snapshot is taken once the other has written nothing since the last call of
    /// [`CheckpointWriter::is_silent`], and is not ahead.
    pub async fn write(&mut self, snapshot: &Snapshot) -> Result<Written, CheckpointError> {
        if let Some(newest) = self.superseded_by {
            self.take_back(newest, snapshot).await?;
        }
        let deltas = self.chain.iter().filter(|part| part.delta).count();
        let merge = !snapshot.is_full && deltas + 1 > self.deltas_max;
        let merged;
        let (parts, kept_chain) = if merge {
            merged = match self.merge(&snapshot.parts).await {
                Ok(merged) => merged,
                // A newer owner has removed what it no longer needs.
                Err(CheckpointError::Damaged { .. }) if self.is_number_taken().await? => {
                    return Err(self.superseded(self.sequence));
                }
                Err(error) => return Err(error),
            };
            (&merged, &[][..])
        } else {
            (&snapshot.parts, if snapshot.is_full { &[][..] } else { &self.chain[..] })
        };
        let is_base = merge || snapshot.is_full;
        let mut chain = kept_chain.to_vec();
        let mut bytes = 0;
        self.attempt += 1;
        for (number, part) in parts.iter().enumerate() {
            let kind = if is_base { "base" } else { "delta" };
            let Self { sequence, owner, attempt, .. } = self;
            let name = format!("{sequence:020}-{number:04}-{owner:016x}-{attempt:x}.{kind}");
            let described =
                CheckpointPart { name, size: part.len() as u64, crc32c: crc32c::crc32c(part), delta: !is_base };
            self.store.objects.put(&path(self.shard, &described.name), part.clone().into()).await?;
            bytes += described.size;
            chain.push(described);
        }
        let manifest = self.manifest(chain, &snapshot.positions);
        self.chain = if self.put_manifest(&manifest).await? { manifest.parts } else { self.own(&manifest).await? };
        self.sequence += 1;
        if let Err(error) = self.prune().await {
            tracing::warn!(shard = %self.shard, %error, "old checkpoints cannot be removed");
        }
        Ok(Written { bytes, merged: merge })
    }

    /// The number was taken. By this writer, if an earlier attempt succeeded whose answer was lost: then the parts of
    /// that attempt count. Else another owner has taken the shard over.
    async fn own(&mut self, tried: &CheckpointManifest) -> Result<Vec<CheckpointPart>, CheckpointError> {
        let found = self.store.manifest(self.shard, &manifest_name(self.sequence)).await;
        match found {
            Ok(found) if found.owner == self.owner && found.inputs == tried.inputs => Ok(found.parts),
            Err(error) if error.is_retryable() => Err(error),
            Ok(_) | Err(_) => Err(self.superseded(self.sequence)),
        }
    }

    /// Whether a manifest stands under the next number.
    async fn is_number_taken(&self) -> Result<bool, CheckpointError> {
        let newest = self.store.sequences(self.shard).await?.first().copied();
        Ok(newest.is_some_and(|newest| newest >= self.sequence))
    }

    fn superseded(&mut self, newest: u64) -> CheckpointError {
        self.superseded_by = Some(newest);
        CheckpointError::Superseded { newest }
    }

    /// Whether the owner that has superseded this one has written nothing since the last look. Asked of one that was
    /// not superseded it is meaningless, and this one then writes nothing but full snapshots next.
    ///
    /// # Errors
    /// [`CheckpointError::Store`] when the store fails.
    pub async fn is_silent(&mut self) -> Result<bool, CheckpointError> {
        let newest = self.store.sequences(self.shard).await?.first().copied();
        let is_silent = newest.is_none() || newest == self.superseded_by;
        self.superseded_by = newest.or(self.superseded_by);
        Ok(is_silent)
    }

    /// Takes the shard over again with a full snapshot, unless that would hide what is newer.
    async fn take_back(&mut self, seen: u64, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        let sequences = self.store.sequences(self.shard).await?;
        let newest = sequences.first().copied().unwrap_or(seen);
        let is_ahead = self.newest_usable(&sequences).await?.is_some_and(|manifest| {
            snapshot.positions.iter().any(|position| {
                let found = manifest.inputs.iter().find(|input| input.topic == position.topic.name());
                found.is_some_and(|input| input.next_offset > position.next_offset)
            })
        });
        if newest != seen || is_ahead || !snapshot.is_full {
            return Err(self.superseded(newest));
        }
        (self.owner, self.sequence, self.superseded_by) = (newest + 1, newest + 1, None);
        Ok(())
    }

    /// Forgets what was written: the next snapshot must be a full one.
    pub fn start_anew(&mut self) {
        self.chain.clear();
    }

    /// Lays the changes over the base and the changes before; returns the whole as parts.
    async fn merge(&self, changes: &[Bytes]) -> Result<Vec<Bytes>, CheckpointError> {
        let mut rows = self.store.rows(self.shard, &self.chain).await?;
        let (changes, shard) = (changes.to_vec(), self.shard);
        let bytes = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        off_thread_if_large(bytes, move || {
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
        })
        .await
    }

    /// The next manifest.
    fn manifest(&self, parts: Vec<CheckpointPart>, positions: &[InputPosition]) -> CheckpointManifest {
        let input = |position: &InputPosition| CheckpointInput {
            topic: position.topic.name().to_owned(),
            next_offset: position.next_offset,
        };
        let (log_id_high, log_id_low) = self.store.log_id_halves();
        CheckpointManifest {
            schema_version: SCHEMA_VERSION,
            stage: self.shard.stage.name().to_owned(),
            partition: self.shard.partition,
            log_id_high,
            log_id_low,
            inputs: positions.iter().map(input).collect(),
            parts,
            written_at_ms: self.clock.now_ms(),
            sequence: self.sequence,
            owner: self.owner,
        }
    }

    /// Puts a manifest whole, if its number is free. False: it is not.
    async fn put_manifest(&self, manifest: &CheckpointManifest) -> Result<bool, CheckpointError> {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        let place = path(self.shard, &manifest_name(manifest.sequence));
        match self.store.objects.put_opts(&place, manifest::encode(manifest).into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the manifests past those that are kept, and the parts that none of the kept ones names. Nothing, if there
    /// is a newer owner: then that one does.
    async fn prune(&self) -> Result<(), CheckpointError> {
        let names = self.store.names(self.shard).await?;
        let mut manifests: Vec<&String> = names.iter().filter(|name| name.ends_with(MANIFEST)).collect();
        manifests.sort_unstable_by(|one, other| other.cmp(one));
        if manifests.first().and_then(|name| sequence_of(name)).is_some_and(|newest| newest >= self.sequence) {
            return Ok(());
        }
        let mut needed = HashSet::new();
        let mut newer: Option<CheckpointManifest> = None;
        let mut kept = 0;
        let mut all_are_known = true;
        for name in manifests {
            if kept == self.kept {
                self.store.objects.delete(&path(self.shard, name)).await?;
                continue;
            }
            match self.store.manifest(self.shard, name).await {
                // An owner begins by repeating the manifest that it finds: one of the two is enough.
                Ok(manifest) if newer.as_ref().is_some_and(|newer| is_repeat(&manifest, newer)) => {
                    self.store.objects.delete(&path(self.shard, name)).await?;
                }
                Ok(manifest) => {
                    kept += 1;
                    needed.extend(manifest.parts.iter().map(|part| part.name.clone()));
                    newer = Some(manifest);
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

/// Whether two manifests say the same.
pub(super) fn is_repeat(one: &CheckpointManifest, other: &CheckpointManifest) -> bool {
    one.inputs == other.inputs && one.parts == other.parts
}

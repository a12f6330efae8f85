//! Verification: the stages derive `timeline`, `fanout` and `inbox` anew, and what was recorded is held against it.
//!
//! Each `events` partition is taken through its conversations shard, and what the shard gives out is compared with the
//! timeline, and with what stands in every `fanout` partition from this source. Then each `fanout` partition *as it was
//! recorded* is taken through its recipients shard: its order between the sources is what it happened to be. Nothing
//! of a partition's size is held in memory. Shards of several `events` partitions go side by side, so that `fanout` need not be
//! read anew for each.
//!
//! - [`archive`]: the archive's rows against the log.
//! - `recorded`: reads as every consumer does, dropping repeats. `shared`: one reading for several. `compared`: the two sides.
//!   `shards`: the shards' runs.

pub mod archive;
mod compared;
mod recorded;
mod shards;
mod shared;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    thread,
};

use serde::Serialize;
use tidings_dataflow::{
    host::HostConfig,
    shard::{SavedState, ShardId, Stage, StageError},
};
use tidings_ingest::{Log, LogError, NewRecord, StoredRecord};
use tidings_schemas::{
    limits::VERIFY_TOGETHER_MAX,
    topics::Topic,
};

pub(crate) use recorded::source;

use crate::scan::ScanError;

/// How a record is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It should be there, and is not.
    Missing,
    /// It is there, and should not be.
    Extra,
    /// Other bytes should be there.
    Differing,
    /// It stands behind one of a later source, so every consumer drops it.
    OutOfOrder,
    /// It names no source, or one that does not write there.
    Stray,
}

/// A record that is not what it should be.
#[derive(Debug, Clone)]
pub struct Difference {
    /// How.
    pub kind: Kind,
    /// The recorded topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: u32,
    /// The topic and partition that it follows from.
    pub of: Option<(Topic, u32)>,
    /// The offset there.
    pub source: Option<u64>,
    /// What should be there.
    pub expected: Option<NewRecord>,
    /// What is.
    pub found: Option<StoredRecord>,
}

/// What was compared of one partition, from one source partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// The recorded topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: u32,
    /// What it follows from; `None`: the partition as a whole.
    pub source: Option<(Topic, u32)>,
    /// The first offset of the source that was compared: where the checkpoint stands.
    pub verified_from: u64,
    /// One past the last offset of the source that was compared.
    pub verified_to: u64,
    /// Where the source ends: what is between was not recorded yet.
    pub source_end: u64,
    /// Records that are what they should be.
    pub agreeing: u64,
    /// Repeats, which every consumer drops.
    pub repeats: u64,
    /// Records that retention has dropped before the first that is kept.
    pub not_kept: u64,
    /// Records that came meanwhile, which were not compared.
    pub ahead: u64,
    /// See [`Kind`].
    pub missing: u64,
    /// See [`Kind`].
    pub extra: u64,
    /// See [`Kind`].
    pub differing: u64,
    /// See [`Kind`].
    pub out_of_order: u64,
    /// See [`Kind`].
    pub stray: u64,
}

impl StreamReport {
    fn new(topic: Topic, partition: u32, source: Option<(Topic, u32)>) -> Self {
        Self {
            topic,
            partition,
            source,
            verified_from: 0,
            verified_to: 0,
            source_end: 0,
            agreeing: 0,
            repeats: 0,
            not_kept: 0,
            ahead: 0,
            missing: 0,
            extra: 0,
            differing: 0,
            out_of_order: 0,
            stray: 0,
        }
    }

    fn count(&mut self, kind: Kind) {
        let count = match kind {
            Kind::Missing => &mut self.missing,
            Kind::Extra => &mut self.extra,
            Kind::Differing => &mut self.differing,
            Kind::OutOfOrder => &mut self.out_of_order,
            Kind::Stray => &mut self.stray,
        };
        *count += 1;
    }

    /// How many records are not what they should be.
    pub fn differences(&self) -> u64 {
        self.missing + self.extra + self.differing + self.out_of_order + self.stray
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By topic, partition and source.
    pub streams: Vec<StreamReport>,
    /// The first of each partition, by topic and partition.
    pub differences: Vec<Difference>,
}

impl Report {
    /// How many records are not what they should be.
    pub fn difference_count(&self) -> u64 {
        self.streams.iter().map(StreamReport::differences).sum()
    }
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A stage cannot go on.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Nothing can be begun from.
    #[error(
        "{shard} has no checkpoint to begin from: {error} (hint: leave --checkpoint out, to begin where the log does)"
    )]
    NoCheckpoint {
        /// The shard.
        shard: ShardId,
        /// Why.
        error: String,
    },
    /// What the stage must take in first is gone.
    #[error(
        "{shard} follows from all of {} partition {}, and retention has dropped what is before offset {kept} (hint: --checkpoint, to begin where the shard's state was written down)",
        topic.name(),
        shard.partition
    )]
    NotKept {
        /// The shard.
        shard: ShardId,
        /// Its input.
        topic: Topic,
        /// The oldest record.
        kept: u64,
    },
}

/// A shard's state as a checkpoint has it, or why there is none.
pub type Checkpoints<'a> = &'a (dyn Fn(ShardId) -> Result<SavedState, String> + Sync);

impl From<LogError> for VerifyError {
    fn from(error: LogError) -> Self {
        Self::Scan(error.into())
    }
}

/// How to verify.
pub struct Verify<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// The settings that the stages ran with: other ones would make another history.
    pub config: &'a HostConfig,
    /// Begin from these, and not from the beginning of the log.
    pub checkpoints: Option<Checkpoints<'a>>,
    /// Nothing runs that could catch up: what was not recorded is missing.
    pub is_complete: bool,
    /// How many differences of each stream are kept.
    pub kept_max: usize,
    /// Threads, each with some partitions at a time.
    pub threads: usize,
    /// Bytes of `fanout` that a thread may put by for a partition other than the one that it is at.
    pub put_by_bytes_max: usize,
    /// Told how many records of `events` and `fanout` were taken in since the last call.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

impl Verify<'_> {
    /// Verifies all partitions.
    ///
    /// # Errors
    /// [`VerifyError`] when something cannot be read. Differences are no error.
    pub fn run(&self) -> Result<Report, VerifyError> {
        let all = |stage, topic| -> Vec<ShardId> {
            (0..self.log.partitions(topic)).map(|partition| ShardId { stage, partition }).collect()
        };
        let conversations = all(Stage::Conversations, Topic::Events);
        let together = conversations.len().div_ceil(self.threads.max(1)).clamp(1, VERIFY_TOGETHER_MAX);
        let mut shards: VecDeque<Vec<ShardId>> = conversations.chunks(together).map(<[ShardId]>::to_vec).collect();
        shards.extend(all(Stage::Recipients, Topic::Fanout).into_iter().map(|shard| vec![shard]));
        let shards = Mutex::new(shards);
        let next = || shards.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || {
            let mut report = Report::default();
            while let Some(together) = next() {
                match shards::verify(self, &together) {
                    Ok(of_shard) => {
                        report.streams.extend(of_shard.streams);
                        report.differences.extend(of_shard.differences);
                    }
                    Err(error) => {
                        // The others need not begin anything more.
                        shards.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        return Err(error);
                    }
                }
            }
            Ok(report)
        };
        let mut whole = Report::default();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(work)).collect();
            let mut outcome = Ok(());
            for thread in threads {
                match thread.join() {
                    Ok(Ok(report)) => {
                        whole.streams.extend(report.streams);
                        whole.differences.extend(report.differences);
                    }
                    Ok(Err(error)) => outcome = Err(error),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            outcome
        })?;
        whole.streams.sort_by_key(|stream| (stream.topic, stream.partition, stream.source));
        whole.differences.sort_by_key(|found| (found.topic, found.partition, found.of, found.source));
        Ok(whole)
    }
}

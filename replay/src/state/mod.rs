//! What was so at a moment of the past: who was in which conversation, with which role and cursors, and who was online.
//!
//! The production shard is built from the nearest checkpoint at or before the moment, or from nothing, and takes in what
//! the log has up to the moment. What is answered is the state that it would then write into a checkpoint: no rule is here
//! a second time.
//!
//! - [`moment`]: where a moment is in each partition. [`checkpoints`]: which checkpoint is nearest.
//! - [`standing`]: the conversations of a partition. [`presence`]: the users of one.
//! - [`last`]: what was said last. [`names`]: who has which name.

pub mod checkpoints;
pub mod last;
pub mod moment;
pub mod names;
pub mod presence;
pub mod standing;

use tidings_dataflow::{
    host::HostConfig,
    shard::{ShardId, StageError, UnreadableRow},
};
use tidings_ingest::{Log, LogError};
use tidings_schemas::topics::Partitions;

pub use self::{
    checkpoints::Checkpoints,
    moment::{AsOf, Moment},
    presence::Present,
    standing::{Standing, Start},
};
use crate::{scan::ScanError, select::SelectError};

/// What is told meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// So many records more will be taken in.
    Expect(u64),
    /// So many were.
    Took(u64),
    /// A checkpoint cannot be used, and why.
    Unusable {
        /// Of which shard.
        shard: ShardId,
        /// Why.
        error: String,
    },
}

/// Why the past cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The moment is not in the log.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The stage cannot go on.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The stage has written something that it cannot read.
    #[error(transparent)]
    Row(#[from] UnreadableRow),
    /// The beginning is gone.
    #[error(
        "events.v1 partition {partition} begins with offset {kept}: retention has dropped what is before, and no checkpoint reaches back to the moment (hint: --checkpoints DIR, if some are kept elsewhere)"
    )]
    NotKept {
        /// The partition.
        partition: u32,
        /// The oldest record.
        kept: u64,
    },
}

impl From<LogError> for StateError {
    fn from(error: LogError) -> Self {
        Self::Select(error.into())
    }
}

impl From<ScanError> for StateError {
    fn from(error: ScanError) -> Self {
        Self::Select(error.into())
    }
}

/// A moment of a log's past.
pub struct Past<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// The settings that the stages ran with.
    pub config: &'a HostConfig,
    /// Where checkpoints are, if anywhere.
    pub checkpoints: Option<&'a Checkpoints>,
    /// The moment.
    pub as_of: AsOf,
    /// Told of what goes on.
    pub told: &'a (dyn Fn(Told) + Sync),
}

impl Past<'_> {
    /// The log's partitions.
    pub fn partitions(&self) -> Partitions {
        self.log.partition_counts()
    }
}

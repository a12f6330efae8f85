//! What other rules would make of the same history: the stages run over it twice, here or in another program, and what they
//! derive is compared event by event.
//!
//! - [`derive`]: a history taken through the stages. [`stream`]: what was derived, as lines that another program writes.
//! - [`kinds`]: in which ways an event's outcome can differ. [`compare`]: both sides held against each other.

pub mod compare;
pub mod derive;
pub mod kinds;
pub mod stream;

use tidings_dataflow::shard::StageError;
use tidings_ingest::{LogError, NewRecord};

pub use self::{
    compare::{Comparison, Example, Report, Side},
    derive::Derivation,
    kinds::Kind,
};
use crate::{scan::ScanError, select::SelectError};

/// All that follows from one event, as the stages derive it: `timeline`, `fanout`, `inbox`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// The event's partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// When it was appended, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The records, by topic and partition.
    pub records: Vec<NewRecord>,
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The log cannot be read.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A stage cannot go on.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The beginning is gone.
    #[error(
        "events.v1 partition {partition} begins with offset {kept}: retention has dropped what is before, and all follows from the beginning"
    )]
    NotKept {
        /// The partition.
        partition: u32,
        /// The oldest record.
        kept: u64,
    },
    /// The other program's output is none, or of another version.
    #[error("{0}")]
    Stream(String),
    /// The two have not taken in the same events.
    #[error("the two sides are not of the same events: {0}")]
    OutOfStep(String),
    /// A thread that derives is gone.
    #[error("a side has ended without saying why")]
    Gone,
}

impl From<LogError> for DiffError {
    fn from(error: LogError) -> Self {
        Self::Select(error.into())
    }
}

impl From<ScanError> for DiffError {
    fn from(error: ScanError) -> Self {
        Self::Select(error.into())
    }
}

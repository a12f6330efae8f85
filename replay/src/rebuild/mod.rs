//! Stores built anew from the log, beside those in use, compared with them, and put in their place while the system runs.
//!
//! - [`views`]: the views. [`place`]: where old and new ones are, and how they change places. [`compare`]: two stores of views.
//! - [`archive`]: the archive's tables.

pub mod archive;
pub mod compare;
pub mod place;
pub mod views;

use serde::{Deserialize, Serialize};
use tidings_dataflow::{archive::ArchiveError, views::projection::FillError};
use tidings_ingest::{Log, LogError};
use tidings_schemas::{topics::Topic, views::ViewError};

use crate::scan::ScanError;

/// What a rebuild is at, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it does.
    pub step: Step,
    /// How much is done.
    pub done: u64,
    /// Of how much; 0 where nobody knows.
    pub total: u64,
}

/// A part of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reads the log: records.
    Building,
    /// Compares with what is in use: owners of rows, or tables.
    Comparing,
    /// Changes places, and removes what was in use.
    Switching,
}

/// Who is told.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);

/// Why a rebuild ended early. What was in use is in use.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The log cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The new store cannot be written, or the old one not be changed.
    #[error(transparent)]
    Views(#[from] ViewError),
    /// The new views cannot be filled.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Only what the log keeps can be built of it.
    #[error(
        "the log no longer has {} partition {partition} before offset {start}: what followed from it would be lost ({hint})",
        topic.name()
    )]
    NotKept {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// The oldest record.
        start: u64,
        /// What to do.
        hint: &'static str,
    },
    /// The new views never were where the old ones are.
    #[error("the new views were behind each time that they were to be put in place (try again when less is said)")]
    NeverThere,
    /// Something is missing or wrong.
    #[error("{0}")]
    Impossible(String),
}

impl From<LogError> for RebuildError {
    fn from(error: LogError) -> Self {
        Self::Scan(error.into())
    }
}

/// Refuses a log that lacks the beginning of one of these topics.
pub(crate) fn check_kept(log: &dyn Log, topics: &[Topic], hint: &'static str) -> Result<u64, RebuildError> {
    let mut records = 0;
    for &topic in topics {
        for partition in 0..log.partitions(topic) {
            let range = log.range(topic, partition)?;
            if range.start > 0 {
                return Err(RebuildError::NotKept { topic, partition, start: range.start, hint });
            }
            records += range.end;
        }
    }
    Ok(records)
}

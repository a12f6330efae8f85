//! Making a log of records that have their places and times already: a copy of another log, or of a part of it. Until it is
//! finished it is no log, and whoever opens it is told so.

use serde::{Deserialize, Serialize};
use tidings_schemas::topics::Topic;

use crate::error::LogError;
use crate::log::StoredRecord;
use crate::settings::PartitionCounts;

/// What is made. An interrupted attempt is gone on with only if all of it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkPlan {
    /// The identity of the log that is made.
    pub log_id: u128,
    /// How many partitions it has.
    pub partitions: PartitionCounts,
    /// Partitions that do not begin with offset 0: topic name, partition, first offset.
    pub starts: Vec<(String, u32, u64)>,
    /// Where the records come from, for the caller to know it again.
    pub origin: String,
}

impl BulkPlan {
    /// With the identity that an interrupted attempt at the same has given the log.
    #[must_use]
    pub fn taking_over(mut self, before: Option<Self>) -> Self {
        if let Some(before) = before.filter(|before| before.origin == self.origin) {
            self.log_id = before.log_id;
        }
        self
    }
}

/// A log being made. Dropped before [`Bulk::finish`], it can be gone on with: all records are given again, and those that
/// are there are not written twice.
pub trait Bulk: Sized {
    /// The offset of the next record of a partition, as if none had been written before.
    fn next_offset(&self, topic: Topic, partition: u32) -> Option<u64>;

    /// How many records of an interrupted attempt are there.
    fn kept(&self) -> u64;

    /// Adds a partition's next record, with its time; returns its offset. The record's own offset is not looked at.
    ///
    /// # Errors
    /// [`LogError::UnknownPartition`]; [`LogError::Mismatch`] for a record that the log cannot hold, and when somebody else
    /// writes to it; [`LogError::Io`]; [`LogError::Unavailable`].
    fn append(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> Result<u64, LogError>;

    /// Makes it a log.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::Unavailable`]: it can be gone on with, then. [`LogError::Mismatch`] when it does not hold
    /// what was given.
    fn finish(self) -> Result<(), LogError>;
}

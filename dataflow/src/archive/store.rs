//! The port to the archive. The embedded engine stands behind it, and a ClickHouse server can; [`conformance`] is what
//! each must pass.
//!
//! [`conformance`]: super::conformance

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    topics::Topic,
    wire,
};

use super::{erasure::ErasedTable, migrations::MigrationError, row_binary::RowBinaryError, tables::Table};

/// Records of one partition that a batch holds the rows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRange {
    /// `timeline`, `inbox` or `signals`.
    pub topic: Topic,
    /// The partition of it.
    pub partition: u32,
    /// The first record: where the partition's progress stands.
    pub first_offset: u64,
    /// One past the last record.
    pub end_offset: u64,
    /// The next offset of the topic before (`events` or `fanout`), before the range and after it: below it everything is
    /// in the archive, and a record that comes from there is a repeat.
    pub source: SourceOffsets,
}

/// See [`SourceRange::source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceOffsets {
    /// Before the range.
    pub from: u64,
    /// After the range.
    pub to: u64,
}

/// Rows of one table, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    /// The table.
    pub table: Table,
    /// How many rows.
    pub count: usize,
    /// The rows in RowBinary, in the order of the table's columns.
    pub row_binary: Bytes,
}

/// Ranges of records and all rows that follow from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The records, at most one range for each partition, none empty.
    pub ranges: Vec<SourceRange>,
    /// Their rows, at most one element for each table.
    pub rows: Vec<TableRows>,
}

impl Batch {
    /// The batch's name: the same for the same ranges, whenever they are read.
    pub fn id(&self) -> String {
        let mut ranges: Vec<String> = self
            .ranges
            .iter()
            .map(|range| {
                format!("{}/{}/{}-{}", range.topic.name(), range.partition, range.first_offset, range.end_offset)
            })
            .collect();
        ranges.sort_unstable();
        let digest = Sha256::digest(ranges.join(","));
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How far a partition is in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// Everything below is in the archive.
    pub next_offset: u64,
    /// Everything that came from below this offset of the topic before is in the archive.
    pub next_source_offset: u64,
    /// A range from `next_offset` on whose insert was begun and not finished. It must be inserted again as it was.
    pub planned: Option<Planned>,
}

/// An insert that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// One past the range's last record.
    pub end_offset: u64,
    /// The batch that the range is of, with all other ranges that name it.
    pub batch: String,
}

/// A read of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesQuery {
    /// The conversation.
    pub conversation: ConversationId,
    /// Which `seq`.
    pub seqs: RangeInclusive<u64>,
    /// Largest `seq` first.
    pub newest_first: bool,
    /// How many at the most (at most `limits::ARCHIVE_READ_ROWS_MAX`).
    pub limit: usize,
}

/// Why the archive did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ArchiveError {
    /// It does not answer, or not in time, or has no room at the moment. Try again.
    #[error("the archive is unavailable: {0}")]
    Unavailable(String),
    /// It refuses, and will refuse again: somebody must look.
    #[error("the archive refused: {0}")]
    Refused(String),
    /// Its schema is not this program's.
    #[error(transparent)]
    Schema(#[from] MigrationError),
    /// It returned what cannot be read.
    #[error(transparent)]
    Unreadable(#[from] RowBinaryError),
}

/// The port.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// Brings the schema up to date; does nothing when it is.
    ///
    /// # Errors
    /// [`ArchiveError::Schema`] when the schema is newer than this program, or was changed under it.
    async fn migrate(&self) -> Result<(), ArchiveError>;

    /// How far each partition is; partitions that were never inserted are left out.
    async fn progress(&self) -> Result<Vec<Progress>, ArchiveError>;

    /// How far one partition is, as of this process's last insert or [`Archive::progress`]: cheap.
    fn next_source_offset(&self, topic: Topic, partition: u32) -> u64;

    /// Inserts the batch's rows and moves the progress of its partitions to the ends of its ranges.
    ///
    /// The ranges are written down before the first row. So when the process dies or an error comes back at any point,
    /// the ranges are known, and inserting them again adds only the rows that are not there yet.
    /// When [`Archive::progress`] tells of a range that is planned, that must be inserted before any other.
    async fn insert(&self, batch: Arc<Batch>) -> Result<(), ArchiveError>;

    /// Takes the content of deleted messages, and of everything that these users wrote, out of the rows and off the disk.
    /// Tells in how many rows of each table there was some.
    async fn erase(&self, users: &[UserId]) -> Result<Vec<ErasedTable>, ArchiveError>;

    /// Counts the days and hours that are over and were not counted yet, or not for good. Tells how many these were.
    async fn summarize(&self) -> Result<u64, ArchiveError>;

    /// Entries of a conversation, in the order asked for, each once.
    async fn entries(&self, query: EntriesQuery) -> Result<Vec<wire::Entry>, ArchiveError>;

    /// One entry by its message id.
    async fn entry_by_message_id(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<Option<wire::Entry>, ArchiveError>;

    /// The change that stands for each of those entries that has one: its deletion, else its newest edit.
    async fn changes_for(&self, conversation: ConversationId, seqs: &[u64]) -> Result<Vec<wire::Change>, ArchiveError>;

    /// A recipient's updates in a range of offsets, ascending, each once, at most `limit` (and
    /// `limits::ARCHIVE_READ_ROWS_MAX`).
    async fn inbox(
        &self,
        recipient: UserId,
        offsets: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, wire::InboxRow)>, ArchiveError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(partition: u32, first_offset: u64, end_offset: u64) -> SourceRange {
        SourceRange { topic: Topic::Inbox, partition, first_offset, end_offset, source: SourceOffsets::default() }
    }

    #[test]
    fn a_batch_is_named_by_its_ranges_in_any_order() {
        let batch = |ranges: &[SourceRange]| Batch { ranges: ranges.to_vec(), rows: Vec::new() }.id();
        assert_eq!(batch(&[range(0, 1, 9), range(1, 5, 6)]), batch(&[range(1, 5, 6), range(0, 1, 9)]));
        assert_ne!(batch(&[range(0, 1, 9)]), batch(&[range(0, 1, 10)]));
        assert_eq!(batch(&[]).len(), 32);
    }
}

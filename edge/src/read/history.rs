//! The port to what is older than the views' tails: the archive, as far as an edge reads it.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    wire,
};

/// The order in which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest `seq` first.
    OldestFirst,
    /// Largest `seq` first.
    NewestFirst,
}

/// The archive does not answer, or not in time. Try again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the archive is unavailable: {0}")]
pub struct HistoryError(pub String);

/// Reads of older history. Every call has a deadline of its own and a bound on how many run at once, kept by the
/// implementation.
#[async_trait]
pub trait HistoryReader: Send + Sync + 'static {
    /// Entries of a conversation in a range of `seq`, in the order asked for, at most `limit`.
    async fn entries(
        &self,
        conversation: ConversationId,
        seqs: RangeInclusive<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<wire::Entry>, HistoryError>;

    /// One entry by its message id.
    async fn entry_by_message_id(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<Option<wire::Entry>, HistoryError>;

    /// The change that stands for each of those entries that has one: its deletion, else its newest edit. In any order.
    async fn changes(&self, conversation: ConversationId, seqs: &[u64]) -> Result<Vec<wire::Change>, HistoryError>;

    /// A user's updates in a range of offsets, ascending, at most `limit`.
    async fn inbox(
        &self,
        user: UserId,
        offsets: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, wire::InboxRow)>, HistoryError>;

    /// How far the archive has got in a partition of `events`: what follows from everything below is in it. Tells
    /// history that is gone for good from history that has not arrived yet.
    async fn next_events_offset(&self, partition: u32) -> Result<u64, HistoryError>;
}

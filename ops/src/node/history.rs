//! The archive as the edge reads it: the edge knows its own small port, and this is the bridge.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use tidings_dataflow::archive::{Archive, ArchiveError, store::EntriesQuery};
use tidings_edge::read::{HistoryError, HistoryReader, Order};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    topics::Topic,
    wire,
};

/// See the module.
pub(super) struct ArchiveHistory {
    pub(super) archive: Arc<dyn Archive>,
    pub(super) filler: Filler,
}

/// Who fills the archive, and so knows how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filler {
    /// This process, with all partitions.
    ThisProcess,
    /// Others, too: the archive itself must be asked.
    Others,
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn unavailable(error: ArchiveError) -> HistoryError {
    HistoryError(error.to_string())
}

#[async_trait]
impl HistoryReader for ArchiveHistory {
    async fn entries(
        &self,
        conversation: ConversationId,
        seqs: RangeInclusive<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<wire::Entry>, HistoryError> {
        let query = EntriesQuery { conversation, seqs, newest_first: order == Order::NewestFirst, limit };
        self.archive.entries(query).await.map_err(unavailable)
    }

    async fn entry_by_message_id(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<Option<wire::Entry>, HistoryError> {
        self.archive.entry_by_message_id(conversation, message).await.map_err(unavailable)
    }

    async fn changes(&self, conversation: ConversationId, seqs: &[u64]) -> Result<Vec<wire::Change>, HistoryError> {
        self.archive.changes_for(conversation, seqs).await.map_err(unavailable)
    }

    async fn inbox(
        &self,
        user: UserId,
        offsets: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, wire::InboxRow)>, HistoryError> {
        self.archive.inbox(user, offsets, limit).await.map_err(unavailable)
    }

    async fn next_events_offset(&self, partition: u32) -> Result<u64, HistoryError> {
        if self.filler == Filler::Others {
            self.archive.progress().await.map_err(unavailable)?;
        }
        // The timeline follows from `events`: that is its source.
        Ok(self.archive.next_source_offset(Topic::Timeline, partition))
    }
}

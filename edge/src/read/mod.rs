//! Typed reads: what clients see, made from the views and, beyond their tails, from the history behind them.
//!
//! - [`convert`]: the log's records and the views' rows → the client contract.
//! - [`profiles`]: users. [`conversations`]: lists, members, cursors. [`messages`]: entries and pages of them.
//!   [`updates`]: a user's update stream.
//! - [`history`]: the port to the archive; [`history_cache`]: what was read of it lately.
//! - [`freshness`]: reads are never older than what this edge has told somebody.
//! - [`page_token`]: the opaque places in a list.
//!
//! Rows are fetched in batches: one call to the store for all keys of a page, however long it is.

pub mod conversations;
pub mod convert;
pub mod freshness;
pub mod history;
pub mod history_cache;
pub mod messages;
pub mod page_token;
pub mod profiles;
pub mod updates;

use std::sync::Arc;

use bytes::Bytes;
use tidings_schemas::{
    ids::{ConversationId, UserId},
    topics::{Partitions, conversation_partition},
    views::{Key, ViewError, ViewStore},
    wire,
};

pub use self::{
    freshness::Freshness,
    history::{HistoryError, HistoryReader, Order},
    history_cache::HistoryCache,
    messages::{MessagesFrom, MessagesPage},
    updates::Updates,
};
use crate::error::ApiError;

/// The reads of an edge. Cheap to share; holds no truth.
pub struct Reads {
    views: Arc<dyn ViewStore>,
    history: Option<Arc<dyn HistoryReader>>,
    partitions: Partitions,
    freshness: Freshness,
    profiles: profiles::ProfileCache,
}

impl Reads {
    /// Reads of these views, and of this history where the views' tails end. Without a history, lists end there.
    pub fn new(views: Arc<dyn ViewStore>, history: Option<Arc<dyn HistoryReader>>, partitions: Partitions) -> Self {
        let freshness = Freshness::new(partitions);
        Self { views, history, partitions, freshness, profiles: profiles::ProfileCache::default() }
    }

    /// Where to note what clients have been told (verdicts, pushes): later reads wait until the views hold it.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// The views' store.
    pub fn views(&self) -> &Arc<dyn ViewStore> {
        &self.views
    }

    /// A conversation's row; `None`: there never was one.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer or are behind.
    pub async fn conversation_row(
        &self,
        conversation: ConversationId,
    ) -> Result<Option<wire::ConversationRow>, ApiError> {
        self.wait_conversation(conversation).await?;
        let rows = self.views.get(&[Key::conversation(conversation)]).await?;
        Ok(first(rows, "conversation")?)
    }

    /// A user's row in a conversation, with an unspecified role for one who left; `None`: was never in it.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer or are behind.
    pub async fn member_row(
        &self,
        conversation: ConversationId,
        user: UserId,
    ) -> Result<Option<wire::MemberRow>, ApiError> {
        self.wait_conversation(conversation).await?;
        let rows = self.views.get(&[Key::member(conversation, user)]).await?;
        Ok(first(rows, "member")?)
    }

    /// Waits until the views hold all of the conversation that this edge has spoken of.
    async fn wait_conversation(&self, conversation: ConversationId) -> Result<(), ViewError> {
        let partition = conversation_partition(conversation, self.partitions.conversations);
        self.freshness.wait_events(self.views.as_ref(), partition).await
    }
}

/// The row of a value, where there is a value.
fn decode<M: prost::Message + Default>(value: Option<Bytes>, what: &str) -> Result<Option<M>, ViewError> {
    value.map(|value| M::decode(value).map_err(|error| ViewError::Corrupt(format!("{what}: {error}")))).transpose()
}

/// The row of the first value.
fn first<M: prost::Message + Default>(values: Vec<Option<Bytes>>, what: &str) -> Result<Option<M>, ViewError> {
    decode(values.into_iter().next().flatten(), what)
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        tracing::warn!(%error, "older history cannot be read");
        Self::unavailable("older history is not available at the moment: try again")
    }
}

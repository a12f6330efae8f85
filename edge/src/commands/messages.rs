//! Edits and deletions. The event carries the message that it is about, as it was looked up here.

use tidings_schemas::{
    client,
    ids::{ConversationId, MessageId, UserId},
    wire::{self, event::Body, verdict},
};

use super::{Commands, unexpected, validate};
use crate::{
    error::{ApiError, ErrorCode},
    read::convert,
};

impl Commands {
    /// Gives a message another text.
    ///
    /// # Errors
    /// `invalid_argument`, `too_large`, `not_found`, `not_a_member`, `permission_denied` (not the sender),
    /// `rate_limited`, `unavailable`.
    pub async fn edit_message(
        &self,
        actor: UserId,
        conversation: ConversationId,
        message: MessageId,
        text: String,
    ) -> Result<client::Message, ApiError> {
        validate::text(&text)?;
        if text.is_empty() {
            return Err(ApiError::invalid_argument("text must not be empty: delete the message instead"));
        }
        let target = self.target(actor, conversation, message).await?;
        if target.sender_id.map(UserId::from) != Some(actor) {
            return Err(ApiError::new(ErrorCode::PermissionDenied, "only its sender edits a message"));
        }
        let body = wire::EditMessage { target: Some(target), text };
        self.change_message(conversation, actor, Body::EditMessage(body)).await
    }

    /// Takes a message back: its place stays, its content goes.
    ///
    /// # Errors
    /// `not_found`, `not_a_member`, `permission_denied` (neither sender nor owner nor admin), `rate_limited`,
    /// `unavailable`.
    pub async fn delete_message(
        &self,
        actor: UserId,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<client::Message, ApiError> {
        let target = self.target(actor, conversation, message).await?;
        let body = wire::DeleteMessage { target: Some(target), erasure: false };
        self.change_message(conversation, actor, Body::DeleteMessage(body)).await
    }

    async fn change_message(
        &self,
        conversation: ConversationId,
        actor: UserId,
        body: Body,
    ) -> Result<client::Message, ApiError> {
        match self.decide(conversation, actor, body).await? {
            verdict::Outcome::Change(change) => convert::changed_message(&change).map_err(|error| {
                tracing::error!(%error, "an accepted change cannot be read");
                ApiError::internal("the change is stored but cannot be read")
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// The message as the event names it. Whoever is not a member learns nothing about it.
    async fn target(
        &self,
        actor: UserId,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<wire::Target, ApiError> {
        self.membership.check(actor, conversation).await?;
        let row = match self.reads.entry_by_message_id(conversation, message).await? {
            Some(row) => Some(row),
            None => {
                self.membership.wait_conversation(conversation).await?;
                self.reads.entry_by_message_id(conversation, message).await?
            }
        };
        let row = row.ok_or_else(no_such_message)?;
        if row.change.is_some_and(|change| change.deleted_at_ms != 0) {
            return Err(ApiError::not_found("the message was deleted"));
        }
        let entry = row.entry.ok_or_else(no_such_message)?;
        let Some(wire::entry::Content::Event(event)) = entry.content else {
            return Err(ApiError::invalid_argument("only messages can be edited or deleted, not what the server says"));
        };
        Ok(wire::Target {
            message_id: entry.message_id,
            seq: entry.seq,
            sender_id: entry.sender_id,
            event,
            sent_at_ms: entry.sent_at_ms,
        })
    }
}

fn no_such_message() -> ApiError {
    ApiError::not_found("there is no such message in this conversation")
}

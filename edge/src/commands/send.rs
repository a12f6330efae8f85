//! Messages: checked, limited and appended without waiting for anything, so that the sends of one connection are on the
//! log in the order in which they came.

use std::sync::Arc;

use tidings_schemas::{
    client,
    ids::{ConversationId, MessageId, UserId},
    wire::{self, event::Body, verdict},
};
use tokio::sync::oneshot;

use super::{Commands, unexpected, validate};
use crate::{
    error::ApiError,
    read::convert,
    verdicts::{Outcome, Then},
};

/// What a sender is told, as it happens: one of these, or `Queued` and then at most one `Rejected`.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly always the large one, and never kept")]
pub enum SendEvent {
    /// The message has its place.
    Sent(client::Message),
    /// A message with this client_message_id stands there already: to be read and given as the answer.
    Repeat {
        /// The conversation.
        conversation: ConversationId,
        /// Its place.
        seq: u64,
    },
    /// Durable, but its place is not known yet: it comes as an update, or as `Rejected`.
    Queued(MessageId),
    /// Refused.
    Refused(ApiError),
    /// Refused after `Queued`.
    Rejected(ApiError),
}

/// What became of a send.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly always the large one, and never kept")]
pub enum SendOutcome {
    /// The message has its place.
    Sent {
        /// The message as it stands.
        message: client::Message,
        /// It is a repeat: the message was there before this request.
        repeated: bool,
    },
    /// Durable, but its place is not known yet.
    Queued(MessageId),
}

impl Commands {
    /// Sends a message: appended before this returns, so calls in order are messages in order. `on_event` is called
    /// later, on another thread, and must be short.
    ///
    /// # Errors
    /// `invalid_argument`, `too_large`, `rate_limited`, `unavailable`. Then `on_event` is never called.
    pub fn submit_send(
        &self,
        actor: UserId,
        request: client::Send,
        mut on_event: impl FnMut(SendEvent) + Send + 'static,
    ) -> Result<(), ApiError> {
        let (conversation, send) = validate::send(request)?;
        self.take_from_rate(actor)?;
        let stamped_at_ms = self.clock.now_ms();
        let mut queued = false;
        let on_outcome = move |outcome| {
            let event = match outcome {
                Outcome::Verdict(outcome) => decided(outcome, queued),
                Outcome::NotAppended(error) => SendEvent::Refused(error.into()),
                Outcome::TimedOut(Some(position)) => {
                    queued = true;
                    let id = MessageId::from_position(stamped_at_ms, position.partition, position.offset);
                    on_event(SendEvent::Queued(id));
                    return Then::AwaitLateVerdict;
                }
                Outcome::TimedOut(None) => SendEvent::Refused(ApiError::unavailable(
                    "whether the message was stored is not known: send it again with the same client_message_id",
                )),
            };
            // After `queued`, an accepted message comes as an update.
            if !queued || matches!(event, SendEvent::Rejected(_)) {
                on_event(event);
            }
            Then::Done
        };
        self.submit(conversation, actor, stamped_at_ms, Body::Send(send), Box::new(on_outcome))
    }

    /// Sends a message and waits for its place.
    ///
    /// # Errors
    /// As [`Commands::submit_send`], and what the stage refuses with: `not_a_member`, `not_found`.
    pub async fn send(&self, actor: UserId, request: client::Send) -> Result<SendOutcome, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let mut sender = Some(sender);
        self.submit_send(actor, request, move |event| {
            if let Some(sender) = sender.take() {
                // Who asked may have left.
                let _ = sender.send(event);
            }
        })?;
        match receiver.await {
            Ok(SendEvent::Sent(message)) => Ok(SendOutcome::Sent { message, repeated: false }),
            Ok(SendEvent::Repeat { conversation, seq }) => {
                let message = self.repeated(conversation, seq).await?;
                Ok(SendOutcome::Sent { message, repeated: true })
            }
            Ok(SendEvent::Queued(id)) => Ok(SendOutcome::Queued(id)),
            Ok(SendEvent::Refused(error) | SendEvent::Rejected(error)) => Err(error),
            Err(_) => Err(ApiError::internal("the message was lost inside the edge")),
        }
    }

    /// The message that a repeat repeats, as it stands.
    ///
    /// # Errors
    /// `unavailable`: it cannot be read at the moment.
    pub async fn repeated(&self, conversation: ConversationId, seq: u64) -> Result<client::Message, ApiError> {
        let message = Arc::clone(&self.reads).message(conversation, seq).await?;
        message
            .ok_or_else(|| ApiError::unavailable("the message is stored but cannot be read at the moment: try again"))
    }
}

fn decided(outcome: verdict::Outcome, queued: bool) -> SendEvent {
    match outcome {
        verdict::Outcome::Entry(entry) => match convert::message(&entry, None) {
            Ok(message) => SendEvent::Sent(message),
            Err(error) => {
                tracing::error!(%error, "an accepted entry cannot be read");
                SendEvent::Refused(ApiError::internal("the message is stored but cannot be read"))
            }
        },
        verdict::Outcome::Duplicate(duplicate) => repeat(&duplicate),
        verdict::Outcome::Refusal(refusal) if queued => SendEvent::Rejected(refusal.into()),
        verdict::Outcome::Refusal(refusal) => SendEvent::Refused(refusal.into()),
        other => SendEvent::Refused(unexpected(&other)),
    }
}

fn repeat(duplicate: &wire::Duplicate) -> SendEvent {
    let conversation = duplicate.conversation_id.map(ConversationId::from).unwrap_or_default();
    SendEvent::Repeat { conversation, seq: duplicate.seq }
}

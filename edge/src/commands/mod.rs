//! What both doors call. A command is checked, becomes an event on the log, and the stage's verdict becomes the reply.
//!
//! - [`validate`]: shapes and limits, before anything is appended. [`send`]: messages, the path that must be fast.
//! - [`conversations`], [`messages`]: the group operations, edits and deletions.

pub mod conversations;
pub mod messages;
pub mod send;
pub mod validate;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tidings_ingest::{Log, LogExt as _, NewRecord};
use tidings_schemas::{
    client,
    clock::{Clock, Entropy},
    ids::{ConversationId, UserId},
    limits::VIEW_WAIT_TIMEOUT,
    time::Timestamp,
    topics::{Topic, conversation_partition},
    wire::{self, event::Body, verdict},
};
use tokio::sync::oneshot;

pub use self::send::{SendEvent, SendOutcome};
use crate::{
    error::ApiError,
    membership::Membership,
    metrics::{Metrics, seconds},
    rate_limits::RateLimit,
    read::Reads,
    receipts::Receipts,
    signals::Signals,
    verdicts::{EventPosition, OnOutcome, Outcome, Then, Verdicts},
};

/// The commands of an edge. Shared by all connections and requests.
pub struct Commands {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) verdicts: Arc<Verdicts>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) user_sends: Arc<RateLimit<UserId>>,
    pub(crate) edge_id: u32,
    pub(crate) group_members_max: u32,
}

impl Commands {
    /// Moves the caller's cursors forward; returns when that is durable.
    ///
    /// # Errors
    /// `invalid_argument`, `not_a_member`, `not_found`, `unavailable`.
    pub async fn receipt(&self, actor: UserId, receipt: client::SendReceipt) -> Result<(), ApiError> {
        let (sender, receiver) = oneshot::channel();
        let on_done = Box::new(move |result| drop(sender.send(result)));
        self.receipts.submit(actor, &receipt, on_done);
        receiver.await.unwrap_or_else(|_| Err(ApiError::internal("the receipt was lost inside the edge")))
    }

    /// Whether a user is online, and the last sign of life.
    ///
    /// # Errors
    /// `not_found`: there is no such user. `unavailable`: no answer in time.
    pub async fn presence(&self, user: UserId) -> Result<client::Presence, ApiError> {
        self.require_users(&[user]).await?;
        let answer = self.signals.presence(user).await?;
        Ok(client::Presence {
            user_id: user.to_string(),
            online: answer.online,
            last_seen_at: (answer.last_seen_at_ms != 0).then(|| Timestamp::from_millis(answer.last_seen_at_ms)),
        })
    }

    /// Appends an event and calls back with what becomes of it. Events of one caller are appended in the order of the
    /// calls.
    ///
    /// # Errors
    /// `unavailable`: too many requests wait already. Then there is no call back.
    fn submit(
        &self,
        conversation: ConversationId,
        actor: UserId,
        stamped_at_ms: i64,
        body: Body,
        on_outcome: OnOutcome,
    ) -> Result<(), ApiError> {
        let request_id = self.verdicts.next_request_id();
        let event = wire::Event {
            conversation_id: Some(conversation.into()),
            actor_id: Some(actor.into()),
            stamped_at_ms,
            origin: Some(wire::Origin { edge_id: self.edge_id, request_id }),
            body: Some(body),
        };
        let partition = conversation_partition(conversation, self.log.partitions(Topic::Events));
        let record = NewRecord {
            topic: Topic::Events,
            partition,
            key: Bytes::copy_from_slice(&conversation.to_bytes()),
            value: event.encode_to_vec().into(),
        };
        self.verdicts
            .wait(request_id, on_outcome)
            .map_err(|_| ApiError::unavailable("too many requests wait for their verdict: try again"))?;
        let (verdicts, clock, metrics) =
            (Arc::clone(&self.verdicts), Arc::clone(&self.clock), Arc::clone(&self.metrics));
        let since = clock.monotonic();
        let on_appended = move |result: Result<Vec<u64>, _>| {
            metrics.append_seconds.observe(seconds(since, clock.monotonic()));
            match result {
                Ok(offsets) => {
                    if let Some(offset) = offsets.first().copied() {
                        verdicts.appended(request_id, EventPosition { partition, offset });
                    }
                }
                Err(error) => verdicts.not_appended(request_id, error),
            }
        };
        self.log.append_with(vec![record], Box::new(on_appended));
        Ok(())
    }

    /// Appends an event that is not a send and waits for its verdict.
    async fn decide(
        &self,
        conversation: ConversationId,
        actor: UserId,
        body: Body,
    ) -> Result<verdict::Outcome, ApiError> {
        self.take_from_rate(actor)?;
        let (sender, receiver) = oneshot::channel();
        let mut sender = Some(sender);
        let on_outcome = move |outcome| {
            if let Some(sender) = sender.take() {
                // Who asked may have left.
                let _ = sender.send(outcome);
            }
            Then::Done
        };
        self.submit(conversation, actor, self.clock.now_ms(), body, Box::new(on_outcome))?;
        match receiver.await {
            Ok(Outcome::Verdict(verdict::Outcome::Refusal(refusal))) => Err(refusal.into()),
            Ok(Outcome::Verdict(outcome)) => Ok(outcome),
            Ok(Outcome::NotAppended(error)) => Err(error.into()),
            Ok(Outcome::TimedOut(_)) => {
                Err(ApiError::unavailable("what became of this is not known yet: look before you try again"))
            }
            Err(_) => Err(ApiError::internal("the request was lost inside the edge")),
        }
    }

    /// One of the actor's requests that cost something.
    pub(crate) fn take_from_rate(&self, actor: UserId) -> Result<(), ApiError> {
        let taken = self.user_sends.take(actor);
        taken.map_err(|wait| ApiError::rate_limited("too many requests of this user: wait and try again", wait))
    }

    /// Checks that all of these users exist. One who registered a moment ago, on another edge, does.
    async fn require_users(&self, users: &[UserId]) -> Result<(), ApiError> {
        let missing = |found: &[Option<client::User>]| {
            users.iter().zip(found).find(|(_, found)| found.is_none()).map(|(user, _)| *user)
        };
        if missing(&self.reads.users(users).await?).is_none() {
            return Ok(());
        }
        for partition in 0..self.log.partitions(Topic::Directory) {
            let end = self.log.range_now(Topic::Directory, partition).await?.end;
            if let Some(last) = end.checked_sub(1) {
                self.reads.views().wait_past(Topic::Directory, partition, last, VIEW_WAIT_TIMEOUT).await?;
            }
        }
        match missing(&self.reads.users(users).await?) {
            None => Ok(()),
            Some(user) => Err(ApiError::not_found(format!("there is no user {user}"))),
        }
    }
}

/// A verdict of a kind that does not fit the request: the two sides do not understand each other.
fn unexpected(outcome: &verdict::Outcome) -> ApiError {
    tracing::error!(?outcome, "a verdict does not fit its request");
    ApiError::internal("the verdict does not fit the request")
}

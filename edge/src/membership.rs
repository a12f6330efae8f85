//! Whether a user is in a conversation, as the views know it. Only for telling a client early, and for whom to tell that
//! somebody types: what is accepted, the stage decides.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use tidings_ingest::{Log, LogExt as _};
use tidings_schemas::{
    clock::Clock,
    ids::{ConversationId, UserId},
    limits::{MEMBERSHIP_CACHE_AGE_MAX, MEMBERSHIP_CACHE_MAX, VIEW_WAIT_TIMEOUT},
    topics::{Topic, conversation_partition},
    wire,
};

use crate::{
    error::{ApiError, ErrorCode},
    read::Reads,
};

/// Checks of membership, with a bounded memory of those that were found to be members.
pub struct Membership {
    log: Arc<dyn Log>,
    reads: Arc<Reads>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

/// Two generations: when the young one is full it becomes the old one.
#[derive(Default)]
struct Known {
    young: HashMap<(ConversationId, UserId), Duration>,
    old: HashMap<(ConversationId, UserId), Duration>,
}

impl Membership {
    /// Checks against these views; the log tells whether they are behind.
    pub fn new(log: Arc<dyn Log>, reads: Arc<Reads>, clock: Arc<dyn Clock>) -> Self {
        Self { log, reads, clock, known: Mutex::default() }
    }

    /// Whether the user was found to be a member a moment ago.
    pub fn is_known(&self, user: UserId, conversation: ConversationId) -> bool {
        let now = self.clock.monotonic();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (conversation, user);
        let since = known.young.get(&key).or_else(|| known.old.get(&key));
        since.is_some_and(|since| now.saturating_sub(*since) < MEMBERSHIP_CACHE_AGE_MAX)
    }

    /// Checks that the user is a present member. Where the views say no, it asks again once they hold all that is on the
    /// log by now: a member of this moment is not refused.
    ///
    /// # Errors
    /// `not_a_member`, `not_found` (no such conversation, or deleted), `unavailable`.
    pub async fn check(&self, user: UserId, conversation: ConversationId) -> Result<(), ApiError> {
        if self.is_known(user, conversation) || self.look_up(user, conversation).await? {
            return Ok(());
        }
        self.wait_conversation(conversation).await?;
        if self.look_up(user, conversation).await? {
            return Ok(());
        }
        match self.reads.conversation_row(conversation).await? {
            Some(row) if !row.deleted => Err(ApiError::new(
                ErrorCode::NotAMember,
                "you are not a member of this conversation: ask its owner to add you",
            )),
            _ => Err(ApiError::not_found("there is no such conversation: check conversation_id")),
        }
    }

    /// Waits until the views hold all that is on the log about the conversation by now.
    ///
    /// # Errors
    /// `unavailable`: they don't within `VIEW_WAIT_TIMEOUT`, or the log does not say what it has.
    pub async fn wait_conversation(&self, conversation: ConversationId) -> Result<(), ApiError> {
        let partition = conversation_partition(conversation, self.log.partitions(Topic::Timeline));
        let end = self.log.range_now(Topic::Timeline, partition).await?.end;
        if let Some(last) = end.checked_sub(1) {
            self.reads.views().wait_past(Topic::Timeline, partition, last, VIEW_WAIT_TIMEOUT).await?;
        }
        Ok(())
    }

    async fn look_up(&self, user: UserId, conversation: ConversationId) -> Result<bool, ApiError> {
        let member = self.reads.member_row(conversation, user).await?;
        if member.is_none_or(|member| member.role() == wire::Role::Unspecified) {
            return Ok(false);
        }
        if self.reads.conversation_row(conversation).await?.is_none_or(|row| row.deleted) {
            return Ok(false);
        }
        let now = self.clock.monotonic();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.young.len() >= MEMBERSHIP_CACHE_MAX / 2 {
            known.old = mem::take(&mut known.young);
        }
        known.young.insert((conversation, user), now);
        Ok(true)
    }
}

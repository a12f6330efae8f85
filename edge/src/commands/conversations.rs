//! Conversations: made, changed and ended. The stage decides; here are the checks that need more than the conversation:
//! whether the users named exist.

use tidings_schemas::{
    client::{self, conversation_kind},
    ids::{ConversationId, UserId},
    limits::GROUP_MEMBERS_SETTING_MAX,
    wire::{self, event::Body, verdict},
};

use super::{Commands, unexpected, validate};
use crate::{
    error::{ApiError, ErrorCode},
    read::convert,
};

/// A random id that is taken means a broken source of randomness; more tries than this would not help.
const CREATE_ATTEMPTS_MAX: usize = 3;

impl Commands {
    /// Makes a group, or a direct chat; the second direct chat of the same two is the first one.
    ///
    /// # Errors
    /// `invalid_argument`, `not_found` (a member is no user), `conversation_full`, `rate_limited`, `unavailable`.
    pub async fn create_conversation(
        &self,
        actor: UserId,
        request: client::CreateConversation,
    ) -> Result<client::Conversation, ApiError> {
        validate::title(&request.title)?;
        if request.member_ids.len() > GROUP_MEMBERS_SETTING_MAX as usize {
            let message = format!("a group may have at most {} members", self.group_members_max);
            return Err(ApiError::new(ErrorCode::ConversationFull, message));
        }
        let mut members =
            request.member_ids.iter().map(|id| validate::user_id(id)).collect::<Result<Vec<UserId>, _>>()?;
        members.sort_unstable();
        members.dedup();
        members.retain(|member| *member != actor);
        let kind = request.kind();
        if kind == conversation_kind::Value::Direct && members.len() != 1 {
            return Err(ApiError::invalid_argument("a direct chat needs one other user in member_ids"));
        }
        if kind == conversation_kind::Value::Unspecified {
            return Err(ApiError::invalid_argument("kind must be direct or group"));
        }
        self.require_users(&members).await?;
        match (kind, members.first()) {
            (conversation_kind::Value::Direct, Some(other)) => {
                let id = ConversationId::direct(actor, *other);
                self.create(actor, id, wire::ConversationKind::Direct, String::new(), &members).await
            }
            _ => self.create_group(actor, request.title, &members).await,
        }
    }

    async fn create_group(
        &self,
        actor: UserId,
        title: String,
        members: &[UserId],
    ) -> Result<client::Conversation, ApiError> {
        let mut last_error = ApiError::internal("no free id was found");
        for _ in 0..CREATE_ATTEMPTS_MAX {
            let id = ConversationId::random(self.entropy.next_u128());
            match self.create(actor, id, wire::ConversationKind::Group, title.clone(), members).await {
                Err(error) if error.code == ErrorCode::AlreadyExists => last_error = error,
                result => return result,
            }
        }
        Err(last_error)
    }

    async fn create(
        &self,
        actor: UserId,
        conversation: ConversationId,
        kind: wire::ConversationKind,
        title: String,
        members: &[UserId],
    ) -> Result<client::Conversation, ApiError> {
        let body = Body::CreateConversation(wire::CreateConversation {
            kind: kind.into(),
            title,
            member_ids: members.iter().map(|member| (*member).into()).collect(),
        });
        self.change_conversation(conversation, actor, body).await
    }

    /// Adds a member, or changes a present member's role. The empty role: `member` for a new one, else unchanged.
    ///
    /// # Errors
    /// `invalid_argument`, `not_found`, `not_a_member`, `permission_denied`, `conversation_full`, `last_owner`,
    /// `rate_limited`, `unavailable`.
    pub async fn put_member(
        &self,
        actor: UserId,
        conversation: ConversationId,
        user: UserId,
        role: wire::Role,
    ) -> Result<client::Conversation, ApiError> {
        self.require_users(&[user]).await?;
        let body = wire::PutMember { user_id: Some(user.into()), role: role.into() };
        self.change_conversation(conversation, actor, Body::PutMember(body)).await
    }

    /// Removes a member; oneself: leaves.
    ///
    /// # Errors
    /// `not_found`, `not_a_member`, `permission_denied`, `rate_limited`, `unavailable`.
    pub async fn remove_member(
        &self,
        actor: UserId,
        conversation: ConversationId,
        user: UserId,
    ) -> Result<client::Conversation, ApiError> {
        let body = wire::RemoveMember { user_id: Some(user.into()) };
        self.change_conversation(conversation, actor, Body::RemoveMember(body)).await
    }

    /// Gives a group another title.
    ///
    /// # Errors
    /// `invalid_argument`, `not_found`, `not_a_member`, `permission_denied`, `rate_limited`, `unavailable`.
    pub async fn rename_conversation(
        &self,
        actor: UserId,
        conversation: ConversationId,
        title: String,
    ) -> Result<client::Conversation, ApiError> {
        validate::title(&title)?;
        let body = wire::RenameConversation { title };
        self.change_conversation(conversation, actor, Body::RenameConversation(body)).await
    }

    /// Ends a group, for everybody.
    ///
    /// # Errors
    /// `not_found`, `not_a_member`, `permission_denied`, `rate_limited`, `unavailable`.
    pub async fn delete_conversation(
        &self,
        actor: UserId,
        conversation: ConversationId,
    ) -> Result<client::Conversation, ApiError> {
        let body = Body::DeleteConversation(wire::DeleteConversation {});
        self.change_conversation(conversation, actor, body).await
    }

    async fn change_conversation(
        &self,
        conversation: ConversationId,
        actor: UserId,
        body: Body,
    ) -> Result<client::Conversation, ApiError> {
        let state = match self.decide(conversation, actor, body).await? {
            verdict::Outcome::Conversation(state) => state,
            other => return Err(unexpected(&other)),
        };
        let member = state.members.first().cloned().unwrap_or_default();
        if !state.deleted && member.role() != wire::Role::Unspecified {
            // With its last message and its peer. The change is made, so a view that is not there is no failure of it.
            if let Ok(conversation) = self.reads.conversation_for(actor, conversation).await {
                return Ok(conversation);
            }
        }
        Ok(convert::conversation_from_state(&state, &member, self.clock.now_ms()))
    }
}

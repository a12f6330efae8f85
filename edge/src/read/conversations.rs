//! Conversations as they stand for one user, lists of them, and their members.

use std::{collections::BinaryHeap, ops::Bound};

use bytes::Bytes;
use tidings_schemas::{
    client,
    ids::{ConversationId, UserId},
    limits::{CONVERSATIONS_LISTED_MAX, VIEW_SCAN_ROWS_MAX},
    views::{Key, Scan, Table, ViewError},
    wire,
};

use super::{Reads, convert, decode, page_token::AfterConversation};
use crate::error::{ApiError, ErrorCode};

/// Rows that one call to the views fetches when a whole list is looked through.
const CHUNK_ROWS: usize = 1_000;

impl Reads {
    /// A conversation as it stands for one of its members.
    ///
    /// # Errors
    /// `not_found`: there is none, or it was deleted. `not_a_member`. `unavailable`: the views do not answer.
    pub async fn conversation_for(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<client::Conversation, ApiError> {
        self.wait_conversation(conversation).await?;
        let found = self.conversations_as_they_stand(user, &[conversation]).await?.pop();
        let found = found.ok_or_else(|| ApiError::internal("the views answered with too few rows"))?;
        let Some(found) = found else {
            // Never a member, or there is none: that tells them apart.
            self.membership(user, conversation).await?;
            return Err(no_such_conversation());
        };
        check_member(Some((found.deleted, found.role.is_empty())))?;
        Ok(found)
    }

    /// A user's conversations, newest activity first, at most `limit` of them, and where the next page begins.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer.
    pub async fn conversations(
        &self,
        user: UserId,
        after: Option<AfterConversation>,
        limit: usize,
    ) -> Result<client::ListConversationsResponse, ApiError> {
        self.freshness.wait_all_events(self.views.as_ref()).await?;
        let (page, has_more) = self.newest_conversations(user, after, limit).await?;
        let ids: Vec<ConversationId> = page.iter().map(|place| place.conversation).collect();
        let conversations = self.conversations_as_they_stand(user, &ids).await?;
        let next = page.last().filter(|_| has_more).map(|place| place.encode());
        Ok(client::ListConversationsResponse {
            conversations: conversations
                .into_iter()
                .flatten()
                .filter(|conversation| !conversation.deleted && !conversation.role.is_empty())
                .collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }

    /// The members of a conversation, by when they joined, for one of them.
    ///
    /// # Errors
    /// `not_found`: there is no such conversation, or it was deleted. `not_a_member`. `unavailable`.
    pub async fn members(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<client::ListMembersResponse, ApiError> {
        self.wait_conversation(conversation).await?;
        self.membership(user, conversation).await?;
        let mut rows = self.member_rows(conversation).await?;
        rows.sort_by_key(|(id, row)| (row.joined_seq, *id));
        let ids: Vec<UserId> = rows.iter().map(|(id, _)| *id).collect();
        let members = rows
            .into_iter()
            .zip(self.users(&ids).await?)
            .map(|((id, row), profile)| {
                let profile = profile.unwrap_or_default();
                client::Member {
                    user_id: id.to_string(),
                    role: convert::role_name(row.role()).to_owned(),
                    joined_seq: row.joined_seq,
                    delivered_seq: row.delivered_seq,
                    seen_seq: row.seen_seq,
                    username: profile.username,
                    display_name: profile.display_name,
                }
            })
            .collect();
        Ok(client::ListMembersResponse { members })
    }

    /// The ids of a conversation's present members.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer.
    pub async fn member_ids(&self, conversation: ConversationId) -> Result<Vec<UserId>, ApiError> {
        self.wait_conversation(conversation).await?;
        Ok(self.member_rows(conversation).await?.into_iter().map(|(id, _)| id).collect())
    }

    /// The rows of a conversation and of one of its present members.
    pub(super) async fn membership(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<(wire::ConversationRow, wire::MemberRow), ApiError> {
        let keys = [Key::conversation(conversation), Key::member(conversation, user)];
        let mut values = self.views.get(&keys).await?.into_iter();
        let row: Option<wire::ConversationRow> = decode(values.next().flatten(), "conversation")?;
        let member: Option<wire::MemberRow> = decode(values.next().flatten(), "member")?;
        let member = member.filter(|member| member.role() != wire::Role::Unspecified);
        check_member(row.as_ref().map(|row| (row.deleted, member.is_none())))?;
        row.zip(member).ok_or_else(no_such_conversation)
    }

    /// Conversations as they stand for a user, present member or not, in the order asked for, with two calls to the
    /// views for all of them. `None`: there never was one, or the user was never in it.
    pub(super) async fn conversations_as_they_stand(
        &self,
        user: UserId,
        conversations: &[ConversationId],
    ) -> Result<Vec<Option<client::Conversation>>, ApiError> {
        let keys: Vec<Key> = conversations
            .iter()
            .flat_map(|conversation| [Key::conversation(*conversation), Key::member(*conversation, user)])
            .collect();
        let mut values = self.views.get(&keys).await?.into_iter();
        let mut rows = Vec::with_capacity(conversations.len());
        for _ in conversations {
            let row: Option<wire::ConversationRow> = decode(values.next().flatten(), "conversation")?;
            let member: Option<wire::MemberRow> = decode(values.next().flatten(), "member")?;
            rows.push(row.zip(member));
        }

        // The newest entry of each, and of a direct chat the other's cursors.
        let mut keys = Vec::with_capacity(conversations.len() * 2);
        let mut peers = Vec::new();
        for (conversation, rows) in conversations.iter().zip(&rows) {
            let Some((row, member)) = rows else { continue };
            if shows_last_message(row, member) {
                keys.push(Key::entry(*conversation, row.last_seq));
            }
            if let Some(peer) = peer_of(row, user) {
                keys.push(Key::member(*conversation, peer));
                peers.push(peer);
            }
        }
        let mut values = self.views.get(&keys).await?.into_iter();
        let mut peers = self.users(&peers).await?.into_iter();

        let mut found = Vec::with_capacity(conversations.len());
        for rows in rows {
            let Some((row, member)) = rows else {
                found.push(None);
                continue;
            };
            let last_message = if shows_last_message(&row, &member) {
                let entry: Option<wire::EntryRow> = decode(values.next().flatten(), "entry")?;
                entry.map(|row| message_of(&row)).transpose()?.flatten()
            } else {
                None
            };
            let has_peer = peer_of(&row, user).is_some();
            let other: Option<wire::MemberRow> =
                if has_peer { decode(values.next().flatten(), "member")? } else { None };
            let mut conversation = convert::conversation_from_rows(&row, &member, other.as_ref());
            conversation.last_message = last_message;
            conversation.peer = if has_peer { peers.next().flatten() } else { None };
            found.push(Some(conversation));
        }
        Ok(found)
    }

    /// The places of a user's newest conversations after a place, and whether there are more.
    async fn newest_conversations(
        &self,
        user: UserId,
        after: Option<AfterConversation>,
        limit: usize,
    ) -> Result<(Vec<AfterConversation>, bool), ApiError> {
        // The smallest of those kept is on top, so that memory is bounded by the page and not by the user's list.
        let mut newest: BinaryHeap<std::cmp::Reverse<AfterConversation>> = BinaryHeap::new();
        let mut has_more = false;
        let mut from = Bound::Unbounded;
        let mut looked_through = 0;
        loop {
            let scan = Scan {
                table: Table::UserConversations,
                owner: user.0,
                from,
                to: Bound::Unbounded,
                reverse: false,
                limit: CHUNK_ROWS,
            };
            let marks = self.views.scan(scan).await?;
            let ids: Vec<ConversationId> = marks.iter().filter_map(|(sort, _)| conversation_of(sort)).collect();
            let keys: Vec<Key> = ids.iter().map(|id| Key::conversation(*id)).collect();
            for (conversation, value) in ids.into_iter().zip(self.views.get(&keys).await?) {
                let row: Option<wire::ConversationRow> = decode(value, "conversation")?;
                let Some(row) = row.filter(|row| !row.deleted) else { continue };
                let place = AfterConversation { last_activity_at_ms: row.last_activity_at_ms, conversation };
                if after.is_some_and(|after| place >= after) {
                    continue;
                }
                newest.push(std::cmp::Reverse(place));
                if newest.len() > limit {
                    newest.pop();
                    has_more = true;
                }
            }
            looked_through += marks.len();
            match marks.last() {
                Some((last, _)) if marks.len() == CHUNK_ROWS && looked_through < CONVERSATIONS_LISTED_MAX => {
                    from = Bound::Excluded(last.clone());
                }
                Some(_) if marks.len() == CHUNK_ROWS => {
                    tracing::warn!(looked_through, "a user has more conversations than are listed");
                    break;
                }
                _ => break,
            }
        }
        let page = newest.into_sorted_vec().into_iter().map(|std::cmp::Reverse(place)| place).collect();
        Ok((page, has_more))
    }

    /// The rows of a conversation's present members.
    async fn member_rows(&self, conversation: ConversationId) -> Result<Vec<(UserId, wire::MemberRow)>, ApiError> {
        let mut members = Vec::new();
        let mut from = Bound::Unbounded;
        loop {
            let scan = Scan {
                table: Table::Members,
                owner: conversation.0,
                from,
                to: Bound::Unbounded,
                reverse: false,
                limit: VIEW_SCAN_ROWS_MAX,
            };
            let rows = self.views.scan(scan).await?;
            let (count, last) = (rows.len(), rows.last().map(|(sort, _)| sort.clone()));
            for (sort, value) in rows {
                let id = <[u8; 16]>::try_from(sort.as_ref())
                    .map_err(|_| ViewError::Corrupt("the key of a member".to_owned()))?;
                let row = decode::<wire::MemberRow>(Some(value), "member")?;
                if let Some(row) = row.filter(|row| row.role() != wire::Role::Unspecified) {
                    members.push((UserId::from_bytes(id), row));
                }
            }
            match last {
                Some(last) if count == VIEW_SCAN_ROWS_MAX => from = Bound::Excluded(last),
                _ => return Ok(members),
            }
        }
    }
}

/// `found`: whether the conversation is deleted, and whether the user is not in it.
fn check_member(found: Option<(bool, bool)>) -> Result<(), ApiError> {
    match found {
        None | Some((true, _)) => Err(no_such_conversation()),
        Some((false, true)) => Err(not_a_member()),
        Some((false, false)) => Ok(()),
    }
}

fn no_such_conversation() -> ApiError {
    ApiError::not_found("there is no such conversation: check conversation_id")
}

fn not_a_member() -> ApiError {
    ApiError::new(ErrorCode::NotAMember, "you are not a member of this conversation: ask its owner to add you")
}

/// Only a present member sees the newest entry: it may have been said after the other left.
fn shows_last_message(row: &wire::ConversationRow, member: &wire::MemberRow) -> bool {
    !row.deleted && member.role() != wire::Role::Unspecified && row.last_seq > 0
}

/// The other user of a direct chat.
fn peer_of(row: &wire::ConversationRow, user: UserId) -> Option<UserId> {
    if row.kind() != wire::ConversationKind::Direct {
        return None;
    }
    row.direct_user_ids.iter().map(|id| UserId::from(*id)).find(|id| *id != user)
}

fn conversation_of(sort: &Bytes) -> Option<ConversationId> {
    <[u8; 16]>::try_from(sort.as_ref()).ok().map(ConversationId::from_bytes)
}

/// The message of a row, where the row has an entry.
pub(super) fn message_of(row: &wire::EntryRow) -> Result<Option<client::Message>, ApiError> {
    let message = row.entry.as_ref().map(|entry| convert::message(entry, row.change.as_ref())).transpose();
    message.map_err(|error| ViewError::Corrupt(format!("entry: {error}")).into())
}

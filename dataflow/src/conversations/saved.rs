//! What a state of the stage holds, for who looks at it from outside: the past, for instance. `state` writes and reads the
//! rows; nothing here decides anything.

use bytes::Buf;
use tidings_schemas::{
    ids::{ConversationId, UserId},
    wire::{ConversationKind, Role},
};

use super::{
    registry::Conversation,
    state::{CLOCK, CONVERSATION, conversation_key, read_conversation},
};
use crate::shard::{SavedState, UnreadableRow};

/// One member of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedMember {
    /// Who.
    pub user: UserId,
    /// In which role.
    pub role: Role,
    /// The `seq` of the entry that brought the member in.
    pub joined_seq: u64,
    /// Delivered up to here.
    pub delivered_seq: u64,
    /// Seen up to here.
    pub seen_seq: u64,
}

/// A conversation. One that was deleted has no members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedConversation {
    /// Which.
    pub id: ConversationId,
    /// Direct or a group.
    pub kind: ConversationKind,
    /// Empty for a direct chat.
    pub title: String,
    /// The newest entry.
    pub last_seq: u64,
    /// In milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// Whether it was deleted, or everybody has left.
    pub deleted: bool,
    /// Ascending by user.
    pub members: Vec<SavedMember>,
}

impl From<Conversation> for SavedConversation {
    fn from(found: Conversation) -> Self {
        let member = |member: &super::registry::Member| SavedMember {
            user: member.user,
            role: member.role,
            joined_seq: member.joined_seq,
            delivered_seq: member.delivered,
            seen_seq: member.seen,
        };
        Self {
            id: found.id,
            kind: found.kind(),
            last_seq: found.last_seq,
            created_at_ms: found.created_at_ms,
            deleted: found.deleted,
            members: found.members.iter().map(member).collect(),
            title: found.title.into(),
        }
    }
}

impl SavedConversation {
    /// What is known of somebody who is a member.
    pub fn member(&self, user: UserId) -> Option<&SavedMember> {
        self.members.iter().find(|member| member.user == user)
    }
}

/// A conversation of a state, if it is there.
///
/// # Errors
/// Its row cannot be read.
pub fn conversation(state: &SavedState, id: ConversationId) -> Result<Option<SavedConversation>, UnreadableRow> {
    state.rows.get(&conversation_key(id)[..]).map(|value| read(id, value)).transpose()
}

/// All conversations of a state, in no order.
pub fn conversations(state: &SavedState) -> impl Iterator<Item = Result<SavedConversation, UnreadableRow>> {
    state.rows.iter().filter_map(|(key, value)| {
        let (table, id) = key.split_first()?;
        let id = || id.try_into().map_err(|_| UnreadableRow { what: "a conversation's key" });
        (*table == CONVERSATION).then(|| read(ConversationId::from_bytes(id()?), value))
    })
}

/// The shard's clock in a state, in milliseconds since the Unix epoch: `None` before the first event.
///
/// # Errors
/// Its row cannot be read.
pub fn clock_ms(state: &SavedState) -> Result<Option<i64>, UnreadableRow> {
    let read = |value: &bytes::Bytes| value.clone().try_get_i64().map_err(|_| UnreadableRow { what: "the clock" });
    Ok(state.rows.get(&[CLOCK][..]).map(read).transpose()?.filter(|clock_ms| *clock_ms != 0))
}

fn read(id: ConversationId, value: &[u8]) -> Result<SavedConversation, UnreadableRow> {
    read_conversation(id, value).map(Into::into).ok_or(UnreadableRow { what: "a conversation" })
}

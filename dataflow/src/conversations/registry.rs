//! Every conversation of the shard: who is in it, with which role, how far it is numbered, and each member's cursors.
//! As of the newest event taken in; what the dataflow keeps is derived from it.

use std::ops::{Deref, DerefMut};

use hashbrown::HashTable;
use tidings_schemas::{
    ids::{ConversationId, UserId},
    wire::{self, ConversationKind, Role},
};

use super::fanout::Slot;

/// One member of one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) user: UserId,
    pub(super) role: Role,
    /// The `seq` of the entry that brought the member in. The cursors start just before it; in a direct chat at it.
    pub(super) joined_seq: u64,
    pub(super) delivered: u64,
    pub(super) seen: u64,
}

impl Member {
    /// A member whom the entry `seq` brings in.
    pub(super) fn joined(user: UserId, role: Role, seq: u64) -> Self {
        Self { user, role, joined_seq: seq, delivered: seq - 1, seen: seq - 1 }
    }

    /// The one with whom somebody opens a direct chat. Nobody has said anything yet, so nothing is unread: unlike being
    /// added to a group, which is news, the creation counts as seen.
    pub(super) fn peer(user: UserId) -> Self {
        Self { user, role: Role::Member, joined_seq: 1, delivered: 1, seen: 1 }
    }

    pub(super) fn manages(&self) -> bool {
        matches!(self.role, Role::Admin | Role::Owner)
    }
}

/// The members of a conversation, ascending by user. The two of a direct chat, most of all there are, stand in the
/// conversation itself: one look in memory less for each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Members {
    Two([Member; 2]),
    Any(Vec<Member>),
}

impl Members {
    /// From members in any order.
    pub(super) fn new(mut members: Vec<Member>) -> Self {
        members.sort_unstable_by_key(|member| member.user);
        match members[..] {
            [one, other] => Self::Two([one, other]),
            _ => {
                members.shrink_to_fit();
                Self::Any(members)
            }
        }
    }

    /// As a list that can grow and shrink.
    pub(super) fn list(&mut self) -> &mut Vec<Member> {
        if let Self::Two(two) = self {
            *self = Self::Any(two.to_vec());
        }
        match self {
            Self::Any(members) => members,
            Self::Two(_) => unreachable!("made a list just before"),
        }
    }
}

impl Deref for Members {
    type Target = [Member];
    fn deref(&self) -> &[Member] {
        match self {
            Self::Two(members) => members,
            Self::Any(members) => members,
        }
    }
}

impl DerefMut for Members {
    fn deref_mut(&mut self) -> &mut [Member] {
        match self {
            Self::Two(members) => members,
            Self::Any(members) => members,
        }
    }
}

/// A conversation. One that was deleted stays behind without members, so that its id is never used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) id: ConversationId,
    pub(super) direct: bool,
    pub(super) deleted: bool,
    pub(super) title: Box<str>,
    pub(super) last_seq: u64,
    pub(super) created_at_ms: i64,
    pub(super) members: Members,
    /// It changed since the last snapshot.
    pub(super) is_changed: bool,
}

impl Conversation {
    /// A conversation before its first entry.
    pub(super) fn new(
        id: ConversationId,
        direct: bool,
        title: Box<str>,
        created_at_ms: i64,
        members: Vec<Member>,
    ) -> Self {
        let members = Members::new(members);
        Self { id, direct, deleted: false, title, last_seq: 0, created_at_ms, members, is_changed: false }
    }

    pub(super) fn position(&self, user: UserId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&user, |member| member.user)
    }

    pub(super) fn member(&self, user: UserId) -> Option<&Member> {
        self.position(user).ok().map(|position| &self.members[position])
    }

    pub(super) fn member_mut(&mut self, user: UserId) -> Option<&mut Member> {
        self.position(user).ok().map(|position| &mut self.members[position])
    }

    pub(super) fn kind(&self) -> ConversationKind {
        if self.direct { ConversationKind::Direct } else { ConversationKind::Group }
    }

    /// The other one of a direct chat.
    pub(super) fn other(&self, user: UserId) -> Option<&Member> {
        self.members.iter().find(|member| member.user != user)
    }

    /// As it stands, without members.
    pub(super) fn state(&self) -> wire::ConversationState {
        wire::ConversationState {
            conversation_id: Some(self.id.into()),
            kind: self.kind().into(),
            title: self.title.to_string(),
            member_count: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            last_seq: self.last_seq,
            deleted: self.deleted,
            created_at_ms: self.created_at_ms,
            members: Vec::new(),
            direct_user_ids: if self.direct {
                self.members.iter().map(|member| member.user.into()).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// All conversations, by id and by slot.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: Vec<Conversation>,
    by_id: HashTable<Slot>,
    /// Those that changed since the last snapshot, each once.
    changed: Vec<Slot>,
}

/// Ids are random or SHA-256, and only edges make them: their own bits are hash enough.
#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
fn hash(id: ConversationId) -> u64 {
    (id.0 as u64) ^ ((id.0 >> 64) as u64).rotate_left(32)
}

impl Registry {
    pub(super) fn find(&self, id: ConversationId) -> Option<Slot> {
        self.by_id.find(hash(id), |slot| self.slots[*slot as usize].id == id).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> &Conversation {
        &self.slots[slot as usize]
    }

    /// A conversation, to change it: it will be in the next snapshot.
    pub(super) fn change(&mut self, slot: Slot) -> &mut Conversation {
        let conversation = &mut self.slots[slot as usize];
        if !conversation.is_changed {
            conversation.is_changed = true;
            self.changed.push(slot);
        }
        conversation
    }

    /// Adds a conversation whose id is new.
    #[allow(clippy::cast_possible_truncation, reason = "four billion conversations would not fit in memory")]
    pub(super) fn add(&mut self, conversation: Conversation) -> Slot {
        let slot = self.slots.len() as Slot;
        let id = conversation.id;
        self.slots.push(conversation);
        let slots = &self.slots;
        self.by_id.insert_unique(hash(id), slot, |slot| hash(slots[*slot as usize].id));
        slot
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (Slot, &Conversation)> {
        (0..).zip(&self.slots)
    }

    /// Those that changed since the last call; forgets that they did.
    pub(super) fn take_changed(&mut self, mut each: impl FnMut(&Conversation)) {
        // In the order in which they stand in memory.
        self.changed.sort_unstable();
        for slot in self.changed.drain(..) {
            let conversation = &mut self.slots[slot as usize];
            conversation.is_changed = false;
            each(conversation);
        }
    }

    pub(super) fn reserve(&mut self, conversations: usize) {
        self.slots.reserve(conversations);
        let slots = &self.slots;
        self.by_id.reserve(conversations, |slot| hash(slots[*slot as usize].id));
    }
}

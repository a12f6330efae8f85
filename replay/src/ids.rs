//! Ids mapped from a seed: the same id always to the same other one, in every field that holds one, so that history can be
//! loaded elsewhere without saying whose it was.

use std::collections::HashMap;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, Value};
use sha2::{Digest, Sha256};
use tidings_schemas::ids::{ConversationId, UserId, pack_user_ids, unpack_user_ids};
use tidings_schemas::limits::REPLAY_DIRECT_CHATS_MAX;

use crate::decode::id_of;
use crate::fields::{IdKind, Meaning, meaning};

/// Maps ids.
pub struct IdMap {
    seed: String,
    /// A direct chat's id is made from its two users', so it must be known who they are.
    direct: HashMap<u128, u128>,
}

/// There are more direct chats than this keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {REPLAY_DIRECT_CHATS_MAX} direct chats to map (keep the ids, or take a shorter range)")]
pub struct TooManyDirectChats;

impl IdMap {
    /// A map by this seed. Who knows the seed and an id can tell the other one.
    pub fn new(seed: impl Into<String>) -> Self {
        Self { seed: seed.into(), direct: HashMap::new() }
    }

    fn bits(&self, kind: &str, of: &[u8]) -> u128 {
        let mut hasher = Sha256::new();
        hasher.update(b"tidings id map v1");
        for part in [self.seed.as_bytes(), kind.as_bytes(), of] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        digest.iter().take(16).fold(0, |bits, byte| (bits << 8) | u128::from(*byte))
    }

    /// Another user's id.
    pub fn user(&self, user: UserId) -> UserId {
        UserId::random(self.bits("user", &user.to_bytes()))
    }

    /// Another conversation's id. That of a direct chat is again the one of its two users, if they are known.
    pub fn conversation(&self, conversation: ConversationId) -> ConversationId {
        let known = self.direct.get(&conversation.0).copied().map(ConversationId);
        known.unwrap_or_else(|| ConversationId::random(self.bits("conversation", &conversation.to_bytes())))
    }

    /// Another message's id, with the same moment in it: messages sort as they did.
    pub fn message(&self, message: u128) -> u128 {
        const MOMENT: u128 = 0xffff_ffff_ffff << 80;
        let bits = UserId::random(self.bits("message", &message.to_be_bytes())).0;
        (message & MOMENT) | (bits & !MOMENT)
    }

    /// Another user name.
    pub fn username(&self, username: &str) -> String {
        format!("user-{:012x}", self.bits("username", username.as_bytes()) >> 80)
    }

    /// Who talks in a direct chat.
    ///
    /// # Errors
    /// There are too many of them.
    pub fn learn_direct(&mut self, one: UserId, other: UserId) -> Result<(), TooManyDirectChats> {
        let before = ConversationId::direct(one, other);
        if self.direct.contains_key(&before.0) {
            return Ok(());
        }
        if self.direct.len() >= REPLAY_DIRECT_CHATS_MAX {
            return Err(TooManyDirectChats);
        }
        let after = ConversationId::direct(self.user(one), self.user(other));
        self.direct.insert(before.0, after.0);
        Ok(())
    }

    /// Maps every id and user name in a message, also in messages in it. `event`: maps the bytes of an event in it.
    pub fn map(&self, message: &mut DynamicMessage, event: &dyn Fn(&Bytes) -> Bytes) {
        for (field, value) in message.fields_mut() {
            let meaning = meaning(&field);
            self.map_value(meaning, field.name(), value, event);
        }
    }

    fn map_value(&self, meaning: Meaning, name: &str, value: &mut Value, event: &dyn Fn(&Bytes) -> Bytes) {
        match (meaning, value) {
            (_, Value::List(values)) => {
                for value in values {
                    self.map_value(meaning, name, value, event);
                }
            }
            (Meaning::Id(kind), Value::Message(id)) => {
                let before = id_of(id);
                let after = match kind {
                    IdKind::User => self.user(UserId(before)).0,
                    IdKind::Conversation => self.conversation(ConversationId(before)).0,
                    IdKind::Message => self.message(before),
                };
                set_id(id, after);
            }
            (Meaning::Message, Value::Message(message)) => self.map(message, event),
            (Meaning::PackedUsers, Value::Bytes(packed)) => {
                let mut users: Vec<UserId> = unpack_user_ids(packed).map(|user| self.user(user)).collect();
                users.sort_unstable();
                *packed = pack_user_ids(users);
            }
            (Meaning::Event, Value::Bytes(bytes)) => *bytes = event(bytes),
            (Meaning::Username, Value::String(username)) => *username = self.username(username),
            (Meaning::Plain, Value::String(text)) if name == "display_name" => *text = self.username(text),
            _ => {}
        }
    }
}

/// Puts an id into a `tidings.v1.Id`.
#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
pub fn set_id(id: &mut DynamicMessage, bits: u128) {
    id.set_field_by_number(1, Value::U64((bits >> 64) as u64));
    id.set_field_by_number(2, Value::U64(bits as u64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_chat_stays_the_one_of_its_two_users() {
        let mut map = IdMap::new("seed");
        let (ann, bob) = (UserId::random(1), UserId::random(2));
        map.learn_direct(bob, ann).unwrap();
        let mapped = map.conversation(ConversationId::direct(ann, bob));
        assert_eq!(mapped, ConversationId::direct(map.user(ann), map.user(bob)));
        assert_ne!(mapped, ConversationId::direct(ann, bob));
    }

    #[test]
    fn another_seed_maps_otherwise_and_messages_keep_their_moment() {
        let (one, other) = (IdMap::new("one"), IdMap::new("other"));
        assert_eq!(one.user(UserId(1)), one.user(UserId(1)));
        assert_ne!(one.user(UserId(1)), other.user(UserId(1)));
        let message = tidings_schemas::ids::MessageId::from_position(1_700_000_000_000, 1, 2);
        assert_eq!(one.message(message.0) >> 80, message.0 >> 80);
        assert_ne!(one.message(message.0), message.0);
        assert_ne!(one.username("ann"), one.username("bob"));
    }
}

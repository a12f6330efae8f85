//! Identifiers. Each is 128 bits and a UUID in text; a distinct type each, so that one is never taken for another.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::wire;

/// A text that is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not a UUID such as 0190163d-8694-739b-aea5-966c26f8ad91")]
pub struct ParseIdError {
    what: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub u128);

        impl $name {
            /// The 16 bytes of the id, big-endian: its form in keys and in packed lists.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// From the 16 big-endian bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_u128(self.0).hyphenated().fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                // Only the one form that is printed: an id is opaque, so two spellings of one would be two ids.
                if text.len() != 36 {
                    return Err(ParseIdError { what: $what });
                }
                Uuid::try_parse(text).map(|uuid| Self(uuid.as_u128())).map_err(|_| ParseIdError { what: $what })
            }
        }

        impl From<wire::Id> for $name {
            fn from(id: wire::Id) -> Self {
                Self((u128::from(id.high) << 64) | u128::from(id.low))
            }
        }

        impl From<$name> for wire::Id {
            #[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
            fn from(id: $name) -> Self {
                Self { high: (id.0 >> 64) as u64, low: id.0 as u64 }
            }
        }
    };
}

id!(
    /// A user.
    UserId, "user_id"
);
id!(
    /// A conversation: random for a group, made from the two users for a direct chat.
    ConversationId, "conversation_id"
);
id!(
    /// A message, made from its event's time and place in the log, so it is unique and sorts by time.
    MessageId, "message_id"
);

/// A session: one connection that said `hello`. Random; its text form is 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl UserId {
    /// A new user's id: a version-4 UUID from 128 random bits.
    pub fn random(bits: u128) -> Self {
        Self(version(bits, 4))
    }
}

impl ConversationId {
    /// A new group's id: a version-4 UUID from 128 random bits.
    pub fn random(bits: u128) -> Self {
        Self(version(bits, 4))
    }

    /// The id of the direct chat of two users, in either order: a second one between them is the first one.
    pub fn direct(one: UserId, other: UserId) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        let mut hasher = Sha256::new();
        hasher.update(b"tidings direct chat v1");
        hasher.update(first.to_bytes());
        hasher.update(second.to_bytes());
        let digest = hasher.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(version(u128::from_be_bytes(bytes), 8))
    }
}

impl MessageId {
    /// The id of the message whose `events` record has this time, partition and offset: a version-8 UUID of 48 bits of
    /// milliseconds, 16 bits of partition and 58 bits of offset.
    pub fn from_position(at_ms: i64, partition: u32, offset: u64) -> Self {
        let time = u128::from(at_ms.max(0).unsigned_abs()) & 0xffff_ffff_ffff;
        let partition = u128::from(partition) & 0xffff;
        let offset = u128::from(offset) & ((1 << 58) - 1);
        let bits = (time << 80) | ((partition >> 4) << 64) | ((partition & 0xf) << 58) | offset;
        Self(version(bits, 8))
    }

    /// The partition and offset of the message's event, if this id was made by [`MessageId::from_position`].
    #[allow(clippy::cast_possible_truncation, reason = "masked to fit")]
    pub fn position(self) -> Option<(u32, u64)> {
        if (self.0 >> 76) & 0xf != 8 {
            return None;
        }
        let partition = (((self.0 >> 64) & 0xfff) << 4) | ((self.0 >> 58) & 0xf);
        Some((partition as u32, (self.0 & ((1 << 58) - 1)) as u64))
    }
}

/// Sets a UUID's version and variant bits.
fn version(bits: u128, version: u128) -> u128 {
    (bits & !(0xf << 76) & !(0b11 << 62)) | (version << 76) | (0b10 << 62)
}

/// Packs user ids as 16 big-endian bytes each, the form of recipients in records.
pub fn pack_user_ids(users: impl IntoIterator<Item = UserId>) -> Bytes {
    users.into_iter().flat_map(UserId::to_bytes).collect::<Vec<u8>>().into()
}

/// The users in a packed list. Trailing bytes that make no whole id are ignored.
pub fn unpack_user_ids(packed: &[u8]) -> impl ExactSizeIterator<Item = UserId> + '_ {
    packed.as_chunks::<16>().0.iter().map(|bytes| UserId::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_holds_its_position_and_sorts_by_time() {
        let id = MessageId::from_position(1_700_000_000_000, 0xabcd, 123_456_789_012);
        assert_eq!(id.position(), Some((0xabcd, 123_456_789_012)));
        assert!(MessageId::from_position(1_700_000_000_001, 0, 0) > id);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(Uuid::from_u128(id.0).get_version_num(), 8);
    }

    #[test]
    fn a_direct_chat_has_one_id_in_either_order() {
        let (ann, bob) = (UserId::random(1), UserId::random(2));
        assert_eq!(ConversationId::direct(ann, bob), ConversationId::direct(bob, ann));
        assert_ne!(ConversationId::direct(ann, bob), ConversationId::direct(ann, ann));
    }

    #[test]
    fn only_the_printed_form_is_an_id() {
        assert!("0190163d8694739baea5966c26f8ad91".parse::<UserId>().is_err());
        assert!("".parse::<UserId>().is_err());
        assert!("zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz".parse::<ConversationId>().is_err());
    }

    #[test]
    fn packed_users_come_back() {
        let users = [UserId(1), UserId(u128::MAX)];
        assert!(unpack_user_ids(&pack_user_ids(users)).eq(users));
        assert_eq!(UserId::from(wire::Id::from(users[1])), users[1]);
    }
}

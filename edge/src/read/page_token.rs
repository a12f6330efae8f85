//! The opaque places in a list that `next_page_token` carries. They hold positions and no rights: a made-up one shows
//! nothing that its maker may not see.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tidings_schemas::ids::ConversationId;

use crate::error::ApiError;

/// After a conversation in the order of newest activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AfterConversation {
    /// Its last activity, in milliseconds since the Unix epoch.
    pub last_activity_at_ms: i64,
    /// The conversation: it decides between those of one moment.
    pub conversation: ConversationId,
}

/// Where a list of messages goes on, and in which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessagesPlace {
    /// Below this seq, newest first.
    Before(u64),
    /// Above this seq, oldest first.
    After(u64),
}

impl AfterConversation {
    /// The token's text.
    pub fn encode(self) -> String {
        let mut bytes = Vec::with_capacity(25);
        bytes.push(b'c');
        bytes.extend(self.last_activity_at_ms.to_be_bytes());
        bytes.extend(self.conversation.to_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From the token's text.
    ///
    /// # Errors
    /// `invalid_argument`: it is none of ours.
    pub fn decode(token: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| unknown())?;
        let (tag, rest) = bytes.split_first().ok_or_else(unknown)?;
        let (activity, conversation) = rest.split_first_chunk::<8>().ok_or_else(unknown)?;
        let conversation: [u8; 16] = conversation.try_into().map_err(|_| unknown())?;
        if *tag != b'c' {
            return Err(unknown());
        }
        Ok(Self {
            last_activity_at_ms: i64::from_be_bytes(*activity),
            conversation: ConversationId::from_bytes(conversation),
        })
    }
}

impl MessagesPlace {
    /// The token's text.
    pub fn encode(self) -> String {
        let (tag, seq) = match self {
            Self::Before(seq) => (b'b', seq),
            Self::After(seq) => (b'a', seq),
        };
        let mut bytes = vec![tag];
        bytes.extend(seq.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From the token's text.
    ///
    /// # Errors
    /// `invalid_argument`: it is none of ours.
    pub fn decode(token: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| unknown())?;
        let (tag, seq) = bytes.split_first().ok_or_else(unknown)?;
        let seq = u64::from_be_bytes(seq.try_into().map_err(|_| unknown())?);
        match tag {
            b'b' => Ok(Self::Before(seq)),
            b'a' => Ok(Self::After(seq)),
            _ => Err(unknown()),
        }
    }
}

fn unknown() -> ApiError {
    ApiError::invalid_argument("page_token is not one that this list gave: leave it out to start from the beginning")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let place = AfterConversation { last_activity_at_ms: -5, conversation: ConversationId(7) };
        assert_eq!(AfterConversation::decode(&place.encode()), Ok(place));
        for place in [MessagesPlace::Before(3), MessagesPlace::After(u64::MAX)] {
            assert_eq!(MessagesPlace::decode(&place.encode()), Ok(place));
        }
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let other = AfterConversation { last_activity_at_ms: 1, conversation: ConversationId(7) }.encode();
        for token in ["", "?", "AAAA", "é", other.as_str(), &"A".repeat(1000)] {
            assert!(MessagesPlace::decode(token).is_err(), "{token}");
        }
        for token in ["", "Yg", &MessagesPlace::Before(3).encode()] {
            assert!(AfterConversation::decode(token).is_err(), "{token}");
        }
    }
}

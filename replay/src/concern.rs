//! Whom a record concerns: by the ids in it, wherever they stand, in lists of recipients and in events in records, too.

use prost_reflect::{DynamicMessage, Value};
use tidings_ingest::StoredRecord;
use tidings_schemas::ids::{ConversationId, UserId, unpack_user_ids};
use tidings_schemas::topics::Topic;

use crate::decode::{id_of, key_of, message};
use crate::fields::{IdKind, Meaning, meaning};

/// What a record must be about. All that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concern {
    /// The record's key, in the form in which it is shown.
    pub key: Option<String>,
    /// A conversation that it names.
    pub conversation: Option<ConversationId>,
    /// A user whom it names, as an actor, a member, a recipient or otherwise.
    pub user: Option<UserId>,
}

impl Concern {
    /// Whether any record will do.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it holds. A record that cannot be decoded names nobody.
    pub fn holds(&self, topic: Topic, record: &StoredRecord) -> bool {
        if self.key.as_ref().is_some_and(|asked| *asked != key_of(topic, &record.key)) {
            return false;
        }
        if self.conversation.is_none() && self.user.is_none() {
            return true;
        }
        let Ok(message) = message(topic, &record.value) else { return false };
        let names = |kind, id: u128| names(&message, kind, id);
        self.conversation.is_none_or(|id| names(IdKind::Conversation, id.0))
            && self.user.is_none_or(|id| names(IdKind::User, id.0))
    }
}

/// Whether a message has this id somewhere.
pub fn names(message: &DynamicMessage, kind: IdKind, id: u128) -> bool {
    message.fields().any(|(field, value)| value_names(meaning(&field), value, kind, id))
}

fn value_names(meaning: Meaning, value: &Value, kind: IdKind, id: u128) -> bool {
    match (meaning, value) {
        (_, Value::List(values)) => values.iter().any(|value| value_names(meaning, value, kind, id)),
        (Meaning::Id(found), Value::Message(message)) => found == kind && id_of(message) == id,
        (Meaning::Message, Value::Message(message)) => names(message, kind, id),
        (Meaning::PackedUsers, Value::Bytes(packed)) => {
            kind == IdKind::User && unpack_user_ids(packed).any(|user| user.0 == id)
        }
        (Meaning::Heartbeats, Value::Bytes(packed)) => {
            kind == IdKind::User && packed.as_chunks::<24>().0.iter().any(|both| both[..16] == id.to_be_bytes())
        }
        (Meaning::Event, Value::Bytes(event)) => {
            crate::decode::message(Topic::Events, event).is_ok_and(|event| names(&event, kind, id))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;
    use tidings_schemas::{ids::pack_user_ids, wire};

    use super::*;

    fn record(value: Vec<u8>) -> StoredRecord {
        StoredRecord { offset: 0, timestamp_ms: 0, key: Bytes::from_static(b"k"), value: value.into() }
    }

    #[test]
    fn recipients_are_concerned() {
        let item = wire::InboxItem {
            user_ids: pack_user_ids([UserId(8), UserId(9)]),
            offsets: vec![1, 2],
            reference: Some(wire::inbox_item::Reference::Conversation(ConversationId(5).into())),
        };
        let record = record(wire::InboxRecord { items: vec![item], ..Default::default() }.encode_to_vec());
        let holds = |concern: Concern| concern.holds(Topic::Inbox, &record);
        assert!(holds(Concern { user: Some(UserId(9)), ..Concern::default() }));
        assert!(!holds(Concern { user: Some(UserId(5)), ..Concern::default() }), "5 is a conversation");
        assert!(holds(Concern { conversation: Some(ConversationId(5)), ..Concern::default() }));
        let both = Concern { conversation: Some(ConversationId(5)), user: Some(UserId(7)), key: None };
        assert!(!holds(both), "all must hold");
        assert!(holds(Concern { key: Some("k".to_owned()), ..Concern::default() }));
        assert!(!holds(Concern { key: Some("K".to_owned()), ..Concern::default() }));
    }
}

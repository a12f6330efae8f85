//! What the fields of the schemas mean, by type and name: which hold ids and of what, times, secrets, records in records.
//! A test holds this against every field that the schemas have.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use tidings_schemas::topics::Topic;

/// Whose id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdKind {
    /// A conversation's.
    Conversation,
    /// A user's.
    User,
    /// A message's.
    Message,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// An id, or a list of them.
    Id(IdKind),
    /// Users, 16 bytes each.
    PackedUsers,
    /// Users and sessions, 24 bytes each.
    Heartbeats,
    /// A record of `events`, byte for byte.
    Event,
    /// A password's hash: shown to nobody.
    Secret,
    /// Milliseconds since the Unix epoch.
    Time,
    /// A session's id, or a list of them: 16 hexadecimal digits.
    Session,
    /// A user's name.
    Username,
    /// Bytes that are shown as hexadecimal digits.
    Digest,
    /// A message, or a list of them, to look into.
    Message,
    /// Whatever its type says.
    Plain,
}

/// The name of the messages that are ids.
pub const ID: &str = "tidings.v1.Id";

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(tidings_schemas::DESCRIPTORS).ok());

/// The message that the records of a topic hold.
pub fn record_type(topic: Topic) -> Option<MessageDescriptor> {
    let name = match topic {
        Topic::Events => "Event",
        Topic::Signals => "SignalRecord",
        Topic::Timeline => "TimelineRecord",
        Topic::Fanout => "FanoutRecord",
        Topic::Inbox => "InboxRecord",
        Topic::Deliveries => "DeliveryRecord",
        Topic::Notifications => "NotificationRecord",
        Topic::Directory => "DirectoryRecord",
        Topic::Leases => "LeaseRecord",
    };
    message_type(name)
}

/// A message of the schemas, by its name.
pub fn message_type(name: &str) -> Option<MessageDescriptor> {
    POOL.as_ref()?.get_message_by_name(&format!("tidings.v1.{name}"))
}

/// What a field holds.
pub fn meaning(field: &FieldDescriptor) -> Meaning {
    match (field.kind(), field.name()) {
        (Kind::Message(message), name) if message.full_name() == ID => Meaning::Id(match name {
            "conversation_id" | "conversation" => IdKind::Conversation,
            "message_id" | "reply_to" => IdKind::Message,
            _ => IdKind::User,
        }),
        (Kind::Message(_), _) => Meaning::Message,
        (Kind::Bytes, "user_ids" | "recipient_ids") => Meaning::PackedUsers,
        (Kind::Bytes, "heartbeats") => Meaning::Heartbeats,
        (Kind::Bytes, "event") => Meaning::Event,
        (Kind::Bytes, "token_id") => Meaning::Digest,
        (Kind::String, "password_hash") => Meaning::Secret,
        (Kind::String, "username") => Meaning::Username,
        (Kind::Int64, name) if name.ends_with("at_ms") || name.ends_with("_from_ms") => Meaning::Time,
        (Kind::Fixed64, "session_id" | "session_ids") => Meaning::Session,
        _ => Meaning::Plain,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every message that a record can hold.
    fn reachable() -> Vec<MessageDescriptor> {
        let mut seen = BTreeSet::new();
        let mut found: Vec<MessageDescriptor> =
            Topic::ALL.into_iter().map(|topic| record_type(topic).unwrap()).collect();
        let mut at = 0;
        while at < found.len() {
            let fields: Vec<FieldDescriptor> = found[at].fields().collect();
            for field in fields {
                if let Kind::Message(message) = field.kind()
                    && seen.insert(message.full_name().to_owned())
                {
                    found.push(message);
                }
            }
            at += 1;
        }
        found
    }

    fn fields_that(is_it: impl Fn(&FieldDescriptor) -> bool) -> BTreeSet<String> {
        reachable()
            .iter()
            .filter(|message| message.full_name() != ID)
            .flat_map(|message| message.fields().collect::<Vec<_>>())
            .filter(|field| is_it(field))
            .map(|field| field.name().to_owned())
            .collect()
    }

    /// A new field shows here, and somebody says what it is before anything is mapped or shown wrongly.
    #[test]
    fn every_id_and_every_bytes_field_is_known() {
        let of_users = fields_that(|field| meaning(field) == Meaning::Id(IdKind::User));
        let known = ["actor_id", "by", "direct_user_ids", "member_ids", "sender_id", "user_id"];
        assert_eq!(of_users, known.map(str::to_owned).into());
        let bytes = fields_that(|field| field.kind() == Kind::Bytes);
        let known = ["ciphertext", "event", "header", "heartbeats", "recipient_ids", "token_id", "user_ids"];
        assert_eq!(bytes, known.map(str::to_owned).into());
        let times = fields_that(|field| field.kind() == Kind::Int64 && meaning(field) != Meaning::Time);
        assert_eq!(times, BTreeSet::new(), "all signed numbers are times");
        assert_eq!(fields_that(|field| meaning(field) == Meaning::Secret), ["password_hash".to_owned()].into());
    }
}

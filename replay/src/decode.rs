//! A record as JSON: the schemas' names, ids as UUIDs, times in RFC 3339 (without the `_ms` of the name), 64-bit numbers as
//! strings, as protobuf's JSON mapping has it; packed lists of users as lists, events in records as messages. What is not
//! set is left out, and so is a password's hash.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use tidings_ingest::StoredRecord;
use tidings_schemas::ids::{ConversationId, SessionId, UserId, unpack_user_ids};
use tidings_schemas::time::Timestamp;
use tidings_schemas::topics::Topic;

use crate::fields::{Meaning, meaning, record_type};

/// A record whose value is not what its topic's schema says.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the value is no record of {} ({error})", topic.name())]
pub struct DecodeError {
    topic: Topic,
    error: String,
}

/// A record's value by its topic's schema. Fields that the schema does not know are kept.
///
/// # Errors
/// The bytes are not such a message.
pub fn message(topic: Topic, value: &Bytes) -> Result<DynamicMessage, DecodeError> {
    let descriptor = record_type(topic)
        .ok_or_else(|| DecodeError { topic, error: "this program has no schema for it".to_owned() })?;
    DynamicMessage::decode(descriptor, value.clone()).map_err(|error| DecodeError { topic, error: error.to_string() })
}

/// A record's key as text. Those of `directory` are names, also names of sixteen letters.
pub fn key_of(topic: Topic, key: &[u8]) -> String {
    if topic == Topic::Directory { text(key) } else { self::key(key) }
}

/// A key as text: a UUID where it is as long as an id, else as [`text`].
pub fn key(key: &[u8]) -> String {
    match key.first_chunk::<16>().filter(|_| key.len() == 16) {
        Some(id) => UserId::from_bytes(*id).to_string(),
        None => text(key),
    }
}

/// Bytes as the text that they are, else as `0x` and hexadecimal digits.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("0x{}", hex(bytes)),
    }
}

/// A moment in RFC 3339, in UTC, with milliseconds; the number, where it is no moment of our calendar.
pub fn time(moment_ms: i64) -> String {
    let mut text = String::new();
    match write!(text, "{}", Timestamp::from_millis(moment_ms)) {
        Ok(()) => text,
        Err(_) => moment_ms.to_string(),
    }
}

/// One line of JSON: topic, partition, offset, timestamp, key and the decoded value. A value that the schema cannot decode
/// stands as base64 in `raw`, with the reason in `error`. Fields that the schema does not know are named in
/// `unknown_fields`.
pub fn json(topic: Topic, partition: u32, record: &StoredRecord) -> String {
    let mut out = String::with_capacity(256 + 2 * record.value.len());
    let (offset, timestamp) = (record.offset, time(record.timestamp_ms));
    let name = topic.name();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        r#"{{"topic":"{name}","partition":{partition},"offset":{offset},"timestamp":"{timestamp}","key":{}"#,
        quoted(&key_of(topic, &record.key))
    );
    match message(topic, &record.value) {
        Ok(message) => {
            out.push_str(",\"value\":");
            let mut unknown = Vec::new();
            write_message(&mut out, &message, "", &mut unknown);
            if !unknown.is_empty() {
                let names: Vec<String> = unknown.iter().map(|name| quoted(name)).collect();
                let _ = write!(out, ",\"unknown_fields\":[{}]", names.join(","));
            }
        }
        Err(error) => {
            let (error, raw) = (quoted(&error.to_string()), STANDARD.encode(&record.value));
            let _ = write!(out, r#","error":{error},"raw":"{raw}""#);
        }
    }
    out.push('}');
    out
}

/// The value alone, for people: its JSON, or why there is none.
pub fn value(topic: Topic, record: &StoredRecord) -> String {
    match message(topic, &record.value) {
        Ok(message) => {
            let mut out = String::new();
            write_message(&mut out, &message, "", &mut Vec::new());
            out
        }
        Err(error) => format!("{error}: 0x{}", hex(&record.value)),
    }
}

/// A message as JSON; adds the paths of fields that the schema does not know.
pub fn write_message(out: &mut String, message: &DynamicMessage, path: &str, unknown: &mut Vec<String>) {
    out.push('{');
    let mut first = true;
    for (field, value) in message.fields() {
        let meaning = meaning(&field);
        if meaning == Meaning::Secret {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        let name = field.name();
        let shown = if meaning == Meaning::Time { name.strip_suffix("_ms").unwrap_or(name) } else { name };
        let _ = write!(out, "\"{shown}\":");
        write_value(out, &field, meaning, value, &format!("{path}{name}."), unknown);
    }
    out.push('}');
    unknown.extend(message.unknown_fields().map(|field| format!("{path}{}", field.number())));
}

fn write_value(
    out: &mut String,
    field: &FieldDescriptor,
    meaning: Meaning,
    value: &Value,
    path: &str,
    unknown: &mut Vec<String>,
) {
    let _ = match (value, meaning) {
        (Value::List(values), _) => {
            write_list(out, values.iter(), |out, value| write_value(out, field, meaning, value, path, unknown));
            Ok(())
        }
        (Value::Message(id), Meaning::Id(_)) => write!(out, "\"{}\"", ConversationId(id_of(id))),
        (Value::Message(message), _) => {
            write_message(out, message, path, unknown);
            Ok(())
        }
        (Value::Bytes(bytes), Meaning::PackedUsers) => {
            write_list(out, unpack_user_ids(bytes), |out, user| {
                let _ = write!(out, "\"{user}\"");
            });
            Ok(())
        }
        (Value::Bytes(bytes), Meaning::Heartbeats) => {
            write_list(out, bytes.as_chunks::<24>().0.iter(), |out, both| {
                let (user, session) = both.split_at(16);
                let user = user.first_chunk().copied().map(UserId::from_bytes).unwrap_or_default();
                let session = SessionId(session.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default());
                let _ = write!(out, r#"{{"user_id":"{user}","session_id":"{session}"}}"#);
            });
            Ok(())
        }
        (Value::Bytes(bytes), Meaning::Event) => {
            match message(Topic::Events, bytes) {
                Ok(event) => write_message(out, &event, path, unknown),
                Err(_) => {
                    let _ = write!(out, "\"{}\"", STANDARD.encode(bytes));
                }
            }
            Ok(())
        }
        (Value::Bytes(bytes), Meaning::Digest) => write!(out, "\"{}\"", hex(bytes)),
        (Value::Bytes(bytes), _) => write!(out, "\"{}\"", STANDARD.encode(bytes)),
        (Value::I64(moment), Meaning::Time) => write!(out, "\"{}\"", time(*moment)),
        (Value::U64(session), Meaning::Session) => write!(out, "\"{}\"", SessionId(*session)),
        (Value::String(text), _) => write!(out, "{}", quoted(text)),
        (Value::Bool(value), _) => write!(out, "{value}"),
        (Value::I32(value), _) => write!(out, "{value}"),
        (Value::U32(value), _) => write!(out, "{value}"),
        (Value::I64(value), _) => write!(out, "\"{value}\""),
        (Value::U64(value), _) => write!(out, "\"{value}\""),
        (Value::F32(value), _) => write!(out, "{value}"),
        (Value::F64(value), _) => write!(out, "{value}"),
        (Value::EnumNumber(number), _) => {
            let kind = field.kind();
            match kind.as_enum().and_then(|values| values.get_value(*number)) {
                Some(named) => write!(out, "\"{}\"", named.name()),
                // Of a newer program.
                None => write!(out, "{number}"),
            }
        }
        // The schemas have none.
        (Value::Map(_), _) => write!(out, "null"),
    };
}

fn write_list<T>(out: &mut String, items: impl Iterator<Item = T>, mut write_item: impl FnMut(&mut String, T)) {
    out.push('[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_item(out, item);
    }
    out.push(']');
}

/// Sets a field of milliseconds.
pub fn set_time(message: &mut DynamicMessage, field: &str, moment_ms: i64) {
    if let Some(value) = message.get_field_by_name_mut(field) {
        *value = Value::I64(moment_ms);
    }
}

/// The message as bytes, with the fields that the schema does not know.
pub fn encode(message: &DynamicMessage) -> Bytes {
    prost::Message::encode_to_vec(message).into()
}

/// The id that a `tidings.v1.Id` holds.
pub fn id_of(id: &DynamicMessage) -> u128 {
    let half = |number| id.get_field_by_number(number).and_then(|value| value.as_u64()).unwrap_or(0);
    (u128::from(half(1)) << 64) | u128::from(half(2))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tidings_schemas::{ids::pack_user_ids, wire};

    use super::*;

    fn record(key: impl Into<Bytes>, value: Vec<u8>) -> StoredRecord {
        StoredRecord { offset: 7, timestamp_ms: 1_767_225_600_007, key: key.into(), value: value.into() }
    }

    fn parsed(topic: Topic, record: &StoredRecord) -> serde_json::Value {
        serde_json::from_str(&json(topic, 3, record)).unwrap()
    }

    #[test]
    fn an_event_is_shown_with_uuids_and_times() {
        let event = wire::Event {
            conversation_id: Some(ConversationId(1).into()),
            actor_id: Some(UserId(2).into()),
            stamped_at_ms: 1_767_225_600_000,
            body: Some(wire::event::Body::Send(wire::Send { text: "a \"word\"\n".to_owned(), ..Default::default() })),
            ..Default::default()
        };
        let shown = parsed(Topic::Events, &record(ConversationId(1).to_bytes().to_vec(), event.encode_to_vec()));
        let expected = serde_json::json!({
            "topic": "events.v1", "partition": 3, "offset": 7, "timestamp": "2026-01-01T00:00:00.007Z",
            "key": "00000000-0000-0000-0000-000000000001",
            "value": {
                "conversation_id": "00000000-0000-0000-0000-000000000001",
                "actor_id": "00000000-0000-0000-0000-000000000002",
                "stamped_at": "2026-01-01T00:00:00.000Z",
                "send": { "text": "a \"word\"\n" },
            },
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn packed_users_and_events_in_records_are_opened() {
        let event = wire::Event { stamped_at_ms: 1, ..Default::default() }.encode_to_vec();
        let entry =
            wire::Entry { seq: 5, content: Some(wire::entry::Content::Event(event.into())), ..Default::default() };
        let item = wire::FanoutItem {
            user_ids: pack_user_ids([UserId(1), UserId(2)]),
            content: Some(wire::fanout_item::Content::Entry(entry)),
        };
        let fanout = wire::FanoutRecord { items: vec![item], ..Default::default() };
        let shown = parsed(Topic::Fanout, &record("", fanout.encode_to_vec()));
        let item = &shown["value"]["items"][0];
        assert_eq!(item["user_ids"][1], "00000000-0000-0000-0000-000000000002");
        assert_eq!(item["entry"]["seq"], "5");
        assert_eq!(item["entry"]["event"]["stamped_at"], "1970-01-01T00:00:00.001Z");
    }

    #[test]
    fn a_password_hash_is_never_shown() {
        let user = wire::RegisterUser {
            username: "ann".to_owned(),
            password_hash: "$argon2id$secret".to_owned(),
            ..Default::default()
        };
        let body = Some(wire::directory_record::Body::RegisterUser(user));
        let registered = wire::DirectoryRecord { stamped_at_ms: 1, body }.encode_to_vec();
        let changed = wire::ChangePassword { password_hash: "$argon2id$secret".to_owned(), ..Default::default() };
        let body = Some(wire::directory_record::Body::ChangePassword(changed));
        let changed = wire::DirectoryRecord { stamped_at_ms: 1, body }.encode_to_vec();
        for value in [registered, changed] {
            let record = record("ann", value);
            let shown = json(Topic::Directory, 0, &record) + &self::value(Topic::Directory, &record);
            assert!(!shown.contains("argon2") && shown.contains("stamped_at"), "{shown}");
        }
    }

    #[test]
    fn what_the_schema_does_not_know_is_said() {
        let shown = parsed(Topic::Events, &record(vec![0, 1], vec![0xff, 0xff]));
        assert_eq!((&shown["raw"], &shown["key"]), (&"//8=".into(), &"0x0001".into()));
        assert!(shown["error"].as_str().unwrap().contains("no record of events.v1"), "{shown}");
        // Field 99, a varint; and an event of another kind than is known.
        let shown = parsed(Topic::Events, &record("", vec![0x98, 0x06, 0x01]));
        assert_eq!(shown["unknown_fields"], serde_json::json!(["99"]));
    }
}

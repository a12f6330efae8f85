//! The shard's state as rows, for checkpoints. The first byte of a key names the table; numbers are big-endian in keys
//! and protobuf varints in values.
//!
//! | key | value |
//! |---|---|
//! | `c` conversation (16) | kind and deleted (1), last_seq, created_at_ms (8), title (length, bytes), members: user (16), role (1), joined_seq, delivered, seen |
//! | `d` number of the first entry (8) | entries of the dedupe window: key (16), message id (16), seq (8), at_ms (8) |
//! | `D` | the number of the oldest entry of the window |
//! | `x` number (8) | a deletion: conversation (16), seq (8), at_ms (8) |
//! | `t` | the shard's clock (8) |

use bytes::{Buf, BufMut};
use prost::encoding::{decode_varint, encode_varint};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    wire::Role,
};

use super::{
    admission::Admission,
    dedupe::{DedupeEntry, DedupeKey},
    deletions::Deletion,
    registry::{Conversation, Member},
};
use crate::shard::{SavedState, SnapshotKind, StateSink};

/// Entries of the dedupe window in one row.
const ROW_ENTRIES: u64 = 1_024;
const ENTRY_BYTES: usize = 48;

/// The tables that are looked into from outside.
pub(super) const CONVERSATION: u8 = b'c';
/// See [`CONVERSATION`].
pub(super) const CLOCK: u8 = b't';

const DIRECT: u8 = 1;
const DELETED: u8 = 2;

/// What of the dedupe window has been written: the numbers of the first entries of the rows, oldest first.
#[derive(Debug, Default)]
pub(super) struct SavedRows {
    dedupe_rows: std::collections::VecDeque<u64>,
    dedupe_end: u64,
}

/// Writes the state.
pub(super) fn save(admission: &mut Admission, saved: &mut SavedRows, kind: SnapshotKind, sink: &mut dyn StateSink) {
    sink.put(&[CLOCK], &admission.clock_ms.to_be_bytes());
    let mut value = Vec::new();
    let mut put_conversation = |conversation: &Conversation| {
        value.clear();
        write_conversation(conversation, &mut value);
        sink.put(&conversation_key(conversation.id), &value);
    };
    admission.registry.take_changed(|conversation| {
        if kind == SnapshotKind::Changes {
            put_conversation(conversation);
        }
    });
    if kind == SnapshotKind::Full {
        admission.registry.all().for_each(|(_, conversation)| put_conversation(conversation));
    }
    save_dedupe(admission, saved, kind, sink);
    save_deletions(admission, kind, sink);
}

fn save_dedupe(admission: &Admission, saved: &mut SavedRows, kind: SnapshotKind, sink: &mut dyn StateSink) {
    let range = admission.dedupe.range();
    sink.put(b"D", &range.start.to_be_bytes());
    if kind == SnapshotKind::Full {
        *saved = SavedRows { dedupe_end: range.start, ..SavedRows::default() };
    }
    // A row goes when all its entries have left the window.
    while saved.dedupe_rows.get(1).copied().or(Some(saved.dedupe_end)).is_some_and(|end| end <= range.start)
        && let Some(first) = saved.dedupe_rows.pop_front()
    {
        sink.delete(&key(b'd', &first.to_be_bytes()));
    }
    let mut first = saved.dedupe_end.max(range.start);
    while first < range.end {
        let end = (first + ROW_ENTRIES).min(range.end);
        let mut value = Vec::with_capacity(ENTRY_BYTES * usize::try_from(end - first).unwrap_or_default());
        for number in first..end {
            let entry = admission.dedupe.get(number);
            value.put_slice(&entry.key.to_bytes());
            value.put_slice(&entry.message_id.to_bytes());
            value.put_u64(entry.seq);
            value.put_i64(entry.at_ms);
        }
        sink.put(&key(b'd', &first.to_be_bytes()), &value);
        saved.dedupe_rows.push_back(first);
        first = end;
    }
    saved.dedupe_end = range.end;
}

fn save_deletions(admission: &mut Admission, kind: SnapshotKind, sink: &mut dyn StateSink) {
    let unsaved_from = if kind == SnapshotKind::Full { 0 } else { admission.deletions.unsaved_from };
    for deletion in admission.deletions.all().filter(|deletion| deletion.number >= unsaved_from) {
        let mut value = Vec::with_capacity(32);
        value.put_slice(&admission.registry.get(deletion.slot).id.to_bytes());
        value.put_u64(deletion.seq);
        value.put_i64(deletion.at_ms);
        sink.put(&key(b'x', &deletion.number.to_be_bytes()), &value);
    }
    for number in admission.deletions.take_forgotten() {
        sink.delete(&key(b'x', &number.to_be_bytes()));
    }
    admission.deletions.unsaved_from = admission.deletions.next_number();
}

/// Fills an empty admission from a saved state. An error says what cannot be read.
pub(super) fn restore(
    admission: &mut Admission,
    saved: &mut SavedRows,
    state: &SavedState,
) -> Result<(), &'static str> {
    let mut dedupe_rows = Vec::new();
    let mut deletions = Vec::new();
    let conversations = state.rows.keys().filter(|key| key.first() == Some(&CONVERSATION)).count();
    admission.registry.reserve(conversations);
    for (row_key, value) in &state.rows {
        let (table, key) = row_key.split_first().ok_or("an empty key")?;
        match *table {
            CLOCK => admission.clock_ms = value.clone().try_get_i64().map_err(|_| "the clock")?,
            CONVERSATION => {
                let id = ConversationId::from_bytes(key.try_into().map_err(|_| "a conversation's key")?);
                admission.registry.add(read_conversation(id, value).ok_or("a conversation")?);
            }
            b'd' => dedupe_rows.push((u64::from_be_bytes(key.try_into().map_err(|_| "a dedupe row's key")?), value)),
            b'D' => {}
            b'x' => deletions.push((u64::from_be_bytes(key.try_into().map_err(|_| "a deletion's key")?), value)),
            _ => return Err("a row of an unknown table"),
        }
    }
    let oldest = match state.rows.get(&b"D"[..]) {
        Some(value) => value.clone().try_get_u64().map_err(|_| "the start of the dedupe window")?,
        None => 0,
    };
    dedupe_rows.sort_unstable_by_key(|(first, _)| *first);
    restore_dedupe(admission, saved, oldest, &dedupe_rows)?;
    deletions.sort_unstable_by_key(|(number, _)| *number);
    for (number, value) in deletions {
        let mut value = &value[..];
        if value.len() != 32 {
            return Err("a deletion");
        }
        let id = ConversationId(value.get_u128());
        let (seq, at_ms) = (value.get_u64(), value.get_i64());
        let slot = admission.registry.find(id).ok_or("a deletion in an unknown conversation")?;
        admission.deletions.push(Deletion { number, at_ms, slot, seq });
    }
    admission.deletions.unsaved_from = admission.deletions.next_number();
    Ok(())
}

fn restore_dedupe(
    admission: &mut Admission,
    saved: &mut SavedRows,
    oldest: u64,
    rows: &[(u64, &bytes::Bytes)],
) -> Result<(), &'static str> {
    admission.dedupe.restore_at(oldest);
    let mut next = rows.first().map_or(oldest, |(first, _)| *first);
    for (first, value) in rows {
        let (entries, rest) = value.as_chunks::<ENTRY_BYTES>();
        if *first != next || !rest.is_empty() {
            return Err("the dedupe window has a hole");
        }
        saved.dedupe_rows.push_back(*first);
        for entry in entries {
            let mut entry = &entry[..];
            let mut key = [0; 16];
            entry.copy_to_slice(&mut key);
            let message_id = MessageId(entry.get_u128());
            let (seq, at_ms) = (entry.get_u64(), entry.get_i64());
            if next >= oldest {
                admission.dedupe.restore(DedupeEntry { key: DedupeKey::from_bytes(key), message_id, seq, at_ms });
            }
            next += 1;
        }
    }
    saved.dedupe_end = next.max(oldest);
    Ok(())
}

/// The key of a conversation's row.
pub(super) fn conversation_key(id: ConversationId) -> Vec<u8> {
    key(CONVERSATION, &id.to_bytes())
}

fn key<const N: usize>(table: u8, rest: &[u8; N]) -> Vec<u8> {
    let mut key = Vec::with_capacity(N + 1);
    key.push(table);
    key.extend_from_slice(rest);
    key
}

fn write_conversation(conversation: &Conversation, into: &mut Vec<u8>) {
    into.put_u8(if conversation.direct { DIRECT } else { 0 } | if conversation.deleted { DELETED } else { 0 });
    encode_varint(conversation.last_seq, into);
    into.put_i64(conversation.created_at_ms);
    encode_varint(conversation.title.len() as u64, into);
    into.put_slice(conversation.title.as_bytes());
    for member in conversation.members.iter() {
        into.put_u128(member.user.0);
        into.put_u8(match member.role {
            Role::Unspecified => 0,
            Role::Member => 1,
            Role::Admin => 2,
            Role::Owner => 3,
        });
        encode_varint(member.joined_seq, into);
        encode_varint(member.delivered, into);
        encode_varint(member.seen, into);
    }
}

/// `None` when it cannot be read.
pub(super) fn read_conversation(id: ConversationId, mut value: &[u8]) -> Option<Conversation> {
    let flags = value.try_get_u8().ok()?;
    let last_seq = decode_varint(&mut value).ok()?;
    let created_at_ms = value.try_get_i64().ok()?;
    let title_length = usize::try_from(decode_varint(&mut value).ok()?).ok()?;
    let title = std::str::from_utf8(value.split_off(..title_length)?).ok()?.into();
    // A member takes at least 20 bytes.
    let mut members = Vec::with_capacity(if flags & DIRECT != 0 { 2 } else { value.len() / 20 });
    while !value.is_empty() {
        members.push(Member {
            user: UserId(value.try_get_u128().ok()?),
            role: Role::try_from(i32::from(value.try_get_u8().ok()?)).ok()?,
            joined_seq: decode_varint(&mut value).ok()?,
            delivered: decode_varint(&mut value).ok()?,
            seen: decode_varint(&mut value).ok()?,
        });
    }
    let conversation = Conversation::new(id, flags & DIRECT != 0, title, created_at_ms, members);
    Some(Conversation { deleted: flags & DELETED != 0, last_seq, ..conversation })
}

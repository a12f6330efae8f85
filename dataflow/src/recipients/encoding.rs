//! Writes the stage's outgoing records straight into one buffer a run, copying contents as they stand.
//!
//! Byte for byte what protobuf's canonical encoding (fields ascending, defaults left out) gives: the model, which goes
//! through the generated types, is compared with it.

use std::ops::Range;

use prost::encoding::encoded_len_varint;

use super::{
    batch::Item,
    frames::{Content, FanoutFrame, Field, FieldValue, Fields, widen},
};

const VARINT: u8 = 0;
const DELIMITED: u8 = 2;

/// The first byte of a field: numbers below 16 fit in one.
const fn key(number: u8, wire_type: u8) -> u8 {
    number << 3 | wire_type
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_uint(out: &mut Vec<u8>, number: u8, value: u64) {
    if value != 0 {
        out.push(key(number, VARINT));
        put_varint(out, value);
    }
}

fn uint_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value) }
}

/// The key and the length of a length-delimited field; its content follows.
fn put_head(out: &mut Vec<u8>, number: u8, len: usize) {
    out.push(key(number, DELIMITED));
    put_varint(out, len as u64);
}

/// A whole length-delimited field whose content is `len` bytes long.
fn delimited_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// A list that is left out when it is empty.
fn list_len(len: usize) -> usize {
    if len == 0 { 0 } else { delimited_len(len) }
}

fn source_len(partition: u32, offset: u64) -> usize {
    uint_len(partition.into()) + uint_len(offset)
}

fn put_source(out: &mut Vec<u8>, partition: u32, offset: u64) {
    put_head(out, 1, source_len(partition, offset));
    put_uint(out, 1, partition.into());
    put_uint(out, 2, offset);
}

/// A record of `fanout` with what its items were given.
#[derive(Clone, Copy)]
pub(super) struct FanoutView<'a> {
    /// The record as it stands in the log.
    pub(super) value: &'a [u8],
    pub(super) frame: &'a FanoutFrame,
    pub(super) items: &'a [Item],
    /// The offsets of all recipients of the run; an item knows which are its own.
    pub(super) offsets: &'a [u64],
    /// The record's position in `fanout`.
    pub(super) partition: u32,
    pub(super) offset: u64,
}

impl<'a> FanoutView<'a> {
    fn slice(&self, range: &Range<u32>) -> &'a [u8] {
        &self.value[widen(range)]
    }

    fn source_body(&self) -> &'a [u8] {
        self.slice(&self.frame.source_body)
    }
}

/// Writes the inbox record of a fan-out record.
pub(super) fn put_inbox_record(out: &mut Vec<u8>, view: FanoutView<'_>) {
    put_source(out, view.partition, view.offset);
    put_uint(out, 2, view.frame.at_ms.cast_unsigned());
    for item in view.items {
        let offsets = &view.offsets[item.recipients.clone()];
        let packed_len = offsets.iter().map(|offset| encoded_len_varint(*offset)).sum();
        let reference_len = match item.frame.content {
            Content::Entry | Content::Change => delimited_len(item.entry.reference_len()),
            Content::Receipt => delimited_len(item.frame.body.len()),
            Content::Conversation => delimited_len(item.conversation.len()),
            Content::Unknown => 0,
        };
        put_head(out, 3, list_len(item.frame.users.len()) + list_len(packed_len) + reference_len);
        put_recipients(out, view.slice(&item.frame.users), packed_len, offsets);
        match item.frame.content {
            Content::Entry | Content::Change => {
                let number = if item.frame.content == Content::Entry { 10 } else { 11 };
                put_head(out, number, item.entry.reference_len());
                for field in &item.entry.reference {
                    out.extend_from_slice(view.slice(field));
                }
            }
            Content::Receipt => {
                put_head(out, 12, item.frame.body.len());
                out.extend_from_slice(view.slice(&item.frame.body));
            }
            Content::Conversation => {
                put_head(out, 13, item.conversation.len());
                out.extend_from_slice(view.slice(&item.conversation));
            }
            Content::Unknown => {}
        }
    }
    put_head(out, 4, view.source_body().len());
    out.extend_from_slice(view.source_body());
}

/// The fields 1 and 2 of an inbox item and of a push item: users, and their offsets.
fn put_recipients(out: &mut Vec<u8>, users: &[u8], packed_len: usize, offsets: &[u64]) {
    if users.is_empty() {
        return;
    }
    put_head(out, 1, users.len());
    out.extend_from_slice(users);
    put_head(out, 2, packed_len);
    for offset in offsets {
        put_varint(out, *offset);
    }
}

/// What a push to one edge takes of one item.
struct Share {
    /// The item's place in the record.
    item: usize,
    /// Which of the edge's picks are the item's.
    picks: Range<usize>,
    packed_len: usize,
    /// The content's field, rewritten when its list of members must be cut to the share's.
    rewritten: Option<Vec<u8>>,
    len: usize,
}

/// Writes the push of a fan-out record to one edge. `picks` are the recipients there, ascending, as they are counted
/// in the run; not empty.
pub(super) fn put_push_record(out: &mut Vec<u8>, view: FanoutView<'_>, picks: &[u32]) {
    let mut shares = Vec::with_capacity(view.items.len());
    let mut taken = 0;
    let mut push_len = 0;
    for (index, item) in view.items.iter().enumerate() {
        let count = picks[taken..].partition_point(|pick| (*pick as usize) < item.recipients.end);
        if count == 0 {
            continue;
        }
        let own = taken..taken + count;
        taken += count;
        let packed_len = picks[own.clone()].iter().map(|pick| encoded_len_varint(view.offsets[*pick as usize])).sum();
        let is_cut = count < item.recipients.len() && item.frame.content == Content::Conversation;
        let rewritten = is_cut.then(|| cut_members(view, item, &picks[own.clone()]));
        let content_len = rewritten.as_ref().map_or(item.frame.whole.len(), Vec::len);
        let len = list_len(16 * count) + list_len(packed_len) + content_len;
        push_len += delimited_len(len);
        shares.push(Share { item: index, picks: own, packed_len, rewritten, len });
    }
    let at_ms = view.frame.at_ms.cast_unsigned();
    push_len += uint_len(at_ms) + delimited_len(view.source_body().len());

    out.reserve(push_len + 32);
    put_source(out, view.partition, view.offset);
    put_head(out, 11, push_len);
    for share in shares {
        let item = &view.items[share.item];
        let picks = &picks[share.picks];
        put_head(out, 1, share.len);
        if picks.len() == item.recipients.len() {
            let offsets = &view.offsets[item.recipients.clone()];
            put_recipients(out, view.slice(&item.frame.users), share.packed_len, offsets);
        } else {
            put_head(out, 1, 16 * picks.len());
            put_picked_users(out, view, item, picks);
            put_head(out, 2, share.packed_len);
            for pick in picks {
                put_varint(out, view.offsets[*pick as usize]);
            }
        }
        match share.rewritten {
            Some(content) => out.extend_from_slice(&content),
            None => out.extend_from_slice(view.slice(&item.frame.whole)),
        }
    }
    put_uint(out, 2, at_ms);
    put_head(out, 3, view.source_body().len());
    out.extend_from_slice(view.source_body());
}

/// A conversation's state, as the content field of a push item, with the states of only those members who are picked:
/// they stand in the order of the item's users.
fn cut_members(view: FanoutView<'_>, item: &Item, picks: &[u32]) -> Vec<u8> {
    const MEMBERS: u32 = 8;
    let mut body = Vec::with_capacity(item.frame.body.len());
    let mut place = 0;
    let mut fields = Fields::new(view.value, widen(&item.frame.body));
    // The body was read through when the record was taken in.
    while let Ok(Some(Field { number, value, whole })) = fields.next() {
        if number == MEMBERS && matches!(value, FieldValue::Delimited(_)) {
            let recipient = item.recipients.start + place;
            place += 1;
            if !picks.iter().any(|pick| *pick as usize == recipient) {
                continue;
            }
        }
        body.extend_from_slice(&view.value[whole]);
    }
    let mut field = Vec::with_capacity(body.len() + 8);
    put_head(&mut field, 13, body.len());
    field.extend_from_slice(&body);
    field
}

/// Writes the work of notifying the recipients of messages who have no session: those in `absent`, ascending, as they
/// are counted in the run; not empty.
pub(super) fn put_notification_record(out: &mut Vec<u8>, view: FanoutView<'_>, absent: &[u32]) {
    put_source(out, view.partition, view.offset);
    put_uint(out, 2, view.frame.at_ms.cast_unsigned());
    let mut rest = absent;
    for item in view.items {
        let count = rest.partition_point(|recipient| (*recipient as usize) < item.recipients.end);
        let (own, others) = rest.split_at(count);
        rest = others;
        if own.is_empty() {
            continue;
        }
        let sender_len = item.entry.sender.as_ref().map_or(0, |sender| delimited_len(sender.len()));
        put_head(out, 3, list_len(16 * count) + delimited_len(item.entry.reference_len()) + sender_len);
        put_head(out, 1, 16 * count);
        put_picked_users(out, view, item, own);
        put_head(out, 2, item.entry.reference_len());
        for field in &item.entry.reference {
            out.extend_from_slice(view.slice(field));
        }
        if let Some(sender) = &item.entry.sender {
            put_head(out, 3, sender.len());
            out.extend_from_slice(view.slice(sender));
        }
    }
}

/// The ids of some of an item's recipients, packed.
fn put_picked_users(out: &mut Vec<u8>, view: FanoutView<'_>, item: &Item, picks: &[u32]) {
    let users = view.slice(&item.frame.users).as_chunks::<16>().0;
    for pick in picks {
        out.extend_from_slice(&users[*pick as usize - item.recipients.start]);
    }
}

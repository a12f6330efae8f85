//! Reads the frames of protobuf messages without decoding what is in them.
//!
//! The stage moves an item's content from one record to another, so it looks only at the frame around it: the bytes
//! within go through untouched, and with them every field that this program does not know.

use std::ops::Range;

use prost::encoding::{WireType, decode_key, decode_varint, skip_field};

/// Bytes that are not a protobuf message of the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is not a well-formed protobuf message of its topic")]
pub(super) struct Malformed;

/// A field of a message: its number, its value, and where the whole of it (key and value) stands.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) value: FieldValue,
    /// Key, length and value: what is copied to put the same field into another message.
    pub(super) whole: Range<usize>,
}

/// A field's value.
#[derive(Debug, Clone)]
pub(super) enum FieldValue {
    Varint(u64),
    /// Where a length-delimited value (a message, a string, bytes, a packed list) stands, without its length.
    Delimited(Range<usize>),
    /// A fixed-width number, or a group.
    Other,
}

/// The fields of the message in `bytes[at..end]`, in their order.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// The fields of the message that stands at `range` of `bytes`. Positions of fields are within `bytes`.
    pub(super) fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes, at: range.start, end: range.end }
    }

    /// The next field, or none at the end of the message.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field>, Malformed> {
        if self.at == self.end {
            return Ok(None);
        }
        let start = self.at;
        let mut rest = self.bytes.get(start..self.end).ok_or(Malformed)?;
        let (number, wire_type) = decode_key(&mut rest).map_err(|_| Malformed)?;
        let value = match wire_type {
            WireType::Varint => FieldValue::Varint(decode_varint(&mut rest).map_err(|_| Malformed)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).map_err(|_| Malformed)?;
                let length = usize::try_from(length).map_err(|_| Malformed)?;
                let from = self.end - rest.len();
                rest = rest.get(length..).ok_or(Malformed)?;
                FieldValue::Delimited(from..from + length)
            }
            _ => {
                skip_field(wire_type, number, &mut rest, prost::encoding::DecodeContext::default())
                    .map_err(|_| Malformed)?;
                FieldValue::Other
            }
        };
        self.at = self.end - rest.len();
        Ok(Some(Field { number, value, whole: start..self.at }))
    }
}

/// The position that a record was derived from, as its `Source` message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SourceFrame {
    pub(super) partition: u32,
    pub(super) offset: u64,
}

impl SourceFrame {
    /// Reads a `Source` message.
    fn read(bytes: &[u8], range: Range<usize>) -> Result<Self, Malformed> {
        let mut source = Self::default();
        let mut fields = Fields::new(bytes, range);
        while let Some(field) = fields.next()? {
            match (field.number, field.value) {
                (1, FieldValue::Varint(partition)) => {
                    source.partition = u32::try_from(partition).map_err(|_| Malformed)?;
                }
                (2, FieldValue::Varint(offset)) => source.offset = offset,
                _ => {}
            }
        }
        Ok(source)
    }
}

/// What an item of a fan-out record is about; the numbers are those of the content fields of `FanoutItem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Entry,
    Change,
    Receipt,
    Conversation,
    /// None, or one of a newer schema: numbered and passed on, without a reference.
    Unknown,
}

/// An item of a fan-out record: where its parts stand in the record.
#[derive(Debug, Clone)]
pub(super) struct ItemFrame {
    /// The packed ids of the recipients, a multiple of 16 bytes.
    pub(super) users: Range<u32>,
    pub(super) content: Content,
    /// The content's field with its key: what a push item carries on.
    pub(super) whole: Range<u32>,
    /// The content itself.
    pub(super) body: Range<u32>,
}

/// The frame of a fan-out record. Its items go into a buffer that the caller keeps.
#[derive(Debug, Clone, Default)]
pub(super) struct FanoutFrame {
    pub(super) source: SourceFrame,
    /// The `Source` message as it stands.
    pub(super) source_body: Range<u32>,
    pub(super) at_ms: i64,
}

/// The first content field of an item; what comes before it frames the item.
const CONTENT_FIRST: u32 = 10;

impl FanoutFrame {
    /// Reads the frame of the fan-out record in `bytes` and adds its items to `items`. A record without a source is
    /// malformed: nobody could tell whether it is a repeat.
    pub(super) fn read(bytes: &[u8], items: &mut Vec<ItemFrame>) -> Result<Self, Malformed> {
        // Positions are kept as 32 bits each; a record is far smaller (`limits::RECORD_BYTES_MAX`).
        u32::try_from(bytes.len()).map_err(|_| Malformed)?;
        let mut frame = Self::default();
        let mut has_source = false;
        let mut fields = Fields::new(bytes, 0..bytes.len());
        while let Some(field) = fields.next()? {
            match (field.number, field.value) {
                (1, FieldValue::Delimited(range)) => {
                    frame.source_body = narrow(&range);
                    frame.source = SourceFrame::read(bytes, range)?;
                    has_source = true;
                }
                (2, FieldValue::Varint(at_ms)) => frame.at_ms = at_ms.cast_signed(),
                (3, FieldValue::Delimited(range)) => items.push(ItemFrame::read(bytes, range)?),
                _ => {}
            }
        }
        if has_source { Ok(frame) } else { Err(Malformed) }
    }
}

impl ItemFrame {
    fn read(bytes: &[u8], range: Range<usize>) -> Result<Self, Malformed> {
        let mut item = Self { users: 0..0, content: Content::Unknown, whole: 0..0, body: 0..0 };
        let mut fields = Fields::new(bytes, range);
        while let Some(field) = fields.next()? {
            let FieldValue::Delimited(body) = field.value else { continue };
            if field.number == 1 {
                let whole_ids = body.len() / 16 * 16;
                item.users = narrow(&(body.start..body.start + whole_ids));
            } else if field.number >= CONTENT_FIRST {
                item.content = match field.number {
                    10 => Content::Entry,
                    11 => Content::Change,
                    12 => Content::Receipt,
                    13 => Content::Conversation,
                    _ => Content::Unknown,
                };
                item.whole = narrow(&field.whole);
                item.body = narrow(&body);
            }
        }
        Ok(item)
    }
}

/// The parts of an `Entry` or a `Change` that a reference to it and a notification need.
#[derive(Debug, Clone, Default)]
pub(super) struct EntryFrame {
    /// The fields `conversation_id`, `seq` and `message_id` with their keys: they have the same numbers in `Entry`,
    /// `Change` and `EntryReference`, so the reference is these three, one after the other.
    pub(super) reference: [Range<u32>; 3],
    /// The sender's `Id` message.
    pub(super) sender: Option<Range<u32>>,
    /// Whether it is what somebody sent (an entry's `event`), and not a change of membership.
    pub(super) is_message: bool,
}

impl EntryFrame {
    /// Reads the frame of the `Entry` or `Change` at `body` of `bytes`.
    pub(super) fn read(bytes: &[u8], body: &Range<u32>) -> Result<Self, Malformed> {
        let mut frame = Self::default();
        let mut fields = Fields::new(bytes, widen(body));
        while let Some(field) = fields.next()? {
            match (field.number, field.value) {
                (number @ 1..=3, _) => frame.reference[number as usize - 1] = narrow(&field.whole),
                (4, FieldValue::Delimited(range)) => frame.sender = Some(narrow(&range)),
                (10, FieldValue::Delimited(_)) => frame.is_message = true,
                _ => {}
            }
        }
        Ok(frame)
    }

    /// The length of the reference's three fields together.
    pub(super) fn reference_len(&self) -> usize {
        self.reference.iter().map(Range::len).sum()
    }
}

/// Where field 1 of the message at `body` stands (the id of a conversation's state), if it is there.
pub(super) fn first_field(bytes: &[u8], body: &Range<u32>) -> Result<Option<Range<u32>>, Malformed> {
    let mut fields = Fields::new(bytes, widen(body));
    let mut found = None;
    while let Some(field) = fields.next()? {
        if let (1, FieldValue::Delimited(range)) = (field.number, field.value) {
            found = Some(narrow(&range));
        }
    }
    Ok(found)
}

/// The user in an `Id` message.
pub(super) fn read_id(bytes: &[u8], body: &Range<u32>) -> Option<tidings_schemas::ids::UserId> {
    let id: tidings_schemas::wire::Id = prost::Message::decode(&bytes[widen(body)]).ok()?;
    Some(id.into())
}

/// A range of positions as it indexes.
pub(super) fn widen(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

#[allow(clippy::cast_possible_truncation, reason = "the record's length was checked to fit")]
fn narrow(range: &Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tidings_schemas::wire;

    use super::*;

    fn record() -> Vec<u8> {
        let entry = wire::Entry {
            conversation_id: Some(wire::Id { high: 1, low: 2 }),
            seq: 7,
            message_id: Some(wire::Id { high: 3, low: 4 }),
            sender_id: Some(wire::Id { high: 5, low: 6 }),
            sent_at_ms: 9,
            content: Some(wire::entry::Content::Event(vec![1, 2, 3].into())),
        };
        let item =
            wire::FanoutItem { user_ids: vec![9; 32].into(), content: Some(wire::fanout_item::Content::Entry(entry)) };
        let source = Some(wire::Source { partition: 3, offset: 1 << 40 });
        wire::FanoutRecord { source, at_ms: -5, items: vec![item] }.encode_to_vec()
    }

    #[test]
    fn the_parts_are_where_they_are_said_to_be() {
        let bytes = record();
        let mut items = Vec::new();
        let frame = FanoutFrame::read(&bytes, &mut items).unwrap();
        assert_eq!(frame.source, SourceFrame { partition: 3, offset: 1 << 40 });
        assert_eq!(frame.at_ms, -5);
        assert_eq!(items.len(), 1);
        assert_eq!(bytes[widen(&items[0].users)], [9; 32]);
        assert_eq!(items[0].content, Content::Entry);
        let entry = EntryFrame::read(&bytes, &items[0].body).unwrap();
        assert!(entry.is_message);
        let reference: Vec<u8> = entry.reference.iter().flat_map(|range| bytes[widen(range)].to_vec()).collect();
        let reference = wire::EntryReference::decode(&reference[..]).unwrap();
        assert_eq!((reference.seq, reference.message_id), (7, Some(wire::Id { high: 3, low: 4 })));
        let sender = entry.sender.unwrap();
        assert_eq!(read_id(&bytes, &sender), Some(wire::Id { high: 5, low: 6 }.into()));
    }

    #[test]
    fn no_cut_and_no_flipped_bit_panics() {
        let bytes = record();
        for end in 0..bytes.len() {
            let _ = FanoutFrame::read(&bytes[..end], &mut Vec::new());
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut items = Vec::new();
            if FanoutFrame::read(&damaged, &mut items).is_ok() {
                for item in items {
                    let _ = EntryFrame::read(&damaged, &item.body);
                    let _ = first_field(&damaged, &item.body);
                }
            }
        }
    }
}

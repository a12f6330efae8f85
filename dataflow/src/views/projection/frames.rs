//! Records and rows whose payloads stay the bytes that they came as: on the wire a message and a byte string are the
//! same. So a field that this program does not know survives, and nothing is encoded twice.

use bytes::Bytes;
use tidings_schemas::{erasure::emptied_event, wire};

/// A `TimelineRecord`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimelineFrame {
    #[prost(message, optional, tag = "1")]
    pub(super) source: Option<wire::Source>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(super) entries: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) change: Option<Bytes>,
    #[prost(message, repeated, tag = "5")]
    pub(super) cursor_moves: Vec<wire::CursorMove>,
    #[prost(message, repeated, tag = "6")]
    pub(super) cursor_minima: Vec<wire::CursorMinima>,
    #[prost(message, optional, tag = "9")]
    pub(super) conversation: Option<wire::ConversationState>,
}

/// What the views need to know of an `Entry`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EntryHead {
    #[prost(message, optional, tag = "1")]
    pub(super) conversation_id: Option<wire::Id>,
    #[prost(uint64, tag = "2")]
    pub(super) seq: u64,
    #[prost(message, optional, tag = "3")]
    pub(super) message_id: Option<wire::Id>,
    #[prost(int64, tag = "5")]
    pub(super) sent_at_ms: i64,
    #[prost(message, optional, tag = "11")]
    pub(super) membership: Option<wire::Membership>,
}

/// What the views need to know of a `Change`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ChangeHead {
    #[prost(message, optional, tag = "1")]
    pub(super) conversation_id: Option<wire::Id>,
    #[prost(uint64, tag = "2")]
    pub(super) seq: u64,
    #[prost(int64, tag = "9")]
    pub(super) deleted_at_ms: i64,
}

/// An `EntryRow`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EntryRowFrame {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) entry: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) change: Option<Bytes>,
}

/// An `InboxRecord`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct InboxFrame {
    #[prost(message, optional, tag = "1")]
    pub(super) source: Option<wire::Source>,
    #[prost(int64, tag = "2")]
    pub(super) at_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub(super) items: Vec<InboxItemFrame>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) events_source: Option<Bytes>,
}

/// An `InboxItem`. At most one of the references is set; their numbers are those of the row's.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct InboxItemFrame {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) user_ids: Bytes,
    #[prost(uint64, repeated, tag = "2")]
    pub(super) offsets: Vec<u64>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub(super) entry: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "11")]
    pub(super) change: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "12")]
    pub(super) receipt: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "13")]
    pub(super) conversation: Option<Bytes>,
}

/// An `InboxRow`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct InboxRowFrame {
    #[prost(int64, tag = "1")]
    pub(super) at_ms: i64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) events_source: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub(super) entry: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "11")]
    pub(super) change: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "12")]
    pub(super) receipt: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "13")]
    pub(super) conversation: Option<Bytes>,
}

/// An `Entry` without the content of its event.
pub(super) fn emptied(entry: &Bytes) -> Bytes {
    let Ok(mut decoded) = <wire::Entry as prost::Message>::decode(entry.clone()) else { return entry.clone() };
    let Some(wire::entry::Content::Event(event)) = &mut decoded.content else { return entry.clone() };
    *event = emptied_event(event);
    prost::Message::encode_to_vec(&decoded).into()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_frame_reads_and_writes_what_the_schema_says() {
        let entry = wire::Entry { seq: 7, sent_at_ms: 9, ..Default::default() };
        let change = wire::Change { seq: 7, deleted_at_ms: 11, ..Default::default() };
        let record = wire::TimelineRecord {
            source: Some(wire::Source { partition: 1, offset: 2 }),
            entries: vec![entry.clone()],
            change: Some(change.clone()),
            ..Default::default()
        };
        let frame = TimelineFrame::decode(record.encode_to_vec().as_slice()).unwrap();
        assert_eq!(frame.source, record.source);
        let head = EntryHead::decode(frame.entries[0].clone()).unwrap();
        assert_eq!((head.seq, head.sent_at_ms), (7, 9));
        let change_head = ChangeHead::decode(frame.change.clone().unwrap()).unwrap();
        assert_eq!((change_head.seq, change_head.deleted_at_ms), (7, 11));

        let row = EntryRowFrame { entry: Some(frame.entries[0].clone()), change: frame.change };
        let expected = wire::EntryRow { entry: Some(entry), change: Some(change) };
        assert_eq!(wire::EntryRow::decode(row.encode_to_vec().as_slice()).unwrap(), expected);
    }

    #[test]
    fn an_inbox_row_keeps_a_field_that_is_not_known() {
        let mut reference = wire::EntryReference { seq: 3, ..Default::default() }.encode_to_vec();
        reference.extend([0xa0, 0x06, 0x05]); // Field 100, varint 5.
        let row = InboxRowFrame { at_ms: 1, entry: Some(reference.clone().into()), ..Default::default() };
        let bytes = row.encode_to_vec();
        assert!(bytes.windows(reference.len()).any(|window| window == reference));
        let decoded = wire::InboxRow::decode(bytes.as_slice()).unwrap();
        assert!(matches!(decoded.reference, Some(wire::inbox_row::Reference::Entry(entry)) if entry.seq == 3));
    }
}

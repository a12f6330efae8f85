//! Writes the records. A message, which is most of what there is, is written straight into the buffer; its entry is
//! encoded once for all the records that carry it.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::{
    topics::Topic,
    wire::{self, Source},
};

use super::items::{self, Content, Item};
use crate::conversations::{decision::Sent, decode::Origin, fanout::Recipient};

/// How much is allocated at once for the records of many events.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes the records of one event after the other.
#[derive(Debug)]
pub(super) struct Writer {
    partition: u32,
    source: Source,
    at_ms: i64,
    /// The source, encoded.
    source_bytes: Vec<u8>,
    entry_bytes: Vec<u8>,
    buffer: BytesMut,
}

impl Writer {
    pub(super) fn new(partition: u32) -> Self {
        Self {
            partition,
            source: Source::default(),
            at_ms: 0,
            source_bytes: Vec::new(),
            entry_bytes: Vec::new(),
            buffer: BytesMut::new(),
        }
    }

    /// Starts with the event at this offset.
    pub(super) fn start(&mut self, offset: u64, at_ms: i64) {
        self.source = Source { partition: self.partition, offset };
        self.at_ms = at_ms;
        self.source_bytes.clear();
        put_message(&mut self.source_bytes, 1, &self.source);
    }

    pub(super) fn timeline(&mut self, key: Bytes, mut record: wire::TimelineRecord, out: &mut Vec<NewRecord>) {
        record.source = Some(self.source);
        record.at_ms = self.at_ms;
        let value = self.encode(&record);
        out.push(NewRecord { topic: Topic::Timeline, partition: self.partition, key, value });
    }

    pub(super) fn fan_out(&mut self, items: BTreeMap<u32, Vec<wire::FanoutItem>>, out: &mut Vec<NewRecord>) {
        for (partition, items) in items {
            let record = wire::FanoutRecord { source: Some(self.source), at_ms: self.at_ms, items };
            let value = self.encode(&record);
            out.push(NewRecord { topic: Topic::Fanout, partition, key: Bytes::new(), value });
        }
    }

    pub(super) fn verdict(&mut self, outcome: wire::verdict::Outcome, origin: Origin, out: &mut Vec<NewRecord>) {
        let verdict = wire::Verdict { request_id: origin.request_id, outcome: Some(outcome) };
        let record = wire::DeliveryRecord {
            source: Some(self.source),
            body: Some(wire::delivery_record::Body::Verdict(verdict)),
        };
        let value = self.encode(&record);
        out.push(NewRecord { topic: Topic::Deliveries, partition: origin.edge_id, key: Bytes::new(), value });
    }

    /// The records of an accepted message.
    #[allow(clippy::too_many_arguments, reason = "all that there is to say about a message")]
    pub(super) fn sent(
        &mut self,
        event: &StoredRecord,
        sent: &Sent,
        minima: &[wire::CursorMinima],
        recipients: &[Recipient],
        items: Vec<Item>,
        origin: Option<Origin>,
        out: &mut Vec<NewRecord>,
    ) {
        self.encode_entry(sent, &event.value);
        let moved = wire::CursorMove {
            conversation_id: Some(sent.conversation.into()),
            user_id: Some(sent.sender.into()),
            delivered_seq: sent.seq,
            seen_seq: sent.seq,
        };
        self.reserve(self.entry_bytes.len() + 256 + minima.len() * 128);
        self.put_head();
        put_bytes(&mut self.buffer, 3, &self.entry_bytes);
        put_message(&mut self.buffer, 5, &moved);
        for minima in minima {
            put_message(&mut self.buffer, 6, minima);
        }
        let value = self.buffer.split().freeze();
        out.push(NewRecord { topic: Topic::Timeline, partition: self.partition, key: event.key.clone(), value });

        if items.is_empty() {
            for of_partition in recipients.chunk_by(|one, other| one.partition == other.partition) {
                let value = self.sent_to(of_partition);
                let partition = of_partition[0].partition;
                out.push(NewRecord { topic: Topic::Fanout, partition, key: Bytes::new(), value });
            }
        } else {
            let entry = wire::Entry {
                conversation_id: Some(sent.conversation.into()),
                seq: sent.seq,
                message_id: Some(sent.message_id.into()),
                sender_id: Some(sent.sender.into()),
                sent_at_ms: self.at_ms,
                content: Some(wire::entry::Content::Event(event.value.clone())),
            };
            let mut items = items;
            items.push(Item::new(recipients.to_vec(), Content::Entry(entry)));
            self.fan_out(items::gather(items), out);
        }

        if let Some(origin) = origin {
            // Verdict: the request's id (9 bytes), then the entry.
            let verdict_length = if origin.request_id == 0 { 0 } else { 9 } + field_length(10, self.entry_bytes.len());
            self.reserve(verdict_length + 64);
            self.buffer.put_slice(&self.source_bytes);
            encode_key(10, WireType::LengthDelimited, &mut self.buffer);
            encode_varint(verdict_length as u64, &mut self.buffer);
            if origin.request_id != 0 {
                encode_key(1, WireType::SixtyFourBit, &mut self.buffer);
                self.buffer.put_u64_le(origin.request_id);
            }
            put_bytes(&mut self.buffer, 10, &self.entry_bytes);
            let value = self.buffer.split().freeze();
            out.push(NewRecord { topic: Topic::Deliveries, partition: origin.edge_id, key: Bytes::new(), value });
        }
    }

    /// Encodes the entry of a message.
    fn encode_entry(&mut self, sent: &Sent, event: &[u8]) {
        let entry = &mut self.entry_bytes;
        entry.clear();
        put_id(entry, 1, sent.conversation.0);
        encode_key(2, WireType::Varint, entry);
        encode_varint(sent.seq, entry);
        put_id(entry, 3, sent.message_id.0);
        put_id(entry, 4, sent.sender.0);
        if self.at_ms != 0 {
            encode_key(5, WireType::Varint, entry);
            encode_varint(self.at_ms.cast_unsigned(), entry);
        }
        put_bytes(entry, 10, event);
    }

    /// A message's fan-out record for the recipients of one partition.
    fn sent_to(&mut self, recipients: &[Recipient]) -> Bytes {
        let users_length = recipients.len() * 16;
        let item_length = field_length(1, users_length) + field_length(10, self.entry_bytes.len());
        self.reserve(item_length + 64);
        self.put_head();
        encode_key(3, WireType::LengthDelimited, &mut self.buffer);
        encode_varint(item_length as u64, &mut self.buffer);
        encode_key(1, WireType::LengthDelimited, &mut self.buffer);
        encode_varint(users_length as u64, &mut self.buffer);
        for recipient in recipients {
            self.buffer.put_slice(&recipient.user().to_bytes());
        }
        put_bytes(&mut self.buffer, 10, &self.entry_bytes);
        self.buffer.split().freeze()
    }

    /// Source and time, which most records begin with.
    fn put_head(&mut self) {
        self.buffer.put_slice(&self.source_bytes);
        if self.at_ms != 0 {
            encode_key(2, WireType::Varint, &mut self.buffer);
            encode_varint(self.at_ms.cast_unsigned(), &mut self.buffer);
        }
    }

    fn encode(&mut self, record: &impl Message) -> Bytes {
        self.reserve(record.encoded_len());
        record.encode_raw(&mut self.buffer);
        self.buffer.split().freeze()
    }

    /// Makes room for a record. Records share a buffer, so that each costs a count of references, not an allocation.
    fn reserve(&mut self, bytes: usize) {
        if self.buffer.capacity() < bytes {
            self.buffer = BytesMut::with_capacity(bytes.max(BUFFER_BYTES));
        }
    }
}

/// An `Id`: two fixed 64-bit halves, of which protobuf leaves out a zero.
#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
fn put_id(buffer: &mut Vec<u8>, tag: u32, id: u128) {
    let (high, low) = ((id >> 64) as u64, id as u64);
    encode_key(tag, WireType::LengthDelimited, buffer);
    buffer.push(9 * (u8::from(high != 0) + u8::from(low != 0)));
    for (tag, half) in [(1, high), (2, low)] {
        if half != 0 {
            encode_key(tag, WireType::SixtyFourBit, buffer);
            buffer.extend_from_slice(&half.to_le_bytes());
        }
    }
}

fn field_length(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

fn put_bytes(buffer: &mut impl BufMut, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

fn put_message(buffer: &mut impl BufMut, tag: u32, message: &impl Message) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(message.encoded_len() as u64, buffer);
    message.encode_raw(buffer);
}

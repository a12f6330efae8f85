//! Reads as much of an event as the stage needs. The text of a message is checked, as protobuf demands, but not copied:
//! the record's bytes are passed on as they are.

use prost::{
    Message,
    bytes::Buf,
    encoding::{WireType, decode_key, decode_varint},
};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    wire::{self, event::Body as WireBody},
};

/// Where the verdict goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) edge_id: u32,
    pub(super) request_id: u64,
}

/// An event, as far as the stage reads it.
#[derive(Debug, PartialEq)]
pub(super) struct Command<'a> {
    pub(super) conversation: Option<ConversationId>,
    pub(super) actor: Option<UserId>,
    pub(super) stamped_at_ms: i64,
    pub(super) origin: Option<Origin>,
    pub(super) body: Body<'a>,
}

/// What was done.
#[derive(Debug, PartialEq)]
pub(super) enum Body<'a> {
    /// A message.
    Send {
        /// The client's id for it.
        client_message_id: std::borrow::Cow<'a, str>,
        /// Set by an import only.
        message_id: Option<MessageId>,
    },
    /// Anything else.
    Other(Box<WireBody>),
    /// Nothing that this version knows.
    Unknown,
}

/// Reads an event; `None` when it is not one.
pub(super) fn decode(record: &[u8]) -> Option<Command<'_>> {
    match decode_send(record) {
        Some(command) => Some(command),
        // Not a plain send, or not as an edge writes one: the general way decides.
        None => decode_any(record),
    }
}

fn decode_any(record: &[u8]) -> Option<Command<'_>> {
    let event = wire::Event::decode(record).ok()?;
    let body = match event.body {
        Some(WireBody::Send(send)) => Body::Send {
            client_message_id: send.client_message_id.into(),
            message_id: send.message_id.map(MessageId::from),
        },
        Some(body) => Body::Other(Box::new(body)),
        None => Body::Unknown,
    };
    Some(Command {
        conversation: event.conversation_id.map(ConversationId::from),
        actor: event.actor_id.map(UserId::from),
        stamped_at_ms: event.stamped_at_ms,
        origin: event.origin.map(|origin| Origin { edge_id: origin.edge_id, request_id: origin.request_id }),
        body,
    })
}

/// Reads an event that is a send with fields in ascending order, each once: what an edge writes.
fn decode_send(mut record: &[u8]) -> Option<Command<'_>> {
    let mut command = Command { conversation: None, actor: None, stamped_at_ms: 0, origin: None, body: Body::Unknown };
    let mut last_tag = 0;
    while !record.is_empty() {
        let (tag, wire_type) = decode_key(&mut record).ok()?;
        if tag <= last_tag {
            return None;
        }
        last_tag = tag;
        match (tag, wire_type) {
            (1, WireType::LengthDelimited) => command.conversation = Some(decode_id(take(&mut record)?)?.into()),
            (2, WireType::LengthDelimited) => command.actor = Some(decode_id(take(&mut record)?)?.into()),
            (3, WireType::Varint) => command.stamped_at_ms = decode_varint(&mut record).ok()?.cast_signed(),
            (4, WireType::LengthDelimited) => command.origin = Some(decode_origin(take(&mut record)?)?),
            (10, WireType::LengthDelimited) => command.body = decode_send_body(take(&mut record)?)?,
            _ => return None,
        }
    }
    matches!(command.body, Body::Send { .. }).then_some(command)
}

fn decode_send_body(mut send: &[u8]) -> Option<Body<'_>> {
    let whole = send;
    let mut client_message_id = "";
    let mut message_id = None;
    let mut last_tag = 0;
    while !send.is_empty() {
        let (tag, wire_type) = decode_key(&mut send).ok()?;
        if tag < last_tag || (tag == last_tag && tag != 3) || wire_type != WireType::LengthDelimited {
            return None;
        }
        last_tag = tag;
        let value = take(&mut send)?;
        match tag {
            1 => client_message_id = std::str::from_utf8(value).ok()?,
            2 => _ = std::str::from_utf8(value).ok()?,
            5 => _ = decode_id(value)?,
            6 => message_id = Some(MessageId::from(decode_id(value)?)),
            3 | 4 => {
                // Rarer and deeper: checked as a whole.
                let send = wire::Send::decode(whole).ok()?;
                message_id = send.message_id.map(MessageId::from);
                return Some(Body::Send { client_message_id: send.client_message_id.into(), message_id });
            }
            _ => return None,
        }
    }
    Some(Body::Send { client_message_id: client_message_id.into(), message_id })
}

fn decode_id(mut bytes: &[u8]) -> Option<wire::Id> {
    let mut id = wire::Id::default();
    while !bytes.is_empty() {
        match (bytes.get_u8(), bytes.try_get_u64_le().ok()?) {
            (0x09, high) => id.high = high,
            (0x11, low) => id.low = low,
            _ => return None,
        }
    }
    Some(id)
}

fn decode_origin(mut bytes: &[u8]) -> Option<Origin> {
    let mut origin = Origin { edge_id: 0, request_id: 0 };
    while !bytes.is_empty() {
        match decode_key(&mut bytes).ok()? {
            (1, WireType::Varint) => origin.edge_id = u32::try_from(decode_varint(&mut bytes).ok()?).ok()?,
            (2, WireType::SixtyFourBit) => origin.request_id = bytes.try_get_u64_le().ok()?,
            _ => return None,
        }
    }
    Some(origin)
}

/// The bytes of a length-delimited field.
fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(from).ok()?).ok()?;
    from.split_off(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> wire::Event {
        wire::Event {
            conversation_id: Some(ConversationId(u128::MAX / 3).into()),
            actor_id: Some(UserId(1).into()),
            stamped_at_ms: -5,
            origin: Some(wire::Origin { edge_id: 3, request_id: 1 << 60 }),
            body: Some(WireBody::Send(wire::Send {
                client_message_id: "a".repeat(36),
                text: "grüße".into(),
                message_id: Some(MessageId(7 << 64).into()),
                ..Default::default()
            })),
        }
    }

    #[test]
    fn the_quick_way_reads_what_the_general_way_reads() {
        let mut with_attachment = event();
        let Some(WireBody::Send(send)) = &mut with_attachment.body else { unreachable!() };
        send.attachments =
            vec![wire::Attachment::default(), wire::Attachment { name: "n".into(), ..Default::default() }];
        for event in [event(), with_attachment] {
            let record = event.encode_to_vec();
            assert!(decode_send(&record).is_some());
            assert_eq!(decode_send(&record), decode_any(&record));
            // Cut short anywhere, or any byte changed: whatever the general way says.
            for length in 0..record.len() {
                assert_eq!(decode(&record[..length]), decode_any(&record[..length]), "cut at {length}");
            }
            for place in 0..record.len() {
                for bit in 0..8 {
                    let mut damaged = record.clone();
                    damaged[place] ^= 1 << bit;
                    assert_eq!(decode(&damaged), decode_any(&damaged), "bit {bit} of byte {place}");
                }
            }
        }
    }
}

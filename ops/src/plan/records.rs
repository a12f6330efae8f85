//! How large records and frames are: encoded with the program's own types, so that the plan follows the schemas.

use prost::Message as _;
use tidings_schemas::{
    client,
    ids::{ConversationId, MessageId, UserId},
    time::Timestamp,
    wire,
};

/// A moment, an offset and a partition of a service that has run for a while.
const AT_MS: i64 = 1_760_000_000_000;
const OFFSET: u64 = 1_000_000_000;
const PARTITION: u32 = 300;
const SEQ: u64 = 5_000;
const REQUEST: u64 = u64::MAX;
/// What Kafka adds to a record in a batch of several: lengths, offset and time deltas.
const RECORD_OVERHEAD: f64 = 12.0;
/// What TCP, IP and TLS add to a frame that goes alone: two headers of 40 bytes (the frame's, and its acknowledgement's),
/// a TLS record's 22 bytes, a WebSocket header of 4.
pub const FRAME_OVERHEAD: f64 = 106.0;
/// A recipient in a record: 16 bytes of id.
pub const USER_ID_BYTES: f64 = 16.0;
/// A recipient's offset, as a varint below 2 million.
pub const USER_OFFSET_BYTES: f64 = 3.0;
/// A session in a record of heartbeats.
pub const HEARTBEAT_BYTES: f64 = 24.0;
/// A session's opening and its end, its answer on `deliveries`, each with what belongs to it.
pub const SESSION_SIGNAL_BYTES: f64 = 90.0;

/// Sizes in bytes, for messages of one length.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// A send in `events`, its key included.
    pub event: f64,
    /// Its record in `timeline`.
    pub timeline: f64,
    /// Its verdict in `deliveries`.
    pub verdict: f64,
    /// Its record in `fanout`, without recipients.
    pub fanout: f64,
    /// Its record in `inbox`, without recipients.
    pub inbox: f64,
    /// Its push in `deliveries`, without recipients.
    pub push: f64,
    /// Its notification, without recipients.
    pub notification: f64,
    /// One receipt in a record of `events`, without the record.
    pub receipt: f64,
    /// What a receipt adds to the record in `timeline`.
    pub receipt_timeline: f64,
    /// A receipt's record in `fanout`, `inbox` and `deliveries`, without recipients.
    pub receipt_update: f64,
    /// A record with nothing in it but its head.
    pub head: f64,
    /// A client's frame with a message, on the wire.
    pub frame_send: f64,
    /// The reply to it.
    pub frame_sent: f64,
    /// A push of a message.
    pub frame_push: f64,
    /// A receipt from a client, and its reply.
    pub frame_receipt: f64,
    /// A push of a receipt.
    pub frame_receipt_push: f64,
    /// A heartbeat, and its reply.
    pub frame_heartbeat: f64,
}

/// The sizes for texts of so many bytes.
pub fn sizes(text_bytes: f64) -> Sizes {
    // Whole bytes, so that a length is one that can be; `Inputs::check` bounds it.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a small positive number")]
    let text = "x".repeat(text_bytes.ceil() as usize);
    let conversation = ConversationId(u128::MAX / 3);
    let user = UserId(u128::MAX / 5);
    let message = MessageId(u128::MAX / 7);
    let client_message_id = uuid_text();
    let source = wire::Source { partition: PARTITION, offset: OFFSET };
    let send = wire::Send { client_message_id: client_message_id.clone(), text: text.clone(), ..Default::default() };
    let event = wire::Event {
        conversation_id: Some(conversation.into()),
        actor_id: Some(user.into()),
        stamped_at_ms: AT_MS,
        origin: Some(wire::Origin { edge_id: PARTITION, request_id: REQUEST }),
        body: Some(wire::event::Body::Send(send)),
    };
    let entry = wire::Entry {
        conversation_id: Some(conversation.into()),
        seq: SEQ,
        message_id: Some(message.into()),
        sender_id: Some(user.into()),
        sent_at_ms: AT_MS,
        content: Some(wire::entry::Content::Event(event.encode_to_vec().into())),
    };
    let moved = wire::CursorMove {
        conversation_id: Some(conversation.into()),
        user_id: Some(user.into()),
        delivered_seq: SEQ,
        seen_seq: SEQ,
    };
    let timeline = wire::TimelineRecord {
        source: Some(source),
        at_ms: AT_MS,
        entries: vec![entry.clone()],
        cursor_moves: vec![moved],
        ..Default::default()
    };
    let fanout_item = |content| wire::FanoutItem { content: Some(content), ..Default::default() };
    let fanout_of =
        |content| wire::FanoutRecord { source: Some(source), at_ms: AT_MS, items: vec![fanout_item(content)] };
    let fanout = fanout_of(wire::fanout_item::Content::Entry(entry.clone()));
    let reference =
        wire::EntryReference { conversation_id: Some(conversation.into()), seq: SEQ, message_id: Some(message.into()) };
    let inbox = wire::InboxRecord {
        source: Some(source),
        at_ms: AT_MS,
        items: vec![wire::InboxItem {
            reference: Some(wire::inbox_item::Reference::Entry(reference)),
            ..Default::default()
        }],
        events_source: Some(source),
    };
    let item = wire::PushItem { content: Some(wire::push_item::Content::Entry(entry.clone())), ..Default::default() };
    let push = wire::Push { items: vec![item], at_ms: AT_MS, events_source: Some(source) };
    let push = wire::DeliveryRecord { source: Some(source), body: Some(wire::delivery_record::Body::Push(push)) };
    let verdict = wire::Verdict { request_id: REQUEST, outcome: Some(wire::verdict::Outcome::Entry(entry)) };
    let verdict =
        wire::DeliveryRecord { source: Some(source), body: Some(wire::delivery_record::Body::Verdict(verdict)) };
    let notification = wire::NotificationRecord {
        source: Some(source),
        at_ms: AT_MS,
        items: vec![wire::NotificationItem {
            entry: Some(reference),
            sender_id: Some(user.into()),
            ..Default::default()
        }],
    };
    let receipt = wire::Receipt {
        conversation_id: Some(conversation.into()),
        user_id: Some(user.into()),
        delivered_seq: SEQ,
        seen_seq: SEQ,
    };
    let update = wire::ReceiptUpdate {
        conversation_id: Some(conversation.into()),
        user_id: Some(user.into()),
        delivered_seq: SEQ,
        seen_seq: SEQ,
        ..Default::default()
    };
    let head = wire::TimelineRecord { source: Some(source), at_ms: AT_MS, ..Default::default() };
    // The key of `events` and `timeline`: the conversation.
    let key = 16.0;
    Sizes {
        event: bytes(event.encoded_len()) + key + RECORD_OVERHEAD,
        timeline: bytes(timeline.encoded_len()) + key + RECORD_OVERHEAD,
        verdict: bytes(verdict.encoded_len()) + RECORD_OVERHEAD,
        fanout: bytes(fanout.encoded_len()) + RECORD_OVERHEAD,
        inbox: bytes(inbox.encoded_len()) + RECORD_OVERHEAD,
        push: bytes(push.encoded_len()) + RECORD_OVERHEAD,
        notification: bytes(notification.encoded_len()) + RECORD_OVERHEAD,
        receipt: bytes(receipt.encoded_len()) + 2.0,
        receipt_timeline: bytes(moved.encoded_len()) + 2.0,
        receipt_update: bytes(fanout_of(wire::fanout_item::Content::Receipt(update)).encoded_len()) + RECORD_OVERHEAD,
        head: bytes(head.encoded_len()) + RECORD_OVERHEAD,
        frame_send: frame_send(&text, &client_message_id),
        frame_sent: frame_of(client::server_frame::Body::Sent(client::Sent {
            message: Some(message_frame(&text, &client_message_id)),
        })),
        frame_push: frame_of(update_of(client::update::Kind::Message(message_frame(&text, &client_message_id)))),
        frame_receipt: frame_receipt() + frame_of(client::server_frame::Body::Ok(client::Ok {})),
        frame_receipt_push: frame_of(update_of(client::update::Kind::Receipt(client::Receipt {
            conversation_id: uuid_text(),
            user_id: Some(uuid_text()),
            delivered_seq: SEQ,
            seen_seq: SEQ,
            ..Default::default()
        }))),
        frame_heartbeat: 2.0 * FRAME_OVERHEAD + 40.0,
    }
}

fn bytes(length: usize) -> f64 {
    length as f64
}

fn uuid_text() -> String {
    UserId(u128::MAX / 5).to_string()
}

fn json(frame: &impl serde::Serialize) -> f64 {
    // A frame of plain fields can be encoded; without, only the overhead would count.
    bytes(serde_json::to_vec(frame).map_or(0, |text| text.len())) + FRAME_OVERHEAD
}

fn frame_of(body: client::server_frame::Body) -> f64 {
    json(&client::ServerFrame { id: Some(1_000), body: Some(body) })
}

fn update_of(kind: client::update::Kind) -> client::server_frame::Body {
    client::server_frame::Body::Update(client::Update { offset: OFFSET, kind: Some(kind) })
}

fn frame_send(text: &str, client_message_id: &str) -> f64 {
    let send = client::Send {
        conversation_id: uuid_text(),
        client_message_id: client_message_id.to_owned(),
        text: text.to_owned(),
        ..Default::default()
    };
    json(&client::ClientFrame { id: 1_000, command: Some(client::client_frame::Command::Send(send)) })
}

fn frame_receipt() -> f64 {
    let receipt = client::SendReceipt { conversation_id: uuid_text(), delivered_seq: SEQ, seen_seq: SEQ };
    json(&client::ClientFrame { id: 1_000, command: Some(client::client_frame::Command::Receipt(receipt)) })
}

fn message_frame(text: &str, client_message_id: &str) -> client::Message {
    client::Message {
        message_id: uuid_text(),
        client_message_id: client_message_id.to_owned(),
        conversation_id: uuid_text(),
        seq: SEQ,
        sender_id: uuid_text(),
        sent_at: Some(Timestamp::from_millis(AT_MS)),
        text: text.to_owned(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_of_text_is_a_byte_wherever_the_text_is_and_nowhere_else() {
        let (short, long) = (sizes(200.0), sizes(300.0));
        let grown = |of: fn(&Sizes) -> f64| of(&long) - of(&short);
        for of in [
            (|sizes| sizes.event) as fn(&Sizes) -> f64,
            |sizes| sizes.timeline,
            |sizes| sizes.fanout,
            |sizes| sizes.push,
            |sizes| sizes.verdict,
            |sizes| sizes.frame_send,
            |sizes| sizes.frame_push,
            |sizes| sizes.frame_sent,
        ] {
            // A length itself may take a byte more.
            assert!((100.0..104.0).contains(&grown(of)), "{}", grown(of));
        }
        assert_eq!(grown(|sizes| sizes.inbox), 0.0, "the inbox has no text");
        assert_eq!(grown(|sizes| sizes.notification), 0.0);
    }
}

//! The two forms of the same frames: JSON in text messages, protobuf in binary ones.

use std::sync::OnceLock;

use prost::{Message as _, encoding::encode_varint};
use tidings_schemas::client::{self, ClientFrame, ServerFrame, server_frame::Body, update};

/// How a connection's frames are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `tidings.v1.json`.
    Json,
    /// `tidings.v1.protobuf`.
    Protobuf,
}

/// A client's frame that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// It has an id to answer to, but what it says is wrong: an error reply.
    Wrong {
        /// The frame's id.
        id: u32,
        /// What is wrong.
        message: String,
    },
    /// It is not a frame of the protocol: the end of the connection.
    Unreadable,
}

/// Tags of `ServerFrame.update` and `Update.offset`, both below 16384.
const UPDATE_TAG: u32 = 20 << 3 | 2;
const OFFSET_TAG: u8 = 1 << 3;

impl Format {
    /// The WebSocket subprotocol's name.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "tidings.v1.json",
            Self::Protobuf => "tidings.v1.protobuf",
        }
    }

    /// The format of that subprotocol.
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        [Self::Json, Self::Protobuf].into_iter().find(|format| format.subprotocol() == name)
    }

    /// Whether its messages are text messages.
    pub fn is_text(self) -> bool {
        self == Self::Json
    }

    /// A server's frame as the payload of a message.
    pub fn encode(self, frame: &ServerFrame) -> Vec<u8> {
        match self {
            // Writing to memory fails only for a time that no calendar has; the sender is told that much.
            Self::Json => serde_json::to_vec(frame).unwrap_or_else(|error| {
                tracing::error!(%error, "a frame cannot be written as JSON");
                br#"{"error":{"code":"internal","message":"a frame cannot be written as JSON","retryable":false}}"#
                    .to_vec()
            }),
            Self::Protobuf => frame.encode_to_vec(),
        }
    }

    /// A client's frame from the payload of a message.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(self, payload: &[u8]) -> Result<ClientFrame, FrameError> {
        match self {
            Self::Json => serde_json::from_slice(payload).map_err(|error| wrong_json(payload, &error)),
            Self::Protobuf => ClientFrame::decode(payload).map_err(|_| FrameError::Unreadable),
        }
    }
}

/// Whether it is an object with an id at least, or with none.
fn wrong_json(payload: &[u8], error: &serde_json::Error) -> FrameError {
    let Ok(fields) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(payload) else {
        return FrameError::Unreadable;
    };
    let id = match fields.get("id") {
        None => Some(0),
        Some(serde_json::Value::String(digits)) => digits.parse().ok(),
        Some(id) => id.as_u64().and_then(|id| u32::try_from(id).ok()),
    };
    let message = format!("the frame cannot be understood: {error}");
    id.map_or(FrameError::Unreadable, |id| FrameError::Wrong { id, message })
}

/// An update without its offset, encoded at most once for each format, however many recipients it has.
#[derive(Debug)]
pub struct SharedUpdate {
    update: client::Update,
    json: OnceLock<Box<[u8]>>,
    protobuf: OnceLock<Box<[u8]>>,
}

impl SharedUpdate {
    /// An update of this kind; `None`: one that only its offset is known of.
    pub fn new(kind: Option<update::Kind>) -> Self {
        Self { update: client::Update { offset: 0, kind }, json: OnceLock::new(), protobuf: OnceLock::new() }
    }

    /// Calls `put` with the parts of the frame's payload for a recipient for whom the update has this offset.
    pub fn with_offset<T>(&self, format: Format, offset: u64, put: impl FnOnce(&[&[u8]]) -> T) -> T {
        match format {
            Format::Json => {
                let rest = self.json.get_or_init(|| self.json_after_offset());
                let mut digits = [0; 20];
                put(&[JSON_BEFORE_OFFSET, decimal(offset, &mut digits), rest])
            }
            Format::Protobuf => {
                let rest = self.protobuf.get_or_init(|| self.update.encode_to_vec().into());
                let mut head = Vec::with_capacity(24);
                let mut offset_field = Vec::with_capacity(11);
                offset_field.push(OFFSET_TAG);
                encode_varint(offset, &mut offset_field);
                encode_varint(u64::from(UPDATE_TAG), &mut head);
                encode_varint((offset_field.len() + rest.len()) as u64, &mut head);
                head.extend_from_slice(&offset_field);
                put(&[&head, rest])
            }
        }
    }

    /// What follows the digits of the offset.
    fn json_after_offset(&self) -> Box<[u8]> {
        let update = serde_json::to_vec(&self.update).unwrap_or_else(|error| {
            tracing::error!(%error, "an update cannot be written as JSON");
            br#"{"offset":"0"}"#.to_vec()
        });
        let mut rest = update.strip_prefix(br#"{"offset":"0"#).unwrap_or(b"\"}").to_vec();
        rest.push(b'}');
        rest.into()
    }
}

const JSON_BEFORE_OFFSET: &[u8] = br#"{"update":{"offset":""#;

/// The decimal digits of a number.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 || start == 0 {
            break;
        }
    }
    &digits[start..]
}

/// A reply to the client's frame `id`.
pub fn reply(id: u32, body: Body) -> ServerFrame {
    ServerFrame { id: Some(id), body: Some(body) }
}

/// A frame that answers nothing.
pub fn notice(body: Body) -> ServerFrame {
    ServerFrame { id: None, body: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Vec<Option<update::Kind>> {
        let text = "a \"quoted\" line\n, offset \u{1f600}".to_owned();
        vec![
            None,
            Some(update::Kind::Message(client::Message { seq: 3, text, ..Default::default() })),
            Some(update::Kind::MessageChanged(client::Message::default())),
            Some(update::Kind::Receipt(client::Receipt { seen_seq: 9, ..Default::default() })),
            Some(update::Kind::Conversation(client::Conversation::default())),
        ]
    }

    #[test]
    fn an_update_with_its_offset_spliced_in_is_the_frame_itself() {
        for kind in kinds() {
            for offset in [1, 9, 10, 127, 128, 16_384, u64::from(u32::MAX), u64::MAX] {
                let shared = SharedUpdate::new(kind.clone());
                let update = client::Update { offset, kind: kind.clone() };
                let frame = notice(Body::Update(update));
                for format in [Format::Json, Format::Protobuf] {
                    let spliced = shared.with_offset(format, offset, |parts| parts.concat());
                    assert_eq!(
                        String::from_utf8_lossy(&spliced),
                        String::from_utf8_lossy(&format.encode(&frame)),
                        "{format:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn wrong_frames_with_an_id_are_told_from_what_is_no_frame() {
        for (text, id) in [
            (r#"{"id":7,"send":{"text":5}}"#, Some(7)),
            (r#"{"id":7,"send":"no"}"#, Some(7)),
            (r#"{"id":"7","send":[]}"#, Some(7)),
            (r#"{"id":[7],"send":{}}"#, None),
            (r#"{"send":5}"#, Some(0)),
            (r#"{"id":-1,"send":{}}"#, None),
            (r#"{"id":7,"#, None),
            ("[]", None),
            ("", None),
            ("null", None),
        ] {
            match (Format::Json.decode(text.as_bytes()), id) {
                (Err(FrameError::Wrong { id, .. }), Some(expected)) => assert_eq!(id, expected, "{text}"),
                (Err(FrameError::Unreadable), None) => {}
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn numbers_may_be_strings_and_unknown_fields_are_ignored() {
        let frame = Format::Json
            .decode(br#"{"id":1,"x":{"y":[1]},"receipt":{"conversation_id":"c","seen_seq":"12","delivered_seq":13}}"#)
            .unwrap();
        let Some(client::client_frame::Command::Receipt(receipt)) = frame.command else { panic!("{frame:?}") };
        assert_eq!((receipt.seen_seq, receipt.delivered_seq), (12, 13));
        assert_eq!(Format::Json.decode(br#"{"id":1,"fly":{}}"#).unwrap().command, None);
    }
}

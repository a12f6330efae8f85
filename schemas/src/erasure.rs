//! What is left of a message whose content was erased: what tells it from others, and what it answers.

use bytes::Bytes;
use prost::Message as _;

use crate::wire::{self, event::Body};

/// A send without its content. Stages decide about it as they did about the whole.
pub fn emptied(send: &wire::Send) -> wire::Send {
    wire::Send {
        client_message_id: send.client_message_id.clone(),
        reply_to: send.reply_to,
        message_id: send.message_id,
        erased: true,
        ..Default::default()
    }
}

/// The same for the bytes of a record of `events`, as other records carry them. Fields that this program does not know
/// go, too. What is no event has nothing left.
pub fn emptied_event(event: &Bytes) -> Bytes {
    if event.is_empty() {
        return Bytes::new();
    }
    let Ok(mut decoded) = wire::Event::decode(event.clone()) else { return Bytes::new() };
    if let Some(Body::Send(send)) = &mut decoded.body {
        *send = emptied(send);
    }
    decoded.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_content_is_left_and_twice_is_once() {
        let send = wire::Send {
            client_message_id: "c".to_owned(),
            text: "a secret".to_owned(),
            attachments: vec![wire::Attachment { name: "a secret".to_owned(), ..Default::default() }],
            encrypted: Some(wire::Encrypted { ciphertext: b"a secret"[..].into(), ..Default::default() }),
            ..Default::default()
        };
        let mut event =
            wire::Event { stamped_at_ms: 7, body: Some(Body::Send(send)), ..Default::default() }.encode_to_vec();
        // Field 100 of a later version.
        event.extend([0xa2, 0x06, 0x08]);
        event.extend(b"a secret");
        let emptied = emptied_event(&event.into());
        assert!(!emptied.windows(8).any(|window| window == b"a secret"));
        assert_eq!(emptied_event(&emptied), emptied);
        let Some(Body::Send(send)) = wire::Event::decode(emptied).unwrap().body else { unreachable!() };
        assert_eq!((send.client_message_id.as_str(), send.erased), ("c", true));
        assert_eq!(emptied_event(&Bytes::new()), Bytes::new());
    }
}

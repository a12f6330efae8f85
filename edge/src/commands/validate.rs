//! What a client sends, checked and turned into what goes on the log.

use std::str::FromStr;

use tidings_schemas::{
    client,
    ids::{ConversationId, MessageId, ParseIdError, UserId},
    limits::{ID_BYTES_MAX, MESSAGE_ATTACHMENTS_MAX, MESSAGE_TEXT_BYTES_MAX, TITLE_CHARS_MAX},
    wire,
};

use crate::error::{ApiError, ErrorCode};

/// Bytes of an attachment's file name or type.
const ATTACHMENT_TEXT_BYTES_MAX: usize = 512;
/// Devices that one encrypted message can have a header for; the frame's size bounds it, too.
const ENCRYPTED_RECIPIENTS_MAX: usize = 1_000;

/// The user of that id. Ids are opaque to clients: a text that is none is the id of nothing.
///
/// # Errors
/// `invalid_argument`: the text is empty. `not_found`: it is not an id.
pub fn user_id(text: &str) -> Result<UserId, ApiError> {
    id(text, "user")
}

/// The conversation of that id.
///
/// # Errors
/// `invalid_argument`: the text is empty. `not_found`: it is not an id.
pub fn conversation_id(text: &str) -> Result<ConversationId, ApiError> {
    id(text, "conversation")
}

/// The message of that id.
///
/// # Errors
/// `invalid_argument`: the text is empty. `not_found`: it is not an id.
pub fn message_id(text: &str) -> Result<MessageId, ApiError> {
    id(text, "message")
}

fn id<Id: FromStr<Err = ParseIdError>>(text: &str, what: &str) -> Result<Id, ApiError> {
    if text.is_empty() {
        return Err(ApiError::invalid_argument(format!("the id of the {what} must be set")));
    }
    text.parse().map_err(|error| ApiError::not_found(format!("there is no such {what}: {error}")))
}

/// A role that can be given to a member; the empty text is the unspecified role.
///
/// # Errors
/// `invalid_argument`: there is no such role.
pub fn role(name: &str) -> Result<wire::Role, ApiError> {
    crate::read::convert::role_from_name(name)
        .ok_or_else(|| ApiError::invalid_argument("role must be one of owner, admin, member"))
}

/// A conversation's title.
///
/// # Errors
/// `invalid_argument`: too long.
pub fn title(title: &str) -> Result<(), ApiError> {
    if title.chars().count() > TITLE_CHARS_MAX {
        return Err(ApiError::invalid_argument(format!("title may have at most {TITLE_CHARS_MAX} characters")));
    }
    Ok(())
}

/// A text of a message, new or edited.
///
/// # Errors
/// `too_large`.
pub fn text(text: &str) -> Result<(), ApiError> {
    if text.len() > MESSAGE_TEXT_BYTES_MAX {
        let message = format!("text may have at most {MESSAGE_TEXT_BYTES_MAX} bytes");
        return Err(ApiError::new(ErrorCode::TooLarge, message));
    }
    Ok(())
}

/// A message to send, as it goes on the log.
///
/// # Errors
/// `invalid_argument`, `too_large`.
pub fn send(request: client::Send) -> Result<(ConversationId, wire::Send), ApiError> {
    let conversation = conversation_id(&request.conversation_id)?;
    if request.client_message_id.is_empty() {
        return Err(ApiError::invalid_argument("client_message_id must be set: a new UUID for each new message"));
    }
    bounded("client_message_id", &request.client_message_id, ID_BYTES_MAX)?;
    text(&request.text)?;
    if request.attachments.len() > MESSAGE_ATTACHMENTS_MAX {
        let message = format!("a message may have at most {MESSAGE_ATTACHMENTS_MAX} attachments");
        return Err(ApiError::invalid_argument(message));
    }
    let encrypted = request.encrypted.map(encrypted).transpose()?;
    if encrypted.is_some() && !(request.text.is_empty() && request.attachments.is_empty()) {
        return Err(ApiError::invalid_argument("an encrypted message has no text and no attachments beside it"));
    }
    if encrypted.is_none() && request.text.is_empty() && request.attachments.is_empty() {
        return Err(ApiError::invalid_argument("a message needs text, attachments or encrypted"));
    }
    let reply_to = request.reply_to.filter(|id| !id.is_empty()).map(|id| message_id(&id)).transpose()?;
    let send = wire::Send {
        client_message_id: request.client_message_id,
        text: request.text,
        attachments: request.attachments.into_iter().map(attachment).collect::<Result<_, _>>()?,
        encrypted,
        reply_to: reply_to.map(Into::into),
        message_id: None,
        erased: false,
    };
    Ok((conversation, send))
}

fn attachment(attachment: client::Attachment) -> Result<wire::Attachment, ApiError> {
    let client::Attachment { media_id, content_type, name, size, width, height } = attachment;
    if media_id.is_empty() {
        return Err(ApiError::invalid_argument("an attachment needs the media_id of its upload"));
    }
    bounded("media_id", &media_id, ID_BYTES_MAX)?;
    bounded("an attachment's content_type", &content_type, ATTACHMENT_TEXT_BYTES_MAX)?;
    bounded("an attachment's name", &name, ATTACHMENT_TEXT_BYTES_MAX)?;
    Ok(wire::Attachment { media_id, content_type, name, size, width, height })
}

fn encrypted(encrypted: client::Encrypted) -> Result<wire::Encrypted, ApiError> {
    let client::Encrypted { algorithm, ciphertext, recipients } = encrypted;
    if algorithm.is_empty() || ciphertext.is_empty() {
        return Err(ApiError::invalid_argument("encrypted needs algorithm and ciphertext"));
    }
    bounded("encrypted's algorithm", &algorithm, ID_BYTES_MAX)?;
    if recipients.len() > ENCRYPTED_RECIPIENTS_MAX {
        let message = format!("encrypted may have at most {ENCRYPTED_RECIPIENTS_MAX} recipients");
        return Err(ApiError::invalid_argument(message));
    }
    let recipients = recipients
        .into_iter()
        .map(|client::EncryptedRecipient { device_id, header }| {
            bounded("device_id", &device_id, ID_BYTES_MAX)?;
            Ok(wire::EncryptedRecipient { device_id, header })
        })
        .collect::<Result<_, ApiError>>()?;
    Ok(wire::Encrypted { algorithm, ciphertext, recipients })
}

/// A text of at most so many bytes.
///
/// # Errors
/// `invalid_argument`.
pub fn bounded(what: &str, text: &str, bytes_max: usize) -> Result<(), ApiError> {
    if text.len() > bytes_max {
        return Err(ApiError::invalid_argument(format!("{what} may have at most {bytes_max} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> client::Send {
        client::Send {
            conversation_id: ConversationId::random(7).to_string(),
            client_message_id: "one".to_owned(),
            text: "hello".to_owned(),
            ..Default::default()
        }
    }

    fn encrypted() -> client::Encrypted {
        client::Encrypted { algorithm: "olm".to_owned(), ciphertext: vec![1].into(), recipients: Vec::new() }
    }

    #[test]
    fn good_messages_pass() {
        let media = client::Attachment { media_id: "m".to_owned(), ..Default::default() };
        for request in [
            good(),
            client::Send { text: "x".repeat(MESSAGE_TEXT_BYTES_MAX), ..good() },
            client::Send { text: String::new(), attachments: vec![media.clone(); MESSAGE_ATTACHMENTS_MAX], ..good() },
            client::Send { text: String::new(), encrypted: Some(encrypted()), ..good() },
            client::Send { reply_to: Some(MessageId::from_position(1, 2, 3).to_string()), ..good() },
            client::Send { reply_to: Some(String::new()), ..good() },
        ] {
            assert!(send(request.clone()).is_ok(), "{request:?}");
        }
    }

    #[test]
    fn bad_messages_get_their_code() {
        use ErrorCode::{InvalidArgument, NotFound, TooLarge};
        let media = client::Attachment { media_id: "m".to_owned(), ..Default::default() };
        let nameless = client::Attachment::default();
        let hollow = client::Encrypted { algorithm: "olm".to_owned(), ..Default::default() };
        for (request, code) in [
            (client::Send { conversation_id: String::new(), ..good() }, InvalidArgument),
            (client::Send { conversation_id: "no-id".to_owned(), ..good() }, NotFound),
            (client::Send { client_message_id: String::new(), ..good() }, InvalidArgument),
            (client::Send { client_message_id: "x".repeat(ID_BYTES_MAX + 1), ..good() }, InvalidArgument),
            (client::Send { text: String::new(), ..good() }, InvalidArgument),
            (client::Send { text: "x".repeat(MESSAGE_TEXT_BYTES_MAX + 1), ..good() }, TooLarge),
            (client::Send { attachments: vec![media; MESSAGE_ATTACHMENTS_MAX + 1], ..good() }, InvalidArgument),
            (client::Send { attachments: vec![nameless], ..good() }, InvalidArgument),
            (client::Send { encrypted: Some(encrypted()), ..good() }, InvalidArgument),
            (client::Send { text: String::new(), encrypted: Some(hollow), ..good() }, InvalidArgument),
            (client::Send { reply_to: Some("x".to_owned()), ..good() }, NotFound),
        ] {
            assert_eq!(send(request.clone()).map_err(|error| error.code).err(), Some(code), "{request:?}");
        }
    }
}

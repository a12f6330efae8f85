//! From the log's records and the views' rows to what clients read.

use prost::{DecodeError, Message as _};
use tidings_schemas::{
    client,
    client::{conversation_kind, membership_action, message_kind},
    ids::{ConversationId, MessageId, UserId},
    time::Timestamp,
    wire,
};

/// The text of an id as clients see it; empty where the record has none.
fn user_text(id: Option<wire::Id>) -> String {
    id.map(|id| UserId::from(id).to_string()).unwrap_or_default()
}

fn conversation_text(id: Option<wire::Id>) -> String {
    id.map(|id| ConversationId::from(id).to_string()).unwrap_or_default()
}

fn message_text(id: Option<wire::Id>) -> String {
    id.map(|id| MessageId::from(id).to_string()).unwrap_or_default()
}

/// The moment, unless it is zero, which in a record means that it never was.
fn moment(at_ms: i64) -> Option<Timestamp> {
    (at_ms != 0).then(|| Timestamp::from_millis(at_ms))
}

/// A role as clients read it: `owner`, `admin`, `member`, or empty for who is not a member.
pub fn role_name(role: wire::Role) -> &'static str {
    match role {
        wire::Role::Owner => "owner",
        wire::Role::Admin => "admin",
        wire::Role::Member => "member",
        wire::Role::Unspecified => "",
    }
}

/// The role of that name; the empty name is the unspecified role. `None`: there is no such role.
pub fn role_from_name(name: &str) -> Option<wire::Role> {
    match name {
        "owner" => Some(wire::Role::Owner),
        "admin" => Some(wire::Role::Admin),
        "member" => Some(wire::Role::Member),
        "" => Some(wire::Role::Unspecified),
        _ => None,
    }
}

/// A message as it stands: the entry with the newest change to it, if there is one.
///
/// # Errors
/// The entry's event is not one: the record is damaged.
pub fn message(entry: &wire::Entry, change: Option<&wire::Change>) -> Result<client::Message, DecodeError> {
    let mut message = client::Message {
        message_id: message_text(entry.message_id),
        conversation_id: conversation_text(entry.conversation_id),
        seq: entry.seq,
        sender_id: user_text(entry.sender_id),
        sent_at: Some(Timestamp::from_millis(entry.sent_at_ms)),
        kind: message_kind::Value::Text.into(),
        ..Default::default()
    };
    match &entry.content {
        Some(wire::entry::Content::Event(event)) => put_send(&mut message, event)?,
        Some(wire::entry::Content::Membership(change)) => {
            message.kind = message_kind::Value::Membership.into();
            message.membership = Some(membership(change));
        }
        None => {}
    }
    if let Some(change) = change {
        put_change(&mut message, change);
    }
    Ok(message)
}

/// The message that a change made anew, from the change alone.
///
/// # Errors
/// The change's event is not one: the record is damaged.
pub fn changed_message(change: &wire::Change) -> Result<client::Message, DecodeError> {
    let mut message = client::Message {
        message_id: message_text(change.message_id),
        conversation_id: conversation_text(change.conversation_id),
        seq: change.seq,
        sender_id: user_text(change.sender_id),
        sent_at: Some(Timestamp::from_millis(change.sent_at_ms)),
        kind: message_kind::Value::Text.into(),
        ..Default::default()
    };
    if !change.event.is_empty() {
        put_send(&mut message, &change.event)?;
    }
    put_change(&mut message, change);
    Ok(message)
}

/// What a send said, from the bytes of its event.
fn put_send(message: &mut client::Message, event: &[u8]) -> Result<(), DecodeError> {
    let Some(wire::event::Body::Send(send)) = wire::Event::decode(event)?.body else {
        return Ok(());
    };
    let kind = if send.encrypted.is_some() {
        message_kind::Value::Encrypted
    } else if send.attachments.is_empty() {
        message_kind::Value::Text
    } else {
        message_kind::Value::Media
    };
    message.kind = kind.into();
    message.client_message_id = send.client_message_id;
    message.text = send.text;
    message.attachments = send.attachments.into_iter().map(attachment).collect();
    message.encrypted = send.encrypted.map(encrypted);
    message.reply_to = send.reply_to.map(|id| MessageId::from(id).to_string());
    Ok(())
}

/// An edit gives the message another text; a deletion leaves only its place.
fn put_change(message: &mut client::Message, change: &wire::Change) {
    message.edited_at = moment(change.edited_at_ms);
    message.deleted_at = moment(change.deleted_at_ms);
    if message.deleted_at.is_some() {
        message.text.clear();
        message.attachments.clear();
        message.encrypted = None;
        message.reply_to = None;
    } else {
        message.text.clone_from(&change.text);
    }
}

fn attachment(attachment: wire::Attachment) -> client::Attachment {
    let wire::Attachment { media_id, content_type, name, size, width, height } = attachment;
    client::Attachment { media_id, content_type, name, size, width, height }
}

fn encrypted(encrypted: wire::Encrypted) -> client::Encrypted {
    let wire::Encrypted { algorithm, ciphertext, recipients } = encrypted;
    let recipients = recipients
        .into_iter()
        .map(|wire::EncryptedRecipient { device_id, header }| client::EncryptedRecipient { device_id, header })
        .collect();
    client::Encrypted { algorithm, ciphertext, recipients }
}

fn membership(change: &wire::Membership) -> client::Membership {
    let action = match change.action() {
        wire::MembershipAction::Unspecified => membership_action::Value::Unspecified,
        wire::MembershipAction::Created => membership_action::Value::Created,
        wire::MembershipAction::Added => membership_action::Value::Added,
        wire::MembershipAction::Removed => membership_action::Value::Removed,
        wire::MembershipAction::Left => membership_action::Value::Left,
        wire::MembershipAction::Role => membership_action::Value::Role,
        wire::MembershipAction::Renamed => membership_action::Value::Renamed,
    };
    client::Membership {
        action: action.into(),
        user_id: change.user_id.map(|id| UserId::from(id).to_string()),
        by: user_text(change.by),
        role: Some(role_name(change.role())).filter(|role| !role.is_empty()).map(str::to_owned),
        title: Some(&change.title).filter(|title| !title.is_empty()).cloned(),
    }
}

/// The kind of a conversation as clients read it.
pub fn conversation_kind(kind: wire::ConversationKind) -> conversation_kind::Value {
    match kind {
        wire::ConversationKind::Unspecified => conversation_kind::Value::Unspecified,
        wire::ConversationKind::Direct => conversation_kind::Value::Direct,
        wire::ConversationKind::Group => conversation_kind::Value::Group,
    }
}

/// A conversation as it stands for one member, from a verdict or a push at `at_ms`. Its last message and its peer are
/// not in the record, so they are left out.
pub fn conversation_from_state(
    state: &wire::ConversationState,
    member: &wire::MemberState,
    at_ms: i64,
) -> client::Conversation {
    client::Conversation {
        conversation_id: conversation_text(state.conversation_id),
        kind: conversation_kind(state.kind()).into(),
        title: state.title.clone(),
        member_count: state.member_count,
        last_seq: state.last_seq,
        last_message: None,
        unread_count: state.last_seq.saturating_sub(member.seen_seq),
        delivered_seq: member.delivered_seq,
        seen_seq: member.seen_seq,
        delivered_to_all_seq: member.delivered_to_all_seq,
        seen_by_all_seq: member.seen_by_all_seq,
        role: role_name(member.role()).to_owned(),
        deleted: state.deleted,
        peer: None,
        created_at: moment(state.created_at_ms),
        last_activity_at: moment(at_ms),
    }
}

/// A conversation as it stands for one member, from the views' rows. `other` is a direct chat's other member.
pub fn conversation_from_rows(
    row: &wire::ConversationRow,
    member: &wire::MemberRow,
    other: Option<&wire::MemberRow>,
) -> client::Conversation {
    let (delivered_to_all_seq, seen_by_all_seq) = cursors_of_all(row, member, other);
    let is_member = member.role() != wire::Role::Unspecified;
    client::Conversation {
        conversation_id: conversation_text(row.conversation_id),
        kind: conversation_kind(row.kind()).into(),
        title: row.title.clone(),
        member_count: row.member_count,
        last_seq: row.last_seq,
        last_message: None,
        // One who has left has nothing to catch up with.
        unread_count: if is_member { row.last_seq.saturating_sub(member.seen_seq) } else { 0 },
        delivered_seq: member.delivered_seq,
        seen_seq: member.seen_seq,
        delivered_to_all_seq,
        seen_by_all_seq,
        role: role_name(member.role()).to_owned(),
        deleted: row.deleted,
        peer: None,
        created_at: moment(row.created_at_ms),
        last_activity_at: moment(row.last_activity_at_ms),
    }
}

/// The least delivered and seen cursors of all the other members.
fn cursors_of_all(
    row: &wire::ConversationRow,
    member: &wire::MemberRow,
    other: Option<&wire::MemberRow>,
) -> (u64, u64) {
    if row.kind() == wire::ConversationKind::Direct {
        return other.map_or((0, 0), |other| (other.delivered_seq, other.seen_seq));
    }
    let minima = row.minima.unwrap_or_default();
    let view = |least: Option<wire::LeastTwo>, own: u64| {
        let least = least.unwrap_or_default();
        if own == least.least && least.holders == 1 { least.next } else { least.least }
    };
    (view(minima.delivered, member.delivered_seq), view(minima.seen, member.seen_seq))
}

/// Moved cursors.
pub fn receipt(update: &wire::ReceiptUpdate) -> client::Receipt {
    client::Receipt {
        conversation_id: conversation_text(update.conversation_id),
        user_id: update.user_id.map(|id| UserId::from(id).to_string()),
        delivered_seq: update.delivered_seq,
        seen_seq: update.seen_seq,
        delivered_to_all_seq: update.delivered_to_all_seq,
        seen_by_all_seq: update.seen_by_all_seq,
    }
}

/// A user as others see one.
pub fn user(row: &wire::UserRow) -> client::User {
    client::User {
        user_id: user_text(row.user_id),
        username: row.username.clone(),
        display_name: row.display_name.clone(),
    }
}

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
    let mut is_erased = entry.content.is_none();
    match &entry.content {
        Some(wire::entry::Content::Event(event)) => is_erased = put_send(&mut message, event)?,
        Some(wire::entry::Content::Membership(change)) => {
            message.kind = message_kind::Value::Membership.into();
            message.membership = Some(membership(change));
        }
        None => {}
    }
    if let Some(change) = change {
        put_change(&mut message, change);
    }
    if is_erased {
        put_erasure(&mut message);
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
    let is_erased = !change.event.is_empty() && put_send(&mut message, &change.event)?;
    put_change(&mut message, change);
    if is_erased {
        put_erasure(&mut message);
    }
    Ok(message)
}

/// A message whose content was erased is shown as a deleted one. When it was erased its record does not say: where no
/// deletion does, it is as if it had been at once.
fn put_erasure(message: &mut client::Message) {
    message.deleted_at = message.deleted_at.or(message.sent_at);
    message.edited_at = None;
    message.text.clear();
    message.reply_to = None;
}

/// What a send said, from the bytes of its event. Tells whether that was erased.
fn put_send(message: &mut client::Message, event: &[u8]) -> Result<bool, DecodeError> {
    let Some(wire::event::Body::Send(send)) = wire::Event::decode(event)?.body else {
        return Ok(false);
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
    Ok(send.erased)
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
    // For one who has left it ends there, and there is nothing to catch up with.
    let last_seq = if is_member { row.last_seq } else { member.past_stays.last().map_or(0, |stay| stay.left_seq) };
    client::Conversation {
        conversation_id: conversation_text(row.conversation_id),
        kind: conversation_kind(row.kind()).into(),
        title: row.title.clone(),
        member_count: row.member_count,
        last_seq,
        last_message: None,
        unread_count: if is_member { last_seq.saturating_sub(member.seen_seq) } else { 0 },
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
        // Somebody there was: whose name is nobody's business any more.
        display_name: if row.erased_at_ms == 0 { row.display_name.clone() } else { ERASED_NAME.to_owned() },
    }
}

/// What a user who was erased is called.
const ERASED_NAME: &str = "Deleted account";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(send: wire::Send) -> wire::Entry {
        let event = wire::Event { body: Some(wire::event::Body::Send(send)), ..Default::default() };
        wire::Entry {
            conversation_id: Some(ConversationId(1).into()),
            seq: 7,
            message_id: Some(MessageId(2).into()),
            sender_id: Some(UserId(3).into()),
            sent_at_ms: 1_000,
            content: Some(wire::entry::Content::Event(event.encode_to_vec().into())),
        }
    }

    fn change_of(entry: &wire::Entry) -> wire::Change {
        wire::Change {
            conversation_id: entry.conversation_id,
            seq: entry.seq,
            message_id: entry.message_id,
            sender_id: entry.sender_id,
            sent_at_ms: entry.sent_at_ms,
            ..Default::default()
        }
    }

    #[test]
    fn what_is_in_a_message_is_its_kind() {
        let attachment = wire::Attachment { media_id: "m".to_owned(), ..Default::default() };
        for (send, kind) in [
            (wire::Send { text: "x".to_owned(), ..Default::default() }, message_kind::Value::Text),
            (
                wire::Send { text: "x".to_owned(), attachments: vec![attachment], ..Default::default() },
                message_kind::Value::Media,
            ),
            (
                wire::Send { encrypted: Some(wire::Encrypted::default()), ..Default::default() },
                message_kind::Value::Encrypted,
            ),
        ] {
            assert_eq!(message(&entry(send), None).unwrap().kind(), kind);
        }
    }

    #[test]
    fn an_edit_is_the_same_from_the_entry_and_from_the_change_alone() {
        let entry = entry(wire::Send {
            client_message_id: "c".to_owned(),
            text: "helo".to_owned(),
            reply_to: Some(MessageId(9).into()),
            ..Default::default()
        });
        let Some(wire::entry::Content::Event(event)) = entry.content.clone() else { unreachable!() };
        let change = wire::Change { event, text: "hello".to_owned(), edited_at_ms: 2_000, ..change_of(&entry) };
        let edited = message(&entry, Some(&change)).unwrap();
        assert_eq!((edited.text.as_str(), edited.edited_at), ("hello", Some(Timestamp::from_millis(2_000))));
        assert_eq!(changed_message(&change).unwrap(), edited);
    }

    #[test]
    fn a_deletion_leaves_the_place_only() {
        let entry = entry(wire::Send { text: "secret".to_owned(), ..Default::default() });
        let change = wire::Change { deleted_at_ms: 2_000, ..change_of(&entry) };
        for deleted in [message(&entry, Some(&change)).unwrap(), changed_message(&change).unwrap()] {
            assert_eq!((deleted.text.as_str(), deleted.seq, deleted.edited_at), ("", 7, None));
            assert!(deleted.deleted_at.is_some() && deleted.encrypted.is_none());
        }
    }

    #[test]
    fn a_damaged_event_is_an_error_and_not_a_panic() {
        let damaged = wire::Entry {
            content: Some(wire::entry::Content::Event(vec![0xff, 0xff].into())),
            ..entry(wire::Send::default())
        };
        assert!(message(&damaged, None).is_err());
    }

    #[test]
    fn all_the_others_are_the_least_but_oneself() {
        let least_two = |least, holders, next| Some(wire::LeastTwo { least, holders, next });
        let row = wire::ConversationRow {
            kind: wire::ConversationKind::Group.into(),
            last_seq: 9,
            minima: Some(wire::CursorMinima {
                conversation_id: None,
                delivered: least_two(3, 1, 5),
                seen: least_two(2, 2, 2),
            }),
            ..Default::default()
        };
        let member = |delivered_seq, seen_seq| wire::MemberRow {
            role: wire::Role::Member.into(),
            delivered_seq,
            seen_seq,
            ..Default::default()
        };
        let all = |member: &wire::MemberRow| {
            let seen = conversation_from_rows(&row, member, None);
            (seen.delivered_to_all_seq, seen.seen_by_all_seq)
        };
        assert_eq!(all(&member(3, 2)), (5, 2), "alone with the least delivered, one of two with the least seen");
        assert_eq!(all(&member(5, 4)), (3, 2));
        let direct = wire::ConversationRow { kind: wire::ConversationKind::Direct.into(), ..row.clone() };
        let seen = conversation_from_rows(&direct, &member(9, 9), Some(&member(6, 4)));
        assert_eq!((seen.delivered_to_all_seq, seen.seen_by_all_seq), (6, 4));
        assert_eq!(conversation_from_rows(&direct, &member(9, 4), None).unread_count, 5);
    }

    #[test]
    fn for_one_who_left_a_conversation_ends_there() {
        let row = wire::ConversationRow { last_seq: 9, ..Default::default() };
        let member = wire::MemberRow {
            past_stays: vec![wire::Stay { joined_seq: 1, left_seq: 5 }],
            seen_seq: 2,
            ..Default::default()
        };
        let seen = conversation_from_rows(&row, &member, None);
        assert_eq!((seen.last_seq, seen.unread_count, seen.role.as_str()), (5, 0, ""));
    }

    #[test]
    fn role_names_come_back() {
        for role in [wire::Role::Unspecified, wire::Role::Member, wire::Role::Admin, wire::Role::Owner] {
            assert_eq!(role_from_name(role_name(role)), Some(role));
        }
        assert_eq!(role_from_name("king"), None);
    }
}

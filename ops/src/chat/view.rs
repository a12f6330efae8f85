//! How messages and conversations look in a terminal.

use tidings_schemas::client;

/// Prints a line above the prompt.
pub(crate) type Print = Box<dyn FnMut(String) + Send>;

/// A message as one line. `name` turns a user id into a name.
pub(crate) fn message(message: &client::Message, title: &str, name: impl Fn(&str) -> String) -> String {
    let time = message.sent_at.map(|at| at.to_string()).unwrap_or_default();
    let clock = time.get(11..16).unwrap_or("--:--");
    let place = format!("{clock} [{title} #{}]", message.seq);
    if let Some(membership) = &message.membership {
        return format!("{place} * {}", membership_text(membership, name));
    }
    let who = name(&message.sender_id);
    if message.deleted_at.is_some() {
        return format!("{place} {who}: (deleted)");
    }
    let edited = if message.edited_at.is_some() { " (edited)" } else { "" };
    let text = match message.kind() {
        client::message_kind::Value::Encrypted => "(encrypted)".to_owned(),
        client::message_kind::Value::Media => {
            let names: Vec<&str> = message.attachments.iter().map(|attachment| attachment.name.as_str()).collect();
            format!("{} (attached: {})", message.text, names.join(", "))
        }
        _ => message.text.clone(),
    };
    format!("{place} {who}: {}{edited}", printable(&text))
}

/// Text from others, without the control characters that would drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn membership_text(membership: &client::Membership, name: impl Fn(&str) -> String) -> String {
    use client::membership_action::Value;
    let by = name(&membership.by);
    let user = membership.user_id.as_deref().map(&name).unwrap_or_default();
    match membership.action() {
        Value::Created => format!("{by} began the conversation"),
        Value::Added => format!("{by} added {user}"),
        Value::Removed => format!("{by} removed {user}"),
        Value::Left => format!("{by} left"),
        Value::Role => format!("{user} is now {}", membership.role.as_deref().unwrap_or("member")),
        Value::Renamed => format!("{by} named it {}", printable(membership.title.as_deref().unwrap_or_default())),
        Value::Unspecified => "something changed".to_owned(),
    }
}

/// A conversation as one line of a list.
pub(crate) fn conversation(number: usize, conversation: &client::Conversation) -> String {
    let unread =
        if conversation.unread_count > 0 { format!("  {} unread", conversation.unread_count) } else { String::new() };
    format!("{number:>3}  {}  ({} members){unread}", title(conversation), conversation.member_count)
}

/// What a conversation is called.
pub(crate) fn title(conversation: &client::Conversation) -> String {
    match &conversation.peer {
        Some(peer) if !peer.display_name.is_empty() => printable(&peer.display_name),
        Some(peer) => printable(&peer.username),
        None if conversation.title.is_empty() => "(no title)".to_owned(),
        None => printable(&conversation.title),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_safe_line() {
        let sent = client::Message {
            seq: 4,
            sender_id: "u".to_owned(),
            text: "hi\u{1b}[2J".to_owned(),
            sent_at: Some(tidings_schemas::time::Timestamp::from_millis(1_767_225_660_000)),
            ..Default::default()
        };
        assert_eq!(message(&sent, "Ann", |_| "ann".to_owned()), "00:01 [Ann #4] ann: hi\u{fffd}[2J");
    }
}

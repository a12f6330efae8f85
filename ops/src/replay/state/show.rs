//! How conversations of the past are written: JSON, and the same for people.

use std::{collections::HashMap, fmt::Write as _, ops::Range};

use prost::Message;
use serde_json::{Value, json};
use tidings_dataflow::conversations::saved::{SavedConversation, SavedMember};
use tidings_replay::{
    decode,
    state::{Standing, Start, last::Last},
};
use tidings_schemas::{
    ids::{MessageId, UserId},
    topics::Topic,
    wire::{self, ConversationKind, MembershipAction, Role, entry::Content, event::Body},
};

use super::{Found, presence};
use crate::replay::table::{Columns, short};

/// Letters of a text in a table.
const TEXT_LETTERS: usize = 48;

/// An answer in both forms.
pub(super) struct Answer {
    pub(super) json: Value,
    pub(super) text: String,
}

pub(super) fn time(at_ms: i64) -> String {
    decode::time(at_ms)
}

pub(super) fn time_or_null(at_ms: Option<i64>) -> Value {
    at_ms.filter(|at_ms| *at_ms != 0).map_or(Value::Null, |at_ms| time(at_ms).into())
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Member => "member",
        Role::Unspecified => "",
    }
}

fn kind(kind: ConversationKind) -> &'static str {
    match kind {
        ConversationKind::Direct => "direct",
        ConversationKind::Group => "group",
        ConversationKind::Unspecified => "",
    }
}

pub(super) fn start_json(start: Start) -> Value {
    match start {
        Start::Beginning => json!({"beginning": true}),
        Start::Checkpoint { sequence, offset, written_at_ms } => {
            json!({"checkpoint": sequence, "offset": offset, "written_at": time(written_at_ms)})
        }
    }
}

fn start_text(start: Start) -> String {
    match start {
        Start::Beginning => "the log's beginning".to_owned(),
        Start::Checkpoint { sequence, offset, .. } => format!("checkpoint {sequence} at offset {offset}"),
    }
}

/// Where a partition stands.
pub(super) fn standing(standing: &Standing) -> Value {
    json!({
        "topic": Topic::Events.name(),
        "partition": standing.partition,
        "next_offset": standing.end,
        "clock": time_or_null(standing.clock_ms),
        "built_from": start_json(standing.start),
        "events_taken": standing.taken,
    })
}

fn standing_text(standing: &Standing) -> String {
    let Standing { partition, end, start, taken, .. } = standing;
    format!("events.v1 {partition} before offset {end}, from {} and {taken} events", start_text(*start))
}

pub(super) fn name(names: &HashMap<UserId, String>, user: UserId) -> Value {
    names.get(&user).map_or(Value::Null, |name| name.as_str().into())
}

fn called(names: &HashMap<UserId, String>, user: UserId) -> String {
    names.get(&user).cloned().unwrap_or_else(|| user.to_string())
}

/// Everybody who is named in the answer about a conversation.
pub(super) fn people(found: &Found) -> Vec<UserId> {
    let sender = found.last.as_ref().and_then(|last| last.entry.sender_id).map(UserId::from);
    found.conversation.members.iter().map(|member| member.user).chain(sender).collect()
}

/// Everybody who is named in the line about it in a user's list.
pub(super) fn people_of_line(found: &Found, user: UserId) -> Vec<UserId> {
    let sender = found.last.as_ref().and_then(|last| last.entry.sender_id).map(UserId::from);
    other(&found.conversation, user).into_iter().chain(sender).collect()
}

fn other(conversation: &SavedConversation, user: UserId) -> Option<UserId> {
    let is_direct = conversation.kind == ConversationKind::Direct;
    conversation.members.iter().map(|member| member.user).find(|other| is_direct && *other != user)
}

/// What was said last, with its text as it then was.
fn last_json(last: &Last, names: &HashMap<UserId, String>) -> Value {
    let entry = &last.entry;
    let sender = UserId::from(entry.sender_id.unwrap_or_default());
    let deleted_at_ms = last.change.as_ref().map_or(0, |change| change.deleted_at_ms);
    let edited_at_ms = last.change.as_ref().map_or(0, |change| change.edited_at_ms);
    let mut shown = json!({
        "seq": entry.seq,
        "message_id": MessageId::from(entry.message_id.unwrap_or_default()).to_string(),
        "sender_id": sender.to_string(),
        "sender": name(names, sender),
        "sent_at": time(entry.sent_at_ms),
        "kind": "unknown",
    });
    match &entry.content {
        Some(Content::Event(event)) => {
            let Ok(wire::Event { body: Some(Body::Send(send)), .. }) = wire::Event::decode(event.clone()) else {
                return shown;
            };
            let is_media = !send.attachments.is_empty();
            shown["kind"] = match (&send.encrypted, is_media) {
                (Some(_), _) => "encrypted",
                (None, true) => "media",
                (None, false) => "text",
            }
            .into();
            let edited = last.change.as_ref().filter(|_| edited_at_ms != 0).map(|change| &change.text);
            shown["text"] = if deleted_at_ms != 0 { "".into() } else { edited.unwrap_or(&send.text).as_str().into() };
            shown["edited_at"] = time_or_null(Some(edited_at_ms));
            shown["deleted_at"] = time_or_null(Some(deleted_at_ms));
        }
        Some(Content::Membership(membership)) => {
            shown["kind"] = "membership".into();
            shown["action"] = action(membership.action()).into();
            let about = membership.user_id.map(UserId::from);
            shown["user_id"] = about.map_or(Value::Null, |user| user.to_string().into());
            shown["title"] = membership.title.as_str().into();
            shown["role"] = role(membership.role()).into();
        }
        None => {}
    }
    shown
}

fn action(action: MembershipAction) -> &'static str {
    match action {
        MembershipAction::Unspecified => "",
        MembershipAction::Created => "created",
        MembershipAction::Added => "added",
        MembershipAction::Removed => "removed",
        MembershipAction::Left => "left",
        MembershipAction::Role => "role",
        MembershipAction::Renamed => "renamed",
    }
}

/// In a few words.
fn last_text(last: Option<&Value>) -> String {
    let Some(last) = last.filter(|last| !last.is_null()) else {
        return "(no longer in the timeline, or not recorded yet)".to_owned();
    };
    let field = |name: &str| last[name].as_str().unwrap_or_default();
    let by = if field("sender").is_empty() { field("sender_id") } else { field("sender") };
    let said = match field("kind") {
        "membership" => format!("({} {})", field("action"), field("title")).replace(" )", ")"),
        _ if last["deleted_at"].is_string() => "(deleted)".to_owned(),
        "text" => short(field("text"), TEXT_LETTERS),
        "media" => short(&format!("(media) {}", field("text")), TEXT_LETTERS),
        other => format!("({other})"),
    };
    format!("{} {by}: {said}", field("sent_at"))
}

fn unread(conversation: &SavedConversation, member: &SavedMember) -> u64 {
    conversation.last_seq.saturating_sub(member.seen_seq)
}

/// One conversation.
pub(super) fn conversation(at: &Standing, found: &Found, names: &HashMap<UserId, String>) -> Answer {
    let Found { conversation, last } = found;
    let last = last.as_ref().map(|last| last_json(last, names));
    let member_json = |member: &SavedMember| {
        json!({
            "user_id": member.user.to_string(),
            "username": name(names, member.user),
            "role": role(member.role),
            "joined_seq": member.joined_seq,
            "delivered_seq": member.delivered_seq,
            "seen_seq": member.seen_seq,
            "unread": unread(conversation, member),
        })
    };
    let json = json!({
        "conversation": {
            "conversation_id": conversation.id.to_string(),
            "kind": kind(conversation.kind),
            "title": conversation.title,
            "created_at": time(conversation.created_at_ms),
            "is_deleted": conversation.deleted,
            "last_seq": conversation.last_seq,
            "last_entry": last,
            "members": conversation.members.iter().map(member_json).collect::<Vec<_>>(),
        },
        "built": [standing(at)],
    });
    let mut text = String::new();
    let deleted = if conversation.deleted { ", deleted" } else { "" };
    let title = if conversation.title.is_empty() { String::new() } else { format!(" {:?}", conversation.title) };
    let (kind, id, last_seq) = (kind(conversation.kind), conversation.id, conversation.last_seq);
    let created = time(conversation.created_at_ms);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{kind} {id}{title}, created {created}, {last_seq} entries{deleted}");
    let _ = writeln!(text, "last: {}", last_text(last.as_ref()));
    let mut columns = Columns::new(["USER", "NAME", "ROLE", "JOINED", "DELIVERED", "SEEN", "UNREAD"]);
    for member in &conversation.members {
        columns.row([
            member.user.to_string(),
            names.get(&member.user).cloned().unwrap_or_default(),
            role(member.role).to_owned(),
            member.joined_seq.to_string(),
            member.delivered_seq.to_string(),
            member.seen_seq.to_string(),
            unread(conversation, member).to_string(),
        ]);
    }
    let _ = writeln!(text, "{columns}\n({})", standing_text(at));
    Answer { json, text }
}

/// A user and the user's conversations.
pub(super) fn user(
    user: UserId,
    found: &[Found],
    presence: &Value,
    names: &HashMap<UserId, String>,
    built: Vec<Value>,
) -> Answer {
    let mut conversations = Vec::new();
    let mut columns = Columns::new(["CONVERSATION", "KIND", "TITLE", "ROLE", "ENTRIES", "UNREAD", "LAST"]);
    let mut unread_of_all = 0;
    for Found { conversation, last } in found {
        let Some(member) = conversation.member(user) else { continue };
        let last = last.as_ref().map(|last| last_json(last, names));
        let other = other(conversation, user);
        let unread = unread(conversation, member);
        unread_of_all += unread;
        let title = other.map_or_else(|| conversation.title.clone(), |other| called(names, other));
        columns.row([
            conversation.id.to_string(),
            kind(conversation.kind).to_owned(),
            short(&title, TEXT_LETTERS),
            role(member.role).to_owned(),
            conversation.last_seq.to_string(),
            unread.to_string(),
            last_text(last.as_ref()),
        ]);
        conversations.push(json!({
            "conversation_id": conversation.id.to_string(),
            "kind": kind(conversation.kind),
            "title": conversation.title,
            "other_user_id": other.map(|other| other.to_string()),
            "other_username": other.map(|other| name(names, other)),
            "role": role(member.role),
            "members": conversation.members.len(),
            "joined_seq": member.joined_seq,
            "delivered_seq": member.delivered_seq,
            "seen_seq": member.seen_seq,
            "last_seq": conversation.last_seq,
            "unread": unread,
            "last_entry": last,
        }));
    }
    let mut text = String::new();
    let count = conversations.len();
    let _ = writeln!(text, "{} ({user}): {}", called(names, user), presence::text(presence));
    let s = if count == 1 { "" } else { "s" };
    let _ = writeln!(text, "{count} conversation{s}, {unread_of_all} unread");
    if columns.has_rows() {
        let _ = writeln!(text, "{columns}");
    }
    let json = json!({
        "user": {
            "user_id": user.to_string(),
            "username": name(names, user),
            "presence": presence,
            "unread": unread_of_all,
            "conversations": conversations,
        },
        "built": built,
    });
    Answer { json, text }
}

/// How much there was in a partition.
pub(super) struct Counted {
    pub(super) partition: u32,
    standing: Value,
    line: String,
    conversations: u64,
    groups: u64,
    deleted: u64,
    memberships: u64,
    entries: u64,
}

impl Counted {
    pub(super) fn new(at: &Standing) -> Self {
        Self {
            partition: at.partition,
            standing: standing(at),
            line: standing_text(at),
            conversations: 0,
            groups: 0,
            deleted: 0,
            memberships: 0,
            entries: 0,
        }
    }

    pub(super) fn count(&mut self, conversation: &SavedConversation) {
        self.conversations += 1;
        self.groups += u64::from(conversation.kind == ConversationKind::Group);
        self.deleted += u64::from(conversation.deleted);
        self.memberships += conversation.members.len() as u64;
        self.entries += conversation.last_seq;
    }
}

/// How much there was.
pub(super) fn summary(rows: &[Counted]) -> Answer {
    let mut columns = Columns::new(["EVENTS", "CONVERSATIONS", "GROUPS", "DELETED", "MEMBERSHIPS", "ENTRIES", "CLOCK"]);
    let mut total = Counted {
        partition: 0,
        standing: Value::Null,
        line: String::new(),
        conversations: 0,
        groups: 0,
        deleted: 0,
        memberships: 0,
        entries: 0,
    };
    let mut row = |name: String, of: &Counted, clock: &str| {
        let cells =
            [of.conversations, of.groups, of.deleted, of.memberships, of.entries].map(|count| count.to_string());
        let [conversations, groups, deleted, memberships, entries] = cells;
        columns.row([name, conversations, groups, deleted, memberships, entries, clock.to_owned()]);
    };
    for counted in rows {
        row(counted.partition.to_string(), counted, counted.standing["clock"].as_str().unwrap_or(""));
        total.conversations += counted.conversations;
        total.groups += counted.groups;
        total.deleted += counted.deleted;
        total.memberships += counted.memberships;
        total.entries += counted.entries;
    }
    row("all".to_owned(), &total, "");
    let lines: Vec<String> = rows.iter().map(|counted| format!("({})", counted.line)).collect();
    let json = json!({
        "conversations": total.conversations,
        "groups": total.groups,
        "deleted": total.deleted,
        "memberships": total.memberships,
        "entries": total.entries,
        "built": rows.iter().map(|counted| counted.standing.clone()).collect::<Vec<_>>(),
    });
    Answer { json, text: format!("{columns}\n{}", lines.join("\n")) }
}

/// What would be read.
pub(super) fn plan(ranges: &[(Topic, u32, Range<u64>, String)]) -> Answer {
    let mut columns = Columns::new(["TOPIC", "P", "FROM", "TO", "RECORDS", "BUILT FROM"]);
    let mut listed = Vec::new();
    let mut records = 0;
    for (topic, partition, offsets, from) in ranges {
        let count = offsets.end - offsets.start;
        records += count;
        columns.row([
            topic.name().to_owned(),
            partition.to_string(),
            offsets.start.to_string(),
            offsets.end.to_string(),
            count.to_string(),
            from.clone(),
        ]);
        listed.push(json!({
            "topic": topic.name(), "partition": partition, "start": offsets.start, "end": offsets.end, "built_from": from,
        }));
    }
    let text = format!("{columns}\n{records} records would be taken in");
    Answer { json: json!({"records": records, "ranges": listed}), text }
}

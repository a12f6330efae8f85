//! How a life is written: JSON, and the same for people.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use prost::Message;
use serde_json::{Value, json};
use tidings_replay::{
    decode,
    trace::{Changed, Moved, Place, Push, Recipient, Trace, Verdict},
};
use tidings_schemas::{
    ids::{MessageId, UserId},
    topics::Topic,
    wire::{self, entry::Content, event::Body},
};

use super::archive::Answer;
use crate::replay::{
    source::Source,
    table::{Columns, short},
};

/// Letters of a text in a table.
const TEXT_LETTERS: usize = 60;

/// One step on the way.
struct Step {
    name: &'static str,
    at_ms: i64,
    /// After the step that it follows from.
    after_ms: Option<i64>,
    places: Vec<Place>,
    note: String,
}

/// Everybody who is named.
pub(super) fn people(trace: &Trace) -> HashSet<UserId> {
    let changed = trace.changes.iter().filter_map(|changed| changed.change.by).map(UserId::from);
    trace.recipients.keys().copied().chain(actor(trace)).chain(changed).collect()
}

fn event(trace: &Trace) -> Option<wire::Event> {
    trace.event.as_ref().and_then(|(_, record)| wire::Event::decode(record.value.clone()).ok())
}

fn actor(trace: &Trace) -> Option<UserId> {
    let sender = match &trace.verdict {
        Verdict::Accepted(entry) => entry.sender_id,
        _ => event(trace).and_then(|event| event.actor_id),
    };
    sender.map(UserId::from)
}

/// The steps in their order; each after the one that it follows from.
fn steps(trace: &Trace) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut step = |name, at_ms: i64, from_ms: Option<i64>, places: Vec<Place>, note: String| {
        steps.push(Step { name, at_ms, after_ms: from_ms.map(|from_ms| at_ms.saturating_sub(from_ms)), places, note });
    };
    let stamped_ms = trace.stamped_at_ms;
    if let Some(at_ms) = stamped_ms {
        let origin = event(trace).and_then(|event| event.origin);
        let note =
            origin.map_or_else(String::new, |origin| format!("edge {}, request {}", origin.edge_id, origin.request_id));
        step("stamped", at_ms, None, Vec::new(), note);
    }
    let appended = trace.event.as_ref().map(|(place, _)| *place);
    if let Some(place) = appended {
        step("appended", place.appended_at_ms, stamped_ms, vec![place], String::new());
    }
    let appended_ms = appended.map(|place| place.appended_at_ms);
    let Some(timeline) = trace.timeline else { return steps };
    step("timeline", timeline.appended_at_ms, appended_ms, vec![timeline], verdict_text(trace));
    if let Some(push) = trace.verdict_pushed {
        let note = format!("to edge {}", push.edge_id);
        step("verdict", push.place.appended_at_ms, Some(timeline.appended_at_ms), vec![push.place], note);
    }
    let latest = |places: &[Place]| places.iter().map(|place| place.appended_at_ms).max();
    let fanned_out_ms = latest(&trace.fanout);
    if let Some(at_ms) = fanned_out_ms {
        step("fanout", at_ms, Some(timeline.appended_at_ms), trace.fanout.clone(), String::new());
    }
    let mut inbox: Vec<Place> =
        trace.recipients.values().filter_map(|recipient| recipient.inbox).map(|(place, _)| place).collect();
    inbox.sort_by_key(|place| (place.partition, place.offset));
    inbox.dedup();
    let inbox_ms = latest(&inbox);
    if let Some(at_ms) = inbox_ms {
        let note = format!("{} recipients", trace.recipients.len());
        step("inbox", at_ms, fanned_out_ms.or(Some(timeline.appended_at_ms)), inbox, note);
    }
    let mut pushes: Vec<Place> =
        trace.recipients.values().flat_map(|recipient| &recipient.pushes).map(|push| push.place).collect();
    pushes.sort_by_key(|place| (place.partition, place.offset));
    pushes.dedup();
    let pushed_ms = latest(&pushes);
    if let Some(at_ms) = pushed_ms {
        let reached = trace.recipients.values().filter(|recipient| !recipient.pushes.is_empty()).count();
        let note = format!("{reached} of {} recipients had a session", trace.recipients.len());
        step("deliveries", at_ms, inbox_ms, pushes, note);
    }
    // The sender has seen what the sender wrote.
    let others: Vec<&Recipient> = trace.recipients.values().filter(|recipient| !recipient.is_sender).collect();
    let all = |moved: fn(&Recipient) -> Option<Moved>| {
        let moved: Vec<Moved> = others.iter().filter_map(|recipient| moved(recipient)).collect();
        let wrote = moved.iter().filter(|moved| moved.is_by_own_entry).count();
        let wrote = if wrote > 0 { format!(", {wrote} by writing something") } else { String::new() };
        let note = format!("{} of {} others{wrote}", moved.len(), others.len());
        moved.iter().map(|moved| moved.at_ms).max().map(|at_ms| (at_ms, note))
    };
    let delivered = all(|recipient| recipient.delivered);
    let delivered_ms = delivered.as_ref().map(|(at_ms, _)| *at_ms);
    if let Some((at_ms, note)) = delivered {
        step("delivered", at_ms, pushed_ms.or(inbox_ms), Vec::new(), note);
    }
    if let Some((at_ms, note)) = all(|recipient| recipient.seen) {
        step("seen", at_ms, delivered_ms, Vec::new(), note);
    }
    steps
}

fn verdict_text(trace: &Trace) -> String {
    let target = |id: Option<wire::Id>| MessageId::from(id.unwrap_or_default());
    match &trace.verdict {
        Verdict::Accepted(entry) => format!("accepted as seq {}", entry.seq),
        Verdict::Repeated(first) => format!("a repeat of message {} (seq {})", target(first.message_id), first.seq),
        Verdict::Refused(refusal) => format!("refused: {} ({})", refusal.message, code(refusal)),
        Verdict::Changed(change) => {
            let what = if change.deleted_at_ms != 0 { "deletion" } else { "edit" };
            format!("{what} of message {} (seq {})", target(change.message_id), change.seq)
        }
        Verdict::NoEntry => "no entry follows from it".to_owned(),
        Verdict::NotRecorded => "not recorded yet, or no longer kept".to_owned(),
    }
}

fn code(refusal: &wire::Refusal) -> String {
    let name = refusal.code().as_str_name();
    name.strip_prefix("ERROR_CODE_").unwrap_or(name).to_lowercase()
}

fn place_json(place: &Place) -> Value {
    json!({
        "topic": place.topic.name(),
        "partition": place.partition,
        "offset": place.offset,
        "appended_at": decode::time(place.appended_at_ms),
    })
}

fn place_text(place: &Place) -> String {
    format!("{} {} {}", place.topic.name(), place.partition, place.offset)
}

fn named(names: &HashMap<UserId, String>, user: UserId) -> Value {
    names.get(&user).map_or(Value::Null, |name| name.as_str().into())
}

/// The whole as JSON.
pub(super) fn json(source: &Source, trace: &Trace, names: &HashMap<UserId, String>, archive: &Answer) -> Value {
    let since_ms = |at_ms: i64| trace.stamped_at_ms.or(trace.at_ms).map(|from_ms| at_ms.saturating_sub(from_ms));
    let step = |step: &Step| {
        json!({
            "step": step.name,
            "at": decode::time(step.at_ms),
            "after_ms": step.after_ms,
            "since_stamped_ms": since_ms(step.at_ms),
            "places": step.places.iter().map(place_json).collect::<Vec<_>>(),
        })
    };
    let moved = |moved: &Moved| {
        json!({
            "at": decode::time(moved.at_ms),
            "since_stamped_ms": since_ms(moved.at_ms),
            "source_partition": moved.source.partition,
            "source_offset": moved.source.offset,
            "timeline_offset": moved.place.offset,
            "by": if moved.is_by_own_entry { "own_entry" } else { "receipt" },
        })
    };
    let push = |push: &Push| {
        json!({
            "edge_id": push.edge_id,
            "offset": push.place.offset,
            "at": decode::time(push.place.appended_at_ms),
            "since_stamped_ms": since_ms(push.place.appended_at_ms),
        })
    };
    let recipient = |(user, recipient): (&UserId, &Recipient)| {
        json!({
            "user_id": user.to_string(),
            "username": named(names, *user),
            "is_sender": recipient.is_sender,
            "offset": recipient.inbox.map(|(_, offset)| offset),
            "inbox": recipient.inbox.map(|(place, _)| place_json(&place)),
            "pushes": recipient.pushes.iter().map(push).collect::<Vec<_>>(),
            "delivered": recipient.delivered.as_ref().map(moved),
            "seen": recipient.seen.as_ref().map(moved),
        })
    };
    let record = trace.event.as_ref().map(|(place, record)| decode::json(Topic::Events, place.partition, record));
    let record = record.and_then(|record| serde_json::from_str::<Value>(&record).ok());
    json!({
        "source": source.place,
        "log_id": format!("{:032x}", source.log.log_id()),
        "message_id": trace.message_id.map(|id| id.to_string()),
        "conversation_id": trace.conversation_id.map(|id| id.to_string()),
        "sender_id": actor(trace).map(|user| user.to_string()),
        "sender": actor(trace).map_or(Value::Null, |user| named(names, user)),
        "event_partition": trace.source.partition,
        "event_offset": trace.source.offset,
        "event": record,
        "verdict": verdict_json(trace),
        "steps": steps(trace).iter().map(step).collect::<Vec<_>>(),
        "recipients": trace.recipients.iter().map(recipient).collect::<Vec<_>>(),
        "not_kept": trace.not_kept.iter().map(|topic| topic.name()).collect::<Vec<_>>(),
        "changes": trace.changes.iter().map(|changed| change_json(changed, names)).collect::<Vec<_>>(),
        "archive": archive_json(archive),
    })
}

fn verdict_json(trace: &Trace) -> Value {
    let id = |id: Option<wire::Id>| MessageId::from(id.unwrap_or_default()).to_string();
    match &trace.verdict {
        Verdict::Accepted(entry) => {
            json!({"outcome": "accepted", "seq": entry.seq, "sent_at": decode::time(entry.sent_at_ms)})
        }
        Verdict::Repeated(first) => {
            json!({"outcome": "repeated", "seq": first.seq, "message_id": id(first.message_id)})
        }
        Verdict::Refused(refusal) => {
            json!({"outcome": "refused", "code": code(refusal), "message": refusal.message})
        }
        Verdict::Changed(change) => {
            json!({"outcome": "changed", "seq": change.seq, "message_id": id(change.message_id)})
        }
        Verdict::NoEntry => json!({"outcome": "no_entry"}),
        Verdict::NotRecorded => json!({"outcome": "not_recorded"}),
    }
}

fn change_json(changed: &Changed, names: &HashMap<UserId, String>) -> Value {
    let Changed { change, source, place } = changed;
    let by = UserId::from(change.by.unwrap_or_default());
    let is_deletion = change.deleted_at_ms != 0;
    json!({
        "kind": if is_deletion { "deleted" } else { "edited" },
        "at": decode::time(if is_deletion { change.deleted_at_ms } else { change.edited_at_ms }),
        "by": by.to_string(),
        "by_username": named(names, by),
        "text": change.text,
        "source_partition": source.partition,
        "source_offset": source.offset,
        "timeline_offset": place.offset,
    })
}

fn archive_json(archive: &Answer) -> Value {
    match archive {
        Answer::NotAsked => Value::Null,
        Answer::Failed { url, error } => json!({"url": url, "error": error}),
        Answer::Asked { url, entry, message } => json!({"url": url, "entry": entry, "message": message}),
    }
}

/// The whole for people.
pub(super) fn text(trace: &Trace, names: &HashMap<UserId, String>, archive: &Answer) -> String {
    let mut text = String::new();
    let called = |user: UserId| names.get(&user).cloned().unwrap_or_else(|| user.to_string());
    let what = trace.message_id.map_or_else(|| "event".to_owned(), |id| format!("message {id}"));
    let within = trace.conversation_id.map_or_else(String::new, |id| format!(" in conversation {id}"));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{what}{within}");
    let by = actor(trace).map_or_else(String::new, called);
    let _ = writeln!(text, "{by}: {}", content(trace));
    if trace.event.is_none() {
        let _ = writeln!(text, "(the event itself is no longer kept)");
    }
    let mut columns = Columns::new(["STEP", "AT", "AFTER", "IN ALL", "WHERE", ""]);
    let ms = |span_ms: Option<i64>| span_ms.map_or_else(String::new, |span_ms| format!("{span_ms} ms"));
    let since_ms = |at_ms: i64| trace.stamped_at_ms.or(trace.at_ms).map(|from_ms| at_ms.saturating_sub(from_ms));
    for step in steps(trace) {
        columns.row([
            step.name.to_owned(),
            decode::time(step.at_ms),
            ms(step.after_ms),
            ms(since_ms(step.at_ms)),
            places_text(&step.places),
            step.note,
        ]);
    }
    let _ = writeln!(text, "{columns}");
    if trace.timeline.is_none() {
        let _ = writeln!(text, "{}", verdict_text(trace));
    }
    if !trace.recipients.is_empty() {
        let mut columns = Columns::new(["RECIPIENT", "NAME", "OFFSET", "INBOX", "PUSHED TO", "DELIVERED", "SEEN"]);
        for (user, recipient) in &trace.recipients {
            let pushes = recipient
                .pushes
                .iter()
                .map(|push| format!("edge {} after {}", push.edge_id, ms(since_ms(push.place.appended_at_ms))));
            let pushes: Vec<String> = pushes.collect();
            let moved = |moved: &Option<Moved>| {
                let Some(moved) = moved else { return "-".to_owned() };
                let wrote = if moved.is_by_own_entry && !recipient.is_sender { ", wrote" } else { "" };
                format!("{} ({}{wrote})", decode::time(moved.at_ms), ms(since_ms(moved.at_ms)))
            };
            let sender = if recipient.is_sender { " (sender)" } else { "" };
            columns.row([
                user.to_string(),
                format!("{}{sender}", names.get(user).cloned().unwrap_or_default()),
                recipient.inbox.map_or_else(|| "-".to_owned(), |(_, offset)| offset.to_string()),
                recipient.inbox.map_or_else(|| "-".to_owned(), |(place, _)| place_text(&place)),
                if pushes.is_empty() { "-".to_owned() } else { pushes.join(", ") },
                moved(&recipient.delivered),
                moved(&recipient.seen),
            ]);
        }
        let _ = writeln!(text, "\n{columns}");
    }
    for topic in &trace.not_kept {
        let _ = writeln!(text, "({} of that moment is no longer kept)", topic.name());
    }
    for Changed { change, place, .. } in &trace.changes {
        let by = called(UserId::from(change.by.unwrap_or_default()));
        let _ = match change.deleted_at_ms {
            0 => {
                let at = decode::time(change.edited_at_ms);
                writeln!(text, "edited {at} by {by} ({}): {:?}", place_text(place), short(&change.text, TEXT_LETTERS))
            }
            at_ms => writeln!(text, "deleted {} by {by} ({})", decode::time(at_ms), place_text(place)),
        };
    }
    let _ = match archive {
        Answer::NotAsked => Ok(()),
        Answer::Failed { url, error } => writeln!(text, "archive: not known, {url}: {error}"),
        Answer::Asked { url, entry: None, .. } => writeln!(text, "archive: no row in {url}"),
        Answer::Asked { url, entry: Some(entry), .. } => {
            let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            let from = format!("events {} {}", entry["source_partition"], entry["source_offset"]);
            writeln!(
                text,
                "archive: {} of seq {}, sent_at {}, from {from} ({url})",
                field("kind"),
                entry["seq"],
                field("sent_at")
            )
        }
    };
    text
}

/// As many places as a line takes.
fn places_text(places: &[Place]) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<String> = places.iter().take(SHOWN).map(place_text).collect();
    if places.len() > SHOWN {
        shown.push(format!("… {} in all", places.len()));
    }
    shown.join(", ")
}

/// What the event says, in a few words.
fn content(trace: &Trace) -> String {
    let event = match &trace.verdict {
        Verdict::Accepted(wire::Entry { content: Some(Content::Membership(membership)), .. }) => {
            let action = membership.action().as_str_name().to_lowercase();
            return format!("({})", action.trim_start_matches("membership_action_"));
        }
        Verdict::Accepted(wire::Entry { content: Some(Content::Event(event)), .. }) => {
            wire::Event::decode(event.clone()).ok()
        }
        _ => event(trace),
    };
    match event.and_then(|event| event.body) {
        Some(Body::Send(send)) if send.encrypted.is_some() => "(encrypted)".to_owned(),
        Some(Body::Send(send)) => format!("{:?}", short(&send.text, TEXT_LETTERS)),
        Some(Body::EditMessage(edit)) => format!("(edit) {:?}", short(&edit.text, TEXT_LETTERS)),
        Some(Body::DeleteMessage(_)) => "(deletion)".to_owned(),
        Some(Body::Receipts(receipts)) => format!("({} receipts)", receipts.receipts.len()),
        Some(_) => "(about the group)".to_owned(),
        None => "(not readable)".to_owned(),
    }
}

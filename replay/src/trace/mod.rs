//! One event's whole life: where each record stands that follows from it, who got it when, and what was done to it later.
//!
//! A message's id says where its event stands, if the log has made it; an id that came with a history of another log is
//! looked for in the timeline. Then `fanout`, `inbox` and `deliveries` are looked up near their moments, and the rest of the
//! conversation's timeline is read for receipts, edits and the deletion.
//!
//! - [`find`]: the event of an id. [`pushes`]: what was pushed to edges. [`later`]: what came of it later.

pub mod find;
pub mod later;
pub mod pushes;

use std::collections::BTreeMap;

use prost::Message;
use tidings_ingest::{Log, LogError, StoredRecord};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId, unpack_user_ids},
    limits::STAMP_SKEW_MAX,
    topics::Topic,
    wire::{self, Source, fanout_item, inbox_item},
};

pub use self::{
    find::{Asked, Located},
    later::{Changed, Later, Moved},
    pushes::{Push, Pushes},
};
use crate::{
    derived::{EVENTS_SOURCE, SOURCE, in_partition},
    scan::{Scan, ScanError},
    select::SelectError,
    state::Told,
};

/// Where a record stands, and when it was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// When the log took it, in milliseconds since the Unix epoch.
    pub appended_at_ms: i64,
}

impl Place {
    pub(crate) fn of(topic: Topic, partition: u32, record: &StoredRecord) -> Self {
        Self { topic, partition, offset: record.offset, appended_at_ms: record.timestamp_ms }
    }
}

/// What became of the event.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It has no record in the timeline yet (or no longer).
    NotRecorded,
    /// An entry of a conversation.
    Accepted(wire::Entry),
    /// The repeat of an earlier one.
    Repeated(wire::Duplicate),
    /// It was refused.
    Refused(wire::Refusal),
    /// An edit or a deletion of another message.
    Changed(wire::Change),
    /// Anything else that makes no entry: receipts, or what could not be read.
    NoEntry,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recipient {
    /// The sender, too, is one: for the sender's other devices.
    pub is_sender: bool,
    /// The record of the inbox, and the offset in the user's own stream.
    pub inbox: Option<(Place, u64)>,
    /// The edges that it was pushed to. None: the user had no session (or the deliveries are no longer kept).
    pub pushes: Vec<Push>,
    /// When it was delivered first.
    pub delivered: Option<Moved>,
    /// When it was seen first.
    pub seen: Option<Moved>,
}

/// The whole life.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The message, if the event is one.
    pub message_id: Option<MessageId>,
    /// The conversation, if the event names one.
    pub conversation_id: Option<ConversationId>,
    /// Where the event stands in `events`.
    pub source: Source,
    /// The event; `None` where it is no longer kept.
    pub event: Option<(Place, StoredRecord)>,
    /// When the edge stamped it, bounded as the stage does.
    pub stamped_at_ms: Option<i64>,
    /// Its record in the timeline.
    pub timeline: Option<Place>,
    /// The shard's clock there: the time of the entry.
    pub at_ms: Option<i64>,
    /// What became of it.
    pub verdict: Verdict,
    /// Where the verdict went.
    pub verdict_pushed: Option<Push>,
    /// Its records in `fanout`.
    pub fanout: Vec<Place>,
    /// Those whom it is for.
    pub recipients: BTreeMap<UserId, Recipient>,
    /// Edits and the deletion, as far as they were recorded.
    pub changes: Vec<Changed>,
    /// Of these, retention has dropped what may have stood there.
    pub not_kept: Vec<Topic>,
}

/// Why it cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The log cannot be read.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Nobody knows it.
    #[error("message {id} is not in the log{} ({hint})", within.map(|within| format!(" in conversation {within}")).unwrap_or_default())]
    Unknown {
        /// The message.
        id: MessageId,
        /// Where it was looked for.
        within: Option<ConversationId>,
        /// What to do.
        hint: &'static str,
    },
}

impl From<LogError> for TraceError {
    fn from(error: LogError) -> Self {
        Self::Select(error.into())
    }
}

impl From<ScanError> for TraceError {
    fn from(error: ScanError) -> Self {
        Self::Select(error.into())
    }
}

/// Traces an event.
///
/// # Errors
/// It is not in the log; the log cannot be read.
pub fn trace(log: &dyn Log, asked: Asked, told: &(dyn Fn(Told) + Sync)) -> Result<Trace, TraceError> {
    let located = find::locate(log, asked, told)?;
    let mut trace = begin(located);
    let Some(timeline) = trace.timeline else { return Ok(trace) };
    let entry = match &trace.verdict {
        Verdict::Accepted(entry) => Some(entry.clone()),
        _ => None,
    };
    follow(log, &mut trace, timeline, entry.as_ref(), told)?;
    if let Some(entry) = entry {
        let later = later::read(log, &timeline, &entry, &trace.recipients, told)?;
        trace.changes = later.changes;
        for (user, (delivered, seen)) in later.moved {
            if let Some(recipient) = trace.recipients.get_mut(&user) {
                (recipient.delivered, recipient.seen) = (delivered, seen);
            }
        }
    }
    Ok(trace)
}

/// What the event and its timeline record say.
fn begin(located: Located) -> Trace {
    let Located { message_id, source, event, timeline } = located;
    let decoded = event.as_ref().and_then(|(_, record)| wire::Event::decode(record.value.clone()).ok());
    let skew_ms = i64::try_from(STAMP_SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
    let stamped_at_ms = event.as_ref().zip(decoded.as_ref()).map(|((_, record), event)| {
        let (earliest, latest) =
            (record.timestamp_ms.saturating_sub(skew_ms), record.timestamp_ms.saturating_add(skew_ms));
        event.stamped_at_ms.clamp(earliest, latest)
    });
    let conversation_id = decoded.as_ref().and_then(|event| event.conversation_id).map(ConversationId::from);
    let mut trace = Trace {
        message_id,
        conversation_id,
        source,
        event,
        stamped_at_ms,
        timeline: None,
        at_ms: None,
        verdict: Verdict::NotRecorded,
        verdict_pushed: None,
        fanout: Vec::new(),
        recipients: BTreeMap::new(),
        changes: Vec::new(),
        not_kept: Vec::new(),
    };
    let Some((place, record)) = timeline else { return trace };
    trace.timeline = Some(place);
    let Ok(record) = wire::TimelineRecord::decode(record.value) else { return trace };
    trace.at_ms = Some(record.at_ms);
    // An event may make two entries; the id says which is meant.
    let is_meant = |entry: &&wire::Entry| message_id.is_none_or(|id| entry.message_id.map(MessageId::from) == Some(id));
    trace.verdict = if let Some(entry) = record.entries.iter().find(is_meant) {
        trace.message_id = entry.message_id.map(MessageId::from);
        trace.conversation_id = entry.conversation_id.map(ConversationId::from);
        Verdict::Accepted(entry.clone())
    } else if let Some(refusal) = record.refusal {
        Verdict::Refused(refusal)
    } else if let Some(duplicate) = record.duplicate {
        Verdict::Repeated(duplicate)
    } else if let Some(change) = record.change {
        Verdict::Changed(change)
    } else {
        Verdict::NoEntry
    };
    trace
}

/// Whether retention has dropped records of about this moment from some partition of a topic.
fn is_kept(log: &dyn Log, topic: Topic, moment_ms: i64) -> Result<bool, TraceError> {
    for partition in 0..log.partitions(topic) {
        let kept = log.range(topic, partition)?;
        if kept.start == 0 {
            continue;
        }
        let oldest = Scan::new(log, topic, partition, kept.start..kept.start + 1)?.next().transpose()?;
        if oldest.is_none_or(|oldest| oldest.timestamp_ms > moment_ms) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `fanout`, `inbox` and `deliveries`.
fn follow(
    log: &dyn Log,
    trace: &mut Trace,
    timeline: Place,
    entry: Option<&wire::Entry>,
    told: &(dyn Fn(Told) + Sync),
) -> Result<(), TraceError> {
    let took = |records| {
        told(Told::Expect(records));
        told(Told::Took(records));
    };
    let mut latest_ms = timeline.appended_at_ms;
    let sender = entry.and_then(|entry| entry.sender_id).map(UserId::from);
    for partition in 0..log.partitions(Topic::Fanout) {
        let around_ms = timeline.appended_at_ms;
        let fanout = in_partition(log, (Topic::Fanout, partition), SOURCE, trace.source, around_ms, &took)?;
        if let Some(record) = fanout {
            trace.fanout.push(Place::of(Topic::Fanout, partition, &record));
            for user in fanned_out(&record, entry) {
                trace.recipients.entry(user).or_default().is_sender = Some(user) == sender;
            }
        }
        let inbox = in_partition(log, (Topic::Inbox, partition), EVENTS_SOURCE, trace.source, around_ms, &took)?;
        if let Some(record) = inbox {
            let place = Place::of(Topic::Inbox, partition, &record);
            latest_ms = latest_ms.max(place.appended_at_ms);
            for (user, offset) in numbered(&record, entry) {
                let recipient = trace.recipients.entry(user).or_default();
                recipient.is_sender = Some(user) == sender;
                recipient.inbox.get_or_insert((place, offset));
            }
        }
    }
    let Pushes { verdict, by_user } = pushes::find(log, trace.source, entry, timeline.appended_at_ms..latest_ms, told)?;
    trace.verdict_pushed = verdict;
    for (user, push) in by_user {
        trace.recipients.entry(user).or_default().pushes.push(push);
    }
    for topic in [Topic::Fanout, Topic::Inbox, Topic::Deliveries] {
        if !is_kept(log, topic, timeline.appended_at_ms)? {
            trace.not_kept.push(topic);
        }
    }
    Ok(())
}

/// Whether what an item holds is the entry; any item will do, where there is none.
fn is_entry(entry: Option<&wire::Entry>, conversation: Option<wire::Id>, seq: u64) -> bool {
    entry.is_none_or(|entry| (entry.conversation_id, entry.seq) == (conversation, seq))
}

fn fanned_out(record: &StoredRecord, entry: Option<&wire::Entry>) -> Vec<UserId> {
    let items = wire::FanoutRecord::decode(record.value.clone()).map(|record| record.items).unwrap_or_default();
    let is_meant = |item: &&wire::FanoutItem| match &item.content {
        Some(fanout_item::Content::Entry(found)) => is_entry(entry, found.conversation_id, found.seq),
        _ => entry.is_none(),
    };
    items.iter().filter(is_meant).flat_map(|item| unpack_user_ids(&item.user_ids)).collect()
}

fn numbered(record: &StoredRecord, entry: Option<&wire::Entry>) -> Vec<(UserId, u64)> {
    let items = wire::InboxRecord::decode(record.value.clone()).map(|record| record.items).unwrap_or_default();
    let is_meant = |item: &&wire::InboxItem| match &item.reference {
        Some(inbox_item::Reference::Entry(found)) => is_entry(entry, found.conversation_id, found.seq),
        _ => entry.is_none(),
    };
    let both = |item: &wire::InboxItem| unpack_user_ids(&item.user_ids).zip(item.offsets.clone()).collect::<Vec<_>>();
    items.iter().filter(is_meant).flat_map(both).collect()
}

//! What came of a message later: receipts, edits, its deletion. In the timeline of its partition, from its entry on.

use std::collections::BTreeMap;

use prost::Message;
use tidings_ingest::Log;
use tidings_schemas::{
    ids::UserId,
    topics::Topic,
    wire::{self, Source},
};

use super::{Place, Recipient};
use crate::{scan::Scan, scan::ScanError, state::Told};

/// A cursor that came to a message, or went past it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The time of the event that moved it, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// That event.
    pub source: Source,
    /// Its record in the timeline.
    pub place: Place,
    /// It was no receipt: the user wrote something, and whoever writes has seen all before.
    pub is_by_own_entry: bool,
}

/// An edit or a deletion.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// What was changed, and when.
    pub change: wire::Change,
    /// The event that did.
    pub source: Source,
    /// Its record in the timeline.
    pub place: Place,
}

/// What came later.
#[derive(Debug, Default)]
pub struct Later {
    /// When each recipient's cursors came to the message: delivered, seen.
    pub moved: BTreeMap<UserId, (Option<Moved>, Option<Moved>)>,
    /// In their order.
    pub changes: Vec<Changed>,
}

/// Reads it, to the timeline's end: an edit may come at any time.
///
/// # Errors
/// The log cannot be read.
pub(super) fn read(
    log: &dyn Log,
    timeline: &Place,
    entry: &wire::Entry,
    recipients: &BTreeMap<UserId, Recipient>,
    told: &(dyn Fn(Told) + Sync),
) -> Result<Later, ScanError> {
    let Place { partition, offset, .. } = *timeline;
    let conversation = entry.conversation_id.unwrap_or_default();
    let key = tidings_schemas::ids::ConversationId::from(conversation).to_bytes();
    let end = log.range(Topic::Timeline, partition)?.end;
    told(Told::Expect(end.saturating_sub(offset)));
    let mut later = Later::default();
    // Repeats tell nothing new.
    let mut next_source = 0;
    for record in Scan::new(log, Topic::Timeline, partition, offset..end)? {
        let record = record?;
        told(Told::Took(1));
        // A batch of receipts has no key; whatever else is about the conversation has its.
        if !record.key.is_empty() && record.key[..] != key {
            continue;
        }
        let place = Place::of(Topic::Timeline, partition, &record);
        let Ok(found) = wire::TimelineRecord::decode(record.value) else { continue };
        let Some(source) = found.source.filter(|source| source.offset >= next_source) else { continue };
        next_source = source.offset + 1;
        for cursors in &found.cursor_moves {
            let Some(user) = cursors.user_id.map(UserId::from).filter(|user| recipients.contains_key(user)) else {
                continue;
            };
            if cursors.conversation_id != Some(conversation) {
                continue;
            }
            let is_by_own_entry = found.entries.iter().any(|entry| entry.sender_id == cursors.user_id);
            let moved = Moved { at_ms: found.at_ms, source, place, is_by_own_entry };
            let (delivered, seen) = later.moved.entry(user).or_default();
            if cursors.delivered_seq >= entry.seq {
                delivered.get_or_insert(moved);
            }
            if cursors.seen_seq >= entry.seq {
                seen.get_or_insert(moved);
            }
        }
        let is_of_message = |change: &wire::Change| {
            (change.conversation_id, change.seq, change.message_id) == (Some(conversation), entry.seq, entry.message_id)
        };
        if let Some(change) = found.change.filter(is_of_message) {
            later.changes.push(Changed { change, source, place });
        }
    }
    Ok(later)
}

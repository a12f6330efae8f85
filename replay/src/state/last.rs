//! What was said last in conversations, as the timeline has it: read backwards until all is found.

use std::collections::HashMap;

use prost::Message;
use tidings_ingest::Log;
use tidings_schemas::{ids::ConversationId, topics::Topic, wire};

use super::{StateError, Told};
use crate::{
    derived::{SOURCE, in_timeline, source},
    scan::Scan,
};

/// Records that are read at a time.
const WINDOW_RECORDS: u64 = 4_096;

/// The newest entry of a conversation, with the edit or deletion that counted last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Last {
    /// As it was accepted.
    pub entry: wire::Entry,
    /// What was done to it since.
    pub change: Option<wire::Change>,
}

/// The entries with these `seq` of conversations of one partition, as they were when the event before `end` had happened.
/// One that is missing in the answer is no longer in the timeline, or not recorded yet.
///
/// # Errors
/// The log cannot be read.
pub fn last_entries(
    log: &dyn Log,
    partition: u32,
    end: u64,
    wanted: &HashMap<ConversationId, u64>,
    told: &(dyn Fn(Told) + Sync),
) -> Result<HashMap<ConversationId, Last>, StateError> {
    let kept = log.range(Topic::Timeline, partition)?;
    let mut found = HashMap::new();
    // With the offset of the event, since repeats stand behind what came later.
    let mut changes: HashMap<ConversationId, (u64, wire::Change)> = HashMap::new();
    let Some(last) = end.checked_sub(1) else { return Ok(found) };
    // Where the timeline is behind the events, all of it is older than the moment.
    let mut high = in_timeline(log, partition, last)?.map_or(kept.end, |record| record.offset + 1);
    // How far back changes of what was found may stand: where it stood first.
    let mut first = u64::MAX;
    while (found.len() < wanted.len() || high > first) && high > kept.start {
        let low = high.saturating_sub(WINDOW_RECORDS).max(kept.start);
        let window = Scan::new(log, Topic::Timeline, partition, low..high)?.collect::<Result<Vec<_>, _>>()?;
        (told)(Told::Expect(high - low));
        (told)(Told::Took(high - low));
        for record in window.iter().rev() {
            let id = record.key.first_chunk::<16>().filter(|_| record.key.len() == 16);
            let Some(id) = id.map(|id| ConversationId::from_bytes(*id)) else { continue };
            let Some(seq) = wanted.get(&id).copied() else { continue };
            let Some(source) = source(&record.value, SOURCE).map(|source| source.offset) else { continue };
            let Ok(timeline) = wire::TimelineRecord::decode(record.value.clone()) else { continue };
            if source >= end {
                continue;
            }
            if let Some(change) = timeline.change.filter(|change| change.seq == seq)
                && changes.get(&id).is_none_or(|(newest, _)| *newest < source)
            {
                changes.insert(id, (source, change));
            }
            if let Some(entry) = timeline.entries.into_iter().find(|entry| entry.seq == seq)
                && found.insert(id, Last { entry, change: None }).is_none()
            {
                // As many records as events before it: there are no repeats, and it stands here first.
                let is_first = source == record.offset;
                let place = if is_first { None } else { in_timeline(log, partition, source)? };
                first = first.min(place.map_or(record.offset, |record| record.offset));
            }
        }
        high = low;
    }
    for (id, (_, change)) in changes {
        if let Some(last) = found.get_mut(&id) {
            last.change = Some(change);
        }
    }
    Ok(found)
}

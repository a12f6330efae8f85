//! The event of a message.

use prost::Message;
use tidings_ingest::{Log, StoredRecord};
use tidings_schemas::{
    ids::{ConversationId, MessageId},
    topics::{Topic, conversation_partition},
    wire::{self, Source},
};

use super::{Place, TraceError};
use crate::{
    derived::{SOURCE, in_timeline, source},
    scan::Scan,
    select::SelectError,
    state::Told,
};

/// The bit of an offset in a message's id that says that it is the second entry of its event.
const SECOND_ENTRY: u64 = 1 << 57;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A message.
    Message {
        /// Its id.
        id: MessageId,
        /// Where to look, if the id does not say.
        conversation: Option<ConversationId>,
    },
    /// Whatever event stands here.
    Event {
        /// The partition of `events`.
        partition: u32,
        /// The offset.
        offset: u64,
    },
}

/// Where it was found.
#[derive(Debug)]
pub struct Located {
    /// The message that is asked for.
    pub message_id: Option<MessageId>,
    /// Its place in `events`.
    pub source: Source,
    /// What stands there, if it is kept.
    pub event: Option<(Place, StoredRecord)>,
    /// What the stage made of it, if it has, and it is kept.
    pub timeline: Option<(Place, StoredRecord)>,
}

/// Finds it.
///
/// # Errors
/// It is not in the log; the log cannot be read.
pub fn locate(log: &dyn Log, asked: Asked, told: &(dyn Fn(Told) + Sync)) -> Result<Located, TraceError> {
    let (id, conversation) = match asked {
        Asked::Event { partition, offset } => {
            let count = log.partitions(Topic::Events);
            if partition >= count {
                return Err(SelectError::NoPartition { topic: Topic::Events, partition, count }.into());
            }
            let located = at(log, None, partition, offset)?;
            if located.event.is_none() && located.timeline.is_none() {
                let kept = log.range(Topic::Events, partition)?;
                let (topic, start, end) = (Topic::Events, kept.start, kept.end);
                return Err(SelectError::NotKept { topic, partition, asked: offset, start, end }.into());
            }
            return Ok(located);
        }
        Asked::Message { id, conversation } => (id, conversation),
    };
    if let Some((partition, offset)) = id.position().filter(|(partition, _)| *partition < log.partitions(Topic::Events))
    {
        let located = at(log, Some(id), partition, offset & !SECOND_ENTRY)?;
        if is_of(&located, id) {
            return Ok(located);
        }
    }
    search(log, id, conversation, told)
}

/// What stands at a place.
fn at(log: &dyn Log, id: Option<MessageId>, partition: u32, offset: u64) -> Result<Located, TraceError> {
    let next = offset.saturating_add(1);
    let event = Scan::new(log, Topic::Events, partition, offset..next)?.next().transpose()?;
    let event = event.map(|record| (Place::of(Topic::Events, partition, &record), record));
    let timeline = in_timeline(log, partition, offset)?;
    let timeline = timeline.map(|record| (Place::of(Topic::Timeline, partition, &record), record));
    Ok(Located { message_id: id, source: Source { partition, offset }, event, timeline })
}

/// Whether what stands there is this message. Without a record in the timeline the event's time must be that of the id.
fn is_of(located: &Located, id: MessageId) -> bool {
    if let Some((_, record)) = &located.timeline {
        return names(&record.value, id);
    }
    let Some((_, record)) = &located.event else { return false };
    let Ok(event) = wire::Event::decode(record.value.clone()) else { return false };
    match event.body {
        Some(wire::event::Body::Send(wire::Send { message_id: Some(own), .. })) => MessageId::from(own) == id,
        _ => {
            let Source { partition, offset } = located.source;
            MessageId::from_position(event.stamped_at_ms, partition, offset) == id
        }
    }
}

fn names(timeline: &bytes::Bytes, id: MessageId) -> bool {
    wire::TimelineRecord::decode(timeline.clone())
        .is_ok_and(|record| record.entries.iter().any(|entry| entry.message_id.map(MessageId::from) == Some(id)))
}

/// Reads the timeline: of the conversation's partition, or of all.
fn search(
    log: &dyn Log,
    id: MessageId,
    conversation: Option<ConversationId>,
    told: &(dyn Fn(Told) + Sync),
) -> Result<Located, TraceError> {
    let count = log.partitions(Topic::Timeline);
    let partitions = match conversation {
        Some(conversation) => {
            let partition = conversation_partition(conversation, count);
            partition..partition + 1
        }
        None => 0..count,
    };
    for partition in partitions.clone() {
        let kept = log.range(Topic::Timeline, partition)?;
        told(Told::Expect(kept.end - kept.start));
    }
    for partition in partitions {
        for record in Scan::new(log, Topic::Timeline, partition, 0..u64::MAX)? {
            let record = record?;
            told(Told::Took(1));
            let is_elsewhere = conversation.is_some_and(|conversation| record.key[..] != conversation.to_bytes());
            if is_elsewhere || !names(&record.value, id) {
                continue;
            }
            if let Some(Source { partition, offset }) = source(&record.value, SOURCE) {
                return at(log, Some(id), partition, offset);
            }
        }
    }
    let hint = match conversation {
        Some(_) => "hint: leave --conversation out to look everywhere",
        None => "hint: it was never accepted, is of another log, or is older than what the timeline keeps",
    };
    Err(TraceError::Unknown { id, within: conversation, hint })
}

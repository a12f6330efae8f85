//! History as another system takes it in: `events` and `directory` of a log, in the order of their times, with message ids
//! written down (elsewhere they would follow from other offsets), origins taken out (nobody waits for a verdict there), and
//! ids mapped if that is asked for. The same spans always give the same records in the same order.

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use tidings_ingest::{Log, LogError, StoredRecord};
use tidings_schemas::ids::{ConversationId, MessageId, UserId};
use tidings_schemas::limits::STAMP_SKEW_MAX;
use tidings_schemas::topics::{Partitions, Topic, conversation_partition, username_partition};
use tidings_schemas::wire;

use crate::decode::{id_of, message};
use crate::ids::{IdMap, TooManyDirectChats, set_id};
use crate::scan::{Scan, ScanError};
use crate::select::Span;

const SEND: &str = "send";

/// A record for the other system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub topic: Topic,
    /// Which partition there.
    pub partition: u32,
    /// With the time that it had; its offset is that of the record that it was made from.
    pub record: StoredRecord,
}

/// Why history ended.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The source cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// See there.
    #[error(transparent)]
    Map(#[from] TooManyDirectChats),
    /// A record that cannot be decoded cannot be sent on either: whose it is stands in it.
    #[error(
        "offset {offset} of {} partition {partition} cannot be decoded ({error}) (leave it out by two ranges, before and behind it)",
        topic.name()
    )]
    Undecodable {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
        /// What is wrong.
        error: String,
    },
    /// Only what is true for good can be sent on.
    #[error("{} is not history that another system takes in (hint: events, directory)", topic.name())]
    Topic {
        /// The topic.
        topic: Topic,
    },
}

impl From<LogError> for HistoryError {
    fn from(error: LogError) -> Self {
        Self::Scan(error.into())
    }
}

/// The history of some spans.
pub struct History<'a> {
    sources: Vec<Source<'a>>,
    partitions: Partitions,
    map: Option<IdMap>,
}

struct Source<'a> {
    topic: Topic,
    partition: u32,
    scan: Scan<'a>,
    next: Option<StoredRecord>,
}

impl<'a> History<'a> {
    /// `partitions`: those of the system that it is for.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn new(
        log: &'a dyn Log,
        spans: &[Span],
        partitions: Partitions,
        map: Option<IdMap>,
    ) -> Result<Self, HistoryError> {
        let mut history = Self { sources: Vec::with_capacity(spans.len()), partitions, map };
        for span in spans {
            if !matches!(span.topic, Topic::Events | Topic::Directory) {
                return Err(HistoryError::Topic { topic: span.topic });
            }
            history.learn(log, span)?;
            let mut scan = Scan::new(log, span.topic, span.partition, span.offsets.clone())?;
            let next = scan.next().transpose()?;
            history.sources.push(Source { topic: span.topic, partition: span.partition, scan, next });
        }
        Ok(history)
    }

    /// Direct chats that were begun before the span are met in it.
    fn learn(&mut self, log: &dyn Log, span: &Span) -> Result<(), HistoryError> {
        let Some(map) = self.map.as_mut().filter(|_| span.topic == Topic::Events) else { return Ok(()) };
        for record in Scan::new(log, span.topic, span.partition, span.kept.start..span.offsets.start)? {
            if let Ok(event) = wire::Event::decode(record?.value) {
                learn_direct(map, &event)?;
            }
        }
        Ok(())
    }

    /// The next records, made from one: receipts of several conversations may go several ways. `None`: all was given.
    ///
    /// # Errors
    /// The source cannot be read; a record cannot be decoded.
    pub fn play(&mut self) -> Result<Option<Vec<Outgoing>>, HistoryError> {
        // Who registered comes before what he did, at the same moment.
        let time = |source: &Source<'_>| {
            source.next.as_ref().map(|record| (record.timestamp_ms, source.topic != Topic::Directory))
        };
        let earliest = (0..self.sources.len()).filter_map(|at| time(&self.sources[at]).map(|time| (time, at))).min();
        let Some((_, at)) = earliest else { return Ok(None) };
        let source = &mut self.sources[at];
        let following = source.scan.next().transpose()?;
        let Some(record) = std::mem::replace(&mut source.next, following) else { return Ok(None) };
        let (topic, partition) = (source.topic, source.partition);
        let undecodable = |error: String| HistoryError::Undecodable { topic, partition, offset: record.offset, error };
        let decoded = message(topic, &record.value).map_err(|error| undecodable(error.to_string()))?;
        match topic {
            Topic::Directory => self.directory(decoded, &record).map_err(undecodable).map(Some),
            _ => self.event(decoded, partition, &record).map(Some),
        }
    }

    fn directory(&self, mut decoded: DynamicMessage, record: &StoredRecord) -> Result<Vec<Outgoing>, String> {
        // The key is the user's name, or begins with it and a NUL.
        let name = record.key.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| "its key is no user name".to_owned())?;
        let (username, key) = match &self.map {
            None => (name.to_owned(), record.key.clone()),
            Some(map) => {
                map.map(&mut decoded, &Bytes::clone);
                let mapped = map.username(name);
                let key = [mapped.as_bytes(), &record.key[name.len()..]].concat();
                (mapped, key.into())
            }
        };
        let partition = username_partition(&username, self.partitions.directory);
        let value = if self.map.is_some() { decoded.encode_to_vec().into() } else { record.value.clone() };
        let record = StoredRecord { key, value, ..record.clone() };
        Ok(vec![Outgoing { topic: Topic::Directory, partition, record }])
    }

    fn event(
        &mut self,
        mut decoded: DynamicMessage,
        partition: u32,
        record: &StoredRecord,
    ) -> Result<Vec<Outgoing>, HistoryError> {
        if let Some(map) = &mut self.map
            && let Ok(event) = wire::Event::decode(record.value.clone())
        {
            learn_direct(map, &event)?;
        }
        let stamped = decoded.get_field_by_name("stamped_at_ms").and_then(|value| value.as_i64()).unwrap_or(0);
        let skew = i64::try_from(STAMP_SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
        // As the stage derives it.
        let at_ms = stamped.clamp(record.timestamp_ms.saturating_sub(skew), record.timestamp_ms.saturating_add(skew));
        prepare(&mut decoded, MessageId::from_position(at_ms, partition, record.offset), self.map.as_ref());
        let conversation = decoded
            .get_field_by_name("conversation_id")
            .and_then(|value| value.as_message().map(id_of))
            .filter(|_| decoded.has_field_by_name("conversation_id"));
        if let Some(conversation) = conversation.map(ConversationId) {
            let partition = conversation_partition(conversation, self.partitions.conversations);
            let key =
                if record.key.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&conversation.to_bytes()) };
            let record = StoredRecord { key, value: decoded.encode_to_vec().into(), ..record.clone() };
            return Ok(vec![Outgoing { topic: Topic::Events, partition, record }]);
        }
        Ok(self.receipts(&decoded, partition, record))
    }

    /// A batch of receipts, or what has no conversation: by the partitions of the other system.
    fn receipts(&self, decoded: &DynamicMessage, partition: u32, record: &StoredRecord) -> Vec<Outgoing> {
        let outgoing = |partition, message: &DynamicMessage| Outgoing {
            topic: Topic::Events,
            partition,
            record: StoredRecord { value: message.encode_to_vec().into(), ..record.clone() },
        };
        let all = decoded.get_field_by_name("receipts").filter(|_| decoded.has_field_by_name("receipts"));
        let Some(all) = all.and_then(|value| value.as_message().cloned()) else {
            return vec![outgoing(partition % self.partitions.conversations.max(1), decoded)];
        };
        let list = all.get_field_by_name("receipts").map(|value| value.into_owned());
        let Some(Value::List(receipts)) = list else { return Vec::new() };
        let mut by_partition: Vec<(u32, Vec<Value>)> = Vec::new();
        for receipt in receipts {
            let id = receipt.as_message().and_then(|receipt| receipt.get_field_by_name("conversation_id"));
            let id = id.and_then(|id| id.as_message().map(id_of)).unwrap_or_default();
            let to = conversation_partition(ConversationId(id), self.partitions.conversations);
            match by_partition.iter_mut().find(|(partition, _)| *partition == to) {
                Some((_, receipts)) => receipts.push(receipt),
                None => by_partition.push((to, vec![receipt])),
            }
        }
        by_partition
            .into_iter()
            .map(|(to, receipts)| {
                let (mut message, mut all) = (decoded.clone(), all.clone());
                all.set_field_by_name("receipts", Value::List(receipts));
                message.set_field_by_name("receipts", Value::Message(all));
                outgoing(to, &message)
            })
            .collect()
    }
}

/// Writes the message's id into a send, takes the origin out, maps ids. An event in an edit or a deletion is the send that
/// it is about, and is changed as that send was.
fn prepare(event: &mut DynamicMessage, id: MessageId, map: Option<&IdMap>) {
    event.clear_field_by_name("origin");
    if event.has_field_by_name(SEND)
        && let Some(send) = event.get_field_by_name_mut(SEND).and_then(Value::as_message_mut)
        && !send.has_field_by_name("message_id")
        && let Some(field) = send.get_field_by_name_mut("message_id").and_then(Value::as_message_mut)
    {
        set_id(field, id.0);
    }
    for body in ["edit_message", "delete_message"] {
        if !event.has_field_by_name(body) {
            continue;
        }
        let target = event.get_field_by_name_mut(body).and_then(Value::as_message_mut);
        let target = target.and_then(|body| body.get_field_by_name_mut("target")).and_then(Value::as_message_mut);
        let Some(target) = target else { continue };
        let about = target.get_field_by_name("message_id").and_then(|id| id.as_message().map(id_of));
        let bytes = target.get_field_by_name("event").and_then(|bytes| bytes.as_bytes().cloned()).unwrap_or_default();
        if let (Some(about), Ok(mut send)) = (about, message(Topic::Events, &bytes))
            && !bytes.is_empty()
        {
            prepare(&mut send, MessageId(about), map);
            target.set_field_by_name("event", Value::Bytes(send.encode_to_vec().into()));
        }
    }
    if let Some(map) = map {
        // The events in it are done.
        map.map(event, &Bytes::clone);
    }
}

fn learn_direct(map: &mut IdMap, event: &wire::Event) -> Result<(), TooManyDirectChats> {
    let Some(wire::event::Body::CreateConversation(created)) = &event.body else { return Ok(()) };
    let Some(actor) = event.actor_id.map(UserId::from).filter(|_| created.kind() == wire::ConversationKind::Direct)
    else {
        return Ok(());
    };
    let other = created.member_ids.iter().copied().map(UserId::from).find(|member| *member != actor);
    map.learn_direct(actor, other.unwrap_or(actor))
}

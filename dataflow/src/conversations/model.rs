//! The plain model of the stage: ordinary maps, everything computed anew from the members before and after each event.
//! Slow and obviously right; the tests hold the dataflow against it, byte for byte.

mod commands;
mod outputs;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits,
    topics::Partitions,
    wire::{self, ConversationKind, Role, event::Body},
};

use super::refusals::Refusal;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    role: Role,
    joined_seq: u64,
    delivered: u64,
    seen: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Conversation {
    kind: ConversationKind,
    title: String,
    last_seq: u64,
    created_at_ms: i64,
    deleted: bool,
    members: BTreeMap<UserId, Member>,
}

#[derive(Debug, Clone)]
struct FirstSend {
    seq: u64,
    message_id: MessageId,
    at_ms: i64,
}

/// What an accepted event did, besides changing the conversations.
#[derive(Debug, Clone)]
enum Effect {
    /// Numbered entries, and the conversation anew.
    Grouped(Vec<wire::Entry>),
    Sent(wire::Entry),
    Changed(wire::Change),
    Receipts,
    Duplicate(wire::Duplicate),
    /// It was so already.
    Stands,
}

/// Where and when an event stands.
#[derive(Debug, Clone, Copy)]
struct Moment {
    offset: u64,
    stamped_at_ms: i64,
    at_ms: i64,
}

/// The state of the stage for one `events` partition.
#[derive(Debug, Clone)]
pub struct Model {
    partition: u32,
    partitions: Partitions,
    group_members_max: usize,
    clock_ms: i64,
    conversations: BTreeMap<ConversationId, Conversation>,
    sends: BTreeMap<(ConversationId, UserId, String), FirstSend>,
    deletions: BTreeMap<(ConversationId, u64), i64>,
}

impl Model {
    /// The state before any event.
    pub fn new(partitions: Partitions, partition: u32, group_members_max: u32) -> Self {
        Self {
            partition,
            partitions,
            group_members_max: group_members_max as usize,
            clock_ms: 0,
            conversations: BTreeMap::new(),
            sends: BTreeMap::new(),
            deletions: BTreeMap::new(),
        }
    }

    /// Who is in a conversation, with which role: nobody where there is none.
    pub fn members(&self, id: ConversationId) -> Vec<(UserId, Role)> {
        let members = self.conversations.get(&id).map(|conversation| &conversation.members);
        members.into_iter().flatten().map(|(user, member)| (*user, member.role)).collect()
    }

    /// Each member's cursors in a conversation: delivered, seen.
    pub fn cursors(&self, id: ConversationId) -> Vec<(UserId, u64, u64)> {
        let members = self.conversations.get(&id).map(|conversation| &conversation.members);
        members.into_iter().flatten().map(|(user, member)| (*user, member.delivered, member.seen)).collect()
    }

    /// The title of a conversation, and whether it was deleted: `None` where there is none.
    pub fn title(&self, id: ConversationId) -> Option<(&str, bool)> {
        self.conversations.get(&id).map(|conversation| (conversation.title.as_str(), conversation.deleted))
    }

    /// All conversations that there ever were.
    pub fn conversations(&self) -> impl Iterator<Item = ConversationId> {
        self.conversations.keys().copied()
    }

    /// The newest entry of a conversation: zero where there is none.
    pub fn last_seq(&self, id: ConversationId) -> u64 {
        self.conversations.get(&id).map_or(0, |conversation| conversation.last_seq)
    }

    /// Takes in one event; returns the records that follow from it, in order.
    pub fn apply(&mut self, record: &StoredRecord) -> Vec<NewRecord> {
        let Ok(event) = wire::Event::decode(record.value.clone()) else {
            return self.outputs(record, &Outputs::default());
        };
        let skew = i64::try_from(limits::STAMP_SKEW_MAX.as_millis()).expect("a minute");
        let earliest = record.timestamp_ms.saturating_sub(skew);
        let latest = record.timestamp_ms.saturating_add(skew);
        let stamped_at_ms = event.stamped_at_ms.max(earliest).min(latest);
        self.clock_ms = self.clock_ms.max(stamped_at_ms);
        let moment = Moment { offset: record.offset, stamped_at_ms, at_ms: self.clock_ms };

        let touched: Vec<ConversationId> = match &event.body {
            None => return self.outputs(record, &Outputs::default()),
            Some(Body::Receipts(receipts)) => {
                receipts.receipts.iter().filter_map(|receipt| receipt.conversation_id).map(Into::into).collect()
            }
            Some(_) => event.conversation_id.map(ConversationId::from).into_iter().collect(),
        };
        let before: BTreeMap<_, _> =
            touched.iter().filter_map(|id| Some((*id, self.conversations.get(id)?.clone()))).collect();
        let result = self.perform(&event, &record.value, moment);
        let after: BTreeMap<_, _> =
            touched.iter().filter_map(|id| Some((*id, self.conversations.get(id)?.clone()))).collect();
        self.outputs(record, &Outputs { event: Some(event), result: Some(result), before, after })
    }
}

/// All that the outputs of an event follow from.
#[derive(Debug, Default)]
struct Outputs {
    event: Option<wire::Event>,
    result: Option<Result<Effect, Refusal>>,
    before: BTreeMap<ConversationId, Conversation>,
    after: BTreeMap<ConversationId, Conversation>,
}

impl Conversation {
    /// The cursors of «all the others» as this member sees them; one's own where there are no others.
    fn views(&self, user: UserId) -> (u64, u64) {
        let least = |cursor: fn(&Member) -> u64| {
            let others = self.members.iter().filter(|(other, _)| **other != user);
            others.map(|(_, member)| cursor(member)).min().unwrap_or_else(|| cursor(&self.members[&user]))
        };
        (least(|member| member.delivered), least(|member| member.seen))
    }

    fn minima(&self, id: ConversationId) -> Option<wire::CursorMinima> {
        let least_two = |cursor: fn(&Member) -> u64| {
            let mut cursors: Vec<u64> = self.members.values().map(cursor).collect();
            cursors.sort_unstable();
            let least = *cursors.first()?;
            let holders = cursors.iter().filter(|cursor| **cursor == least).count();
            let next = cursors.get(1).copied().unwrap_or(least);
            Some(wire::LeastTwo { least, holders: u32::try_from(holders).expect("few"), next })
        };
        Some(wire::CursorMinima {
            conversation_id: Some(id.into()),
            delivered: Some(least_two(|member| member.delivered)?),
            seen: Some(least_two(|member| member.seen)?),
        })
    }
}

fn encode(topic: tidings_schemas::topics::Topic, partition: u32, key: Bytes, record: &impl Message) -> NewRecord {
    NewRecord { topic, partition, key, value: record.encode_to_vec().into() }
}

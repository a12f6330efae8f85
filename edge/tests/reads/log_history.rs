//! A history that reads the log from its start: plain and obviously right.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use prost::Message as _;
use tidings_edge::read::{HistoryError, HistoryReader, Order};
use tidings_ingest::Log;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId, unpack_user_ids},
    topics::Topic,
    wire,
};

/// The log, as far as the history is said to have got, and from where it is said to be kept.
pub(crate) struct LogHistory {
    pub(crate) log: Arc<dyn Log>,
    /// Events from here on have not arrived yet, in any partition.
    pub(crate) arrived_below: u64,
    /// Entries below this seq are gone by retention.
    pub(crate) kept_from_seq: u64,
}

impl LogHistory {
    fn records(&self, topic: Topic) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        for partition in 0..self.log.partitions(topic) {
            let mut reader = self.log.reader(topic, partition, 0).unwrap();
            let mut records = Vec::new();
            while reader.poll(1 << 20, &mut records).unwrap() > 0 {}
            values.extend(records.into_iter().map(|record| record.value.to_vec()));
        }
        values
    }

    fn timeline(&self) -> impl Iterator<Item = wire::TimelineRecord> {
        let records = self.records(Topic::Timeline).into_iter();
        let records = records.map(|value| wire::TimelineRecord::decode(value.as_slice()).unwrap());
        let arrived_below = self.arrived_below;
        records.filter(move |record| record.source.unwrap().offset < arrived_below)
    }

    fn entries_of(&self, conversation: ConversationId) -> Vec<wire::Entry> {
        let entries = self.timeline().flat_map(|record| record.entries);
        let kept_from_seq = self.kept_from_seq;
        entries
            .filter(|entry| entry.conversation_id == Some(conversation.into()) && entry.seq >= kept_from_seq)
            .collect()
    }
}

#[async_trait]
impl HistoryReader for LogHistory {
    async fn entries(
        &self,
        conversation: ConversationId,
        seqs: RangeInclusive<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<wire::Entry>, HistoryError> {
        let mut entries = self.entries_of(conversation);
        entries.retain(|entry| seqs.contains(&entry.seq));
        if order == Order::NewestFirst {
            entries.reverse();
        }
        entries.truncate(limit);
        Ok(entries)
    }

    async fn entry_by_message_id(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<Option<wire::Entry>, HistoryError> {
        let mut entries = self.entries_of(conversation).into_iter();
        Ok(entries.find(|entry| entry.message_id == Some(message.into())))
    }

    async fn changes(&self, conversation: ConversationId, seqs: &[u64]) -> Result<Vec<wire::Change>, HistoryError> {
        let changes: Vec<wire::Change> = self.timeline().filter_map(|record| record.change).collect();
        let newest = |seq: &u64| {
            let of = |change: &&wire::Change| change.conversation_id == Some(conversation.into()) && change.seq == *seq;
            changes.iter().rev().find(of).cloned()
        };
        Ok(seqs.iter().filter_map(newest).collect())
    }

    async fn inbox(
        &self,
        user: UserId,
        offsets: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, wire::InboxRow)>, HistoryError> {
        let mut rows = Vec::new();
        for value in self.records(Topic::Inbox) {
            let record = wire::InboxRecord::decode(value.as_slice()).unwrap();
            for item in record.items {
                let place = unpack_user_ids(&item.user_ids).position(|recipient| recipient == user);
                let Some(offset) = place.map(|place| item.offsets[place]).filter(|offset| offsets.contains(offset))
                else {
                    continue;
                };
                use wire::{inbox_item::Reference as Item, inbox_row::Reference as Row};
                let reference = item.reference.map(|reference| match reference {
                    Item::Entry(entry) => Row::Entry(entry),
                    Item::Change(change) => Row::Change(change),
                    Item::Receipt(receipt) => Row::Receipt(receipt),
                    Item::Conversation(conversation) => Row::Conversation(conversation),
                });
                let row = wire::InboxRow { at_ms: record.at_ms, events_source: record.events_source, reference };
                rows.push((offset, row));
            }
        }
        rows.sort_by_key(|(offset, _)| *offset);
        rows.truncate(limit);
        Ok(rows)
    }

    async fn next_events_offset(&self, partition: u32) -> Result<u64, HistoryError> {
        let end = self.log.range(Topic::Events, partition).unwrap().end;
        Ok(end.min(self.arrived_below))
    }
}

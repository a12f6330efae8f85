//! Gives a run's records out: the inbox, the pushes to each edge, the work for notifications, the answers.

use bytes::Bytes;
use prost::Message;
use tidings_ingest::NewRecord;
use tidings_schemas::{
    topics::Topic,
    wire::{self, delivery_record},
};

use super::{
    RecipientsShard,
    batch::{Batch, Fanout, Item, Outgoing, Piece, Typing},
    encoding::{FanoutView, put_notification_record, put_push_record},
    frames::{read_id, widen},
};

/// Recipients by edge, for one record at a time.
#[derive(Debug, Default)]
pub(super) struct Picks {
    by_edge: Vec<Vec<u32>>,
    /// The edges with any, in the order in which they were met.
    edges: Vec<u32>,
    /// Recipients with no session who are to be notified.
    absent: Vec<u32>,
}

impl Picks {
    fn clear(&mut self) {
        for edge_id in self.edges.drain(..) {
            self.by_edge[edge_id as usize].clear();
        }
        self.absent.clear();
    }

    #[inline]
    fn pick(&mut self, edge_id: u32, recipient: u32) {
        let edge = edge_id as usize;
        if edge >= self.by_edge.len() {
            self.by_edge.resize_with(edge + 1, Vec::new);
        }
        let picks = &mut self.by_edge[edge];
        if picks.is_empty() {
            self.edges.push(edge_id);
        }
        picks.push(recipient);
    }
}

impl Batch {
    /// Puts a message into the run's output; says where it stands.
    pub(super) fn put(&mut self, message: &impl Message) -> std::ops::Range<usize> {
        let start = self.output.len();
        // A vector grows: there is always room.
        let _ = message.encode(&mut self.output);
        start..self.output.len()
    }

    /// Gives out a delivery that follows from the signals record at `offset`.
    fn give_delivery(&mut self, partition: u32, edge_id: u32, offset: u64, body: delivery_record::Body) {
        let source = wire::Source { partition, offset };
        let value = self.put(&wire::DeliveryRecord { source: Some(source), body: Some(body) });
        self.outgoing.push(Outgoing { topic: Topic::Deliveries, partition: edge_id, value });
    }
}

impl RecipientsShard {
    /// Turns the pieces of the run, now that all lookups are answered, into records.
    pub(super) fn assemble(&mut self, out: &mut Vec<NewRecord>) {
        let mut pieces = std::mem::take(&mut self.batch.pieces);
        for piece in pieces.drain(..) {
            match piece {
                Piece::Fanout(fanout) => self.give_fanout(&fanout),
                Piece::Transition(index) => self.give_transition(index),
                Piece::Typing(typing) => self.give_typing(&typing),
                Piece::Ready { edge_id, value } => self.give(Topic::Deliveries, edge_id, value),
            }
        }

        self.batch.pieces = pieces;

        let output = Bytes::from(std::mem::take(&mut self.batch.output));
        out.extend(self.batch.outgoing.drain(..).map(|record| NewRecord {
            topic: record.topic,
            partition: record.partition,
            key: Bytes::new(),
            value: output.slice(record.value),
        }));
        // As much again will be wanted next time, so that the buffer grows in one go.
        self.output_len = output.len();
        self.batch.clear();
    }

    fn give(&mut self, topic: Topic, partition: u32, value: std::ops::Range<usize>) {
        self.batch.outgoing.push(Outgoing { topic, partition, value });
    }

    #[allow(clippy::cast_possible_truncation, reason = "a run has far fewer than 2^32 recipients")]
    fn give_fanout(&mut self, fanout: &Fanout) {
        self.give(Topic::Inbox, self.id.partition, fanout.inbox.clone());
        let Self { batch, picks, counts, routing, .. } = self;
        let answers = routing.answers();
        picks.clear();
        let items = &batch.items[fanout.items.clone()];
        for item in items {
            let absent_before = picks.absent.len();
            for (question, recipient) in (item.first_question..).zip(item.recipients.clone()) {
                let is_anywhere = answers.for_each_edge(question, |edge_id| picks.pick(edge_id, recipient as u32));
                if !is_anywhere && item.is_message {
                    picks.absent.push(recipient as u32);
                }
            }
            if picks.absent.len() > absent_before {
                drop_sender(&mut picks.absent, absent_before, item, &fanout.value);
            }
        }
        let view = FanoutView {
            value: &fanout.value,
            frame: &fanout.frame,
            items,
            offsets: &batch.offsets,
            partition: self.id.partition,
            offset: fanout.offset,
        };
        picks.edges.sort_unstable();
        for edge_id in &picks.edges {
            let start = batch.output.len();
            put_push_record(&mut batch.output, view, &picks.by_edge[*edge_id as usize]);
            let value = start..batch.output.len();
            batch.outgoing.push(Outgoing { topic: Topic::Deliveries, partition: *edge_id, value });
            counts.pushes += 1;
        }
        if !picks.absent.is_empty() {
            let start = batch.output.len();
            put_notification_record(&mut batch.output, view, &picks.absent);
            let value = start..batch.output.len();
            batch.outgoing.push(Outgoing { topic: Topic::Notifications, partition: self.id.partition, value });
            counts.notifications += 1;
        }
    }

    fn give_transition(&mut self, index: u32) {
        let transition = self.batch.transitions[index as usize];
        let Self { batch, routing, .. } = self;
        for edge in routing.answers().watching(index).chunk_by(|one, other| one.edge_id == other.edge_id) {
            let presence = wire::Presence {
                user_id: Some(transition.user_id.into()),
                online: transition.online,
                last_seen_at_ms: transition.last_seen_ms,
                session_ids: edge.iter().map(|watching| watching.session_id).collect(),
            };
            let body = delivery_record::Body::Presence(presence);
            batch.give_delivery(self.id.partition, edge[0].edge_id, transition.offset, body);
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "a record has far fewer than 2^32 recipients")]
    fn give_typing(&mut self, typing: &Typing) {
        let Self { batch, picks, routing, .. } = self;
        picks.clear();
        let recipients = typing.notice.recipient_ids.as_chunks::<16>().0;
        for (question, place) in (typing.first_question..).zip(0..recipients.len()) {
            routing.answers().for_each_edge(question, |edge_id| picks.pick(edge_id, place as u32));
        }
        picks.edges.sort_unstable();
        for edge_id in &picks.edges {
            let places = &picks.by_edge[*edge_id as usize];
            let ids: Vec<u8> = places.iter().flat_map(|place| recipients[*place as usize]).collect();
            let notice = wire::TypingNotice {
                conversation_id: typing.notice.conversation_id,
                user_id: typing.notice.user_id,
                recipient_ids: ids.into(),
            };
            let body = delivery_record::Body::Typing(notice);
            batch.give_delivery(self.id.partition, *edge_id, typing.offset, body);
        }
    }
}

/// Nobody is notified of what they sent themselves.
fn drop_sender(absent: &mut Vec<u32>, first: usize, item: &Item, value: &[u8]) {
    let Some(sender) = item.entry.sender.as_ref().and_then(|sender| read_id(value, sender)) else { return };
    let sender = sender.to_bytes();
    let users = value[widen(&item.frame.users)].as_chunks::<16>().0;
    let is_sender = |recipient: &u32| users[*recipient as usize - item.recipients.start] == sender;
    if let Some(place) = absent[first..].iter().position(is_sender) {
        absent.remove(first + place);
    }
}

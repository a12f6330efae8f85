//! The records that follow from an event: from what the conversations were before it and what they are after it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::{
    ids::{ConversationId, UserId, pack_user_ids},
    topics::{Topic, user_partition},
    wire::{self, ConversationKind, Role, Source, event::Body, fanout_item::Content, verdict},
};

use super::{Conversation, Effect, Model, Outputs, encode};
use crate::conversations::refusals::Refusal;

/// What is told, to whom.
type Item = (BTreeSet<UserId>, Content);

/// A receipt's content in the order in which receipts stand.
type ReceiptKey = (ConversationId, Option<UserId>, [u64; 4]);

impl Model {
    pub(super) fn outputs(&self, record: &StoredRecord, outputs: &Outputs) -> Vec<NewRecord> {
        let source = Some(Source { partition: self.partition, offset: record.offset });
        let mut timeline = wire::TimelineRecord { source, at_ms: self.clock_ms, ..Default::default() };
        let mut items: Vec<Item> = Vec::new();
        let mut verdict = None;
        if let (Some(event), Some(result)) = (&outputs.event, &outputs.result) {
            verdict = match result {
                Err(refusal) => {
                    let refusal = refusal_record(event, refusal);
                    timeline.refusal = Some(refusal.clone());
                    Some(verdict::Outcome::Refusal(refusal))
                }
                Ok(effect) => self.accepted(event, effect, outputs, &mut timeline, &mut items),
            };
        }
        let mut records = vec![encode(Topic::Timeline, self.partition, record.key.clone(), &timeline)];
        for partition in 0..self.partitions.recipients {
            let items: Vec<wire::FanoutItem> =
                items.iter().filter_map(|item| self.of_partition(item, partition)).collect();
            if !items.is_empty() {
                let fanout = wire::FanoutRecord { source, at_ms: self.clock_ms, items };
                records.push(encode(Topic::Fanout, partition, Bytes::new(), &fanout));
            }
        }
        let origin = outputs.event.as_ref().and_then(|event| event.origin);
        if let (Some(outcome), Some(origin)) = (verdict, origin)
            && origin.edge_id < self.partitions.edges
        {
            let verdict = wire::Verdict { request_id: origin.request_id, outcome: Some(outcome) };
            let body = Some(wire::delivery_record::Body::Verdict(verdict));
            let delivery = wire::DeliveryRecord { source, body };
            records.push(encode(Topic::Deliveries, origin.edge_id, Bytes::new(), &delivery));
        }
        records
    }

    /// The part of an item that is for the recipients of one partition.
    fn of_partition(&self, (users, content): &Item, partition: u32) -> Option<wire::FanoutItem> {
        let of_partition = |user: &UserId| user_partition(*user, self.partitions.recipients) == partition;
        let recipients: Vec<UserId> = users.iter().copied().filter(of_partition).collect();
        if recipients.is_empty() {
            return None;
        }
        let mut content = content.clone();
        if let Content::Conversation(state) = &mut content {
            state.members.retain(|member| of_partition(&member.user_id.expect("always set").into()));
        }
        Some(wire::FanoutItem { user_ids: pack_user_ids(recipients), content: Some(content) })
    }

    fn accepted(
        &self,
        event: &wire::Event,
        effect: &Effect,
        outputs: &Outputs,
        timeline: &mut wire::TimelineRecord,
        items: &mut Vec<Item>,
    ) -> Option<verdict::Outcome> {
        let id: ConversationId = event.conversation_id.unwrap_or_default().into();
        let actor: UserId = event.actor_id.unwrap_or_default().into();
        let before = outputs.before.get(&id);
        let after = outputs.after.get(&id);
        let members_of = |conversation: Option<&Conversation>| -> BTreeSet<UserId> {
            conversation.iter().flat_map(|conversation| conversation.members.keys().copied()).collect()
        };
        // Those who were in it, and those whom the event brings in.
        let recipients = &members_of(before) | &members_of(after);
        let outcome = match effect {
            Effect::Duplicate(duplicate) => {
                timeline.duplicate = Some(*duplicate);
                return Some(verdict::Outcome::Duplicate(*duplicate));
            }
            Effect::Stands => {
                let state = state_for(id, before, after.expect("it stands"), &BTreeSet::from([actor]));
                return Some(verdict::Outcome::Conversation(state));
            }
            Effect::Changed(change) => {
                timeline.change = Some(change.clone());
                items.push((recipients, Content::Change(change.clone())));
                return Some(verdict::Outcome::Change(change.clone()));
            }
            Effect::Receipts => None,
            Effect::Sent(entry) => {
                timeline.entries = vec![entry.clone()];
                items.push((recipients.clone(), Content::Entry(entry.clone())));
                Some(verdict::Outcome::Entry(entry.clone()))
            }
            Effect::Grouped(entries) => {
                let after = after.expect("a conversation that was changed is there");
                timeline.entries.clone_from(entries);
                for entry in entries {
                    items.push((recipients.clone(), Content::Entry(entry.clone())));
                }
                let role_of = |conversation: Option<&Conversation>, user: &UserId| {
                    conversation.and_then(|conversation| conversation.members.get(user)).map(|member| member.role)
                };
                let changed = |user: &&UserId| role_of(before, user) != role_of(Some(after), user);
                let touched = recipients.iter().filter(changed).copied().collect();
                timeline.conversation = Some(state_for(id, before, after, &touched));
                let state = state_for(id, before, after, &BTreeSet::from([actor]));
                Some(verdict::Outcome::Conversation(state))
            }
        };

        timeline.cursor_moves = cursor_moves(actor, outputs);
        for (id, after) in &outputs.after {
            let minima = after.minima(*id).filter(|_| after.kind == ConversationKind::Group);
            let minima_before = outputs.before.get(id).and_then(|before| before.minima(*id));
            timeline.cursor_minima.extend(minima.filter(|minima| Some(*minima) != minima_before));
        }
        items.extend(receipts(matches!(effect, Effect::Receipts), outputs));
        if let (Effect::Grouped(_), Some(after)) = (effect, after) {
            let state = state_for(id, before, after, &recipients);
            items.push((recipients, Content::Conversation(state)));
        }
        outcome
    }
}

fn refusal_record(event: &wire::Event, refusal: &Refusal) -> wire::Refusal {
    wire::Refusal {
        conversation_id: event.conversation_id,
        actor_id: event.actor_id,
        code: refusal.code.into(),
        message: refusal.message.to_owned(),
        client_message_id: match &event.body {
            Some(Body::Send(send)) => send.client_message_id.clone(),
            _ => String::new(),
        },
    }
}

/// The conversation after the event, with the own states of these users.
fn state_for(
    id: ConversationId,
    before: Option<&Conversation>,
    after: &Conversation,
    users: &BTreeSet<UserId>,
) -> wire::ConversationState {
    let members = users.iter().map(|user| {
        let stands = after.members.get(user);
        let member = stands.or_else(|| before.and_then(|before| before.members.get(user)));
        let views = if stands.is_some() { after.views(*user) } else { (0, 0) };
        wire::MemberState {
            user_id: Some((*user).into()),
            role: stands.map_or(Role::Unspecified, |member| member.role).into(),
            joined_seq: member.map_or(0, |member| member.joined_seq),
            delivered_seq: member.map_or(0, |member| member.delivered),
            seen_seq: member.map_or(0, |member| member.seen),
            delivered_to_all_seq: views.0,
            seen_by_all_seq: views.1,
        }
    });
    let is_direct = after.kind == ConversationKind::Direct;
    wire::ConversationState {
        conversation_id: Some(id.into()),
        kind: after.kind.into(),
        title: after.title.clone(),
        member_count: u32::try_from(after.members.len()).expect("few"),
        last_seq: after.last_seq,
        deleted: after.deleted,
        created_at_ms: after.created_at_ms,
        members: members.collect(),
        direct_user_ids: after.members.keys().filter(|_| is_direct).map(|user| (*user).into()).collect(),
    }
}

/// The cursors of those who were members already and moved, and of the actor of an entry.
fn cursor_moves(actor: UserId, outputs: &Outputs) -> Vec<wire::CursorMove> {
    let mut moves = Vec::new();
    for (id, after) in &outputs.after {
        let before = outputs.before.get(id);
        for (user, member) in &after.members {
            let was = before.and_then(|before| before.members.get(user));
            let moved = was.is_some_and(|was| (was.delivered, was.seen) != (member.delivered, member.seen));
            if moved || (was.is_none() && *user == actor) {
                moves.push(wire::CursorMove {
                    conversation_id: Some((*id).into()),
                    user_id: Some((*user).into()),
                    delivered_seq: member.delivered,
                    seen_seq: member.seen,
                });
            }
        }
    }
    moves
}

/// What is told of cursors. In a group: to each member whose view of all the others moved. By receipts also: in a direct
/// chat to the other, and to oneself where one's own `seen` moved.
fn receipts(by_receipts: bool, outputs: &Outputs) -> Vec<Item> {
    let mut told = BTreeMap::<ReceiptKey, BTreeSet<UserId>>::new();
    for (id, after) in &outputs.after {
        let Some(before) = outputs.before.get(id) else { continue };
        for (user, member) in &after.members {
            let Some(was) = before.members.get(user) else { continue };
            let views = after.views(*user);
            if after.kind == ConversationKind::Group && views != before.views(*user) {
                told.entry((*id, None, [0, 0, views.0, views.1])).or_default().insert(*user);
            }
            if !by_receipts {
                continue;
            }
            let (delivered, seen) = (member.delivered, member.seen);
            if after.kind == ConversationKind::Direct && (was.delivered, was.seen) != (delivered, seen) {
                let other = after.members.keys().find(|other| *other != user).expect("two members");
                told.entry((*id, Some(*user), [delivered, seen, delivered, seen])).or_default().insert(*other);
            }
            if was.seen != seen {
                told.entry((*id, Some(*user), [delivered, seen, views.0, views.1])).or_default().insert(*user);
            }
        }
    }
    told.into_iter()
        .map(|((id, user, [delivered_seq, seen_seq, delivered_to_all_seq, seen_by_all_seq]), users)| {
            let update = wire::ReceiptUpdate {
                conversation_id: Some(id.into()),
                user_id: user.map(wire::Id::from),
                delivered_seq,
                seen_seq,
                delivered_to_all_seq,
                seen_by_all_seq,
            };
            (users, Content::Receipt(update))
        })
        .collect()
}

//! The sink: puts together, for each event in order, what was decided about it and who the dataflow says is to be told,
//! and makes the records: one for the timeline, one for each partition with recipients, and the verdict.

mod items;
mod records;

use hashbrown::HashMap;
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::{
    ids::{ConversationId, UserId},
    topics::Partitions,
    wire,
};

use self::{
    items::{Content, Item},
    records::Writer,
};
use super::{
    decision::{Decision, Outcome, ReceiptMove, Regrouped, Standing},
    fanout::{Ask, Gathered, MinimaMove, Recipient, Run, Slot},
    minima::Minima,
    registry::Member,
};

/// Makes the records of one shard.
#[derive(Debug)]
pub(super) struct Sink {
    partitions: Partitions,
    writer: Writer,
    /// The least cursors of every group, as of the event that is being put together.
    minima: HashMap<Slot, Minima>,
    /// Verdicts for an edge that there is no partition for.
    pub(super) unroutable: u64,
}

/// What the dataflow found for one event.
#[derive(Clone, Copy)]
struct Found<'a> {
    recipients: &'a [Recipient],
    moves: &'a [MinimaMove],
    /// The members of the groups whose minima moved.
    moved: &'a [Run],
    all: &'a [Recipient],
}

impl Sink {
    pub(super) fn new(partition: u32, partitions: Partitions) -> Self {
        Self { partitions, writer: Writer::new(partition), minima: HashMap::new(), unroutable: 0 }
    }

    /// Takes over the minima that a restored state leads to: nobody is told of these.
    pub(super) fn restore(&mut self, gathered: &Gathered) {
        self.pass(&gathered.moves);
    }

    /// The records that follow from a batch of events, in order.
    pub(super) fn assemble(
        &mut self,
        events: &[&StoredRecord],
        decisions: &mut Vec<Decision>,
        gathered: &Gathered,
        out: &mut Vec<NewRecord>,
    ) {
        let (mut runs, mut moves) = (&gathered.runs[..], &gathered.moves[..]);
        for (event, decision) in events.iter().zip(decisions.drain(..)) {
            let time = decision.time;
            let (runs_now, runs_later) = runs.split_at(runs.partition_point_near(|run| run.time <= time));
            let (moves_now, moves_later) = moves.split_at(moves.partition_point_near(|moved| moved.time <= time));
            (runs, moves) = (runs_later, moves_later);
            let (recipients, moved) = match runs_now {
                [run, rest @ ..] if run.ask == Ask::Event => (&gathered.recipients[run.start..run.end], rest),
                rest => (&[][..], rest),
            };
            let found = Found { recipients, moves: moves_now, moved, all: &gathered.recipients };
            self.pass(found.moves);
            self.put_together(event, decision, found, out);
        }
    }

    /// Goes on to the minima after an event.
    fn pass(&mut self, moves: &[MinimaMove]) {
        for moved in moves {
            match moved.after {
                Some(after) => self.minima.insert(moved.slot, after),
                None => self.minima.remove(&moved.slot),
            };
        }
    }

    fn put_together(&mut self, event: &StoredRecord, decision: Decision, found: Found<'_>, out: &mut Vec<NewRecord>) {
        let Decision { time, at_ms, origin, outcome } = decision;
        let key = event.key.clone();
        self.writer.start(time - 1, at_ms);
        let origin = origin.filter(|origin| {
            let routable = origin.edge_id < self.partitions.edges;
            self.unroutable += u64::from(!routable);
            routable
        });
        let mut timeline = wire::TimelineRecord::default();
        let mut items = Vec::new();
        let verdict = match outcome {
            Outcome::Sent(sent) => {
                timeline.cursor_minima = minima_of(&found, |_| sent.conversation);
                minima_items(&found, &[], |_| sent.conversation, &mut items);
                return self.writer.sent(event, &sent, &timeline.cursor_minima, found.recipients, items, origin, out);
            }
            Outcome::Nothing => None,
            Outcome::Refused(refused) => {
                let refusal = wire::Refusal {
                    conversation_id: refused.conversation.map(wire::Id::from),
                    actor_id: refused.actor.map(wire::Id::from),
                    code: refused.refusal.code.into(),
                    message: refused.refusal.message.to_owned(),
                    client_message_id: refused.client_message_id,
                };
                timeline.refusal = Some(refusal.clone());
                Some(wire::verdict::Outcome::Refusal(refusal))
            }
            Outcome::Repeated(duplicate) => {
                timeline.duplicate = Some(*duplicate);
                Some(wire::verdict::Outcome::Duplicate(*duplicate))
            }
            Outcome::Changed(change) => {
                timeline.change = Some((*change).clone());
                items.push(Item::new(found.recipients.to_vec(), Content::Change((*change).clone())));
                Some(wire::verdict::Outcome::Change(*change))
            }
            Outcome::Receipts(moves) => {
                let mut groups: Vec<(Slot, ConversationId)> =
                    moves.iter().map(|moved| (moved.slot, moved.conversation)).collect();
                groups.sort_unstable();
                let conversation_of = |slot| {
                    let found = groups.binary_search_by_key(&slot, |(slot, _)| *slot);
                    found.map_or_else(|_| ConversationId::default(), |place| groups[place].1)
                };
                timeline.cursor_moves =
                    moves.iter().map(|moved| cursor_move(moved.conversation, &moved.member)).collect();
                timeline.cursor_minima = minima_of(&found, conversation_of);
                minima_items(&found, &[], conversation_of, &mut items);
                self.receipt_items(&moves, &mut items);
                None
            }
            Outcome::Stands(standing) => Some(wire::verdict::Outcome::Conversation(self.standing(*standing))),
            Outcome::Regrouped(regrouped) => Some(wire::verdict::Outcome::Conversation(self.regrouped(
                &regrouped,
                &found,
                &mut timeline,
                &mut items,
            ))),
        };
        self.writer.timeline(key, timeline, out);
        self.writer.fan_out(items::gather(items), out);
        if let (Some(verdict), Some(origin)) = (verdict, origin) {
            self.writer.verdict(verdict, origin, out);
        }
    }

    /// What receipts tell: the other of a direct chat, and oneself where one's own `seen` moved.
    fn receipt_items(&self, moves: &[ReceiptMove], items: &mut Vec<Item>) {
        for moved in moves {
            let member = &moved.member;
            let content = |all: (u64, u64)| {
                Content::Receipt(wire::ReceiptUpdate {
                    conversation_id: Some(moved.conversation.into()),
                    user_id: Some(member.user.into()),
                    delivered_seq: member.delivered,
                    seen_seq: member.seen,
                    delivered_to_all_seq: all.0,
                    seen_by_all_seq: all.1,
                })
            };
            if let Some(other) = &moved.other {
                items.push(Item::new(vec![self.recipient(other.user)], content((member.delivered, member.seen))));
            }
            if moved.seen_moved {
                let all = self.views_of(moved.slot, member.user, moved.other.as_ref());
                items.push(Item::new(vec![self.recipient(member.user)], content(all)));
            }
        }
    }

    /// A conversation for one member to whom nothing changed.
    fn standing(&self, standing: Standing) -> wire::ConversationState {
        let Standing { slot, mut state, actor, other } = standing;
        state.members = vec![member_state(&actor, self.views_of(slot, actor.user, other.as_ref()))];
        state
    }

    /// What a created, changed or deleted conversation tells; returns the verdict.
    fn regrouped(
        &self,
        regrouped: &Regrouped,
        found: &Found<'_>,
        timeline: &mut wire::TimelineRecord,
        items: &mut Vec<Item>,
    ) -> wire::ConversationState {
        let state_of = |user: UserId| self.state_of(regrouped, user);
        let with_members = |users: &mut dyn Iterator<Item = UserId>| wire::ConversationState {
            members: users.map(state_of).collect(),
            ..regrouped.state.clone()
        };
        let mut recipients = found.recipients.to_vec();
        recipients.extend(regrouped.added.iter().map(|user| self.recipient(*user)));
        recipients.sort_unstable();
        recipients.dedup();

        timeline.entries.clone_from(&regrouped.entries);
        if regrouped.actor_moved
            && let Some(actor) = regrouped.members.iter().find(|member| member.user == regrouped.actor)
        {
            timeline.cursor_moves.push(cursor_move(regrouped.conversation, actor));
        }
        timeline.cursor_minima = minima_of(found, |_| regrouped.conversation);
        timeline.conversation = Some(with_members(&mut regrouped.touched.iter().copied()));

        for entry in &regrouped.entries {
            items.push(Item::new(recipients.clone(), Content::Entry(entry.clone())));
        }
        minima_items(found, &regrouped.gone, |_| regrouped.conversation, items);
        let state = with_members(&mut recipients.iter().map(|recipient| recipient.user()));
        items.push(Item::new(recipients, Content::Conversation(state)));
        with_members(&mut std::iter::once(regrouped.actor))
    }

    /// A member's own state after the event, or what it was for one who is gone.
    fn state_of(&self, regrouped: &Regrouped, user: UserId) -> wire::MemberState {
        let members = &regrouped.members;
        if let Ok(position) = members.binary_search_by_key(&user, |member| member.user) {
            let other = members.iter().find(|member| regrouped.state_is_direct() && member.user != user);
            return member_state(&members[position], self.views_of(regrouped.slot, user, other));
        }
        let gone = regrouped.gone.iter().find(|member| member.user == user);
        let state = gone.map(|member| member_state(member, (0, 0))).unwrap_or_default();
        wire::MemberState { role: wire::Role::Unspecified.into(), ..state }
    }

    /// What all the others have been delivered and have seen: in a direct chat the other one's cursors.
    fn views_of(&self, slot: Slot, user: UserId, other: Option<&Member>) -> (u64, u64) {
        match other {
            Some(other) => (other.delivered, other.seen),
            None => self.minima.get(&slot).map_or((0, 0), |minima| minima.views_of(user)),
        }
    }

    fn recipient(&self, user: UserId) -> Recipient {
        Recipient::new(user, self.partitions.recipients)
    }
}

impl Regrouped {
    fn state_is_direct(&self) -> bool {
        self.state.kind == i32::from(wire::ConversationKind::Direct)
    }
}

fn cursor_move(conversation: ConversationId, member: &Member) -> wire::CursorMove {
    wire::CursorMove {
        conversation_id: Some(conversation.into()),
        user_id: Some(member.user.into()),
        delivered_seq: member.delivered,
        seen_seq: member.seen,
    }
}

fn member_state(member: &Member, (delivered_to_all_seq, seen_by_all_seq): (u64, u64)) -> wire::MemberState {
    wire::MemberState {
        user_id: Some(member.user.into()),
        role: member.role.into(),
        joined_seq: member.joined_seq,
        delivered_seq: member.delivered,
        seen_seq: member.seen,
        delivered_to_all_seq,
        seen_by_all_seq,
    }
}

/// The minima that an event moved, by conversation.
fn minima_of(found: &Found<'_>, conversation_of: impl Fn(Slot) -> ConversationId) -> Vec<wire::CursorMinima> {
    let mut minima: Vec<(ConversationId, wire::CursorMinima)> = found
        .moves
        .iter()
        .filter_map(|moved| {
            let conversation = conversation_of(moved.slot);
            let after = moved.after?.to_wire(conversation);
            let before = moved.before.map(|before| before.to_wire(conversation));
            (before != Some(after)).then_some((conversation, after))
        })
        .collect();
    minima.sort_unstable_by_key(|(conversation, _)| *conversation);
    minima.into_iter().map(|(_, minima)| minima).collect()
}

/// What each member whose view of all the others moved is told.
fn minima_items(
    found: &Found<'_>,
    gone: &[Member],
    conversation_of: impl Fn(Slot) -> ConversationId,
    items: &mut Vec<Item>,
) {
    for run in found.moved {
        let moved = found.moves.binary_search_by_key(&run.slot, |moved| moved.slot).map(|place| &found.moves[place]);
        let Ok(&MinimaMove { before: Some(before), after: Some(after), .. }) = moved else { continue };
        for recipient in &found.all[run.start..run.end] {
            let user = recipient.user();
            let views = after.views_of(user);
            if views == before.views_of(user) || gone.iter().any(|member| member.user == user) {
                continue;
            }
            let update = wire::ReceiptUpdate {
                conversation_id: Some(conversation_of(run.slot).into()),
                delivered_to_all_seq: views.0,
                seen_by_all_seq: views.1,
                ..Default::default()
            };
            // A run's recipients see at most a few different values: most join the item before.
            match items.last_mut() {
                Some(item) if item.is_receipt(&update) => item.recipients.push(*recipient),
                _ => items.push(Item::new(vec![*recipient], Content::Receipt(update))),
            }
        }
    }
}

/// `partition_point` for a short prefix of a long slice.
trait PartitionPointNear<T> {
    fn partition_point_near(&self, belongs: impl Fn(&T) -> bool) -> usize;
}

impl<T> PartitionPointNear<T> for [T] {
    fn partition_point_near(&self, belongs: impl Fn(&T) -> bool) -> usize {
        self.iter().position(|element| !belongs(element)).unwrap_or(self.len())
    }
}

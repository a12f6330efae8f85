//! Admission: one event after the other, decides what is accepted and gives it its place. Everything sequential is here;
//! who is told, and how a group's least cursors move, follows in the dataflow from the changes that it gives out.

mod groups;
mod messages;
mod receipts;

use tidings_ingest::StoredRecord;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits,
    topics::Partitions,
    wire::{self, event::Body as WireBody},
};

use super::{
    decision::{Decision, Outcome, Refused},
    decode::{Body, Command, decode},
    dedupe::{DedupeKey, DedupeWindow, Known},
    deletions::Deletions,
    fanout::{Changes, Recipient, Slot},
    minima::{CursorKind, Holders},
    refusals::{self, Refusal},
    registry::{Member, Registry},
};

/// How far a stamp may stand from the append time, in milliseconds.
#[allow(clippy::cast_possible_truncation, reason = "a minute")]
const SKEW_MS: i64 = limits::STAMP_SKEW_MAX.as_millis() as i64;

/// The bit of an offset that marks the second entry of one event, so that each has a message id of its own.
const SECOND_ENTRY: u64 = 1 << 57;

/// Events that are looked up together, ahead of the decisions.
const READ_AHEAD: usize = 64;

/// What the stage counts.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) undecodable: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
    pub(super) repeated: u64,
}

/// Where and when an event stands.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// The dataflow's time: the offset plus one.
    time: u64,
    offset: u64,
    partition: u32,
    /// The event's own stamp, bounded.
    stamped_at_ms: i64,
    /// The shard's clock at the event.
    at_ms: i64,
}

impl Moment {
    /// The id of the event's message, or of its n-th entry.
    fn message_id(&self, entry: usize) -> MessageId {
        let offset = if entry == 0 { self.offset } else { self.offset | SECOND_ENTRY };
        MessageId::from_position(self.stamped_at_ms, self.partition, offset)
    }
}

/// The sequential state of a shard.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) partition: u32,
    pub(super) partitions: Partitions,
    pub(super) group_members_max: usize,
    /// The shard's clock: the largest bounded stamp so far.
    pub(super) clock_ms: i64,
    pub(super) registry: Registry,
    pub(super) dedupe: DedupeWindow,
    pub(super) deletions: Deletions,
    pub(super) counts: Counts,
}

impl Admission {
    /// Decides about the events in order, and gives out what they change.
    pub(super) fn admit(&mut self, records: &[&StoredRecord], changes: &mut Changes, decisions: &mut Vec<Decision>) {
        let mut commands = Vec::with_capacity(records.len().min(READ_AHEAD));
        for records in records.chunks(READ_AHEAD) {
            commands.extend(records.iter().map(|record| decode(&record.value)));
            self.read_ahead(&commands);
            for (record, command) in records.iter().zip(commands.drain(..)) {
                decisions.push(self.admit_one(record, command, changes));
            }
        }
    }

    /// Looks up what a few events are about, without deciding anything: each look waits for memory, and looks that do
    /// not depend on one another wait together. Deciding, which has to go step by step, then finds all of it near.
    fn read_ahead(&self, commands: &[Option<Command<'_>>]) {
        let mut slots = [None; READ_AHEAD];
        for (slot, command) in slots.iter_mut().zip(commands) {
            *slot = command.as_ref().and_then(|command| self.registry.find(command.conversation?));
        }
        let mut seen = 0;
        for command in commands.iter().flatten() {
            if let (Body::Send { client_message_id, .. }, Some(conversation), Some(actor)) =
                (&command.body, command.conversation, command.actor)
            {
                let key = DedupeKey::new(conversation, actor, client_message_id);
                seen += usize::from(self.dedupe.find(key, self.clock_ms) == Known::Nothing);
            }
        }
        for slot in slots.into_iter().flatten() {
            seen += self.registry.get(slot).members.len();
        }
        std::hint::black_box(seen);
    }

    fn admit_one(&mut self, record: &StoredRecord, command: Option<Command<'_>>, changes: &mut Changes) -> Decision {
        let time = record.offset + 1;
        let Some(command) = command else {
            self.counts.undecodable += 1;
            return Decision { time, at_ms: self.clock_ms, origin: None, outcome: Outcome::Nothing };
        };
        let stamped_at_ms = command
            .stamped_at_ms
            .clamp(record.timestamp_ms.saturating_sub(SKEW_MS), record.timestamp_ms.saturating_add(SKEW_MS));
        self.clock_ms = self.clock_ms.max(stamped_at_ms);
        let at_ms = self.clock_ms;
        self.deletions.expire(at_ms);
        let moment = Moment { time, offset: record.offset, partition: self.partition, stamped_at_ms, at_ms };
        let origin = command.origin;
        let outcome = self.decide(&moment, command, changes);
        match outcome {
            Outcome::Refused(_) => self.counts.refused += 1,
            Outcome::Repeated(_) => self.counts.repeated += 1,
            _ => {}
        }
        Decision { time, at_ms, origin, outcome }
    }

    fn decide(&mut self, moment: &Moment, command: Command<'_>, changes: &mut Changes) -> Outcome {
        let Command { conversation, actor, body, .. } = command;
        let body = match body {
            Body::Unknown => {
                self.counts.unknown += 1;
                return Outcome::Nothing;
            }
            Body::Other(body) => match *body {
                WireBody::Receipts(receipts) => return self.receipts(moment, &receipts, changes),
                body => Body::Other(Box::new(body)),
            },
            body @ Body::Send { .. } => body,
        };
        let decided = match (conversation, actor) {
            (Some(conversation), Some(actor)) => self.decide_in(moment, conversation, actor, &body, changes),
            _ => Err(refusals::NO_SUBJECT),
        };
        decided.unwrap_or_else(|refusal| {
            let client_message_id = match body {
                Body::Send { client_message_id, .. } => client_message_id.into_owned(),
                _ => String::new(),
            };
            Outcome::Refused(Box::new(Refused { conversation, actor, refusal, client_message_id }))
        })
    }

    fn decide_in(
        &mut self,
        moment: &Moment,
        conversation: ConversationId,
        actor: UserId,
        body: &Body<'_>,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        if let Body::Other(body) = body
            && let WireBody::CreateConversation(create) = &**body
        {
            return self.create(moment, conversation, actor, create, changes);
        }
        let slot = self.registry.find(conversation).ok_or(refusals::NOT_FOUND)?;
        let found = self.registry.get(slot);
        if found.deleted {
            return Err(refusals::NOT_FOUND);
        }
        let is_erasure = matches!(body, Body::Other(body) if is_erasure(body));
        let member = found.member(actor).copied();
        // Who is erased may have left long ago.
        let member = member.or_else(|| is_erasure.then(|| Member::joined(actor, wire::Role::Member, 1)));
        let member = member.ok_or(refusals::NOT_A_MEMBER)?;
        let place = Place { slot, conversation, actor: member };
        let body = match body {
            Body::Send { client_message_id, message_id } => {
                return self.send(moment, &place, client_message_id, *message_id, changes);
            }
            Body::Other(body) => body,
            Body::Unknown => return Ok(Outcome::Nothing),
        };
        match &**body {
            WireBody::EditMessage(edit) => self.edit(moment, &place, edit.clone(), changes),
            WireBody::DeleteMessage(delete) => self.delete_message(moment, &place, delete.clone(), changes),
            WireBody::PutMember(put) => self.put_member(moment, &place, *put, changes),
            WireBody::RemoveMember(remove) => self.remove_member(moment, &place, *remove, changes),
            WireBody::RenameConversation(rename) => self.rename(moment, &place, rename, changes),
            WireBody::DeleteConversation(_) => self.delete_conversation(moment, &place, changes),
            WireBody::Send(_) | WireBody::Receipts(_) | WireBody::CreateConversation(_) => Ok(Outcome::Nothing),
        }
    }

    /// Gives out every member of the registry at this time: how a restored state enters the dataflow.
    pub(super) fn load(&self, time: u64, changes: &mut Changes) {
        for (slot, conversation) in self.registry.all() {
            for member in conversation.members.iter() {
                self.came(slot, conversation.direct, member, time, changes);
            }
        }
    }

    /// Gives out that a member came.
    fn came(&self, slot: Slot, direct: bool, member: &Member, time: u64, changes: &mut Changes) {
        changes.members.push((slot, Recipient::new(member.user, self.partitions.recipients), time, 1));
        if !direct {
            let holders = Holders::one(member.user);
            changes.cursors.push((slot, CursorKind::Delivered, member.delivered, time, holders));
            changes.cursors.push((slot, CursorKind::Seen, member.seen, time, holders));
        }
    }

    /// Gives out that a member of a group went: nothing of it stays in the dataflow.
    fn went(&self, slot: Slot, member: &Member, time: u64, changes: &mut Changes) {
        changes.members.push((slot, Recipient::new(member.user, self.partitions.recipients), time, -1));
        let holders = -Holders::one(member.user);
        changes.cursors.push((slot, CursorKind::Delivered, member.delivered, time, holders));
        changes.cursors.push((slot, CursorKind::Seen, member.seen, time, holders));
    }

    /// Moves a member's cursors forward; tells whether the delivered and the seen one moved.
    fn move_cursors(
        &mut self,
        slot: Slot,
        user: UserId,
        (delivered, seen): (u64, u64),
        time: u64,
        changes: &mut Changes,
    ) -> (bool, bool) {
        let found = self.registry.get(slot);
        let Some(before) = found.member(user).copied() else { return (false, false) };
        let direct = found.direct;
        let seen = seen.max(before.seen);
        let delivered = delivered.max(before.delivered).max(seen);
        let moved = (delivered > before.delivered, seen > before.seen);
        if moved == (false, false) {
            return moved;
        }
        if let Some(member) = self.registry.change(slot).member_mut(user) {
            (member.delivered, member.seen) = (delivered, seen);
        }
        if !direct {
            let holders = Holders::one(user);
            for (kind, from, to) in
                [(CursorKind::Delivered, before.delivered, delivered), (CursorKind::Seen, before.seen, seen)]
            {
                if from != to {
                    changes.cursors.push((slot, kind, from, time, -holders));
                    changes.cursors.push((slot, kind, to, time, holders));
                }
            }
        }
        moved
    }
}

/// Where a command is about: a conversation that stands, and a member of it.
struct Place {
    slot: Slot,
    conversation: ConversationId,
    actor: Member,
}

fn is_erasure(body: &WireBody) -> bool {
    matches!(body, WireBody::DeleteMessage(wire::DeleteMessage { erasure: true, .. }))
}

/// The role of a request: `None` when unspecified.
fn role(value: i32) -> Result<Option<wire::Role>, Refusal> {
    match wire::Role::try_from(value) {
        Ok(wire::Role::Unspecified) => Ok(None),
        Ok(role) => Ok(Some(role)),
        Err(_) => Err(refusals::UNKNOWN_ROLE),
    }
}

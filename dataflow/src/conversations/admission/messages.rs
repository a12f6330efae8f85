//! Messages: sent, edited, deleted.

use tidings_schemas::{
    ids::{MessageId, UserId},
    wire,
};

use super::{Admission, Moment, Place};
use crate::conversations::{
    decision::{Outcome, Sent},
    dedupe::{DedupeEntry, DedupeKey, Known},
    fanout::Changes,
    refusals::{self, Refusal},
};

impl Admission {
    pub(super) fn send(
        &mut self,
        moment: &Moment,
        place: &Place,
        client_message_id: &str,
        message_id: Option<MessageId>,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        if client_message_id.is_empty() {
            return Err(refusals::NO_CLIENT_MESSAGE_ID);
        }
        let key = DedupeKey::new(place.conversation, place.actor.user, client_message_id);
        let known = self.dedupe.find(key, moment.at_ms);
        if let Known::First(first) = known {
            return Ok(Outcome::Repeated(Box::new(wire::Duplicate {
                conversation_id: Some(place.conversation.into()),
                sender_id: Some(place.actor.user.into()),
                seq: first.seq,
                message_id: Some(first.message_id.into()),
            })));
        }
        let is_stale = known == Known::Stale;
        let conversation = self.registry.change(place.slot);
        conversation.last_seq += 1;
        let seq = conversation.last_seq;
        let message_id = message_id.unwrap_or_else(|| moment.message_id(0));
        self.dedupe.insert(DedupeEntry { key, message_id, seq, at_ms: moment.at_ms }, is_stale);
        self.move_cursors(place.slot, place.actor.user, (seq, seq), moment.time, changes);
        changes.asks.push((place.slot, moment.time));
        Ok(Outcome::Sent(Sent { conversation: place.conversation, seq, message_id, sender: place.actor.user }))
    }

    pub(super) fn edit(
        &mut self,
        moment: &Moment,
        place: &Place,
        edit: wire::EditMessage,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        let (target, sender) = target(edit.target)?;
        if sender != place.actor.user {
            return Err(refusals::NOT_THE_SENDER);
        }
        self.stands(place, target.seq)?;
        let change = wire::Change {
            event: target.event.clone(),
            text: edit.text,
            edited_at_ms: moment.at_ms,
            ..changed(place, target)
        };
        changes.asks.push((place.slot, moment.time));
        Ok(Outcome::Changed(Box::new(change)))
    }

    pub(super) fn delete_message(
        &mut self,
        moment: &Moment,
        place: &Place,
        delete: wire::DeleteMessage,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        let (target, sender) = target(delete.target)?;
        if sender != place.actor.user && !place.actor.manages() {
            return Err(refusals::MAY_NOT_DELETE);
        }
        self.stands(place, target.seq)?;
        self.deletions.insert(place.slot, target.seq, moment.at_ms);
        let change = wire::Change { deleted_at_ms: moment.at_ms, ..changed(place, target) };
        changes.asks.push((place.slot, moment.time));
        Ok(Outcome::Changed(Box::new(change)))
    }

    /// Refuses a message that is not there, or no longer.
    fn stands(&self, place: &Place, seq: u64) -> Result<(), Refusal> {
        let last_seq = self.registry.get(place.slot).last_seq;
        if seq == 0 || seq > last_seq || self.deletions.contains(place.slot, seq) {
            return Err(refusals::NO_SUCH_MESSAGE);
        }
        Ok(())
    }
}

fn target(target: Option<wire::Target>) -> Result<(wire::Target, UserId), Refusal> {
    let target = target.ok_or(refusals::NO_TARGET)?;
    match (target.message_id, target.sender_id) {
        (Some(_), Some(sender)) => Ok((target, sender.into())),
        _ => Err(refusals::NO_TARGET),
    }
}

fn changed(place: &Place, target: wire::Target) -> wire::Change {
    wire::Change {
        conversation_id: Some(place.conversation.into()),
        seq: target.seq,
        message_id: target.message_id,
        sender_id: target.sender_id,
        sent_at_ms: target.sent_at_ms,
        by: Some(place.actor.user.into()),
        ..Default::default()
    }
}

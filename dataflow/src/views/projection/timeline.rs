//! What a record of `timeline` does to the views.

use bytes::Bytes;
use tidings_schemas::{
    ids::{ConversationId, UserId},
    limits::PAST_STAYS_MAX,
    views::{Key, Write},
    wire::{self, MembershipAction, Role},
};

use super::{
    batch::Batch,
    frames::{EntryRowFrame, emptied},
    needs::conversation_of,
    step::{ChangeStep, EntryStep, TimelineStep},
};

impl Batch<'_> {
    pub(super) fn timeline(&mut self, step: TimelineStep) {
        if let Some(state) = &step.conversation {
            self.conversation(state, &step.entries);
        }
        for entry in step.entries {
            self.entry(entry);
        }
        for cursors in &step.cursor_moves {
            self.cursors(cursors);
        }
        for minima in step.cursor_minima {
            if let Some(slot) =
                conversation_of(minima.conversation_id).and_then(|id| self.rows.conversations.get_mut(&id))
            {
                slot.change(wire::ConversationRow::default).minima = Some(minima);
            }
        }
        if let Some(change) = step.change {
            self.change(change);
        }
    }

    /// The conversation as it now stands, and those who came, went or changed their role.
    fn conversation(&mut self, state: &wire::ConversationState, entries: &[EntryStep]) {
        let Some(id) = conversation_of(state.conversation_id) else { return };
        let Some(slot) = self.rows.conversations.get_mut(&id) else { return };
        let row = slot.change(wire::ConversationRow::default);
        row.conversation_id = state.conversation_id;
        row.kind = state.kind;
        row.title.clone_from(&state.title);
        row.member_count = state.member_count;
        row.last_seq = row.last_seq.max(state.last_seq);
        row.deleted = state.deleted;
        row.created_at_ms = state.created_at_ms;
        row.last_activity_at_ms = row.last_activity_at_ms.max(state.created_at_ms);
        if !state.direct_user_ids.is_empty() {
            row.direct_user_ids.clone_from(&state.direct_user_ids);
        }
        for member in &state.members {
            let Some(user) = member.user_id.map(UserId::from) else { continue };
            if member.role() == Role::Unspecified {
                let left_seq = departure_seq(entries, user).unwrap_or(state.last_seq);
                self.leave(id, user, left_seq);
            } else {
                self.stay(id, user, member);
            }
        }
        if state.deleted {
            let members: Vec<UserId> = self
                .rows
                .members
                .keys()
                .filter(|(conversation, _)| *conversation == id)
                .map(|(_, user)| *user)
                .collect();
            for user in members {
                self.leave(id, user, state.last_seq);
            }
        }
    }

    /// Joins, or has another role.
    fn stay(&mut self, conversation: ConversationId, user: UserId, state: &wire::MemberState) {
        let Some(slot) = self.rows.members.get_mut(&(conversation, user)) else { return };
        let row = slot.change(wire::MemberRow::default);
        let joins = row.role() == Role::Unspecified;
        row.user_id = state.user_id;
        row.role = state.role;
        row.joined_seq = state.joined_seq;
        row.delivered_seq = state.delivered_seq;
        row.seen_seq = state.seen_seq;
        if joins {
            self.writes.push(Write::Put(Key::user_conversation(user, conversation), Bytes::new()));
        }
    }

    /// What was said until then stays readable.
    fn leave(&mut self, conversation: ConversationId, user: UserId, left_seq: u64) {
        let Some(slot) = self.rows.members.get_mut(&(conversation, user)) else { return };
        if slot.row.as_ref().is_none_or(|row| row.role() == Role::Unspecified) {
            return;
        }
        let row = slot.change(wire::MemberRow::default);
        row.role = Role::Unspecified.into();
        row.past_stays.push(wire::Stay { joined_seq: row.joined_seq, left_seq });
        if row.past_stays.len() > PAST_STAYS_MAX {
            row.past_stays.remove(0);
        }
        self.writes.push(Write::Delete(Key::user_conversation(user, conversation)));
    }

    fn entry(&mut self, entry: EntryStep) {
        let EntryStep { head, bytes } = entry;
        let Some(id) = conversation_of(head.conversation_id) else { return };
        if let Some(slot) = self.rows.conversations.get_mut(&id) {
            let row = slot.change(wire::ConversationRow::default);
            row.conversation_id = head.conversation_id;
            row.last_seq = row.last_seq.max(head.seq);
            row.last_activity_at_ms = row.last_activity_at_ms.max(head.sent_at_ms);
        }
        if let Some(message) = head.message_id {
            let seq = Bytes::copy_from_slice(&head.seq.to_be_bytes());
            self.writes.push(Write::Put(Key::message_index(id, message.into()), seq));
        }
        let row = EntryRowFrame { entry: Some(bytes), change: None };
        match self.rows.entries.get_mut(&(id, head.seq)) {
            Some(slot) => *slot.change(EntryRowFrame::default) = row,
            None => self.put(Key::entry(id, head.seq), &row),
        }
    }

    fn cursors(&mut self, cursors: &wire::CursorMove) {
        let (Some(conversation), Some(user)) = (conversation_of(cursors.conversation_id), cursors.user_id) else {
            return;
        };
        // Only members have cursors: one who left in the meantime keeps none.
        if let Some(slot) = self.rows.members.get_mut(&(conversation, user.into()))
            && slot.row.as_ref().is_some_and(|row| row.role() != Role::Unspecified)
        {
            let row = slot.change(wire::MemberRow::default);
            row.delivered_seq = row.delivered_seq.max(cursors.delivered_seq);
            row.seen_seq = row.seen_seq.max(cursors.seen_seq);
        }
    }

    /// An edit or a deletion. A deletion is final; what has left the tail is the archive's.
    fn change(&mut self, change: ChangeStep) {
        let Some(id) = conversation_of(change.head.conversation_id) else { return };
        let Some(slot) = self.rows.entries.get_mut(&(id, change.head.seq)) else { return };
        let Some(row) = &slot.row else { return };
        if row.change.as_ref().is_some_and(is_deletion) {
            return;
        }
        let is_gone = change.head.deleted_at_ms != 0;
        let row = slot.change(EntryRowFrame::default);
        row.change = Some(change.bytes);
        if is_gone && let Some(entry) = &mut row.entry {
            *entry = emptied(entry);
        }
    }
}

fn is_deletion(change: &Bytes) -> bool {
    <super::frames::ChangeHead as prost::Message>::decode(change.clone()).is_ok_and(|head| head.deleted_at_ms != 0)
}

/// The seq of the entry that says that the user went.
fn departure_seq(entries: &[EntryStep], user: UserId) -> Option<u64> {
    let departs = |membership: &wire::Membership| match membership.action() {
        MembershipAction::Removed => membership.user_id.map(UserId::from) == Some(user),
        MembershipAction::Left => membership.user_id.or(membership.by).map(UserId::from) == Some(user),
        _ => false,
    };
    entries.iter().find(|entry| entry.head.membership.as_ref().is_some_and(departs)).map(|entry| entry.head.seq)
}

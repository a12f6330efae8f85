//! Receipts: members' cursors, which only move forward, never past the end, and to `delivered` where they are at `seen`.

use tidings_schemas::{
    ids::{ConversationId, UserId},
    wire,
};

use super::{Admission, Moment};
use crate::conversations::{
    decision::{Outcome, ReceiptMove},
    fanout::Changes,
};

impl Admission {
    pub(super) fn receipts(&mut self, moment: &Moment, receipts: &wire::Receipts, changes: &mut Changes) -> Outcome {
        let mut moved = Vec::new();
        for receipt in &receipts.receipts {
            let (Some(conversation), Some(user)) = (receipt.conversation_id, receipt.user_id) else { continue };
            let (conversation, user) = (ConversationId::from(conversation), UserId::from(user));
            let Some(slot) = self.registry.find(conversation) else { continue };
            let last_seq = self.registry.get(slot).last_seq;
            let cursors = (receipt.delivered_seq.min(last_seq), receipt.seen_seq.min(last_seq));
            let (delivered_moved, seen_moved) = self.move_cursors(slot, user, cursors, moment.time, changes);
            if delivered_moved || seen_moved {
                moved.push((conversation, user, slot, seen_moved));
            }
        }
        // One move for each member, however often the batch names it.
        moved.sort_unstable();
        moved.dedup_by(|later, first| {
            let same = (later.0, later.1) == (first.0, first.1);
            first.3 |= same && later.3;
            same
        });
        Outcome::Receipts(
            moved
                .into_iter()
                .filter_map(|(conversation, user, slot, seen_moved)| {
                    let found = self.registry.get(slot);
                    let member = *found.member(user)?;
                    let other = if found.direct { found.other(user).copied() } else { None };
                    Some(ReceiptMove { conversation, slot, member, seen_moved, other })
                })
                .collect(),
        )
    }
}

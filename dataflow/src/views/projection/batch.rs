//! Folds steps into rows and writes. Nothing here reads the store or a clock: the same rows and steps give the same
//! writes.

use bytes::Bytes;
use prost::Message;
use tidings_schemas::views::{Key, Write};

use super::{
    needs::{Rows, Slot},
    step::Step,
};

/// The rows being changed, and the writes that need no row to be read.
pub(super) struct Batch<'a> {
    pub(super) rows: &'a mut Rows,
    pub(super) writes: Vec<Write>,
    /// Made after everything else: what leaves a tail.
    pub(super) trims: Vec<Write>,
}

/// The writes of all the steps, in their order.
pub(super) fn fold(steps: Vec<Step>, rows: &mut Rows) -> Vec<Write> {
    let mut batch = Batch { rows, writes: Vec::with_capacity(steps.len() * 4), trims: Vec::new() };
    for step in steps {
        match step {
            Step::Timeline(step) => batch.timeline(step),
            Step::Inbox(frame) => batch.inbox(frame),
            Step::Directory(step) => batch.directory(step),
        }
    }
    batch.finish()
}

impl Batch<'_> {
    pub(super) fn put(&mut self, key: Key, row: &impl Message) {
        self.writes.push(Write::Put(key, Bytes::from(row.encode_to_vec())));
    }

    /// A row that was changed several times is written once.
    fn finish(mut self) -> Vec<Write> {
        let Rows { conversations, members, entries, users, trims, .. } = &*self.rows;
        let writes = &mut self.writes;
        for (id, slot) in conversations {
            put_changed(writes, || Key::conversation(*id), slot);
        }
        for ((conversation, user), slot) in members {
            put_changed(writes, || Key::member(*conversation, *user), slot);
        }
        for ((conversation, seq), slot) in entries {
            put_changed(writes, || Key::entry(*conversation, *seq), slot);
        }
        for (user, slot) in users {
            put_changed(writes, || Key::user(*user), slot);
        }
        for (conversation, trim) in trims {
            let marks = trim.messages.iter().map(|message| Write::Delete(Key::message_index(*conversation, *message)));
            writes.extend(marks);
            writes.push(Write::DeleteBelow(Key::entry(*conversation, trim.below_seq)));
        }
        self.writes.append(&mut self.trims);
        self.writes
    }
}

fn put_changed<R: Message>(writes: &mut Vec<Write>, key: impl FnOnce() -> Key, slot: &Slot<R>) {
    if let Slot { row: Some(row), is_changed: true } = slot {
        writes.push(Write::Put(key(), Bytes::from(row.encode_to_vec())));
    }
}

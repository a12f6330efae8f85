//! Takes fan-out records in: drops repeats, numbers the recipients, writes the inbox record, asks where everybody is.

use tidings_ingest::StoredRecord;
use tidings_schemas::{ids::UserId, topics::Topic};

use super::{
    RecipientsShard,
    batch::{Batch, Fanout, Item, Piece},
    encoding::{FanoutView, put_inbox_record},
    frames::{Content, EntryFrame, FanoutFrame, Malformed, first_field, widen},
};
use crate::shard::StageError;

/// Records that are numbered together: enough recipients to keep the memory busy, few enough to stay in the cache.
const GROUP_RECORDS: usize = 32;

impl RecipientsShard {
    /// Takes records of `fanout` in.
    pub(super) fn take_fanout(&mut self, records: Vec<StoredRecord>) -> Result<(), StageError> {
        for record in records {
            if record.offset < self.next_fanout {
                continue;
            }
            if record.offset > self.next_fanout {
                let (shard, expected, found) = (self.id, self.next_fanout, record.offset);
                return Err(StageError::Gap { shard, topic: Topic::Fanout, expected, found });
            }
            self.next_fanout += 1;
            self.frame(record);
            if self.batch.group.len() == GROUP_RECORDS {
                self.number_group();
            }
        }
        self.number_group();
        Ok(())
    }

    /// Reads the record's frame, and adds the record to the group if it is not a repeat.
    fn frame(&mut self, record: StoredRecord) {
        let Self { batch, counts, watermarks, .. } = self;
        let first_item = batch.items.len();
        let frame = match read_frames(batch, &record.value) {
            Ok(frame) => frame,
            Err(Malformed) => {
                batch.items.truncate(first_item);
                counts.undecodable += 1;
                return;
            }
        };
        if !watermarks.advance(frame.source) && self.rules.drop_repeats {
            batch.items.truncate(first_item);
            counts.repeats += 1;
            return;
        }
        let items = first_item..batch.items.len();
        batch.group.push(Fanout { value: record.value, offset: record.offset, frame, items, inbox: 0..0 });
    }

    /// Gives each recipient of the group's records the next offset, asks where each is, and writes the inbox records.
    fn number_group(&mut self) {
        let Self { batch, users, routing, .. } = self;
        batch.guesses.clear();
        for fanout in &batch.group {
            for item in &batch.items[fanout.items.clone()] {
                let ids = fanout.value[widen(&item.frame.users)].as_chunks::<16>().0;
                batch.guesses.extend(ids.iter().map(|id| users.guess(UserId::from_bytes(*id))));
            }
        }
        let mut guesses = batch.guesses.iter();
        for fanout in &batch.group {
            for item in &mut batch.items[fanout.items.clone()] {
                item.first_question = routing.next_question();
                let first = batch.offsets.len();
                let ids = fanout.value[widen(&item.frame.users)].as_chunks::<16>().0;
                for (id, guess) in ids.iter().zip(guesses.by_ref()) {
                    let (slot, offset) = users.number(UserId::from_bytes(*id), *guess);
                    routing.ask(Some(slot));
                    batch.offsets.push(offset);
                }
                item.recipients = first..batch.offsets.len();
            }
        }
        for mut fanout in batch.group.drain(..) {
            let start = batch.output.len();
            let view = FanoutView {
                value: &fanout.value,
                frame: &fanout.frame,
                items: &batch.items[fanout.items.clone()],
                offsets: &batch.offsets,
                partition: self.id.partition,
                offset: fanout.offset,
            };
            put_inbox_record(&mut batch.output, view);
            fanout.inbox = start..batch.output.len();
            batch.pieces.push(Piece::Fanout(fanout));
        }
    }
}

/// Reads the record's frame, and adds its items to the batch.
fn read_frames(batch: &mut Batch, value: &[u8]) -> Result<FanoutFrame, Malformed> {
    batch.item_frames.clear();
    let frame = FanoutFrame::read(value, &mut batch.item_frames)?;
    for item in batch.item_frames.drain(..) {
        let mut entry = EntryFrame::default();
        let mut conversation = 0..0;
        match item.content {
            Content::Entry | Content::Change => entry = EntryFrame::read(value, &item.body)?,
            Content::Conversation => conversation = first_field(value, &item.body)?.unwrap_or_default(),
            Content::Receipt | Content::Unknown => {}
        }
        let is_message = item.content == Content::Entry && entry.is_message;
        batch.items.push(Item { frame: item, entry, conversation, is_message, recipients: 0..0, first_question: 0 });
    }
    Ok(frame)
}

//! Takes fan-out records in: drops repeats, numbers the recipients, writes the inbox record, asks where everybody is.

use tidings_ingest::StoredRecord;
use tidings_schemas::ids::UserId;

use super::{
    RecipientsShard,
    batch::{Fanout, Item, Piece},
    encoding::{FanoutView, put_inbox_record},
    frames::{Content, EntryFrame, FanoutFrame, Malformed, first_field, widen},
};

impl RecipientsShard {
    /// Takes one record of `fanout` in.
    pub(super) fn take_fanout(&mut self, record: StoredRecord) {
        let first_item = self.batch.items.len();
        let frame = match self.read_frames(&record.value) {
            Ok(frame) => frame,
            Err(Malformed) => {
                self.batch.items.truncate(first_item);
                self.counts.undecodable += 1;
                return;
            }
        };
        if !self.watermarks.advance(frame.source) && self.rules.drop_repeats {
            self.batch.items.truncate(first_item);
            self.counts.repeats += 1;
            return;
        }
        for item in first_item..self.batch.items.len() {
            self.number_item(item, &record.value);
        }

        let batch = &mut self.batch;
        let start = batch.output.len();
        let view = FanoutView {
            value: &record.value,
            frame: &frame,
            items: &batch.items[first_item..],
            offsets: &batch.offsets,
            partition: self.id.partition,
            offset: record.offset,
        };
        put_inbox_record(&mut batch.output, view);
        let inbox = start..batch.output.len();
        let items = first_item..batch.items.len();
        batch.pieces.push(Piece::Fanout(Fanout { value: record.value, offset: record.offset, frame, items, inbox }));
    }

    /// Reads the record's frame, and adds its items to the batch.
    fn read_frames(&mut self, value: &[u8]) -> Result<FanoutFrame, Malformed> {
        let batch = &mut self.batch;
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
            batch.items.push(Item { frame: item, entry, conversation, is_message, recipients: 0..0 });
        }
        Ok(frame)
    }

    /// Gives each recipient of the item the next offset, and asks where the recipient is.
    fn number_item(&mut self, item: usize, value: &[u8]) {
        let Self { batch, users, routing, .. } = self;
        let first = batch.offsets.len();
        let packed = &value[widen(&batch.items[item].frame.users)];
        for id in packed.as_chunks::<16>().0 {
            let numbered = users.number(UserId::from_bytes(*id), batch.lookup_count);
            if numbered.lookup == batch.lookup_count {
                routing.look_up(numbered.slot, numbered.lookup);
                batch.lookup_count += 1;
            }
            batch.offsets.push(numbered.offset);
            batch.lookups.push(numbered.lookup);
        }
        batch.items[item].recipients = first..batch.offsets.len();
    }
}

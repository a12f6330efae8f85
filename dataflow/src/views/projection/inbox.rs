//! What a record of `inbox` does to the views: one row for each recipient, all of an item's alike.

use bytes::Bytes;
use prost::Message;
use tidings_schemas::{
    ids::unpack_user_ids,
    limits::INBOX_TAIL_MAX,
    views::{Key, Write},
};

use super::{
    batch::Batch,
    frames::{InboxFrame, InboxRowFrame},
    needs::trim_below,
};

impl Batch<'_> {
    pub(super) fn inbox(&mut self, frame: InboxFrame) {
        for item in frame.items {
            let row = InboxRowFrame {
                at_ms: frame.at_ms,
                events_source: frame.events_source.clone(),
                entry: item.entry,
                change: item.change,
                receipt: item.receipt,
                conversation: item.conversation,
            };
            let row = Bytes::from(row.encode_to_vec());
            let users = unpack_user_ids(&item.user_ids);
            self.writes.reserve(users.len());
            for (user, offset) in users.zip(item.offsets) {
                self.writes.push(Write::Put(Key::inbox(user, offset), row.clone()));
                if let Some(below) = trim_below(offset, INBOX_TAIL_MAX) {
                    self.trims.push(Write::DeleteBelow(Key::inbox(user, below)));
                }
            }
        }
    }
}

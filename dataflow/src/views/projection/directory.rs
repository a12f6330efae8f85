//! What a record of `directory` does to the views: the first to claim a name has it.

use bytes::Bytes;
use tidings_schemas::{
    ids::UserId,
    views::{Key, Write},
};

use super::{batch::Batch, step::DirectoryStep};

impl Batch<'_> {
    pub(super) fn directory(&mut self, step: DirectoryStep) {
        let DirectoryStep { user: row } = step;
        let Some(user) = row.user_id.map(UserId::from) else { return };
        let holder = self.rows.usernames.entry_ref(&row.username).or_insert(None);
        if holder.is_some() {
            return;
        }
        *holder = Some(user);
        self.writes.push(Write::Put(Key::username(&row.username), Bytes::copy_from_slice(&user.to_bytes())));
        self.put(Key::user(user), &row);
    }
}

//! The views' rows without what is erased.

use bytes::Bytes;
use prost::Message as _;
use tidings_dataflow::views::store::rewrite::Rewrite;
use tidings_schemas::{ids::UserId, views::Table, wire};

use super::rules::Rules;

impl Rules {
    /// A row of a table without what is erased.
    pub fn row(&self, table: Table, value: &Bytes) -> Rewrite {
        match table {
            Table::Entries => self.entry_row(value),
            Table::Users => {
                let Ok(row) = wire::UserRow::decode(value.clone()) else { return Rewrite::Keep };
                let is_erased = row.user_id.is_some_and(|user| self.users.contains(&UserId::from(user)));
                if !is_erased || row.erased_at_ms != 0 {
                    return Rewrite::Keep;
                }
                // Until the projection comes to the record that says so. No token is good.
                let row = wire::UserRow {
                    user_id: row.user_id,
                    created_at_ms: row.created_at_ms,
                    tokens_valid_from_ms: i64::MAX,
                    erased_at_ms: 1,
                    ..Default::default()
                };
                Rewrite::Replace(row.encode_to_vec().into())
            }
            Table::Usernames => match <[u8; 16]>::try_from(value.as_ref()) {
                Ok(user) if self.users.contains(&UserId::from_bytes(user)) => Rewrite::Drop,
                _ => Rewrite::Keep,
            },
            _ => Rewrite::Keep,
        }
    }

    fn entry_row(&self, value: &Bytes) -> Rewrite {
        let Ok(mut row) = wire::EntryRow::decode(value.clone()) else { return Rewrite::Keep };
        let in_entry = row.entry.as_mut().is_some_and(|entry| self.entry(entry));
        let in_change = row.change.as_mut().is_some_and(|change| self.change(change));
        if !(in_entry || in_change) {
            return Rewrite::Keep;
        }
        let bytes = Bytes::from(row.encode_to_vec());
        if bytes == value { Rewrite::Keep } else { Rewrite::Replace(bytes) }
    }
}

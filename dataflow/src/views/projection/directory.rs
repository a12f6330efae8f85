//! What a record of `directory` does to the views: the first to claim a name has it; a password is replaced; tokens end.

use bytes::Bytes;
use tidings_schemas::{
    ids::UserId,
    limits::REVOKED_TOKENS_MAX,
    views::{Key, Write},
    wire,
};

use super::{
    batch::Batch,
    needs::Slot,
    step::{CredentialsStep, DirectoryStep, EraseStep},
};

impl Batch<'_> {
    pub(super) fn directory(&mut self, step: DirectoryStep) {
        match step {
            DirectoryStep::Register(row) => self.register(row),
            DirectoryStep::Credentials(step) => self.credentials(step),
            DirectoryStep::Erase(step) => self.erase(step),
        }
    }

    fn register(&mut self, row: wire::UserRow) {
        let Some(user) = row.user_id.map(UserId::from) else { return };
        let holder = self.rows.usernames.entry_ref(&row.username).or_insert(None);
        if holder.is_some() {
            return;
        }
        *holder = Some(user);
        self.writes.push(Write::Put(Key::username(&row.username), Bytes::copy_from_slice(&user.to_bytes())));
        self.rows.users.insert(user, Slot { row: Some(row), is_changed: true });
    }

    /// The name is free again. The row stays, so that a token of the user's is refused and a message's sender is known to
    /// have been somebody.
    fn erase(&mut self, step: EraseStep) {
        let Some(slot) = self.rows.users.get_mut(&step.user) else { return };
        let row = slot.change(wire::UserRow::default);
        if !row.username.is_empty() {
            self.writes.push(Write::Delete(Key::username(&row.username)));
            if let Some(holder) = self.rows.usernames.get_mut(&row.username) {
                *holder = None;
            }
        }
        *row = wire::UserRow {
            user_id: Some(step.user.into()),
            created_at_ms: row.created_at_ms,
            tokens_valid_from_ms: i64::MAX,
            erased_at_ms: step.at_ms.max(1),
            ..Default::default()
        };
    }

    fn credentials(&mut self, step: CredentialsStep) {
        // Of somebody who is not registered, or no longer, there is nothing to end.
        let is_there = |row: &wire::UserRow| row.erased_at_ms == 0;
        let Some(slot) = self.rows.users.get_mut(&step.user).filter(|slot| slot.row.as_ref().is_some_and(is_there))
        else {
            return;
        };
        let row = slot.change(wire::UserRow::default);
        if !step.password_hash.is_empty() {
            row.password_hash = step.password_hash;
        }
        row.tokens_valid_from_ms = row.tokens_valid_from_ms.max(step.valid_from_ms);
        row.revoked_tokens.retain(|token| token.expires_at_ms > step.at_ms);
        if let Some(token) = step.token
            && row.revoked_tokens.iter().all(|known| known.token_id != token.token_id)
        {
            row.revoked_tokens.push(token);
        }
        // More than are remembered one by one end by their age, and with them what is as old.
        if row.revoked_tokens.len() > REVOKED_TOKENS_MAX
            && let Some(oldest) = row.revoked_tokens.iter().map(|token| token.issued_at_ms).min()
        {
            row.tokens_valid_from_ms = row.tokens_valid_from_ms.max(oldest.saturating_add(1));
        }
        let valid_from_ms = row.tokens_valid_from_ms;
        row.revoked_tokens.retain(|token| token.issued_at_ms >= valid_from_ms);
    }
}

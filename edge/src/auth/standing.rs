//! Whether a token was ended before its time, as the views have it. Read once and remembered for a few seconds: the edge
//! learns from the log what ends meanwhile (see `revocations`), so that only a read that crosses with that is late.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;
use tidings_schemas::{
    clock::Clock,
    ids::UserId,
    limits::{TOKEN_STANDING_AGE_MAX, TOKEN_STANDINGS_CACHED_MAX},
    wire,
};

use super::{TokenError, TokenMark};
use crate::{error::ApiError, read::Reads};

/// Which tokens of a user are no good.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Standing {
    valid_from_ms: i64,
    /// Ascending.
    revoked: Vec<u128>,
}

impl Standing {
    /// From the views' row.
    pub fn of(row: &wire::UserRow) -> Self {
        let id = |token: &wire::RevokedToken| token.token_id.as_ref().try_into().ok().map(u128::from_be_bytes);
        let mut revoked: Vec<u128> = row.revoked_tokens.iter().filter_map(id).collect();
        revoked.sort_unstable();
        Self { valid_from_ms: row.tokens_valid_from_ms, revoked }
    }

    /// Whether the token still is good.
    pub fn allows(&self, token: &TokenMark) -> bool {
        token.issued_at_ms >= self.valid_from_ms && self.revoked.binary_search(&token.id).is_err()
    }
}

/// The standing of all users' tokens.
pub struct Standings {
    reads: Arc<Reads>,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<UserId, (Duration, Arc<Standing>)>>,
    /// How many times something ended.
    generation: AtomicU64,
}

impl Standings {
    /// As the views have it.
    pub fn new(reads: Arc<Reads>, clock: Arc<dyn Clock>) -> Self {
        Self { reads, clock, known: Mutex::default(), generation: AtomicU64::new(0) }
    }

    /// Whether a user's token still is good.
    ///
    /// # Errors
    /// [`TokenError::Revoked`]; [`TokenError::Unavailable`]: the views cannot say.
    pub async fn check(&self, user: UserId, token: &TokenMark) -> Result<(), TokenError> {
        let standing = match self.known(user) {
            Some(standing) => standing,
            None => self.read(user).await.map_err(TokenError::Unavailable)?,
        };
        if standing.allows(token) { Ok(()) } else { Err(TokenError::Revoked) }
    }

    /// Grows whenever something has ended and the views have it. Who reads it before a check and finds it grown after
    /// what followed from the check, has to check again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Something of the user's has ended, and the views have it.
    pub fn ended(&self, user: UserId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&user);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn known(&self, user: UserId) -> Option<Arc<Standing>> {
        let now = self.clock.monotonic();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, standing) = known.get(&user)?;
        (now.saturating_sub(*read_at) < TOKEN_STANDING_AGE_MAX).then(|| Arc::clone(standing))
    }

    async fn read(&self, user: UserId) -> Result<Arc<Standing>, ApiError> {
        let read_at = self.clock.monotonic();
        let generation = self.generation();
        let row = self.reads.user_row(user).await?;
        // Every token's user was registered, so the views are being built anew: what ended is not in them yet, either.
        let row = row.ok_or_else(|| ApiError::unavailable("the views are being brought up to date: try again"))?;
        let standing = Arc::new(Standing::of(&row));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if generation == self.generation() {
            if known.len() >= TOKEN_STANDINGS_CACHED_MAX {
                known.clear();
            }
            known.insert(user, (read_at, Arc::clone(&standing)));
        }
        Ok(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_and_name_decide() {
        let token = |id: u128| wire::RevokedToken { token_id: id.to_be_bytes().to_vec().into(), ..Default::default() };
        let row = wire::UserRow {
            tokens_valid_from_ms: 1_000,
            revoked_tokens: vec![token(9), token(3), token(7)],
            ..Default::default()
        };
        let standing = Standing::of(&row);
        for (id, issued_at_ms, good) in
            [(1, 1_000, true), (1, 999, false), (1, 0, false), (3, 2_000, false), (9, 2_000, false), (8, 2_000, true)]
        {
            assert_eq!(standing.allows(&TokenMark { id, issued_at_ms }), good, "{id} {issued_at_ms}");
        }
        assert!(Standing::default().allows(&TokenMark { id: 0, issued_at_ms: 0 }));
    }
}

//! What a state of the stage holds of its users, for who looks at it from outside: the past, for instance. `state` writes
//! and reads the rows; nothing here decides anything.

use bytes::{Buf, Bytes};
use tidings_schemas::ids::{SessionId, UserId};

use super::state::{BadRow, CLOCK, USER, read_user};
use crate::shard::{SavedState, UnreadableRow};

/// An open session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedSession {
    /// Which.
    pub session_id: SessionId,
    /// On which edge.
    pub edge_id: u32,
    /// The last sign of life, in milliseconds since the Unix epoch.
    pub last_sign_ms: i64,
}

/// What is known of a user who has a session or is within the grace of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedOnline {
    /// False for a user whose sessions are open but give no sign of life.
    pub is_online: bool,
    /// The latest deadline that ended sessions leave.
    pub lingering_until_ms: i64,
    /// Those that are open.
    pub sessions: Vec<SavedSession>,
}

/// A user that the shard has met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedUser {
    /// Who.
    pub id: UserId,
    /// The newest offset of the user's stream: 0 before the first.
    pub last_offset: u64,
    /// The last sign of life, in milliseconds since the Unix epoch: 0 for none.
    pub last_seen_ms: i64,
    /// `None`: no session, and not within the grace of one.
    pub online: Option<SavedOnline>,
}

impl From<BadRow> for UnreadableRow {
    fn from(BadRow(what): BadRow) -> Self {
        Self { what }
    }
}

/// A user of a state, if the shard has met the user.
///
/// # Errors
/// The row cannot be read.
pub fn user(state: &SavedState, id: UserId) -> Result<Option<SavedUser>, UnreadableRow> {
    let key = [&[USER][..], &id.to_bytes()].concat();
    Ok(state.rows.get(&key[..]).map(|value| read_user(id, value)).transpose()?)
}

/// All users of a state, in no order.
pub fn users(state: &SavedState) -> impl Iterator<Item = Result<SavedUser, UnreadableRow>> {
    state.rows.iter().filter_map(|(key, value)| {
        let (table, id) = key.split_first()?;
        let id = || id.try_into().map_err(|_| UnreadableRow { what: "a user's key" });
        (*table == USER).then(|| Ok(read_user(UserId::from_bytes(id()?), value)?))
    })
}

/// The shard's clock in a state, in milliseconds since the Unix epoch: `None` before the first signal.
///
/// # Errors
/// Its row cannot be read.
pub fn clock_ms(state: &SavedState) -> Result<Option<i64>, UnreadableRow> {
    let read = |value: &Bytes| value.clone().try_get_i64().map_err(|_| UnreadableRow { what: "the clock" });
    Ok(state.rows.get(&[CLOCK][..]).map(read).transpose()?.filter(|clock_ms| *clock_ms != 0))
}

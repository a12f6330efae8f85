//! A user as people name one: by id, or by name.

use tidings_ingest::Log;
use tidings_replay::state::{Told, names::user_of};
use tidings_schemas::ids::UserId;

use super::exit::{Code, Failure};

/// The user of this id or name. A name is looked up in the directory.
///
/// # Errors
/// Nobody has the name; the log cannot be read.
pub fn user(log: &dyn Log, asked: &str, told: &(dyn Fn(Told) + Sync)) -> Result<UserId, Failure> {
    if let Ok(user) = asked.parse() {
        return Ok(user);
    }
    user_of(log, asked, told)?
        .ok_or_else(|| Failure::new(Code::Usage, format!("nobody has the name {asked:?} (hint: a user's name or id)")))
}

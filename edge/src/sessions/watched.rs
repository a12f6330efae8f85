//! Whom a session watches. Others speak for a session, too: the edge says its watches again after a silence. So whatever
//! is said of them is said under one lock, and nothing after its end: a watch that is said late would stay for good.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;
use tidings_schemas::{ids::UserId, limits::PRESENCE_WATCHES_MAX};

use crate::error::ApiError;

/// The watches of one session.
#[derive(Default)]
pub struct Watched(Mutex<State>);

#[derive(Default)]
struct State {
    /// Boxed: few sessions watch anybody for long.
    users: Option<Box<HashSet<UserId>>>,
    has_ended: bool,
}

impl Watched {
    /// Adds users, and says so with `say`.
    ///
    /// # Errors
    /// `invalid_argument`: more than `PRESENCE_WATCHES_MAX`.
    pub fn watch(&self, users: &[UserId], say: impl FnOnce()) -> Result<(), ApiError> {
        let mut state = self.lock();
        if state.has_ended {
            return Ok(());
        }
        let watched = state.users.get_or_insert_default();
        let new: HashSet<UserId> = users.iter().filter(|user| !watched.contains(*user)).copied().collect();
        if watched.len() + new.len() > PRESENCE_WATCHES_MAX {
            let message = format!("a session watches at most {PRESENCE_WATCHES_MAX} users: unwatch some first");
            return Err(ApiError::invalid_argument(message));
        }
        watched.extend(new);
        say();
        Ok(())
    }

    /// Removes users, and says so with `say`.
    pub fn unwatch(&self, users: &[UserId], say: impl FnOnce()) {
        let mut state = self.lock();
        if let Some(watched) = state.users.as_mut() {
            for user in users {
                watched.remove(user);
            }
        }
        say();
    }

    /// Has `say` say all of it again, unless the session has ended.
    pub fn again(&self, say: impl FnOnce(&[UserId])) {
        let state = self.lock();
        if !state.has_ended {
            say(&state.all());
        }
    }

    /// The session ends: has `say` say so. The first time only.
    pub fn end(&self, say: impl FnOnce(&[UserId])) {
        let mut state = self.lock();
        if !state.has_ended {
            state.has_ended = true;
            say(&state.all());
            state.users = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn all(&self) -> Vec<UserId> {
        self.users.iter().flat_map(|users| users.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_after_the_end() {
        let watched = Watched::default();
        watched.watch(&[UserId(1), UserId(2)], || {}).unwrap();
        watched.unwatch(&[UserId(1)], || {});
        watched.again(|users| assert_eq!(users, [UserId(2)]));
        let mut ended = Vec::new();
        watched.end(|users| ended.extend_from_slice(users));
        watched.end(|_| panic!("it ends once"));
        watched.again(|_| panic!("it has ended"));
        watched.watch(&[UserId(3)], || panic!("it has ended")).unwrap();
        assert_eq!(ended, [UserId(2)]);
    }

    #[test]
    fn too_many_are_refused_whole() {
        let watched = Watched::default();
        let users: Vec<UserId> = (0..PRESENCE_WATCHES_MAX as u128).map(UserId).collect();
        watched.watch(&users, || {}).unwrap();
        watched.watch(&users, || {}).unwrap();
        assert!(watched.watch(&[UserId(u128::MAX)], || panic!("refused")).is_err());
    }
}

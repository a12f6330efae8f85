//! Who is connected here: sessions by user and by id, and each session's place in its user's update stream.
//!
//! - [`stream`]: what to do with an update, given what the session has had: the gap rule.
//! - [`session`]: one session: its pushes, and catching up from the views. [`watched`]: whose presence it watches.

pub mod session;
pub mod stream;
pub mod watched;

use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashMap;
use tidings_schemas::{
    errors::CloseCode,
    ids::{SessionId, UserId},
};

pub use self::session::{Session, SessionContext};
use crate::error::ApiError;

/// The sessions of one edge.
#[derive(Default)]
pub struct Sessions {
    registry: RwLock<Registry>,
}

#[derive(Default)]
struct Registry {
    by_user: HashMap<UserId, Vec<Arc<Session>>>,
    by_id: HashMap<SessionId, Arc<Session>>,
}

impl Sessions {
    /// Enters a session. An earlier one of the same user and device is closed (4503): the device has come back on another
    /// connection.
    ///
    /// # Errors
    /// `unavailable`: the user has `SESSIONS_PER_USER_MAX` on this edge already.
    pub fn open(&self, session: &Arc<Session>) -> Result<(), ApiError> {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        let of_user = registry.by_user.entry(session.user_id()).or_default();
        let replaced = of_user.iter().position(|other| other.is_same_device(session));
        let replaced = replaced.map(|place| of_user.swap_remove(place));
        if of_user.len() >= tidings_schemas::limits::SESSIONS_PER_USER_MAX {
            return Err(ApiError::unavailable("this user has too many sessions: close one of them"));
        }
        of_user.push(Arc::clone(session));
        registry.by_id.insert(session.session_id(), Arc::clone(session));
        if let Some(replaced) = replaced {
            registry.by_id.remove(&replaced.session_id());
            drop(registry);
            replaced.connection().close(CloseCode::SessionReplaced);
        }
        Ok(())
    }

    /// Removes a session, if it is still there.
    pub fn close(&self, session: &Session) {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.by_id.remove(&session.session_id());
        if let Some(of_user) = registry.by_user.get_mut(&session.user_id()) {
            of_user.retain(|other| other.session_id() != session.session_id());
            if of_user.is_empty() {
                registry.by_user.remove(&session.user_id());
            }
        }
    }

    /// Calls `each` with every session of each of the users, all under one lock: it must be short.
    pub fn for_users<T>(&self, users: impl Iterator<Item = (UserId, T)>, mut each: impl FnMut(&Arc<Session>, &T)) {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        for (user, with) in users {
            for session in registry.by_user.get(&user).into_iter().flatten() {
                each(session, &with);
            }
        }
    }

    /// The session of that id.
    pub fn by_id(&self, session: SessionId) -> Option<Arc<Session>> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&session).cloned()
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Session>> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = registry.by_id.values().cloned().collect();
        drop(registry);
        all.sort_unstable_by_key(|session| session.session_id());
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

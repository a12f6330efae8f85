//! Users by id and by name, with a bounded cache: a profile is read with every member list and every direct chat.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use tidings_schemas::{client, ids::UserId, limits::PROFILES_CACHED_MAX, views::Key, wire};

use super::{Reads, convert, decode, first};
use crate::error::ApiError;

impl Reads {
    /// A user; `None`: there is none.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer.
    pub async fn user(&self, user: UserId) -> Result<Option<client::User>, ApiError> {
        Ok(self.users(&[user]).await?.pop().flatten())
    }

    /// Users in the order asked for.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer.
    pub async fn users(&self, users: &[UserId]) -> Result<Vec<Option<client::User>>, ApiError> {
        let mut found = self.profiles.get(users);
        let missing: Vec<usize> = (0..users.len()).filter(|place| found[*place].is_none()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let keys: Vec<Key> = missing.iter().map(|place| Key::user(users[*place])).collect();
        for (place, value) in missing.into_iter().zip(self.views.get(&keys).await?) {
            if let Some(row) = decode::<wire::UserRow>(value, "user")? {
                let profile = convert::user(&row);
                self.profiles.put(users[place], profile.clone());
                found[place] = Some(profile);
            }
        }
        Ok(found)
    }

    /// The user's profile may be another now: it is read anew.
    pub fn forget_profile(&self, user: UserId) {
        let mut generations = self.profiles.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.remove(&user);
        generations.old.remove(&user);
    }

    /// A user's row; `None`: there is none.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer.
    pub async fn user_row(&self, user: UserId) -> Result<Option<wire::UserRow>, ApiError> {
        Ok(first(self.views.get(&[Key::user(user)]).await?, "user")?)
    }

    /// The user who holds a user name in its canonical form, with the password's hash; `None`: nobody does.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer.
    pub async fn user_row_by_username(&self, username: &str) -> Result<Option<wire::UserRow>, ApiError> {
        let values = self.views.get(&[Key::username(username)]).await?;
        let Some(id) = values.into_iter().next().flatten() else {
            return Ok(None);
        };
        let Ok(id) = <[u8; 16]>::try_from(id.as_ref()) else {
            return Err(tidings_schemas::views::ViewError::Corrupt("user name".to_owned()).into());
        };
        Ok(first(self.views.get(&[Key::user(UserId::from_bytes(id))]).await?, "user")?)
    }
}

/// Profiles lately read. A profile never changes once it is registered until it is erased, and then it is forgotten
/// (`revocations`). Two generations
/// stand for an exact order of use: when the young one is full it becomes the old one, and what is not asked for again
/// leaves with it.
#[derive(Debug, Default)]
pub(super) struct ProfileCache {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<UserId, client::User>,
    old: HashMap<UserId, client::User>,
}

impl ProfileCache {
    fn get(&self, users: &[UserId]) -> Vec<Option<client::User>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        users.iter().map(|user| generations.get(*user)).collect()
    }

    fn put(&self, user: UserId, profile: client::User) {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).put(user, profile);
    }
}

impl Generations {
    fn get(&mut self, user: UserId) -> Option<client::User> {
        if let Some(profile) = self.young.get(&user) {
            return Some(profile.clone());
        }
        let profile = self.old.remove(&user)?;
        self.put(user, profile.clone());
        Some(profile)
    }

    fn put(&mut self, user: UserId, profile: client::User) {
        if self.young.len() >= PROFILES_CACHED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user, profile);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_asked_for() {
        let cache = ProfileCache::default();
        let mut generations = cache.generations.lock().unwrap();
        let hot = UserId(0);
        for n in 0..PROFILES_CACHED_MAX as u128 * 3 {
            generations.put(UserId(n), client::User { user_id: n.to_string(), ..Default::default() });
            assert_eq!(generations.get(hot).map(|user| user.user_id).as_deref(), Some("0"));
            assert!(generations.young.len() + generations.old.len() <= PROFILES_CACHED_MAX);
        }
        assert_eq!(generations.get(UserId(1)), None, "it was not asked for again");
    }
}

//! Whose presence each session watches: what goes into the watchers' collection, and what must leave it again.

use hashbrown::{HashMap, HashSet};
use tidings_schemas::{ids::UserId, limits::PRESENCE_WATCHES_MAX};

/// A watch that came (+1) or went (-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WatchChange {
    pub(super) watched: UserId,
    pub(super) edge_id: u32,
    pub(super) session_id: u64,
    pub(super) difference: isize,
}

/// What one session watches among the shard's users.
#[derive(Debug, Clone)]
pub(super) struct Watcher {
    pub(super) edge_id: u32,
    /// Ascending.
    pub(super) watched: Vec<UserId>,
}

/// The watches by session. Bounded: [`PRESENCE_WATCHES_MAX`] for each session of each edge's present run. A watched
/// user need not be known, so a made-up id costs no more than its place in here.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_session: HashMap<u64, Watcher>,
    changed: HashSet<u64>,
}

impl Watches {
    /// The session watches `user` from now on. False: it watches as many as it may.
    pub(super) fn watch(
        &mut self,
        session_id: u64,
        edge_id: u32,
        user: UserId,
        changes: &mut Vec<WatchChange>,
    ) -> bool {
        if self.by_session.get(&session_id).is_some_and(|watcher| watcher.edge_id != edge_id) {
            self.end_session(session_id, changes);
        }
        let watcher = self.by_session.entry(session_id).or_insert_with(|| Watcher { edge_id, watched: Vec::new() });
        let Err(place) = watcher.watched.binary_search(&user) else { return true };
        if watcher.watched.len() >= PRESENCE_WATCHES_MAX {
            return false;
        }
        watcher.watched.insert(place, user);
        self.changed.insert(session_id);
        changes.push(WatchChange { watched: user, edge_id, session_id, difference: 1 });
        true
    }

    /// The session no longer watches `user`.
    pub(super) fn unwatch(&mut self, session_id: u64, edge_id: u32, user: UserId, changes: &mut Vec<WatchChange>) {
        let Some(watcher) = self.by_session.get_mut(&session_id) else { return };
        if watcher.edge_id != edge_id {
            return;
        }
        let Ok(place) = watcher.watched.binary_search(&user) else { return };
        watcher.watched.remove(place);
        if watcher.watched.is_empty() {
            self.by_session.remove(&session_id);
        }
        self.changed.insert(session_id);
        changes.push(WatchChange { watched: user, edge_id, session_id, difference: -1 });
    }

    /// All watches of a session end.
    pub(super) fn end_session(&mut self, session_id: u64, changes: &mut Vec<WatchChange>) {
        if let Some(watcher) = self.by_session.remove(&session_id) {
            self.changed.insert(session_id);
            end(session_id, watcher, changes);
        }
    }

    /// The session's edge, if it watches anybody.
    pub(super) fn edge_of(&self, session_id: u64) -> Option<u32> {
        self.by_session.get(&session_id).map(|watcher| watcher.edge_id)
    }

    /// All watches of the sessions of an edge end: it was started anew.
    pub(super) fn end_edge(&mut self, edge_id: u32, changes: &mut Vec<WatchChange>) {
        let ended = self.by_session.extract_if(|_, watcher| watcher.edge_id == edge_id);
        for (session_id, watcher) in ended {
            self.changed.insert(session_id);
            end(session_id, watcher, changes);
        }
    }

    pub(super) fn get(&self, session_id: u64) -> Option<&Watcher> {
        self.by_session.get(&session_id)
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = u64> + '_ {
        self.by_session.keys().copied()
    }

    /// The sessions whose watches changed since the last call.
    pub(super) fn take_changed(&mut self) -> HashSet<u64> {
        std::mem::take(&mut self.changed)
    }

    /// Puts a session's watches back as a checkpoint has them.
    pub(super) fn restore(&mut self, session_id: u64, watcher: Watcher, changes: &mut Vec<WatchChange>) {
        let edge_id = watcher.edge_id;
        let come = |watched: &UserId| WatchChange { watched: *watched, edge_id, session_id, difference: 1 };
        changes.extend(watcher.watched.iter().map(come));
        self.by_session.insert(session_id, watcher);
    }
}

fn end(session_id: u64, watcher: Watcher, changes: &mut Vec<WatchChange>) {
    let edge_id = watcher.edge_id;
    let gone = |watched| WatchChange { watched, edge_id, session_id, difference: -1 };
    changes.extend(watcher.watched.into_iter().map(gone));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_goes_again_once() {
        let mut watches = Watches::default();
        let mut changes = Vec::new();
        for user in [3, 1, 3] {
            assert!(watches.watch(7, 0, UserId(user), &mut changes));
        }
        assert_eq!(changes.len(), 2, "a repeated watch is none");
        watches.unwatch(7, 1, UserId(3), &mut changes);
        assert_eq!(changes.len(), 2, "another edge's session");
        watches.unwatch(7, 0, UserId(3), &mut changes);
        watches.end_edge(0, &mut changes);
        watches.end_session(7, &mut changes);
        assert_eq!(changes.iter().map(|change| change.difference).sum::<isize>(), 0);
        assert_eq!(changes.len(), 4);
        assert_eq!(watches.sessions().count(), 0);
    }

    #[test]
    fn a_session_watches_only_so_many() {
        let mut watches = Watches::default();
        let mut changes = Vec::new();
        for user in 0..PRESENCE_WATCHES_MAX as u128 {
            assert!(watches.watch(7, 0, UserId(user), &mut changes));
        }
        assert!(!watches.watch(7, 0, UserId(u128::MAX), &mut changes));
        assert_eq!(changes.len(), PRESENCE_WATCHES_MAX);
    }
}

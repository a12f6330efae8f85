//! What stands between a node and everything else: open, closed for a while (a process that is stopped, or cut off), or
//! closed for good (a process that was killed). And the weather, in which calls fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tidings_ingest::Wake;
use tidings_schemas::topics::Topic;
use tokio::sync::Notify;

/// Whether calls fail and take long.
#[derive(Debug, Default)]
pub(super) struct Weather(AtomicBool);

impl Weather {
    pub(super) fn is_stormy(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set_stormy(&self, stormy: bool) {
        self.0.store(stormy, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    is_dead: bool,
    is_paused: bool,
    stalled: BTreeSet<(Topic, u32)>,
    wakes: BTreeMap<u64, Wake>,
    next: u64,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is open: for ever when the node is dead.
    pub(super) async fn passed(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_open() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        let state = self.lock();
        !state.is_dead && !state.is_paused
    }

    /// Whether records of a partition get through.
    pub(super) fn lets_through(&self, topic: Topic, partition: u32) -> bool {
        let state = self.lock();
        !state.is_dead && !state.is_paused && !state.stalled.contains(&(topic, partition))
    }

    pub(super) fn kill(&self) {
        let mut state = self.lock();
        state.is_dead = true;
        state.wakes.clear();
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.lock().is_paused = paused;
        if !paused {
            self.tell();
        }
    }

    /// Records of a partition do not get through, or do again.
    pub(super) fn set_stalled(&self, topic: Topic, partition: u32, stalled: bool) {
        if stalled {
            self.lock().stalled.insert((topic, partition));
        } else {
            self.lock().stalled.remove(&(topic, partition));
            self.tell();
        }
    }

    /// Everything is let through.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        (state.is_paused, state.stalled) = (false, BTreeSet::new());
        drop(state);
        self.tell();
    }

    /// Is called when something may get through again. Returns the number to leave with.
    pub(super) fn enter(&self, wake: Wake) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.wakes.insert(number, wake);
        number
    }

    pub(super) fn leave(&self, number: u64) {
        self.lock().wakes.remove(&number);
    }

    fn tell(&self) {
        let wakes: Vec<Wake> = self.lock().wakes.values().map(Arc::clone).collect();
        wakes.iter().for_each(|wake| wake());
        self.changed.notify_waiters();
    }
}

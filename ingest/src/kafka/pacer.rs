//! Begins what is due: a partition's next group, when the one before left a moment ago.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tidings_schemas::clock::Clock;

use super::slots::Slot;

#[derive(Default)]
struct State {
    /// By moment. A partition is here at most once: its moment is fixed while it waits.
    due: BTreeSet<(Duration, Slot)>,
    is_closed: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Pacer {
    state: Mutex<State>,
    changed: Condvar,
}

impl Pacer {
    /// This partition is due at that moment.
    pub(crate) fn at(&self, moment: Duration, slot: Slot) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.due.insert((moment, slot));
        if state.due.first() == Some(&(moment, slot)) {
            self.changed.notify_one();
        }
    }

    /// Begins what waits at once, and ends.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.changed.notify_one();
    }

    /// Begins each partition when it is due, until this is closed.
    pub(crate) fn run(&self, clock: &dyn Clock, begin: impl Fn(Slot)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((moment, slot)) = state.due.first().copied() else {
                if state.is_closed {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let wait = moment.saturating_sub(clock.monotonic());
            if wait.is_zero() || state.is_closed {
                state.due.pop_first();
                drop(state);
                begin(slot);
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            } else {
                state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

//! Puts a worker thread to sleep and wakes it.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

/// Wakes a worker thread. A wake between the thread's last look and its sleep is not lost: the flag keeps it, and the
/// thread clears the flag before it looks, never after.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    thread: OnceLock<Thread>,
    called: AtomicBool,
}

impl Waker {
    /// Wakes the thread, or keeps it from its next sleep. Cheap while it is awake.
    pub(crate) fn wake(&self) {
        if !self.called.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Says which thread to wake: called by the thread itself before its first look.
    pub(crate) fn adopt_current_thread(&self) {
        // A second call would be by the same thread.
        let _ = self.thread.set(thread::current());
    }

    /// The thread is about to look for work: wakes from here on are for what it may not see.
    pub(crate) fn clear(&self) {
        self.called.store(false, Ordering::Release);
    }

    /// Sleeps until a wake, or at the most this long. Returns at once if there was a wake since [`Waker::clear`].
    pub(crate) fn sleep(&self, at_most: Option<Duration>) {
        if self.called.load(Ordering::Acquire) {
            return;
        }
        match at_most {
            // `park` may return without need; the caller looks again in any case.
            None => thread::park(),
            Some(at_most) => thread::park_timeout(at_most),
        }
    }
}

//! Puts a worker to sleep and wakes it: a thread or, in a simulation, a task.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

#[cfg(feature = "simulation")]
use tidings_ingest::Wake;

/// Wakes a worker thread. A wake between the thread's last look and its sleep is not lost: the flag keeps it, and the
/// thread clears the flag before it looks, never after.
#[derive(Default)]
pub(crate) struct Waker {
    sleeper: OnceLock<Sleeper>,
    called: AtomicBool,
}

enum Sleeper {
    Thread(Thread),
    #[cfg(feature = "simulation")]
    Task(Wake),
}

impl fmt::Debug for Waker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Waker").field("called", &self.called).finish_non_exhaustive()
    }
}

impl Waker {
    /// Wakes the thread, or keeps it from its next sleep. Cheap while it is awake.
    pub(crate) fn wake(&self) {
        if self.called.swap(true, Ordering::AcqRel) {
            return;
        }
        match self.sleeper.get() {
            Some(Sleeper::Thread(thread)) => thread.unpark(),
            #[cfg(feature = "simulation")]
            Some(Sleeper::Task(wake)) => wake(),
            None => {}
        }
    }

    /// Says which thread to wake: called by the thread itself before its first look.
    pub(crate) fn adopt_current_thread(&self) {
        // A second call would be by the same thread.
        let _ = self.sleeper.set(Sleeper::Thread(thread::current()));
    }

    /// Says how to wake the task that runs the worker.
    #[cfg(feature = "simulation")]
    pub(crate) fn adopt_task(&self, wake: Wake) {
        // A second call would be by the same task.
        let _ = self.sleeper.set(Sleeper::Task(wake));
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

//! What the log's threads and readers share.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_schemas::clock::{Clock, Entropy};

use super::config::Settings;
use super::disk::Disk;
use super::journal::{JournalFile, Spares};
use super::manifest::{Slot, Slots};
use super::partition_file;
use super::queue::Queue;
use super::reader::Readable;
use super::state::Visible;
use super::stats::{Counters, add};

/// See the module.
pub(crate) struct Shared {
    pub(crate) directory: PathBuf,
    pub(crate) log_id: u128,
    pub(crate) slots: Slots,
    pub(crate) settings: Settings,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) visible: Visible,
    pub(crate) queue: Queue,
    pub(crate) spares: Spares,
    pub(crate) backlog: Backlog,
    pub(crate) counters: Counters,
}

impl Shared {
    /// Where the partition's files are.
    pub(crate) fn partition_directory(&self, slot: Slot) -> PathBuf {
        self.directory.join(partition_file::DIRECTORY).join(self.slots.name(slot))
    }
}

impl Readable for Shared {
    fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    fn visible(&self) -> &Visible {
        &self.visible
    }

    fn partition_directory(&self, slot: Slot) -> PathBuf {
        Self::partition_directory(self, slot)
    }

    fn note_corruption(&self) {
        add(&self.counters.corruptions, 1);
    }
}

/// A journal segment that gets no more commits, and waits to be split.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) file: Arc<JournalFile>,
    /// Its commits are those from its header's first up to, and without, this one. A whole frame with this number was
    /// refused to its appenders, and is none of the log's.
    pub(crate) commits_end: u64,
    /// No write or sync of it has failed.
    pub(crate) sound: bool,
}

#[derive(Default)]
struct Work {
    sealed: VecDeque<Sealed>,
    /// The last attempt to split failed.
    failing: bool,
    /// A new file may be wanted, or retention is due.
    nudged: bool,
    closed: bool,
}

/// What the background has to do, and how the writer waits for it.
#[derive(Default)]
pub(crate) struct Backlog {
    work: Mutex<Work>,
    changed: Condvar,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a segment over.
    pub(crate) fn seal(&self, sealed: Sealed) {
        self.lock().sealed.push_back(sealed);
        self.changed.notify_all();
    }

    /// Lets the background look whether there is something to do.
    pub(crate) fn nudge(&self) {
        self.lock().nudged = true;
        self.changed.notify_all();
    }

    /// The oldest segment that waits.
    pub(crate) fn oldest(&self) -> Option<Sealed> {
        self.lock().sealed.front().cloned()
    }

    /// The oldest is split and gone.
    pub(crate) fn done(&self) {
        let mut work = self.lock();
        work.sealed.pop_front();
        work.failing = false;
        drop(work);
        self.changed.notify_all();
    }

    /// It could not be split.
    pub(crate) fn failed(&self) {
        self.lock().failing = true;
        self.changed.notify_all();
    }

    /// Whether fewer than `segments_max` wait. `wait`: until that is so, or there is no hope for it now.
    pub(crate) fn has_room(&self, segments_max: usize, wait: bool) -> bool {
        let mut work = self.lock();
        while work.sealed.len() >= segments_max {
            if work.failing || work.closed || !wait {
                return false;
            }
            work = self.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Waits until there is a segment to split or a nudge, but not longer than `at_most`. `false`: the log is closed.
    pub(crate) fn wait_for_work(&self, at_most: Duration) -> bool {
        let work = self.lock();
        let idle = |work: &mut Work| !work.closed && !work.nudged && (work.sealed.is_empty() || work.failing);
        let (mut work, _) =
            self.changed.wait_timeout_while(work, at_most, idle).unwrap_or_else(PoisonError::into_inner);
        work.nudged = false;
        !work.closed
    }

    /// Whether the last attempt to split failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.lock().failing
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

//! The calls that wait to be committed: bounded in records and bytes, in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tidings_schemas::limits::{APPEND_QUEUE_BYTES_MAX, APPEND_QUEUE_RECORDS_MAX};

use crate::error::AppendError;
use crate::log::{NewRecord, OnAppended};

use super::manifest::Slot;

/// One call, checked.
pub(crate) struct Call {
    pub(crate) records: Vec<NewRecord>,
    /// The partition of each record, if they are not all in that of the first.
    pub(crate) slots: CallSlots,
    /// Keys and values.
    pub(crate) bytes: usize,
    pub(crate) on_appended: OnAppended,
}

/// Where the records of a call go. Most calls have one record, and need no list for that.
pub(crate) enum CallSlots {
    /// All to one partition (any, for an empty call).
    One(Slot),
    /// One for each record.
    Each(Vec<Slot>),
}

impl CallSlots {
    pub(crate) fn of(&self, record: usize) -> Slot {
        match self {
            Self::One(slot) => *slot,
            Self::Each(slots) => slots[record],
        }
    }
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    pub(crate) bytes: usize,
    pub(crate) records: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { bytes: APPEND_QUEUE_BYTES_MAX, records: APPEND_QUEUE_RECORDS_MAX }
    }
}

#[derive(Default)]
struct Waiting {
    calls: VecDeque<Call>,
    /// Of all calls not yet answered: those here, and those that the writer has taken.
    bytes: usize,
    records: usize,
    writer_sleeps: bool,
    closed: bool,
}

/// See the module.
pub(crate) struct Queue {
    limits: QueueLimits,
    waiting: Mutex<Waiting>,
    came: Condvar,
}

impl Queue {
    pub(crate) fn new(limits: QueueLimits) -> Self {
        Self { limits, waiting: Mutex::default(), came: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a call at the end, or gives it back with the reason. A call that is larger than the whole queue is let in
    /// when nothing waits.
    pub(crate) fn push(&self, call: Call) -> Result<(), (Call, AppendError)> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err((call, AppendError::Unavailable { reason: "the log is closed".into() }));
        }
        let bytes = waiting.bytes + call.bytes;
        let records = waiting.records + call.records.len().max(1);
        if waiting.records > 0 && (bytes > self.limits.bytes || records > self.limits.records) {
            return Err((call, AppendError::Full));
        }
        (waiting.bytes, waiting.records) = (bytes, records);
        waiting.calls.push_back(call);
        if std::mem::take(&mut waiting.writer_sleeps) {
            drop(waiting);
            self.came.notify_one();
        }
        Ok(())
    }

    /// Swaps all that waits with `taken`, which is empty; waits until there is something. `false`: closed, and nothing
    /// is left.
    pub(crate) fn take(&self, taken: &mut VecDeque<Call>) -> bool {
        let mut waiting = self.lock();
        while waiting.calls.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting.writer_sleeps = true;
            waiting = self.came.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.writer_sleeps = false;
        std::mem::swap(&mut waiting.calls, taken);
        true
    }

    /// These were answered: there is room again.
    pub(crate) fn answered(&self, bytes: usize, records: usize) {
        let mut waiting = self.lock();
        waiting.bytes -= bytes;
        waiting.records -= records;
    }

    /// Nothing more comes in; what waits is still written.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
    }

    /// Nothing more comes in, and what waits is refused: there is nobody to write it.
    pub(crate) fn refuse_all(&self, reason: &'static str) {
        self.close();
        let mut left = VecDeque::new();
        while self.take(&mut left) {
            for call in left.drain(..) {
                (call.on_appended)(Err(AppendError::Unavailable { reason: reason.into() }));
            }
        }
    }

    /// Records and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let waiting = self.lock();
        (waiting.records, waiting.bytes)
    }
}

//! How much waits to be acknowledged, which is bounded, and which calls do, so that an empty one is answered in its turn.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_schemas::limits::{APPEND_QUEUE_BYTES_MAX, APPEND_QUEUE_RECORDS_MAX};

use crate::error::AppendError;
use crate::log::OnAppended;

#[derive(Default)]
struct State {
    closed: bool,
    records: usize,
    bytes: usize,
    next_number: u64,
    /// Calls with records that are not answered.
    open: BTreeSet<u64>,
    /// Calls without records, each with the number of the next call after it.
    empty: VecDeque<(u64, OnAppended)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Desk(Mutex<State>);

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call with records in, and numbers it. One that is larger than all the room is let in when nothing waits.
    pub(crate) fn enter(&self, records: usize, bytes: usize) -> Result<u64, AppendError> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        let (all_records, all_bytes) = (state.records + records, state.bytes + bytes);
        if state.records > 0 && (all_records > APPEND_QUEUE_RECORDS_MAX || all_bytes > APPEND_QUEUE_BYTES_MAX) {
            return Err(AppendError::Full);
        }
        (state.records, state.bytes) = (all_records, all_bytes);
        let number = state.next_number;
        state.next_number += 1;
        state.open.insert(number);
        Ok(number)
    }

    /// Lets a call without records in. Gives it back when it can be answered, or must be refused, at once.
    pub(crate) fn enter_empty(&self, on_appended: OnAppended) -> Option<(OnAppended, Result<Vec<u64>, AppendError>)> {
        let mut state = self.lock();
        if state.closed {
            return Some((on_appended, Err(closed())));
        }
        if state.open.is_empty() && state.empty.is_empty() {
            return Some((on_appended, Ok(Vec::new())));
        }
        if state.records >= APPEND_QUEUE_RECORDS_MAX {
            return Some((on_appended, Err(AppendError::Full)));
        }
        state.records += 1;
        let number = state.next_number;
        state.empty.push_back((number, on_appended));
        None
    }

    /// A call with records was answered. Gives the next empty one whose turn it is now; ask again until there is none.
    pub(crate) fn answered(&self, number: u64) -> Option<OnAppended> {
        let mut state = self.lock();
        state.open.remove(&number);
        let (turn, _) = state.empty.front()?;
        if state.open.first().is_some_and(|open| open < turn) {
            return None;
        }
        state.records -= 1;
        state.empty.pop_front().map(|(_, on_appended)| on_appended)
    }

    /// These no longer wait: there is room again.
    pub(crate) fn leave(&self, records: usize, bytes: usize) {
        let mut state = self.lock();
        state.records -= records;
        state.bytes -= bytes;
    }

    /// Nothing more comes in.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether no call waits.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.open.is_empty() && state.empty.is_empty()
    }

    /// Records and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.records, state.bytes)
    }
}

fn closed() -> AppendError {
    AppendError::Unavailable { reason: "the log is closed".into() }
}

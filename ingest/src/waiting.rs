//! A reader for who has a thread to wait with.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::LogError;
use crate::log::{LogReader, StoredRecord};

/// Whether the reader was woken since it was last asked.
#[derive(Default)]
struct Bell {
    has_rung: Mutex<bool>,
    rang: Condvar,
}

/// A [`LogReader`] that blocks its thread.
pub struct WaitingReader {
    reader: Box<dyn LogReader>,
    bell: Arc<Bell>,
}

impl WaitingReader {
    /// Takes the reader over, and its wake-ups.
    pub fn new(mut reader: Box<dyn LogReader>) -> Self {
        let bell = Arc::new(Bell::default());
        let ringer = Arc::clone(&bell);
        reader.wake_with(Arc::new(move || {
            *ringer.has_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
            ringer.rang.notify_one();
        }));
        Self { reader, bell }
    }

    /// As [`LogReader::poll`], but waits until there is a record; 0 only when none has come for `patience`.
    ///
    /// # Errors
    /// As [`LogReader::poll`].
    pub fn poll(
        &mut self,
        max_bytes: usize,
        into: &mut Vec<StoredRecord>,
        patience: Duration,
    ) -> Result<usize, LogError> {
        loop {
            let count = self.reader.poll(max_bytes, into)?;
            if count > 0 {
                return Ok(count);
            }
            let has_rung = self.bell.has_rung.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.bell.rang.wait_timeout_while(has_rung, patience, |has_rung| !*has_rung);
            let (mut has_rung, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                return Ok(0);
            }
            *has_rung = false;
        }
    }

    /// The offset of the next record.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }
}

//! Several partitions followed at once, by one thread.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tidings_ingest::{Log, LogError, LogReader, StoredRecord};
use tidings_schemas::limits::POLL_BYTES_MAX;
use tidings_schemas::topics::Topic;

use crate::select::Span;

#[derive(Default)]
struct Bell {
    has_rung: Mutex<bool>,
    rang: Condvar,
}

/// What comes after some spans.
pub struct Tail {
    readers: Vec<(Topic, u32, Box<dyn LogReader>)>,
    bell: Arc<Bell>,
}

impl Tail {
    /// Follows each span's partition from the span's end on.
    ///
    /// # Errors
    /// The log cannot be read there.
    pub fn new(log: &dyn Log, spans: &[Span]) -> Result<Self, LogError> {
        let bell = Arc::new(Bell::default());
        let mut readers = Vec::with_capacity(spans.len());
        for span in spans {
            let mut reader = log.reader(span.topic, span.partition, span.offsets.end)?;
            let ringer = Arc::clone(&bell);
            reader.wake_with(Arc::new(move || {
                *ringer.has_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
                ringer.rang.notify_one();
            }));
            readers.push((span.topic, span.partition, reader));
        }
        Ok(Self { readers, bell })
    }

    /// Waits until there is something; at most a poll's worth of each partition.
    ///
    /// # Errors
    /// As [`LogReader::poll`].
    pub fn wait(&mut self) -> Result<Vec<(Topic, u32, StoredRecord)>, LogError> {
        loop {
            let mut found = Vec::new();
            for (topic, partition, reader) in &mut self.readers {
                let mut records = Vec::new();
                reader.poll(POLL_BYTES_MAX, &mut records)?;
                found.extend(records.into_iter().map(|record| (*topic, *partition, record)));
            }
            if !found.is_empty() {
                return Ok(found);
            }
            let has_rung = self.bell.has_rung.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.bell.rang.wait_while(has_rung, |has_rung| !*has_rung);
            *waited.unwrap_or_else(PoisonError::into_inner) = false;
        }
    }
}

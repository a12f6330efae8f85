//! The log's port for async callers.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use tidings_schemas::topics::Topic;

use crate::error::{AppendError, LogError};
use crate::log::{Log, LogReader, NewRecord, OffsetRange, StoredRecord};

/// Async calls for every [`Log`].
pub trait LogExt: Log {
    /// Appends all of `records` as one call of [`Log::append_with`], and waits until they are durable. The records are
    /// queued when this is called, not when the future is first polled; dropping the future does not take them back.
    fn append(&self, records: Vec<NewRecord>) -> impl Future<Output = Result<Vec<u64>, AppendError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        // A caller that no longer waits has dropped its end: nobody is left to be told.
        self.append_with(records, Box::new(move |result| drop(answer.send(result))));
        async move {
            answered.await.unwrap_or_else(|_| {
                Err(AppendError::Unknown { reason: "the log ended before it answered: restart the program".into() })
            })
        }
    }

    /// What a partition holds now, as [`Log::range`] gives it, without blocking the thread.
    fn range_now(
        &self,
        topic: Topic,
        partition: u32,
    ) -> impl Future<Output = Result<OffsetRange, LogError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        self.range_with(topic, partition, Box::new(move |range| drop(answer.send(range))));
        async move {
            answered.await.unwrap_or_else(|_| {
                Err(LogError::Unavailable { reason: "the log ended before it answered: restart the program".into() })
            })
        }
    }
}

impl<L: Log + ?Sized> LogExt for L {}

/// A [`LogReader`] that waits.
pub struct AsyncReader {
    reader: Box<dyn LogReader>,
    woken: Arc<Notify>,
}

impl AsyncReader {
    /// Takes the reader over, and its wake-ups.
    pub fn new(mut reader: Box<dyn LogReader>) -> Self {
        let woken = Arc::new(Notify::new());
        let wake = Arc::clone(&woken);
        // `notify_one` leaves a permit when nobody waits, so a wake-up between a poll and the wait is not lost.
        reader.wake_with(Arc::new(move || wake.notify_one()));
        Self { reader, woken }
    }

    /// What is appended to a partition from now on. May block: for starts; later callers use
    /// [`AsyncReader::at_end_now`].
    ///
    /// # Errors
    /// As [`Log::range`] and [`Log::reader`].
    pub fn at_end(log: &dyn Log, topic: Topic, partition: u32) -> Result<Self, LogError> {
        let end = log.range(topic, partition)?.end;
        Ok(Self::new(log.reader(topic, partition, end)?))
    }

    /// As [`AsyncReader::at_end`], for one that takes the place of a reader that cannot go on: waits for the log's answer
    /// without blocking the thread.
    ///
    /// # Errors
    /// As [`Log::range`] and [`Log::reader`].
    pub async fn at_end_now(log: &dyn Log, topic: Topic, partition: u32) -> Result<Self, LogError> {
        let end = log.range_now(topic, partition).await?.end;
        Ok(Self::new(log.reader(topic, partition, end)?))
    }

    /// The next records, up to `max_bytes` of them (at least one); waits until there is one. May be dropped while it
    /// waits: nothing is lost. A read from disk blocks the calling thread for as long as that takes.
    ///
    /// # Errors
    /// As [`LogReader::poll`].
    pub async fn next_batch(&mut self, max_bytes: usize) -> Result<Vec<StoredRecord>, LogError> {
        let mut records = Vec::new();
        loop {
            if self.reader.poll(max_bytes, &mut records)? > 0 {
                return Ok(records);
            }
            self.woken.notified().await;
        }
    }

    /// The offset of the next record.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }
}

//! Reads one partition from its queue of fetched records.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rdkafka::Message as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use tidings_schemas::topics::Topic;

use super::fetcher::{Fetchers, Seat};
use super::ranges::Ranges;
use super::silence::Watch;
use super::slots::Slot;
use super::stats::add;
use crate::error::LogError;
use crate::log::{LogReader, OffsetRange, StoredRecord, Wake};

/// See the module.
pub(crate) struct KafkaReader {
    topic: Topic,
    partition: u32,
    position: u64,
    ranges: Arc<Ranges>,
    signal: Arc<Signal>,
    fetchers: Arc<Fetchers>,
    seat: Seat,
    watch: Arc<Watch>,
    /// Met after records that had to be given out first.
    failed: Option<LogError>,
}

/// Between a partition's queue and who waits for it. librdkafka tells only that an empty queue has become nonempty, and
/// tells it once: a reader that has not seen the queue empty since may not wait.
#[derive(Default)]
pub(crate) struct Signal {
    /// A wake-up is due when something comes: set by each look, taken by the wake-up.
    is_armed: AtomicBool,
    /// Something has come since the last look that found nothing.
    has_more: AtomicBool,
    wake: Mutex<Option<Wake>>,
}

impl Signal {
    /// Looks into the queue. Armed before the look: what comes in its last moment is not slept through.
    fn look<T>(&self, take: impl FnOnce() -> T) -> T {
        self.is_armed.store(true, Ordering::SeqCst);
        self.has_more.store(false, Ordering::SeqCst);
        take()
    }

    /// From now on this is woken; at once, if something has come.
    fn wake_with(&self, wake: Wake) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
        self.is_armed.store(true, Ordering::SeqCst);
        if self.has_more.load(Ordering::SeqCst) && self.is_armed.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Whether something has come that was not taken.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more.load(Ordering::SeqCst)
    }

    /// Runs under the queue's lock.
    pub(crate) fn came(&self) {
        self.has_more.store(true, Ordering::SeqCst);
        if self.is_armed.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

impl KafkaReader {
    /// Reads from `from`, which is in the range.
    pub(crate) fn open(
        fetchers: &Arc<Fetchers>,
        ranges: Arc<Ranges>,
        (topic, partition): (Topic, u32),
        (slot, name): (Slot, &Arc<str>),
        from: u64,
    ) -> Result<Self, LogError> {
        let signal = Arc::new(Signal::default());
        let seat = fetchers.sit(slot, name, partition, from, came(&signal))?;
        let watch = Watch::new(topic, partition, from, Arc::clone(&signal));
        ranges.silence.watch(&watch);
        let fetchers = Arc::clone(fetchers);
        Ok(Self { topic, partition, position: from, ranges, signal, fetchers, seat, watch, failed: None })
    }

    /// Goes on at another consumer: this one gives nothing though there is more.
    fn change_seat(&mut self) -> Result<(), LogError> {
        let (topic, partition, position) = (self.topic.name(), self.partition, self.position);
        tracing::warn!(
            topic,
            partition,
            position,
            "a consumer gives nothing though there is more: another one is taken"
        );
        add(&self.seat.counters().readers_moved, 1);
        self.seat = self.fetchers.sit_elsewhere(&self.seat, position, came(&self.signal))?;
        Ok(())
    }

    /// What an error of the partition's means for its reader.
    fn error(&self, error: &KafkaError) -> Option<LogError> {
        let (topic, partition, asked) = (self.topic, self.partition, self.position);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => None,
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Some(match self.ranges.ask(topic, partition) {
                    Ok(OffsetRange { start, end }) => LogError::OutOfRange { topic, partition, asked, start, end },
                    Err(error) => error,
                })
            }
            _ => {
                let reason = format!("{} partition {partition} from offset {asked} on: {error}", topic.name());
                Some(LogError::Unavailable { reason: reason.into() })
            }
        }
    }

    fn gap(&self, position: u64, found: u64) -> LogError {
        LogError::Missing {
            topic: self.topic,
            partition: self.partition,
            from: position,
            to: found,
            hint: "the topic must not be compacted, and nobody else may write to it or delete from it",
        }
    }

    /// Takes the next records from the queue, until it is empty, or there is enough.
    fn take(&mut self, max_bytes: usize, into: &mut Vec<StoredRecord>) -> (usize, Option<LogError>) {
        let (mut count, mut bytes) = (0, 0);
        let mut buffer = BytesMut::new();
        let Some(queue) = self.seat.queue() else { return (0, None) };
        let mut position = self.position;
        let failed = loop {
            if count > 0 && bytes >= max_bytes {
                // Not all was taken.
                self.signal.has_more.store(true, Ordering::SeqCst);
                break None;
            }
            let message = match queue.poll(Duration::ZERO) {
                None => break None,
                Some(Ok(message)) => message,
                Some(Err(error)) => match self.error(&error) {
                    None => continue,
                    failed => break failed,
                },
            };
            let offset = u64::try_from(message.offset()).unwrap_or(0);
            if offset < position {
                // Fetched twice around a change of leader.
                continue;
            }
            if offset > position {
                break Some(self.gap(position, offset));
            }
            let record = stored(offset, &message, &mut buffer);
            bytes += record.key.len() + record.value.len();
            count += 1;
            position = offset + 1;
            into.push(record);
        };
        self.position = position;
        self.watch.at(position);
        add(&self.seat.counters().read_records, count as u64);
        add(&self.seat.counters().read_bytes, bytes as u64);
        (count, failed)
    }
}

fn came(signal: &Arc<Signal>) -> impl Fn() + Send + Sync + 'static {
    let signal = Arc::clone(signal);
    move || signal.came()
}

/// The record, its bytes in a buffer that it shares with its neighbours.
fn stored(offset: u64, message: &BorrowedMessage<'_>, buffer: &mut BytesMut) -> StoredRecord {
    let key = message.key().unwrap_or_default();
    let value = message.payload().unwrap_or_default();
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(value);
    let mut value = buffer.split().freeze();
    let key = value.split_to(key.len());
    StoredRecord { offset, timestamp_ms: message.timestamp().to_millis().unwrap_or(0), key, value }
}

impl LogReader for KafkaReader {
    fn poll(&mut self, max_bytes: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        if let Some(failed) = self.failed.take() {
            // The next look is at what the partition says then; where it cannot go on it says so again.
            if !failed.is_retryable() {
                self.failed = Some(failed.clone());
            }
            return Err(failed);
        }
        let signal = Arc::clone(&self.signal);
        let (count, failed) = signal.look(|| self.take(max_bytes, into));
        match failed {
            None if count == 0 && self.watch.take_deaf() => {
                if let Err(error) = self.change_seat() {
                    // It is still deaf: that will be found again.
                    tracing::warn!(%error, "no other consumer can be taken for the moment");
                }
                Ok(0)
            }
            None => Ok(count),
            Some(failed) if count > 0 => {
                // What was read is given out first.
                self.signal.has_more.store(true, Ordering::SeqCst);
                self.failed = Some(failed);
                Ok(count)
            }
            Some(failed) => {
                if !failed.is_retryable() {
                    self.failed = Some(failed.clone());
                }
                Err(failed)
            }
        }
    }

    fn wake_with(&mut self, wake: Wake) {
        self.signal.wake_with(wake);
    }

    fn position(&self) -> u64 {
        self.position
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        // Nobody is woken for a reader that is gone.
        *self.signal.wake.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn counted(signal: &Signal) -> Arc<AtomicU32> {
        let count = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&count);
        signal.wake_with(Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        }));
        count
    }

    #[test]
    fn what_comes_in_the_last_moment_of_a_look_wakes() {
        let signal = Signal::default();
        let woken = counted(&signal);
        signal.came();
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        signal.came();
        assert_eq!(woken.load(Ordering::SeqCst), 1, "once between two looks");
        signal.look(|| signal.came());
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_came_before_wakes_at_once() {
        let signal = Signal::default();
        signal.look(|| ());
        assert_eq!(counted(&signal).load(Ordering::SeqCst), 0);
        signal.came();
        assert_eq!(counted(&signal).load(Ordering::SeqCst), 1);
        signal.look(|| ());
        assert_eq!(counted(&signal).load(Ordering::SeqCst), 0, "the look found it");
    }
}

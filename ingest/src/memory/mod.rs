//! A log in memory, for simulations (feature `simulation`): it keeps every promise of the port but the one to outlive
//! the process. Nothing happens in it by itself: whoever drives it commits one call after the other, so a single thread
//! decides the order of everything.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tidings_schemas::{
    clock::Clock,
    limits::{APPEND_CALL_BYTES_MAX, APPEND_QUEUE_BYTES_MAX, APPEND_QUEUE_RECORDS_MAX, RECORD_BYTES_MAX},
    topics::{Partitions, Topic},
};

use crate::{
    error::{AppendError, LogError},
    log::{Log, LogReader, NewRecord, OffsetRange, OnAppended, StoredRecord, Wake},
};

/// See the module.
pub struct MemoryLog {
    log_id: u128,
    counts: Partitions,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    on_queued: OnceLock<Wake>,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<(Topic, u32), Partition>,
    queue: VecDeque<(Vec<NewRecord>, OnAppended)>,
    queued_bytes: usize,
    queued_records: usize,
    next_reader: u64,
}

#[derive(Default)]
struct Partition {
    records: Vec<StoredRecord>,
    /// Of readers that have something to be told, in the order in which they were made.
    wakes: BTreeMap<u64, (Wake, bool)>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new(log_id: u128, counts: Partitions, clock: Arc<dyn Clock>) -> Self {
        Self { log_id, counts, clock, state: Arc::default(), on_queued: OnceLock::new() }
    }

    /// From now on this is called whenever there is something to commit. Only the first call counts.
    pub fn on_queued(&self, wake: Wake) {
        // Said in the documentation.
        let _ = self.on_queued.set(wake);
    }

    /// Makes the oldest call durable and visible, wakes readers, and answers it. False: there was none.
    pub fn commit_next(&self) -> bool {
        let (offsets, wakes, on_appended) = {
            let mut state = lock(&self.state);
            let Some((records, on_appended)) = state.queue.pop_front() else { return false };
            let now_ms = self.clock.now_ms();
            let mut offsets = Vec::with_capacity(records.len());
            let mut wakes = Vec::new();
            for record in records {
                state.queued_bytes -= bytes_of(&record);
                state.queued_records -= 1;
                let partition = state.partitions.entry((record.topic, record.partition)).or_default();
                let offset = partition.records.len() as u64;
                let NewRecord { key, value, .. } = record;
                partition.records.push(StoredRecord { offset, timestamp_ms: now_ms, key, value });
                offsets.push(offset);
                for (wake, is_due) in partition.wakes.values_mut() {
                    if std::mem::take(is_due) {
                        wakes.push(Arc::clone(wake));
                    }
                }
            }
            (offsets, wakes, on_appended)
        };
        for wake in wakes {
            wake();
        }
        // A caller's defect is not the log's.
        if catch_unwind(AssertUnwindSafe(|| on_appended(Ok(offsets)))).is_err() {
            tracing::error!("whoever appended panicked when told");
        }
        true
    }

    /// Calls that wait to be committed.
    pub fn queued(&self) -> usize {
        lock(&self.state).queue.len()
    }

    fn check(&self, records: &[NewRecord]) -> Result<usize, AppendError> {
        let mut bytes = 0;
        for record in records {
            let size = bytes_of(record);
            if size > RECORD_BYTES_MAX {
                return Err(AppendError::TooLarge { unit: "record", bytes: size, limit_bytes: RECORD_BYTES_MAX });
            }
            if record.partition >= self.partitions(record.topic) {
                return Err(AppendError::UnknownPartition { topic: record.topic, partition: record.partition });
            }
            bytes += size;
        }
        if bytes > APPEND_CALL_BYTES_MAX {
            return Err(AppendError::TooLarge { unit: "call", bytes, limit_bytes: APPEND_CALL_BYTES_MAX });
        }
        Ok(bytes)
    }

    fn check_partition(&self, topic: Topic, partition: u32) -> Result<(), LogError> {
        if partition < self.partitions(topic) { Ok(()) } else { Err(LogError::UnknownPartition { topic, partition }) }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes_of(record: &NewRecord) -> usize {
    record.key.len() + record.value.len()
}

impl Log for MemoryLog {
    fn log_id(&self) -> u128 {
        self.log_id
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.counts.of(topic)
    }

    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        let bytes = match self.check(&records) {
            Ok(bytes) => bytes,
            Err(error) => return on_appended(Err(error)),
        };
        let mut state = lock(&self.state);
        let (bytes, count) = (state.queued_bytes + bytes, state.queued_records + records.len());
        if bytes > APPEND_QUEUE_BYTES_MAX || count > APPEND_QUEUE_RECORDS_MAX {
            drop(state);
            return on_appended(Err(AppendError::Full));
        }
        (state.queued_bytes, state.queued_records) = (bytes, count);
        state.queue.push_back((records, on_appended));
        drop(state);
        if let Some(wake) = self.on_queued.get() {
            wake();
        }
    }

    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        self.check_partition(topic, partition)?;
        let state = lock(&self.state);
        let end = state.partitions.get(&(topic, partition)).map_or(0, |partition| partition.records.len());
        Ok(OffsetRange { start: 0, end: end as u64 })
    }

    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        let OffsetRange { start, end } = self.range(topic, partition)?;
        if from > end {
            return Err(LogError::OutOfRange { topic, partition, asked: from, start, end });
        }
        let number = {
            let mut state = lock(&self.state);
            state.next_reader += 1;
            state.next_reader
        };
        let state = Arc::clone(&self.state);
        Ok(Box::new(MemoryReader { state, place: (topic, partition), number, position: from }))
    }
}

struct MemoryReader {
    state: Arc<Mutex<State>>,
    place: (Topic, u32),
    number: u64,
    position: u64,
}

impl LogReader for MemoryReader {
    fn poll(&mut self, max_bytes: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        let mut state = lock(&self.state);
        let partition = state.partitions.entry(self.place).or_default();
        let begin = usize::try_from(self.position).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut count = 0;
        for record in partition.records.iter().skip(begin) {
            bytes += record.key.len() + record.value.len();
            if count > 0 && bytes > max_bytes {
                break;
            }
            into.push(record.clone());
            count += 1;
        }
        self.position += count as u64;
        let has_more = self.position < partition.records.len() as u64;
        let wake = partition.wakes.get_mut(&self.number).map(|(wake, is_due)| {
            *is_due = !has_more;
            Arc::clone(wake)
        });
        drop(state);
        if let Some(wake) = wake.filter(|_| has_more) {
            wake();
        }
        Ok(count)
    }

    fn wake_with(&mut self, wake: Wake) {
        let has_more = {
            let mut state = lock(&self.state);
            let partition = state.partitions.entry(self.place).or_default();
            let has_more = self.position < partition.records.len() as u64;
            partition.wakes.insert(self.number, (Arc::clone(&wake), !has_more));
            has_more
        };
        if has_more {
            wake();
        }
    }

    fn position(&self) -> u64 {
        self.position
    }
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        if let Some(partition) = lock(&self.state).partitions.get_mut(&self.place) {
            partition.wakes.remove(&self.number);
        }
    }
}

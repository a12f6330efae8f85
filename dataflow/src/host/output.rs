//! One shard's way back to the log.
//!
//! One append is on its way at a time; what the shard gives out meanwhile waits, and goes together in the next, which
//! the log's own thread begins as soon as it has done the one before. So an append that failed is simply tried again:
//! nothing later has passed it, and the consumers' watermarks stay right.
//!
//! What a shard tells edges goes with the rest as one call of the log, which keeps it back until the rest is durable: a
//! verdict is told when its entry stands in the timeline. A push need not wait for that: its entry stands there, and its
//! number follows from the order of the fan-out, which is durable. So the recipients' pushes are a call of their own.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::histogram::Histogram;
use tidings_ingest::{AppendError, Log, NewRecord};
use tidings_schemas::{
    clock::Clock,
    limits::{SHARD_APPEND_BYTES_MAX, SHARD_IN_FLIGHT_BYTES_MAX},
    topics::Topic,
};

use super::{Context, wake::Waker};
use crate::shard::{InputPosition, Stage};

const RETRY_DELAY_MIN: Duration = Duration::from_millis(5);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// What one record costs in memory besides its bytes.
const RECORD_OVERHEAD_BYTES: usize = 96;

/// What a shard gave out in one turn, or a piece of it; the last piece says how far the shard had taken in its inputs.
struct Batch {
    records: Vec<NewRecord>,
    bytes: usize,
    positions: Option<Vec<InputPosition>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// The batches that the append on its way is made of, kept to try again.
    on_its_way: Vec<Batch>,
    /// The calls that it is made of and that are not answered, and what the first one that failed said.
    calls: usize,
    since: Duration,
    call_failed: Option<AppendError>,
    pending_bytes: usize,
    durable: Vec<InputPosition>,
    failed: Option<AppendError>,
    /// Somebody waits for the append on its way to end.
    is_awaited: bool,
    /// The shard is not run here any more: nothing further is begun.
    is_closed: bool,
}

impl State {
    /// A batch is durable.
    fn reach(&mut self, batch: Batch) {
        self.pending_bytes -= batch.bytes;
        if let Some(positions) = batch.positions {
            self.durable = positions;
        }
    }
}

struct Shared {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    append_seconds: Histogram,
    waker: Arc<Waker>,
    pushes_wait: bool,
    state: Mutex<State>,
}

/// See the module.
pub(super) struct Output {
    shared: Arc<Shared>,
    retry_at: Option<Duration>,
    retry_delay: Duration,
}

impl Output {
    pub(super) fn new(context: &Context, stage: Stage, waker: Arc<Waker>, durable: Vec<InputPosition>) -> Self {
        let state = Mutex::new(State { durable, ..State::default() });
        let append_seconds = context.metrics.append_seconds.get_or_create_owned(&[("stage", stage.name())]);
        let (log, clock) = (Arc::clone(&context.log), Arc::clone(&context.clock));
        let pushes_wait = stage != Stage::Recipients;
        let shared = Arc::new(Shared { log, clock, append_seconds, waker, pushes_wait, state });
        Self { shared, retry_at: None, retry_delay: RETRY_DELAY_MIN }
    }

    /// Whether more may be taken in: what is not durable yet is bounded. If not, the worker is woken when there is.
    pub(super) fn has_room(&self) -> bool {
        let mut state = self.shared.lock();
        let has_room = state.pending_bytes < SHARD_IN_FLIGHT_BYTES_MAX;
        state.is_awaited |= !has_room;
        has_room
    }

    /// Bytes that are not durable yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.shared.lock().pending_bytes
    }

    /// Whether everything below these positions is durable, with all that follows from it. If not, the worker is woken
    /// when it may be.
    pub(super) fn is_durable(&self, positions: &[InputPosition]) -> bool {
        let mut state = self.shared.lock();
        let is_durable = positions.iter().all(|position| {
            let reached = state.durable.iter().find(|durable| durable.topic == position.topic);
            reached.is_some_and(|durable| durable.next_offset >= position.next_offset)
        });
        state.is_awaited |= !is_durable;
        is_durable
    }

    /// When a failed append is due again.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }

    /// Takes what a shard gave out up to these positions, and begins to append it if nothing is on its way.
    pub(super) fn push(&mut self, records: Vec<NewRecord>, positions: Vec<InputPosition>) {
        {
            let mut state = self.shared.lock();
            let mut piece = Batch { records: Vec::new(), bytes: 0, positions: None };
            for record in records {
                let bytes = bytes_of(&record);
                if piece.bytes > 0 && piece.bytes + bytes > SHARD_APPEND_BYTES_MAX {
                    let full = mem::replace(&mut piece, Batch { records: Vec::new(), bytes: 0, positions: None });
                    state.pending_bytes += full.bytes;
                    state.waiting.push_back(full);
                }
                piece.bytes += bytes;
                piece.records.push(record);
            }
            piece.positions = Some(positions);
            state.pending_bytes += piece.bytes;
            state.waiting.push_back(piece);
        }
        if self.retry_at.is_none() {
            Shared::begin(&self.shared);
        }
    }

    /// Sees to an append that failed: tries it again when it is due. Gives back a failure that is new.
    pub(super) fn step(&mut self, now: Duration) -> Option<AppendError> {
        let failed = {
            let mut state = self.shared.lock();
            let failed = state.failed.take();
            if failed.is_none() && state.on_its_way.is_empty() && self.retry_at.is_none() {
                self.retry_delay = RETRY_DELAY_MIN;
            }
            failed
        };
        if failed.is_some() {
            self.retry_at = Some(now + self.retry_delay);
            self.retry_delay = (self.retry_delay * 2).min(RETRY_DELAY_MAX);
        } else if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            Shared::begin(&self.shared);
        }
        failed
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        state.waiting.clear();
    }
}

fn bytes_of(record: &NewRecord) -> usize {
    record.key.len() + record.value.len() + RECORD_OVERHEAD_BYTES
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to append what waits, unless an append is on its way or has failed and is not due.
    fn begin(self: &Arc<Self>) {
        let calls = {
            let mut state = self.lock();
            if !state.on_its_way.is_empty() || state.failed.is_some() || state.is_closed {
                return;
            }
            let mut bytes = 0;
            let mut records = Vec::new();
            while let Some(batch) = state.waiting.front() {
                if bytes > 0 && bytes + batch.bytes > SHARD_APPEND_BYTES_MAX {
                    break;
                }
                bytes += batch.bytes;
                // Cheap: a record is two shared slices.
                records.extend_from_slice(&batch.records);
                if let Some(batch) = state.waiting.pop_front() {
                    state.on_its_way.push(batch);
                }
            }
            if records.is_empty() {
                // Nothing followed from these inputs (and nothing is on its way before them).
                for batch in mem::take(&mut state.on_its_way) {
                    state.reach(batch);
                }
                self.wake_if_awaited(&mut state);
                return;
            }
            let mut calls = Vec::with_capacity(2);
            if !self.pushes_wait {
                calls.push(records.extract_if(.., |record| record.topic == Topic::Deliveries).collect());
            }
            calls.push(records);
            calls.retain(|records: &Vec<NewRecord>| !records.is_empty());
            state.calls = calls.len();
            state.since = self.clock.monotonic();
            calls
        };
        // Not under the lock: a refused call is answered at once, on this thread.
        for records in calls {
            let shared = Arc::clone(self);
            self.log.append_with(records, Box::new(move |result| shared.answered(result.map(drop))));
        }
    }

    /// A call is answered, and with the last one the append has ended: goes on with the next, or leaves it to the worker
    /// to try again.
    fn answered(self: &Arc<Self>, result: Result<(), AppendError>) {
        let mut state = self.lock();
        state.calls -= 1;
        if let Err(error) = result {
            state.call_failed.get_or_insert(error);
        }
        if state.calls > 0 {
            return;
        }
        let batches = mem::take(&mut state.on_its_way);
        match state.call_failed.take() {
            None => {
                let took = self.clock.monotonic().saturating_sub(state.since);
                self.append_seconds.observe(took.as_secs_f64());
                for batch in batches {
                    state.reach(batch);
                }
                self.wake_if_awaited(&mut state);
                drop(state);
                self.begin();
            }
            Some(error) => {
                // Back in front of what came since.
                for batch in batches.into_iter().rev() {
                    state.waiting.push_front(batch);
                }
                state.failed = Some(error);
                drop(state);
                self.waker.wake();
            }
        }
    }

    fn wake_if_awaited(&self, state: &mut State) {
        if mem::take(&mut state.is_awaited) {
            self.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_ingest::{LogError, LogReader, OffsetRange, OnAppended};
    use tidings_schemas::clock::SystemClock;

    use super::*;

    /// A log whose appends are answered by the test.
    #[derive(Default)]
    struct Calls(Mutex<Vec<(Vec<Topic>, OnAppended)>>);

    impl Calls {
        fn take(&self) -> Vec<(Vec<Topic>, OnAppended)> {
            mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Log for Calls {
        fn log_id(&self) -> u128 {
            0
        }
        fn partitions(&self, _: Topic) -> u32 {
            1
        }
        fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
            let topics = records.iter().map(|record| record.topic).collect();
            self.0.lock().unwrap().push((topics, on_appended));
        }
        fn range(&self, _: Topic, _: u32) -> Result<OffsetRange, LogError> {
            Ok(OffsetRange { start: 0, end: 0 })
        }
        fn reader(&self, topic: Topic, partition: u32, _: u64) -> Result<Box<dyn LogReader>, LogError> {
            Err(LogError::UnknownPartition { topic, partition })
        }
    }

    fn output(log: &Arc<Calls>, pushes_wait: bool) -> Output {
        let shared = Shared {
            log: Arc::clone(log) as _,
            clock: Arc::new(SystemClock::new()),
            append_seconds: Histogram::new([1.0]),
            waker: Arc::default(),
            pushes_wait,
            state: Mutex::default(),
        };
        Output { shared: Arc::new(shared), retry_at: None, retry_delay: RETRY_DELAY_MIN }
    }

    fn give(output: &mut Output, topics: &[Topic], next_offset: u64) -> Vec<InputPosition> {
        let record = |topic: &Topic| NewRecord { topic: *topic, partition: 0, key: Bytes::new(), value: Bytes::new() };
        let positions = vec![InputPosition { topic: Topic::Fanout, next_offset }];
        output.push(topics.iter().map(record).collect(), positions.clone());
        positions
    }

    #[test]
    fn pushes_go_beside_the_inbox_and_both_must_be_durable() {
        let log = Arc::new(Calls::default());
        let mut output = output(&log, false);
        let positions = give(&mut output, &[Topic::Inbox, Topic::Deliveries, Topic::Inbox], 1);
        let mut calls = log.take();
        assert_eq!(calls[0].0, [Topic::Deliveries]);
        assert_eq!(calls[1].0, [Topic::Inbox, Topic::Inbox]);
        give(&mut output, &[Topic::Inbox], 2);
        (calls.remove(0).1)(Ok(vec![0]));
        assert!(!output.is_durable(&positions) && log.take().is_empty(), "the inbox is still on its way");
        (calls.remove(0).1)(Ok(vec![0, 1]));
        assert!(output.is_durable(&positions));
        assert_eq!(log.take().len(), 1, "what waited leaves");
    }

    #[test]
    fn when_one_of_the_calls_fails_all_is_tried_again() {
        let log = Arc::new(Calls::default());
        let mut output = output(&log, false);
        let positions = give(&mut output, &[Topic::Inbox, Topic::Deliveries], 1);
        let mut calls = log.take();
        (calls.remove(0).1)(Err(AppendError::Full));
        assert!(output.step(Duration::ZERO).is_none(), "the other is not answered yet");
        (calls.remove(0).1)(Ok(vec![0]));
        assert!(matches!(output.step(Duration::ZERO), Some(AppendError::Full)));
        assert!(output.step(RETRY_DELAY_MIN).is_none());
        let again = log.take();
        assert_eq!(again.len(), 2);
        again.into_iter().for_each(|(topics, on_appended)| on_appended(Ok(vec![1; topics.len()])));
        assert!(output.is_durable(&positions));
    }

    #[test]
    fn verdicts_go_with_the_timeline_as_one_call() {
        let log = Arc::new(Calls::default());
        give(&mut output(&log, true), &[Topic::Timeline, Topic::Deliveries], 1);
        assert_eq!(
            log.take().into_iter().map(|(topics, _)| topics).collect::<Vec<_>>(),
            [[Topic::Timeline, Topic::Deliveries]]
        );
    }
}

//! One shard's way back to the log.
//!
//! What a shard gives out goes to the log in two lanes: what is derived (timeline, fan-out, inbox), and what edges are
//! told of it.
//!
//! - A lane has one call on its way at a time; what the shard gives out meanwhile waits, and goes together in the next one,
//!   which the log's own thread begins as soon as the one before is durable. So an append that failed is simply tried
//!   again: nothing later has passed it. The consumers' watermarks stay right, and an answer to a session, or who is
//!   online, is not passed by what follows it.
//! - A verdict is told when its entry stands in the timeline, so there the lane of what edges are told follows the other.
//! - A push need not wait: its entry stands in the timeline, and its number follows from the order of the fan-out, which is
//!   durable.

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
#[derive(Default)]
struct Batch {
    /// By [`Way`].
    records: [Vec<NewRecord>; 2],
    bytes: usize,
    positions: Option<Vec<InputPosition>>,
    since: Duration,
}

/// The two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// What is derived.
    Derived,
    /// What edges are told.
    Told,
}

impl Way {
    const ALL: [Self; 2] = [Self::Derived, Self::Told];

    fn of(topic: Topic) -> Self {
        if topic == Topic::Deliveries { Self::Told } else { Self::Derived }
    }
}

/// How far a lane is. Batches are counted from the shard's first one.
#[derive(Default)]
struct Lane {
    /// Everything of the batches below this one is durable.
    durable: u64,
    /// The call on its way, or to be made again, is of the batches from `durable` up to this one.
    calling: Option<u64>,
    has_failed: bool,
}

/// A call that is to be made.
type Due = (Way, Vec<NewRecord>);

#[derive(Default)]
struct State {
    /// Those that are not durable in both lanes, and the number of the first.
    batches: VecDeque<Batch>,
    first: u64,
    /// By [`Way`].
    lanes: [Lane; 2],
    pending_bytes: usize,
    durable: Vec<InputPosition>,
    failed: Option<AppendError>,
    /// Somebody waits for batches to become durable.
    is_awaited: bool,
    /// The shard is not run here any more: nothing further is begun.
    is_closed: bool,
}

impl State {
    fn add(&mut self, batch: Batch) {
        self.pending_bytes += batch.bytes;
        self.batches.push_back(batch);
    }

    /// The call that is to be made now in a lane. `pushes_wait`: edges are told when the rest is durable.
    fn due(&mut self, way: Way, pushes_wait: bool) -> Option<Due> {
        if self.is_closed || self.lanes[way as usize].calling.is_some() {
            return None;
        }
        let end = match way {
            Way::Told if pushes_wait => self.lanes[Way::Derived as usize].durable,
            _ => self.first + self.batches.len() as u64,
        };
        let lane = &mut self.lanes[way as usize];
        let (mut to, mut bytes) = (lane.durable, 0);
        for batch in self.batches.range(index(self.first, lane.durable)..index(self.first, end)) {
            if bytes > 0 && bytes + batch.bytes > SHARD_APPEND_BYTES_MAX {
                break;
            }
            // Batches of which nothing goes this way hold nothing up.
            bytes += if batch.records[way as usize].is_empty() { 0 } else { batch.bytes };
            to += 1;
        }
        if bytes == 0 {
            lane.durable = to;
            return None;
        }
        lane.calling = Some(to);
        Some((way, self.called(way, to)))
    }

    /// The records of a lane's call. Cheap: a record is two shared slices.
    fn called(&self, way: Way, to: u64) -> Vec<NewRecord> {
        let of_call = index(self.first, self.lanes[way as usize].durable)..index(self.first, to);
        self.batches.range(of_call).flat_map(|batch| &batch.records[way as usize]).cloned().collect()
    }

    /// The calls that failed, to be made again.
    fn again(&mut self) -> Vec<Due> {
        let is_closed = self.is_closed;
        let due = Way::ALL.into_iter().filter_map(|way| {
            let lane = &mut self.lanes[way as usize];
            let to = lane.calling.filter(|_| mem::take(&mut lane.has_failed) && !is_closed)?;
            Some((way, self.called(way, to)))
        });
        due.collect()
    }

    /// Takes out the batches that are durable. Gives when each was given out.
    fn reach(&mut self) -> Vec<Duration> {
        let reached = self.lanes.iter().map(|lane| lane.durable).min().unwrap_or(self.first);
        let mut begun = Vec::new();
        for batch in self.batches.drain(..index(self.first, reached)) {
            begun.push(batch.since);
            self.pending_bytes -= batch.bytes;
            if let Some(positions) = batch.positions {
                self.durable = positions;
            }
        }
        self.first = reached;
        begun
    }
}

/// Where a batch stands among those that are kept.
fn index(first: u64, number: u64) -> usize {
    usize::try_from(number - first).unwrap_or(usize::MAX)
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

    /// Takes what a shard gave out up to these positions, and begins to append it if it is its turn.
    pub(super) fn push(&mut self, records: Vec<NewRecord>, positions: Vec<InputPosition>) {
        {
            let mut state = self.shared.lock();
            let since = self.shared.clock.monotonic();
            let mut piece = Batch { since, ..Batch::default() };
            for record in records {
                let bytes = bytes_of(&record);
                if piece.bytes > 0 && piece.bytes + bytes > SHARD_APPEND_BYTES_MAX {
                    state.add(mem::replace(&mut piece, Batch { since, ..Batch::default() }));
                }
                piece.bytes += bytes;
                piece.records[Way::of(record.topic) as usize].push(record);
            }
            piece.positions = Some(positions);
            state.add(piece);
        }
        self.shared.go_on();
    }

    /// Sees to an append that failed: tries it again when it is due. Gives back a failure that is new.
    pub(super) fn step(&mut self, now: Duration) -> Option<AppendError> {
        let failed = {
            let mut state = self.shared.lock();
            let failed = state.failed.take();
            if failed.is_none() && state.batches.is_empty() && self.retry_at.is_none() {
                self.retry_delay = RETRY_DELAY_MIN;
            }
            failed
        };
        if failed.is_some() {
            self.retry_at = Some(now + self.retry_delay);
            self.retry_delay = (self.retry_delay * 2).min(RETRY_DELAY_MAX);
        } else if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.shared.retry();
        }
        failed
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
    }
}

fn bytes_of(record: &NewRecord) -> usize {
    record.key.len() + record.value.len() + RECORD_OVERHEAD_BYTES
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the calls whose turn it is.
    fn go_on(self: &Arc<Self>) {
        let due = {
            let mut state = self.lock();
            // What is told follows what is derived, so in this order.
            let due = Way::ALL.map(|way| state.due(way, self.pushes_wait));
            self.reach(&mut state);
            due
        };
        self.call(due.into_iter().flatten());
    }

    /// Not under the lock: a refused call is answered at once, on this thread.
    fn call(self: &Arc<Self>, due: impl IntoIterator<Item = Due>) {
        for (way, records) in due {
            let shared = Arc::clone(self);
            self.log.append_with(records, Box::new(move |result| shared.answered(way, result.map(drop))));
        }
    }

    /// A call is answered: goes on with what waited for it, or leaves it to the worker to try again.
    fn answered(self: &Arc<Self>, way: Way, result: Result<(), AppendError>) {
        let mut state = self.lock();
        let lane = &mut state.lanes[way as usize];
        match result {
            Ok(()) => {
                lane.durable = lane.calling.take().unwrap_or(lane.durable);
                drop(state);
                self.go_on();
            }
            Err(error) => {
                lane.has_failed = true;
                state.failed = Some(error);
                drop(state);
                self.waker.wake();
            }
        }
    }

    /// Tries again what failed.
    fn retry(self: &Arc<Self>) {
        let due = self.lock().again();
        self.call(due);
    }

    /// Takes out what is durable, and wakes who waits for it.
    fn reach(&self, state: &mut State) {
        let begun = state.reach();
        let now = self.clock.monotonic();
        begun.iter().for_each(|since| self.append_seconds.observe(now.saturating_sub(*since).as_secs_f64()));
        if !begun.is_empty() && mem::take(&mut state.is_awaited) {
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
        assert_eq!(calls[0].0, [Topic::Inbox, Topic::Inbox]);
        assert_eq!(calls[1].0, [Topic::Deliveries]);
        give(&mut output, &[Topic::Inbox], 2);
        (calls.remove(1).1)(Ok(vec![0]));
        assert!(!output.is_durable(&positions) && log.take().is_empty(), "the inbox is still on its way");
        (calls.remove(0).1)(Ok(vec![0, 1]));
        assert!(output.is_durable(&positions));
        assert_eq!(log.take().len(), 1, "what waited leaves");
    }

    #[test]
    fn of_two_calls_the_one_that_failed_is_tried_again() {
        let log = Arc::new(Calls::default());
        let mut output = output(&log, false);
        let positions = give(&mut output, &[Topic::Inbox, Topic::Deliveries], 1);
        let mut calls = log.take();
        (calls.remove(0).1)(Err(AppendError::Full));
        assert!(matches!(output.step(Duration::ZERO), Some(AppendError::Full)));
        (calls.remove(0).1)(Ok(vec![0]));
        assert!(output.step(RETRY_DELAY_MIN).is_none());
        let mut again = log.take();
        assert_eq!((again.len(), &again[0].0[..]), (1, &[Topic::Inbox][..]));
        (again.remove(0).1)(Ok(vec![1]));
        assert!(output.is_durable(&positions));
    }

    #[test]
    fn verdicts_go_when_the_timeline_is_durable_and_hold_nothing_up() {
        let log = Arc::new(Calls::default());
        let mut output = output(&log, true);
        let first = give(&mut output, &[Topic::Timeline, Topic::Deliveries, Topic::Fanout], 1);
        let second = give(&mut output, &[Topic::Timeline, Topic::Deliveries], 2);
        let mut calls = log.take();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].0, [Topic::Timeline, Topic::Fanout]);
        (calls.remove(0).1)(Ok(vec![0, 0]));
        let mut calls = log.take();
        assert_eq!(calls.iter().map(|(topics, _)| topics[0]).collect::<Vec<_>>(), [Topic::Timeline, Topic::Deliveries]);
        // The second is durable before the verdicts of the first: that is not yet a place to go on from.
        (calls.remove(0).1)(Ok(vec![1]));
        assert!(log.take().is_empty() && !output.is_durable(&second) && !output.is_durable(&first));
        (calls.remove(0).1)(Err(AppendError::Full));
        assert!(matches!(output.step(Duration::ZERO), Some(AppendError::Full)));
        assert!(output.step(RETRY_DELAY_MIN).is_none());
        let mut again = log.take();
        assert_eq!(again[0].0, [Topic::Deliveries], "only what failed");
        (again.remove(0).1)(Ok(vec![2]));
        assert!(output.is_durable(&first) && !output.is_durable(&second));
        (log.take().remove(0).1)(Ok(vec![3]));
        assert!(output.is_durable(&second) && log.take().is_empty());
    }

    #[test]
    fn what_edges_are_told_stays_in_order_whatever_fails() {
        let log = Arc::new(Calls::default());
        let mut output = output(&log, false);
        give(&mut output, &[Topic::Inbox, Topic::Deliveries], 1);
        let mut calls = log.take();
        let second = give(&mut output, &[Topic::Inbox, Topic::Deliveries, Topic::Deliveries], 2);
        (calls.remove(0).1)(Ok(vec![0]));
        let mut inbox = log.take();
        assert_eq!(inbox.len(), 1, "the second's pushes would pass the first's");
        assert_eq!(inbox[0].0, [Topic::Inbox]);
        (calls.remove(0).1)(Err(AppendError::Full));
        (inbox.remove(0).1)(Ok(vec![1]));
        assert!(log.take().is_empty());
        let _ = output.step(Duration::ZERO);
        let _ = output.step(RETRY_DELAY_MIN);
        let mut first = log.take();
        assert_eq!((first.len(), first[0].0.len()), (1, 1));
        (first.remove(0).1)(Ok(vec![0]));
        let mut pushes = log.take();
        assert_eq!((pushes.len(), pushes[0].0.len()), (1, 2));
        (pushes.remove(0).1)(Ok(vec![1, 2]));
        assert!(output.is_durable(&second));
    }

    #[test]
    fn nothing_passes_what_failed_and_nothing_begins_when_the_shard_is_gone() {
        let log = Arc::new(Calls::default());
        let mut output = output(&log, true);
        give(&mut output, &[Topic::Timeline], 1);
        let mut calls = log.take();
        (calls.remove(0).1)(Err(AppendError::Full));
        give(&mut output, &[Topic::Timeline, Topic::Timeline], 2);
        assert!(log.take().is_empty(), "it would pass the first");
        let _ = output.step(Duration::ZERO);
        let _ = output.step(RETRY_DELAY_MIN);
        let mut calls = log.take();
        assert_eq!(calls[0].0.len(), 1);
        drop(output);
        (calls.remove(0).1)(Ok(vec![0]));
        assert!(log.take().is_empty());
    }

    #[test]
    fn what_nothing_follows_from_is_reached_at_once_and_in_its_turn() {
        let log = Arc::new(Calls::default());
        let mut output = output(&log, true);
        let nothing = give(&mut output, &[], 1);
        assert!(output.is_durable(&nothing));
        let refusals = give(&mut output, &[Topic::Deliveries], 2);
        let mut calls = log.take();
        let later = give(&mut output, &[], 3);
        assert!(!output.is_durable(&refusals) && !output.is_durable(&later));
        (calls.remove(0).1)(Ok(vec![0]));
        assert!(output.is_durable(&later));
    }
}

//! One shard's way back to the log.
//!
//! What a shard gives out goes to the log in groups. A group is two calls of the log: what is derived (timeline, fan-out,
//! inbox), and what edges are told of it.
//!
//! - One group's derived records are on their way at a time; what the shard gives out meanwhile waits, and goes together in
//!   the next group, which the log's own thread begins as soon as the one before is durable. So an append that failed is
//!   simply tried again: nothing later has passed it, and the consumers' watermarks stay right.
//! - A verdict is told when its entry stands in the timeline. The next group need not wait until it is told.
//! - A push need not wait at all: its entry stands in the timeline, and its number follows from the order of the fan-out,
//!   which is durable.
//! - What edges are told stays in order, too: an answer to a session, or who is online, must not be passed by what follows
//!   it. So it waits until edges have been told what is before it.

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

/// The two calls of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// What is derived.
    Derived,
    /// What edges are told.
    Told,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    OnItsWay,
    /// To be tried again.
    Failed,
    Durable,
}

/// Batches that are appended together, kept until all of them is durable.
struct Group {
    number: u64,
    batches: Vec<Batch>,
    derived: Phase,
    told: Phase,
    since: Duration,
}

impl Group {
    fn phase(&mut self, call: Call) -> &mut Phase {
        match call {
            Call::Derived => &mut self.derived,
            Call::Told => &mut self.told,
        }
    }

    /// The records of a call. Cheap: a record is two shared slices.
    fn records(&self, call: Call) -> Vec<NewRecord> {
        let is_of_call = |record: &&NewRecord| (record.topic == Topic::Deliveries) == (call == Call::Told);
        self.batches.iter().flat_map(|batch| &batch.records).filter(is_of_call).cloned().collect()
    }

    fn has_failed(&self) -> bool {
        self.derived == Phase::Failed || self.told == Phase::Failed
    }

    fn is_durable(&self) -> bool {
        self.derived == Phase::Durable && self.told == Phase::Durable
    }
}

/// A call that is to be made.
type Due = (u64, Call, Vec<NewRecord>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// In order. The derived records of all but the last are durable.
    groups: VecDeque<Group>,
    next_number: u64,
    pending_bytes: usize,
    durable: Vec<InputPosition>,
    failed: Option<AppendError>,
    /// Somebody waits for groups to become durable.
    is_awaited: bool,
    /// The shard is not run here any more: nothing further is begun.
    is_closed: bool,
}

impl State {
    /// Forms the next group, if it is its turn.
    fn next_group(&mut self, now: Duration) {
        let is_held_up = |group: &Group| group.has_failed() || group.derived != Phase::Durable;
        if self.is_closed || self.waiting.is_empty() || self.groups.iter().any(is_held_up) {
            return;
        }
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = self.waiting.front() {
            if bytes > 0 && bytes + batch.bytes > SHARD_APPEND_BYTES_MAX {
                break;
            }
            bytes += batch.bytes;
            batches.extend(self.waiting.pop_front());
        }
        let number = self.next_number;
        self.next_number += 1;
        let (derived, told) = (Phase::Waiting, Phase::Waiting);
        self.groups.push_back(Group { number, batches, derived, told, since: now });
    }

    /// The calls that are to be made now. `pushes_wait`: edges are told when the rest is durable.
    fn due(&mut self, pushes_wait: bool) -> Vec<Due> {
        let mut due = Vec::new();
        if self.is_closed {
            return due;
        }
        let mut is_told_before = true;
        for group in &mut self.groups {
            for call in [Call::Derived, Call::Told] {
                let is_turn = match call {
                    Call::Derived => true,
                    Call::Told => is_told_before && !(pushes_wait && group.derived != Phase::Durable),
                };
                if *group.phase(call) != Phase::Waiting || !is_turn {
                    continue;
                }
                let records = group.records(call);
                *group.phase(call) = if records.is_empty() { Phase::Durable } else { Phase::OnItsWay };
                if !records.is_empty() {
                    due.push((group.number, call, records));
                }
            }
            is_told_before = group.told == Phase::Durable;
        }
        due
    }

    /// Takes out the groups that are durable, with all before them. Gives when each was begun.
    fn reach(&mut self) -> Vec<Duration> {
        let mut begun = Vec::new();
        while let Some(group) = self.groups.pop_front_if(|group| group.is_durable()) {
            begun.push(group.since);
            for batch in group.batches {
                self.pending_bytes -= batch.bytes;
                if let Some(positions) = batch.positions {
                    self.durable = positions;
                }
            }
        }
        begun
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

    /// Takes what a shard gave out up to these positions, and begins to append it if it is its turn.
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
        Shared::go_on(&self.shared);
    }

    /// Sees to an append that failed: tries it again when it is due. Gives back a failure that is new.
    pub(super) fn step(&mut self, now: Duration) -> Option<AppendError> {
        let failed = {
            let mut state = self.shared.lock();
            let failed = state.failed.take();
            if failed.is_none() && state.groups.is_empty() && self.retry_at.is_none() {
                self.retry_delay = RETRY_DELAY_MIN;
            }
            failed
        };
        if failed.is_some() {
            self.retry_at = Some(now + self.retry_delay);
            self.retry_delay = (self.retry_delay * 2).min(RETRY_DELAY_MAX);
        } else if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            Shared::retry(&self.shared);
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

    /// Makes the calls whose turn it is.
    fn go_on(self: &Arc<Self>) {
        let due = {
            let mut state = self.lock();
            let now = self.clock.monotonic();
            state.next_group(now);
            let mut due = state.due(self.pushes_wait);
            // Nothing is derived from some inputs: then what edges are told of them need not wait, nor what is behind.
            due.extend(state.due(self.pushes_wait));
            self.reach(&mut state);
            due
        };
        // Not under the lock: a refused call is answered at once, on this thread.
        for (number, call, records) in due {
            let shared = Arc::clone(self);
            self.log.append_with(records, Box::new(move |result| shared.answered(number, call, result.map(drop))));
        }
    }

    /// A call is answered: goes on with what waited for it, or leaves it to the worker to try again.
    fn answered(self: &Arc<Self>, number: u64, call: Call, result: Result<(), AppendError>) {
        let mut state = self.lock();
        let Some(group) = state.groups.iter_mut().find(|group| group.number == number) else { return };
        *group.phase(call) = if result.is_ok() { Phase::Durable } else { Phase::Failed };
        if let Err(error) = result {
            state.failed = Some(error);
            drop(state);
            return self.waker.wake();
        }
        drop(state);
        self.go_on();
    }

    /// Tries again what failed.
    fn retry(self: &Arc<Self>) {
        for group in &mut self.lock().groups {
            for call in [Call::Derived, Call::Told] {
                let phase = group.phase(call);
                if *phase == Phase::Failed {
                    *phase = Phase::Waiting;
                }
            }
        }
        self.go_on();
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
        assert_eq!(calls.iter().map(|(topics, _)| topics[0]).collect::<Vec<_>>(), [Topic::Deliveries, Topic::Timeline]);
        // The second is durable before the verdicts of the first: that is not yet a place to go on from.
        (calls.remove(1).1)(Ok(vec![1]));
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

//! One shard's way back to the log.
//!
//! One append is on its way at a time; what the shard gives out meanwhile goes together in the next. So an append that
//! failed is simply tried again: nothing later has passed it, and the consumers' watermarks stay right.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tidings_ingest::{AppendError, Log, NewRecord};
use tidings_schemas::limits::SHARD_IN_FLIGHT_BYTES_MAX;

use super::Waker;
use crate::shard::InputPosition;

const RETRY_DELAY_MIN: Duration = Duration::from_millis(5);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

type Outcome = Arc<Mutex<Option<Result<(), AppendError>>>>;

/// Records on their way, and the input positions that all of them follow from.
#[derive(Default)]
struct Batch {
    records: Vec<NewRecord>,
    bytes: usize,
    positions: Vec<InputPosition>,
}

/// See the module.
pub(super) struct Output {
    log: Arc<dyn Log>,
    waker: Arc<Waker>,
    next: Batch,
    in_flight: Option<(Batch, Outcome)>,
    retry_at: Option<Duration>,
    retry_delay: Duration,
    durable: Vec<InputPosition>,
}

/// What [`Output::step`] came to.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// An append was begun or has ended.
    pub(super) progressed: bool,
    /// The last append failed, and will be tried again.
    pub(super) failed: Option<AppendError>,
}

impl Output {
    pub(super) fn new(log: Arc<dyn Log>, waker: Arc<Waker>, durable: Vec<InputPosition>) -> Self {
        Self {
            log,
            waker,
            next: Batch::default(),
            in_flight: None,
            retry_at: None,
            retry_delay: RETRY_DELAY_MIN,
            durable,
        }
    }

    /// Whether more may be taken in: what is not durable yet is bounded.
    pub(super) fn has_room(&self) -> bool {
        self.pending_bytes() < SHARD_IN_FLIGHT_BYTES_MAX
    }

    /// Bytes that are not durable yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.next.bytes + self.in_flight.as_ref().map_or(0, |(batch, _)| batch.bytes)
    }

    /// Whether everything given out is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight.is_none() && self.next.records.is_empty()
    }

    /// Everything below these positions is durable, with all that follows from it.
    pub(super) fn durable(&self) -> &[InputPosition] {
        &self.durable
    }

    /// When a failed append is due again.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }

    /// Takes what a shard gave out up to these positions.
    pub(super) fn push(&mut self, records: &mut Vec<NewRecord>, positions: Vec<InputPosition>) {
        self.next.bytes += records.iter().map(|record| record.key.len() + record.value.len()).sum::<usize>();
        self.next.records.append(records);
        self.next.positions = positions;
    }

    /// Looks after the append on its way, and begins the next.
    pub(super) fn step(&mut self, now: Duration) -> Step {
        let mut step = Step::default();
        if let Some((mut batch, outcome)) = self.in_flight.take() {
            let ended = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            match ended {
                None => {
                    self.in_flight = Some((batch, outcome));
                    return step;
                }
                Some(Ok(())) => {
                    self.durable = batch.positions;
                    self.retry_delay = RETRY_DELAY_MIN;
                }
                Some(Err(error)) => {
                    // Back in front of what came since.
                    batch.records.append(&mut self.next.records);
                    batch.bytes += self.next.bytes;
                    if !self.next.positions.is_empty() {
                        batch.positions = mem::take(&mut self.next.positions);
                    }
                    self.next = batch;
                    self.retry_at = Some(now + self.retry_delay);
                    self.retry_delay = (self.retry_delay * 2).min(RETRY_DELAY_MAX);
                    step.failed = Some(error);
                }
            }
            step.progressed = true;
        }
        if self.retry_at.is_some_and(|at| at > now) {
            return step;
        }
        self.retry_at = None;
        if self.next.records.is_empty() {
            if !self.next.positions.is_empty() {
                // Nothing followed from these.
                self.durable = mem::take(&mut self.next.positions);
            }
            return step;
        }
        let batch = mem::take(&mut self.next);
        let outcome = Outcome::default();
        // Cheap: a record is two shared slices.
        let records = batch.records.clone();
        let (told, waker) = (Arc::clone(&outcome), Arc::clone(&self.waker));
        self.in_flight = Some((batch, outcome));
        self.log.append_with(
            records,
            Box::new(move |result| {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(result.map(drop));
                waker.wake();
            }),
        );
        step.progressed = true;
        step
    }
}

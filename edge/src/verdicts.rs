//! Requests that wait for what became of their event. An entry is made before the event is appended, and leaves with the
//! verdict, with the failure of the append, or when the time is up.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;
use tidings_ingest::AppendError;
use tidings_schemas::{
    clock::{Clock, Entropy},
    limits::{LATE_VERDICT_WAIT, VERDICTS_PENDING_MAX},
    wire,
};

/// Where the event stands in `events`, once it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPosition {
    /// Partition of `events`.
    pub partition: u32,
    /// Offset in it.
    pub offset: u64,
}

/// What a waiter is told.
#[derive(Debug)]
pub enum Outcome {
    /// The stage has decided.
    Verdict(wire::verdict::Outcome),
    /// The event never got into the log.
    NotAppended(AppendError),
    /// The time is up. The position tells whether the event is durable: if so, the verdict can still come.
    TimedOut(Option<EventPosition>),
}

/// What a waiter wants after an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing more.
    Done,
    /// After a time-out: also the verdict that comes late, if it comes within `LATE_VERDICT_WAIT`.
    AwaitLateVerdict,
}

/// Called with each outcome. Runs on the log's thread, the deliveries task or the timer, so it must be short, and must not
/// call back into the table.
pub type OnOutcome = Box<dyn FnMut(Outcome) -> Then + Send>;

/// No room for another waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests of this edge wait for their verdict")]
pub struct TooManyPending;

/// The table of waiting requests of one edge.
pub struct Verdicts {
    clock: Arc<dyn Clock>,
    timeout: Duration,
    next_request_id: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    pending: HashMap<u64, Pending>,
    // The waits are of equal length, so each queue is in the order of its deadlines.
    deadlines: VecDeque<(Duration, u64)>,
    late_deadlines: VecDeque<(Duration, u64)>,
}

struct Pending {
    since: Duration,
    position: Option<EventPosition>,
    on_outcome: OnOutcome,
}

impl Verdicts {
    /// An empty table. Request ids start at random, so that a verdict for an earlier run of the edge finds nobody.
    pub fn new(clock: Arc<dyn Clock>, entropy: &dyn Entropy, timeout: Duration) -> Self {
        Self { clock, timeout, next_request_id: AtomicU64::new(entropy.next_u64()), table: Mutex::default() }
    }

    /// A fresh id that no waiting request of this edge has.
    pub fn next_request_id(&self) -> u64 {
        self.next_request_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters a waiter.
    ///
    /// # Errors
    /// When `VERDICTS_PENDING_MAX` wait already.
    pub fn wait(&self, request_id: u64, on_outcome: OnOutcome) -> Result<(), TooManyPending> {
        let since = self.clock.monotonic();
        let mut table = self.lock();
        if table.pending.len() >= VERDICTS_PENDING_MAX {
            return Err(TooManyPending);
        }
        table.pending.insert(request_id, Pending { since, position: None, on_outcome });
        table.deadlines.push_back((since + self.timeout, request_id));
        Ok(())
    }

    /// The event is durable. Does nothing when its verdict was faster.
    pub fn appended(&self, request_id: u64, position: EventPosition) {
        if let Some(pending) = self.lock().pending.get_mut(&request_id) {
            pending.position = Some(position);
        }
    }

    /// The event did not get into the log.
    pub fn not_appended(&self, request_id: u64, error: AppendError) {
        let removed = self.lock().pending.remove(&request_id);
        if let Some(mut pending) = removed {
            (pending.on_outcome)(Outcome::NotAppended(error));
        }
    }

    /// The verdict has come. Returns how long it took, or nothing when nobody waits (a repeat, or an earlier run's).
    pub fn decided(&self, request_id: u64, outcome: wire::verdict::Outcome) -> Option<Duration> {
        let removed = self.lock().pending.remove(&request_id);
        removed.map(|mut pending| {
            (pending.on_outcome)(Outcome::Verdict(outcome));
            self.clock.monotonic().saturating_sub(pending.since)
        })
    }

    /// Tells those whose time is up. Call it often (every 50 ms); returns how many there were.
    pub fn expire(&self) -> usize {
        let now = self.clock.monotonic();
        let mut count = 0;
        let table = &mut *self.lock();
        while let Some((deadline, request_id)) = table.deadlines.front().copied() {
            let Some(pending) = table.pending.get_mut(&request_id) else {
                // Decided long ago.
                table.deadlines.pop_front();
                continue;
            };
            if deadline > now {
                break;
            }
            table.deadlines.pop_front();
            count += 1;
            // Under the lock, so that a verdict cannot slip in between: it finds the waiter either before or after.
            if (pending.on_outcome)(Outcome::TimedOut(pending.position)) == Then::AwaitLateVerdict {
                table.late_deadlines.push_back((now + LATE_VERDICT_WAIT, request_id));
            } else {
                table.pending.remove(&request_id);
            }
        }
        while let Some((deadline, request_id)) = table.late_deadlines.front().copied() {
            if deadline > now {
                break;
            }
            table.late_deadlines.pop_front();
            table.pending.remove(&request_id);
        }
        count
    }

    /// How many wait.
    pub fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tidings_schemas::clock::SystemEntropy;

    use super::*;

    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now_ms(&self) -> i64 {
            0
        }
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    fn table() -> (Arc<ManualClock>, Verdicts) {
        let clock = Arc::new(ManualClock(AtomicU64::new(0)));
        (clock.clone(), Verdicts::new(clock, &SystemEntropy, Duration::from_secs(5)))
    }

    fn waiter(then: Then) -> (OnOutcome, mpsc::Receiver<Outcome>) {
        let (sender, receiver) = mpsc::channel();
        let on_outcome = move |outcome| {
            sender.send(outcome).unwrap();
            then
        };
        (Box::new(on_outcome), receiver)
    }

    fn refusal() -> wire::verdict::Outcome {
        wire::verdict::Outcome::Refusal(wire::Refusal::default())
    }

    #[test]
    fn a_verdict_reaches_its_waiter_once() {
        let (_, verdicts) = table();
        let (on_outcome, outcomes) = waiter(Then::Done);
        let request = verdicts.next_request_id();
        verdicts.wait(request, on_outcome).unwrap();
        assert!(verdicts.decided(request, refusal()).is_some());
        assert!(verdicts.decided(request, refusal()).is_none());
        assert_eq!(outcomes.try_iter().count(), 1);
        assert_eq!(verdicts.pending(), 0);
    }

    #[test]
    fn a_time_out_tells_whether_the_event_is_durable_and_leaves_room_for_the_late_verdict() {
        let (clock, verdicts) = table();
        let (durable, unknown) = (verdicts.next_request_id(), verdicts.next_request_id());
        let (on_durable, durable_outcomes) = waiter(Then::AwaitLateVerdict);
        let (on_unknown, unknown_outcomes) = waiter(Then::Done);
        verdicts.wait(durable, on_durable).unwrap();
        verdicts.wait(unknown, on_unknown).unwrap();
        let position = EventPosition { partition: 1, offset: 7 };
        verdicts.appended(durable, position);
        assert_eq!(verdicts.expire(), 0);
        clock.0.store(5_000, Ordering::Relaxed);
        assert_eq!(verdicts.expire(), 2);
        assert!(matches!(durable_outcomes.try_recv(), Ok(Outcome::TimedOut(Some(at))) if at == position));
        assert!(matches!(unknown_outcomes.try_recv(), Ok(Outcome::TimedOut(None))));
        assert_eq!(verdicts.pending(), 1);
        assert!(verdicts.decided(durable, refusal()).is_some());
        assert!(matches!(durable_outcomes.try_recv(), Ok(Outcome::Verdict(_))));
    }

    #[test]
    fn a_late_verdict_is_not_awaited_for_ever() {
        let (clock, verdicts) = table();
        let (on_outcome, _outcomes) = waiter(Then::AwaitLateVerdict);
        verdicts.wait(1, on_outcome).unwrap();
        clock.0.store(5_000, Ordering::Relaxed);
        verdicts.expire();
        clock.0.store(65_000, Ordering::Relaxed);
        verdicts.expire();
        assert_eq!(verdicts.pending(), 0);
    }
}

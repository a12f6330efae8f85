//! The differential part of the stage: who is in each conversation at the moment of each event, and how a group's
//! least cursors move.
//!
//! ```text
//! members (conversation, recipient) ──────────── arrange ──┐
//! asks (conversation, what for) ──────────────────┬─ half_join2 ──▶ recipients of each ask
//! cursors (conversation, value) ── reduce ── moves ┘
//! ```
//!
//! **Time** is the offset of the event plus one, so no two events share one, and a checkpoint's rows stand at the time
//! before the first event after it.
//!
//! **The tie rule**: an ask meets the memberships *strictly before* its own time. So an event that removes a member
//! still reaches that member, and one that adds a member names the new one itself. With «at or before» a removed
//! member would miss the removal.
//!
//! **The step back**: `half_join2` lets the arrangement forget the distinction between times before the frontier that
//! it is given. An ask at time t must tell memberships at t from those before t, so it holds that frontier at t - 1.
//! At t, compaction would move a membership of t - 1 up to t, where `<` no longer finds it: members vanish silently.

use std::{cell::RefCell, rc::Rc};

use differential_dataflow::{AsCollection, input::InputSession};
use differential_dogs3::operators::half_join2::half_join_internal_unsafe;
use serde::{Deserialize, Serialize};
use tidings_schemas::{ids::UserId, topics::user_partition};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        channels::pact::Pipeline,
        operators::{Probe, generic::Operator, probe::Handle as ProbeHandle, vec::Map},
    },
    progress::Antichain,
    worker::Worker,
};

use super::minima::{CursorKind, Holders, Minima};

/// A conversation's place in the registry of its shard: a small key for the arrangements.
pub(super) type Slot = u32;

/// A member as fan-out meets them. Ordered by partition and then by id: the order in which records list recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Recipient {
    /// The partition of `fanout`.
    pub(super) partition: u32,
    high: u64,
    low: u64,
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
impl Recipient {
    /// The user, as a recipient in one of so many partitions.
    pub(super) fn new(user: UserId, partitions: u32) -> Self {
        Self { partition: user_partition(user, partitions), high: (user.0 >> 64) as u64, low: user.0 as u64 }
    }

    /// Who it is.
    pub(super) fn user(self) -> UserId {
        UserId((u128::from(self.high) << 64) | u128::from(self.low))
    }
}

/// What the members are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Ask {
    /// To tell them of the event.
    Event,
    /// To tell them that the least cursors moved.
    Minima,
}

/// Which memberships an event meets. Only [`FanoutRule::Strict`] is right; the others are here so that the tests can
/// show that they would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FanoutRule {
    /// Those strictly before it, with the compaction frontier held one step back.
    #[default]
    Strict,
    /// Wrong: those at its own time, too.
    Inclusive,
    /// Wrong: strictly before, but compaction may go up to its own time.
    NoStepBack,
}

/// The changes of one batch of events, each at its event's time.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Members that came (+1) and went (-1).
    pub(super) members: Vec<(Slot, Recipient, u64, isize)>,
    /// Events whose conversation's members are wanted.
    pub(super) asks: Vec<(Slot, u64)>,
    /// Groups' cursor values that members came to and left.
    pub(super) cursors: Vec<(Slot, CursorKind, u64, u64, Holders)>,
}

/// The recipients of one ask: a range of [`Gathered::recipients`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) time: u64,
    pub(super) ask: Ask,
    pub(super) slot: Slot,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A group's least cursors before and after an event. Before the first member and after the last there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MinimaMove {
    pub(super) time: u64,
    pub(super) slot: Slot,
    pub(super) before: Option<Minima>,
    pub(super) after: Option<Minima>,
}

/// What came out of the dataflow for one batch.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) runs: Vec<Run>,
    pub(super) recipients: Vec<Recipient>,
    pub(super) moves: Vec<MinimaMove>,
}

impl Gathered {
    fn recipient(&mut self, time: u64, ask: Ask, slot: Slot, recipient: Recipient) {
        let start = self.recipients.len();
        self.recipients.push(recipient);
        match self.runs.last_mut() {
            Some(run) if run.time == time && run.ask == ask && run.slot == slot => run.end = start + 1,
            _ => self.runs.push(Run { time, ask, slot, start, end: start + 1 }),
        }
    }

    /// Puts the batch in order: by time, ask and conversation; and the recipients of each ask by partition and user.
    pub(super) fn sort(&mut self) {
        self.moves.sort_unstable_by_key(|moved| (moved.time, moved.slot));
        self.runs.sort_unstable_by_key(|run| (run.time, run.ask, run.slot, run.start));
        for run in &self.runs {
            let recipients = &mut self.recipients[run.start..run.end];
            if !recipients.is_sorted() {
                recipients.sort_unstable();
            }
        }
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.recipients.clear();
        self.moves.clear();
    }
}

/// The dataflow of one shard.
pub(super) struct Fanout {
    members: InputSession<u64, (Slot, Recipient), isize>,
    asks: InputSession<u64, (Slot, Ask, u64), isize>,
    cursors: InputSession<u64, (Slot, (CursorKind, u64)), Holders>,
    probe: ProbeHandle<u64>,
    gathered: Rc<RefCell<Gathered>>,
}

impl Fanout {
    /// Builds the dataflow in the worker.
    pub(super) fn build(worker: &mut Worker, rule: FanoutRule) -> Self {
        let mut members = InputSession::new();
        let mut asks = InputSession::new();
        let mut cursors = InputSession::new();
        let probe = ProbeHandle::new();
        let gathered = Rc::new(RefCell::new(Gathered::default()));
        worker.dataflow_named::<u64, _, _>("conversations", |scope| {
            let members = members.to_collection(scope).arrange_by_key_named("members");

            let minima = cursors.to_collection(scope).reduce_named("minima", |_slot: &Slot, values, output| {
                output.extend(Minima::of(values).map(|minima| (minima, 1_isize)));
            });
            let minima_asks = pair_moves(minima.inner, Rc::clone(&gathered));

            let asks = asks
                .to_collection(scope)
                .inner
                .map(|((slot, ask, _), time, diff)| ((slot, ask, time), time, diff))
                .as_collection()
                .concat(minima_asks.as_collection());
            let found = Rc::clone(&gathered);
            half_join_internal_unsafe::<_, _, _, _, _, _, _, _, CapacityContainerBuilder<Vec<()>>>(
                asks,
                members,
                move |time, frontier| {
                    frontier.insert(match rule {
                        FanoutRule::NoStepBack => *time,
                        FanoutRule::Strict | FanoutRule::Inclusive => time.saturating_sub(1),
                    });
                },
                move |member, ask| match rule {
                    FanoutRule::Inclusive => member <= ask,
                    FanoutRule::Strict | FanoutRule::NoStepBack => member < ask,
                },
                |_, _| false,
                move |_, slot: &Slot, ask: &Ask, recipient: &Recipient, time, _, counts| {
                    // Straight into the sink's memory: a stream of millions of single recipients would only be copied
                    // through three buffers on its way there. The probe tells when all are there.
                    if counts.drain(..).map(|(_, count): (u64, isize)| count).sum::<isize>() > 0 {
                        found.borrow_mut().recipient(*time, *ask, *slot, *recipient);
                    }
                },
            )
            .probe_with(&probe);
        });
        Self { members, asks, cursors, probe, gathered }
    }

    /// Takes in the changes of the events below `until` and runs the worker until all that follows from them is
    /// gathered.
    pub(super) fn run(
        &mut self,
        worker: &mut Worker,
        changes: &mut Changes,
        until: u64,
    ) -> std::cell::RefMut<'_, Gathered> {
        self.gathered.borrow_mut().clear();
        for (slot, recipient, time, diff) in changes.members.drain(..) {
            self.members.update_at((slot, recipient), time, diff);
        }
        for (slot, kind, value, time, holders) in changes.cursors.drain(..) {
            self.cursors.update_at((slot, (kind, value)), time, holders);
        }
        for (slot, time) in changes.asks.drain(..) {
            self.asks.update_at((slot, Ask::Event, time), time, 1);
        }
        self.members.advance_to(until);
        self.members.flush();
        self.cursors.advance_to(until);
        self.cursors.flush();
        self.asks.advance_to(until);
        self.asks.flush();
        while self.probe.less_than(&until) {
            worker.step();
        }
        let mut gathered = self.gathered.borrow_mut();
        gathered.sort();
        gathered
    }

    /// Closes the inputs and runs the worker until the dataflow is gone.
    pub(super) fn close(self, worker: &mut Worker) {
        let Self { members, asks, cursors, probe, gathered: _ } = self;
        drop((members, asks, cursors));
        while !probe.done() {
            worker.step();
        }
    }
}

type Stream<'scope, D> = timely::dataflow::Stream<'scope, u64, Vec<(D, u64, isize)>>;

/// Pairs what each group's minima were with what they became, for each time, and asks for the members of those where
/// anybody's view may have moved.
fn pair_moves<'scope>(
    minima: Stream<'scope, (Slot, Minima)>,
    gathered: Rc<RefCell<Gathered>>,
) -> Stream<'scope, (Slot, Ask, u64)> {
    minima.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Pipeline, "moves", move |_, _| {
        let mut waiting = Vec::new();
        let mut held = timely::dataflow::operators::CapabilitySet::new();
        move |(input, frontier), output| {
            input.for_each(|capability, data| {
                held.insert(capability.retain(0));
                waiting.extend(data.drain(..).map(|((slot, minima), time, diff)| (time, slot, diff, minima)));
            });
            let done = |time: &u64| !frontier.less_equal(time);
            if waiting.iter().any(|(time, ..)| done(time)) {
                // What was (-1) before what became (+1).
                waiting.sort_unstable_by(|(time, slot, diff, _), (time_2, slot_2, diff_2, _)| {
                    (time, slot, diff).cmp(&(time_2, slot_2, diff_2))
                });
                let ready = waiting.partition_point(|(time, ..)| done(time));
                let mut gathered = gathered.borrow_mut();
                for pair in waiting[..ready].chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
                    let (time, slot, ..) = pair[0];
                    let before = pair.iter().find(|(_, _, diff, _)| *diff < 0).map(|(.., minima)| *minima);
                    let after = pair.iter().find(|(_, _, diff, _)| *diff > 0).map(|(.., minima)| *minima);
                    gathered.moves.push(MinimaMove { time, slot, before, after });
                    if let (Some(before), Some(after)) = (before, after)
                        && before.moves_a_view(&after)
                    {
                        output.session(&held.delayed(&time)).give(((slot, Ask::Minima, time), time, 1));
                    }
                }
                waiting.drain(..ready);
            }
            let mut needed = Antichain::new();
            needed.extend(waiting.iter().map(|(time, ..)| *time));
            held.downgrade(needed);
        }
    })
}

//! The differential dataflow: where each recipient is, and who watches whom.
//!
//! Two collections, `routes` (user, edge) with one count for each session, and `watches` (user, (edge, session)), change
//! as the signals say. Lookups are joined with them *as of the lookup's step* by `half_join2` and are not kept.
//!
//! Steps: a change happens at the present step and ends it; a lookup happens at the present step. So a lookup sees
//! exactly the changes taken in before it if it sees the changes at steps strictly below its own. The strict
//! comparison has a price: a trace may be compacted up to the frontier, and would then show a change of the step just
//! below as if it were of the frontier's own. So the trace is held one step back.

use std::{cell::RefCell, rc::Rc};

use differential_dataflow::{
    ExchangeData, Hashable, VecCollection,
    input::InputSession,
    operators::arrange::{Arranged, TraceAgent},
    trace::implementations::ValSpine,
};
use differential_dogs3::operators::half_join2::half_join_internal_unsafe;
use tidings_schemas::{ids::UserId, limits::SESSIONS_PER_USER_MAX};
use timely::{
    container::{CapacityContainerBuilder, PushInto},
    dataflow::{
        channels::pact::Pipeline,
        operators::{Probe, generic::Operator, probe::Handle as ProbeHandle},
    },
    worker::Worker,
};

use super::{
    answers::{Answers, Found, Watching, Whereabouts},
    users::Slot,
    watches::WatchChange,
};

/// The timely time: how many changes were taken in before.
type Step = u64;

/// How lookups are compared with changes. Only [`RoutingRule::Strict`] is right; the others are for the tests that
/// must see them fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[doc(hidden)]
pub enum RoutingRule {
    /// Changes at steps strictly below the lookup's, the trace held one step back.
    #[default]
    Strict,
    /// Changes at the lookup's own step, too: those that came after it.
    TiesIncluded,
    /// Strict, but the trace is compacted up to the lookups' frontier.
    NoStepBack,
}

type Lookup<K> = (K, u32, Step);

/// The inputs and the outputs of the dataflow.
pub(super) struct Routing {
    dataflow: usize,
    routes: InputSession<Step, (Slot, u32), isize>,
    lookups: InputSession<Step, Lookup<Slot>, isize>,
    watches: InputSession<Step, (UserId, (u32, u64)), isize>,
    transitions: InputSession<Step, Lookup<UserId>, isize>,
    /// How far the two collections are taken in, and how far the lookups are answered.
    changed: ProbeHandle<Step>,
    answered: ProbeHandle<Step>,
    found: Rc<RefCell<Found>>,
    step: Step,
    /// Whether a collection changed, and whether anything was asked of them, since the last run.
    has_changes: bool,
    has_questions: bool,
    /// The sessions of each user, and where the dataflow has last said that the user is: a change of the user's
    /// sessions makes it unknown again. So a user is looked up once a change, not once a message.
    session_counts: Vec<u8>,
    known: Vec<Whereabouts>,
    /// The users whose sessions changed since the last run.
    moved: Vec<Slot>,
    /// The present step's questions about users with sessions, by (slot, question), not yet in order.
    pending: Vec<(Slot, u32)>,
    /// The run's lookups: about whom each is.
    asked: Vec<Slot>,
    answers: Answers,
}

impl Routing {
    /// Builds the dataflow in the worker.
    pub(super) fn build(worker: &mut Worker, name: &str, rule: RoutingRule) -> Self {
        let dataflow = worker.next_dataflow_index();
        let found = Rc::new(RefCell::new(Found::default()));
        let changed = ProbeHandle::new();
        let answered = ProbeHandle::new();
        let mut routes = InputSession::new();
        let mut lookups = InputSession::new();
        let mut watches = InputSession::new();
        let mut transitions = InputSession::new();
        worker.dataflow_named::<Step, _, _>(name, |scope| {
            let routes = routes.to_collection(scope).arrange_by_key_named("routes");
            let watches = watches.to_collection(scope).arrange_by_key_named("watches");
            routes.stream.clone().probe_with(&changed);
            watches.stream.clone().probe_with(&changed);
            let sink = Rc::clone(&found);
            as_of(
                lookups.to_collection(scope),
                routes,
                rule,
                |lookup, edge: &u32| (lookup, *edge),
                move |batch: &mut Vec<(u32, u32)>| sink.borrow_mut().routes.append(batch),
                &answered,
            );
            let sink = Rc::clone(&found);
            as_of(
                transitions.to_collection(scope),
                watches,
                rule,
                |transition, (edge_id, session_id): &(u32, u64)| Watching {
                    transition,
                    edge_id: *edge_id,
                    session_id: *session_id,
                },
                move |batch: &mut Vec<Watching>| sink.borrow_mut().watching.append(batch),
                &answered,
            );
        });
        Self {
            dataflow,
            routes,
            lookups,
            watches,
            transitions,
            changed,
            answered,
            found,
            step: 0,
            has_changes: false,
            has_questions: false,
            session_counts: Vec::new(),
            known: Vec::new(),
            moved: Vec::new(),
            pending: Vec::new(),
            asked: Vec::new(),
            answers: Answers::default(),
        }
    }

    /// A session of the user on that edge came or went. Later questions see it.
    pub(super) fn change_route(&mut self, slot: Slot, edge_id: u32, difference: isize) {
        self.end_lookups();
        self.load_route(slot, edge_id, difference);
        self.step += 1;
    }

    /// A watch came or went. Later transitions see it.
    pub(super) fn change_watch(&mut self, change: WatchChange) {
        self.end_lookups();
        self.load_watch(change);
        self.step += 1;
    }

    /// The number of the next question.
    #[allow(clippy::cast_possible_truncation, reason = "a run has far fewer than 2^32 recipients")]
    pub(super) fn next_question(&self) -> u32 {
        self.answers.whereabouts.len() as u32
    }

    /// Asks which edges have a session of the user, as of now. Nobody is nowhere.
    #[inline]
    pub(super) fn ask(&mut self, user: Option<Slot>) {
        let known = user.and_then(|slot| self.known.get(slot as usize)).copied().unwrap_or(Whereabouts::NOWHERE);
        if let Some(slot) = user
            && known == Whereabouts::UNKNOWN
        {
            self.pending.push((slot, self.next_question()));
        }
        self.answers.whereabouts.push(known);
    }

    /// Asks which sessions watch the user, as of now.
    pub(super) fn transition(&mut self, user: UserId, transition: u32) {
        self.transitions.update_at((user, transition, self.step), self.step, 1);
        self.has_questions = true;
    }

    /// Turns the open questions of the present step into lookups, one a user, and hands them to the dataflow in the
    /// order in which the join reads the arrangement: it then has nothing to sort.
    #[allow(clippy::cast_possible_truncation, reason = "a run has far fewer than 2^31 lookups")]
    fn end_lookups(&mut self) {
        self.pending.sort_unstable();
        for user in self.pending.chunk_by(|one, other| one.0 == other.0) {
            let (slot, lookup) = (user[0].0, self.asked.len() as u32);
            self.lookups.update_at((slot, lookup, self.step), self.step, 1);
            for (_, question) in user {
                self.answers.whereabouts[*question as usize] = Whereabouts::lookup(lookup);
            }
            self.asked.push(slot);
            self.has_questions = true;
        }
        self.pending.clear();
    }

    /// Keeps what the lookups found for the questions to come.
    fn learn(&mut self) {
        for (lookup, slot) in (0..).zip(self.asked.drain(..)) {
            // A user on several edges is looked up each time.
            if let [edge_id] = self.answers.edges_of_lookup(lookup)
                && *edge_id < Whereabouts::EDGES_END
            {
                self.known[slot as usize] = Whereabouts::edge(*edge_id);
            }
        }
        // What was asked before a change of the same run is out of date.
        for slot in self.moved.drain(..) {
            let is_anywhere = self.session_counts[slot as usize] > 0;
            self.known[slot as usize] = if is_anywhere { Whereabouts::UNKNOWN } else { Whereabouts::NOWHERE };
        }
    }

    /// Loads a route that a checkpoint saved; all of them are one change.
    pub(super) fn load_route(&mut self, slot: Slot, edge_id: u32, difference: isize) {
        const { assert!(SESSIONS_PER_USER_MAX < u8::MAX as usize, "they are counted in a byte") };
        let user = slot as usize;
        if user >= self.session_counts.len() {
            self.session_counts.resize((user + 1).next_power_of_two(), 0);
            self.known.resize(self.session_counts.len(), Whereabouts::NOWHERE);
        }
        let count = &mut self.session_counts[user];
        *count = if difference > 0 { count.saturating_add(1) } else { count.saturating_sub(1) };
        self.known[user] = if *count > 0 { Whereabouts::UNKNOWN } else { Whereabouts::NOWHERE };
        self.moved.push(slot);
        self.routes.update_at((slot, edge_id), self.step, difference);
        self.has_changes = true;
    }

    /// Loads a watch that a checkpoint saved.
    pub(super) fn load_watch(&mut self, change: WatchChange) {
        self.watches.update_at((change.watched, (change.edge_id, change.session_id)), self.step, change.difference);
        self.has_changes = true;
    }

    /// Ends the change that the loaded routes and watches are, and runs the worker until it is taken in.
    pub(super) fn load(&mut self, worker: &mut Worker) {
        self.run(worker);
    }

    /// Begins a run: the answers of the last one are no longer wanted.
    pub(super) fn begin(&mut self) {
        self.answers.clear();
    }

    /// The answers to all questions of the run, once [`Routing::run`] has run.
    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Runs the worker until every question so far is answered.
    ///
    /// The changes go first: every lookup finds the collections ready and is answered at once.
    pub(super) fn run(&mut self, worker: &mut Worker) {
        self.end_lookups();
        if !std::mem::take(&mut self.has_questions) && !self.has_changes {
            return;
        }
        self.step += 1;
        self.routes.advance_to(self.step);
        self.routes.flush();
        self.watches.advance_to(self.step);
        self.watches.flush();
        if self.has_changes {
            self.has_changes = false;
            while self.changed.less_than(&self.step) {
                worker.step();
            }
        }
        self.lookups.advance_to(self.step);
        self.lookups.flush();
        self.transitions.advance_to(self.step);
        self.transitions.flush();
        while self.answered.less_than(&self.step) {
            worker.step();
        }
        self.answers.fill(self.asked.len(), &mut self.found.borrow_mut());
        self.learn();
    }

    /// Takes the dataflow out of the worker.
    pub(super) fn close(self, worker: &mut Worker) {
        let Self { dataflow, routes, lookups, watches, transitions, answered, .. } = self;
        drop((routes, lookups, watches, transitions));
        while !answered.done() {
            worker.step();
        }
        while worker.installed_dataflows().contains(&dataflow) {
            worker.step();
        }
    }
}

/// Joins lookups with the collection as of their step, and hands what is found to `sink`.
fn as_of<'scope, K, V, O>(
    lookups: VecCollection<'scope, Step, Lookup<K>, isize>,
    collection: Arranged<'scope, TraceAgent<ValSpine<K, V, Step, isize>>>,
    rule: RoutingRule,
    output: impl Fn(u32, &V) -> O + 'static,
    mut sink: impl FnMut(&mut Vec<O>) + 'static,
    probe: &ProbeHandle<Step>,
) where
    K: ExchangeData + Hashable,
    V: ExchangeData,
    O: Clone + 'static,
{
    // A lookup's own step is already its timely time; what is found is not given one, it all belongs to this run.
    half_join_internal_unsafe::<_, _, _, _, _, _, _, _, CapacityContainerBuilder<Vec<O>>>(
        lookups,
        collection,
        move |step, frontier| {
            let back = if rule == RoutingRule::NoStepBack { 0 } else { 1 };
            frontier.insert(step.saturating_sub(back));
        },
        move |change, lookup| if rule == RoutingRule::TiesIncluded { change <= lookup } else { change < lookup },
        |_timer, _count| false,
        move |builder, _key, lookup, value, _initial, _difference, found| {
            // Several sessions on one edge are one value with their number: one push for all of them.
            let sessions: isize = found.drain(..).map(|(_, difference)| difference).sum();
            if sessions > 0 {
                builder.push_into(output(*lookup, value));
            }
        },
    )
    .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "found", |_, _| {
        move |input, _output| input.for_each(|_, batch| sink(batch))
    })
    .probe_with(probe);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each run of questions about users 7 and 8, the edges found.
    fn routed(rule: RoutingRule) -> Vec<Vec<u32>> {
        timely::execute_directly(move |worker| {
            let mut routing = Routing::build(worker, "routing", rule);
            let mut all = Vec::new();
            let mut run = |routing: &mut Routing, questions: u32| {
                routing.run(worker);
                for question in 0..questions {
                    let mut edges = Vec::new();
                    routing.answers().for_each_edge(question, |edge_id| edges.push(edge_id));
                    edges.sort_unstable();
                    all.push(edges);
                }
                routing.begin();
            };
            routing.change_route(7, 1, 1);
            routing.change_route(7, 1, 1);
            routing.ask(Some(7));
            routing.ask(Some(8));
            routing.ask(Some(7));
            routing.change_route(7, 2, 1);
            routing.ask(Some(7));
            routing.change_route(7, 1, -1);
            run(&mut routing, 4);
            routing.ask(Some(7));
            routing.change_route(7, 1, -1);
            run(&mut routing, 1);
            routing.ask(None);
            routing.ask(Some(7));
            routing.change_route(7, 2, -1);
            routing.ask(Some(7));
            run(&mut routing, 3);
            routing.close(worker);
            all
        })
    }

    #[test]
    fn a_question_sees_the_changes_before_it_and_no_other() {
        let expected = [&[1][..], &[], &[1], &[1, 2], &[1, 2], &[], &[2], &[]];
        assert_eq!(routed(RoutingRule::Strict), expected);
    }

    #[test]
    fn another_rule_for_ties_is_seen() {
        assert_ne!(routed(RoutingRule::TiesIncluded), routed(RoutingRule::Strict));
    }

    /// Opens one session after another, and asks for all of them after each; says how many answers are missing.
    fn missing(rule: RoutingRule) -> usize {
        timely::execute_directly(move |worker| {
            let mut routing = Routing::build(worker, "routing", rule);
            let mut missing = 0;
            for round in 0..100 {
                routing.begin();
                for slot in 0..round {
                    routing.ask(Some(slot));
                }
                routing.change_route(round, 1, 1);
                routing.run(worker);
                missing += (0..round).filter(|question| !routing.answers().for_each_edge(*question, |_| ())).count();
            }
            routing.close(worker);
            missing
        })
    }

    #[test]
    fn a_trace_that_is_not_held_back_loses_routes() {
        assert_eq!(missing(RoutingRule::Strict), 0);
        assert!(missing(RoutingRule::NoStepBack) > 0);
    }

    #[test]
    fn a_transition_finds_its_watchers() {
        timely::execute_directly(move |worker| {
            let mut routing = Routing::build(worker, "routing", RoutingRule::Strict);
            let watch = WatchChange { watched: UserId(1), edge_id: 3, session_id: 9, difference: 1 };
            routing.transition(UserId(1), 0);
            routing.change_watch(watch);
            routing.transition(UserId(1), 1);
            routing.change_watch(WatchChange { difference: -1, ..watch });
            routing.transition(UserId(1), 2);
            routing.run(worker);
            let found = [0, 1, 2].map(|transition| routing.answers().watching(transition).len());
            assert_eq!(found, [0, 1, 0]);
            assert_eq!(routing.answers().watching(1), [Watching { transition: 1, edge_id: 3, session_id: 9 }]);
            routing.close(worker);
        });
    }
}

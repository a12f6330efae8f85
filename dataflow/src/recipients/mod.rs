//! The recipients stage: numbers each recipient's stream, knows who is online and where, and routes to edges.
//!
//! One shard takes in partition p of `fanout` and of `signals`. What it writes to `inbox` follows from `fanout` alone,
//! whatever the timing between the two; pushes, presence and notifications follow from both as they came in.
//!
//! - `frames`: looks at records without decoding their contents. `encoding`: writes records around those contents.
//! - `users` (found through `index`): everybody's offset; `watermarks`: what drops repeats.
//! - `presence`: sessions, edges, deadlines; `wheel`: finds whose deadline has come; `watches`: who watches whom.
//! - `routing`: the differential dataflow that knows where each recipient is as of each step; `answers`: what it found.
//! - `fanout`, `signals`: take records in. `batch`: what is on the way. `assembly`: gives records out.
//! - `state`: what a checkpoint holds; [`saved`] shows it to who looks from outside.
//! - `model`: the plain model that all of it is compared with.

mod answers;
mod assembly;
mod batch;
mod encoding;
mod fanout;
mod frames;
mod index;
#[doc(hidden)]
pub mod model;
mod presence;
mod routing;
pub mod saved;
mod signals;
mod state;
mod users;
mod watches;
mod watermarks;
mod wheel;

use tidings_ingest::NewRecord;
use tidings_schemas::topics::Topic;
use timely::worker::Worker;

use self::{
    assembly::Picks,
    batch::Batch,
    presence::{Presence, PresenceChange},
    routing::Routing,
    users::Users,
    watches::{WatchChange, Watches},
    watermarks::Watermarks,
};
pub use self::{presence::RecipientsConfig, routing::RoutingRule};
use crate::shard::{
    Count, InputPosition, Intake, SavedState, Shard, ShardId, SnapshotKind, Stage, StageError, StateSink,
};

/// What a test breaks on purpose, to see that it notices. The default is what is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct Rules {
    pub routing: RoutingRule,
    pub drop_repeats: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { routing: RoutingRule::Strict, drop_repeats: true }
    }
}

/// What the shard counts.
#[derive(Debug, Default)]
struct Counts {
    undecodable: u64,
    repeats: u64,
    unknown_edges: u64,
    unknown_signals: u64,
    past_runs: u64,
    sessions_refused: u64,
    watches_refused: u64,
    transitions: u64,
    pushes: u64,
    notifications: u64,
}

/// The recipients stage for one partition.
pub struct RecipientsShard {
    id: ShardId,
    /// How many edges there can be: the partitions of `deliveries`.
    edge_count: u32,
    rules: Rules,
    next_fanout: u64,
    next_signals: u64,
    users: Users,
    watermarks: Watermarks,
    presence: Presence,
    watches: Watches,
    routing: Routing,
    batch: Batch,
    picks: Picks,
    /// The bytes that the last run gave out.
    output_len: usize,
    presence_changes: Vec<PresenceChange>,
    watch_changes: Vec<WatchChange>,
    counts: Counts,
}

impl RecipientsShard {
    /// Builds the dataflow of `partition` in the worker, with the state that a checkpoint saved (or an empty one).
    /// `edge_count` is the number of partitions of `deliveries`.
    ///
    /// # Errors
    /// [`StageError::State`] for rows that cannot be read.
    pub fn build(
        worker: &mut Worker,
        partition: u32,
        edge_count: u32,
        config: &RecipientsConfig,
        saved: &SavedState,
    ) -> Result<Self, StageError> {
        Self::build_with(worker, partition, edge_count, config, saved, Rules::default())
    }

    /// As [`RecipientsShard::build`], broken on purpose if the rules say so.
    #[doc(hidden)]
    pub fn build_with(
        worker: &mut Worker,
        partition: u32,
        edge_count: u32,
        config: &RecipientsConfig,
        saved: &SavedState,
        rules: Rules,
    ) -> Result<Self, StageError> {
        let id = ShardId { stage: Stage::Recipients, partition };
        let mut shard = Self {
            id,
            edge_count,
            rules,
            next_fanout: saved.next_offset(Topic::Fanout),
            next_signals: saved.next_offset(Topic::Signals),
            users: Users::default(),
            watermarks: Watermarks::default(),
            presence: Presence::new(config),
            watches: Watches::default(),
            routing: Routing::build(worker, &id.to_string(), rules.routing),
            batch: Batch::default(),
            picks: Picks::default(),
            output_len: 0,
            presence_changes: Vec::new(),
            watch_changes: Vec::new(),
            counts: Counts::default(),
        };
        shard.restore(saved)?;
        shard.routing.load(worker);
        Ok(shard)
    }

    /// How many users the shard has met, and how many of them have a session or are within the grace of one.
    pub fn user_counts(&self) -> (usize, usize) {
        (self.users.len(), self.presence.online_len())
    }
}

impl Shard for RecipientsShard {
    fn id(&self) -> ShardId {
        self.id
    }

    fn positions(&self) -> Vec<InputPosition> {
        vec![
            InputPosition { topic: Topic::Fanout, next_offset: self.next_fanout },
            InputPosition { topic: Topic::Signals, next_offset: self.next_signals },
        ]
    }

    fn run(&mut self, worker: &mut Worker, intake: Vec<Intake>, out: &mut Vec<NewRecord>) -> Result<(), StageError> {
        self.batch.output.reserve(self.output_len);
        self.routing.begin();
        for Intake { topic, records } in intake {
            if topic == Topic::Fanout {
                self.take_fanout(records)?;
            } else {
                for record in records {
                    // Signals are true only for a while, and retention may have dropped some: a gap harms nothing durable.
                    if record.offset >= self.next_signals {
                        self.next_signals = record.offset + 1;
                        self.take_signals(&record);
                    }
                }
            }
        }
        self.routing.run(worker);
        self.assemble(out);
        Ok(())
    }

    fn snapshot(&mut self, kind: SnapshotKind, sink: &mut dyn StateSink) {
        self.save(kind, sink);
    }

    fn take_counts(&mut self, each: &mut dyn FnMut(Count)) {
        let counts = std::mem::take(&mut self.counts);
        let named = [
            ("undecodable", counts.undecodable),
            ("repeats_dropped", counts.repeats),
            ("unknown_edges", counts.unknown_edges),
            ("unknown_signals", counts.unknown_signals),
            ("past_edge_runs", counts.past_runs),
            ("sessions_refused", counts.sessions_refused),
            ("watches_refused", counts.watches_refused),
            ("presence_transitions", counts.transitions),
            ("pushes", counts.pushes),
            ("notifications", counts.notifications),
        ];
        for (what, count) in named {
            if count > 0 {
                each(Count { what, count });
            }
        }
    }

    fn close(self: Box<Self>, worker: &mut Worker) {
        self.routing.close(worker);
    }
}

//! The conversations stage: decides what became of each event of one `events` partition, and who is told.
//!
//! - `decode` reads an event. `admission` decides about it, one after the other: the registry of conversations and
//!   members, the dedupe window, `seq`, the members' own cursors.
//! - `fanout` is the differential dataflow: it finds the members as of each event, and keeps the least cursors
//!   (`minima`) of each group.
//! - `sink` puts the two together and makes the records. `state` writes and reads checkpoints' rows; [`saved`] shows them
//!   to who looks from outside.

mod admission;
mod decision;
mod decode;
mod dedupe;
mod deletions;
mod fanout;
mod minima;
pub mod model;
mod refusals;
mod registry;
pub mod saved;
mod sink;
mod state;

use serde::{Deserialize, Serialize};
use tidings_ingest::NewRecord;
use tidings_schemas::{
    limits,
    topics::{Partitions, Topic},
};
use timely::worker::Worker;

pub use self::fanout::FanoutRule;
use self::{
    admission::{Admission, Counts},
    decision::Decision,
    dedupe::DedupeWindow,
    deletions::Deletions,
    fanout::{Changes, Fanout},
    registry::Registry,
    sink::Sink,
    state::SavedRows,
};
use crate::shard::{
    Count, InputPosition, Intake, SavedState, Shard, ShardId, SnapshotKind, Stage, StageError, StateSink,
};

/// Settings of the conversations stage. They are part of what makes its output: the same log with other settings is
/// another history, so they are changed with care.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConversationsConfig {
    /// Members of a group at the most, its owner included; at most 1,000.
    pub group_members_max: u32,
    /// Messages of a shard whose `client_message_id` is remembered; about 60 bytes each. When there are more within
    /// 24 hours the oldest are forgotten early, and counted.
    pub dedupe_entries_max: u64,
    /// Deleted messages of a shard that are remembered for 24 hours.
    pub deletions_max: usize,
}

impl Default for ConversationsConfig {
    fn default() -> Self {
        Self {
            group_members_max: limits::GROUP_MEMBERS_DEFAULT_MAX,
            dedupe_entries_max: limits::DEDUPE_ENTRIES_MAX,
            deletions_max: limits::DELETIONS_REMEMBERED_MAX,
        }
    }
}

/// The conversations stage for one `events` partition.
pub struct ConversationsShard {
    id: ShardId,
    next_offset: u64,
    admission: Admission,
    fanout: Fanout,
    sink: Sink,
    changes: Changes,
    decisions: Vec<Decision>,
    saved: SavedRows,
}

impl ConversationsShard {
    /// Builds the shard's dataflow in the worker, from a saved state or from nothing.
    ///
    /// # Errors
    /// [`StageError::State`] when a row cannot be read; the worker is then as it was.
    pub fn build(
        worker: &mut Worker,
        config: &ConversationsConfig,
        partitions: Partitions,
        partition: u32,
        state: Option<&SavedState>,
    ) -> Result<Self, StageError> {
        Self::build_with_rule(worker, config, partitions, partition, state, FanoutRule::Strict)
    }

    /// Like [`ConversationsShard::build`], with a rule that may be wrong: for the tests that show that they notice.
    ///
    /// # Errors
    /// As [`ConversationsShard::build`].
    pub fn build_with_rule(
        worker: &mut Worker,
        config: &ConversationsConfig,
        partitions: Partitions,
        partition: u32,
        state: Option<&SavedState>,
        rule: FanoutRule,
    ) -> Result<Self, StageError> {
        let id = ShardId { stage: Stage::Conversations, partition };
        let group_members_max = config.group_members_max.min(limits::GROUP_MEMBERS_SETTING_MAX) as usize;
        let mut admission = Admission {
            partition,
            partitions,
            group_members_max,
            clock_ms: 0,
            registry: Registry::default(),
            dedupe: DedupeWindow::new(config.dedupe_entries_max.clamp(1, u64::from(u32::MAX / 2))),
            deletions: Deletions::new(config.deletions_max.max(1)),
            counts: Counts::default(),
        };
        let mut saved = SavedRows::default();
        let mut next_offset = 0;
        if let Some(state) = state {
            state::restore(&mut admission, &mut saved, state).map_err(|what| StageError::State { shard: id, what })?;
            next_offset = state.next_offset(Topic::Events);
        }
        let mut shard = Self {
            id,
            next_offset,
            admission,
            fanout: Fanout::build(worker, rule),
            sink: Sink::new(partition, partitions),
            changes: Changes::default(),
            decisions: Vec::new(),
            saved,
        };
        shard.load(worker);
        Ok(shard)
    }

    /// Brings the restored memberships and cursors into the dataflow, at the time before the next event.
    fn load(&mut self, worker: &mut Worker) {
        self.admission.load(self.next_offset, &mut self.changes);
        let gathered = self.fanout.run(worker, &mut self.changes, self.next_offset + 1);
        self.sink.restore(&gathered);
    }
}

impl Shard for ConversationsShard {
    fn id(&self) -> ShardId {
        self.id
    }

    fn positions(&self) -> Vec<InputPosition> {
        vec![InputPosition { topic: Topic::Events, next_offset: self.next_offset }]
    }

    fn run(&mut self, worker: &mut Worker, intake: Vec<Intake>, out: &mut Vec<NewRecord>) -> Result<(), StageError> {
        let mut records = Vec::with_capacity(intake.iter().map(|intake| intake.records.len()).sum());
        let mut next_offset = self.next_offset;
        for record in intake.iter().filter(|intake| intake.topic == Topic::Events).flat_map(|intake| &intake.records) {
            if record.offset < next_offset {
                continue;
            }
            if record.offset > next_offset {
                let (shard, expected, found) = (self.id, next_offset, record.offset);
                return Err(StageError::Gap { shard, topic: Topic::Events, expected, found });
            }
            records.push(record);
            next_offset += 1;
        }
        if !records.is_empty() {
            self.next_offset = next_offset;
            self.admission.admit(&records, &mut self.changes, &mut self.decisions);
            let gathered = self.fanout.run(worker, &mut self.changes, next_offset + 1);
            self.sink.assemble(&records, &mut self.decisions, &gathered, out);
        }
        Ok(())
    }

    fn snapshot(&mut self, kind: SnapshotKind, sink: &mut dyn StateSink) {
        state::save(&mut self.admission, &mut self.saved, kind, sink);
    }

    fn take_counts(&mut self, each: &mut dyn FnMut(Count)) {
        let Counts { undecodable, unknown, refused, repeated } = std::mem::take(&mut self.admission.counts);
        let unroutable = std::mem::take(&mut self.sink.unroutable);
        let dedupe_early = self.admission.dedupe.take_early();
        for (what, count) in [
            ("undecodable", undecodable),
            ("unknown", unknown),
            ("refused", refused),
            ("repeated", repeated),
            ("unroutable_verdict", unroutable),
            ("dedupe_forgotten_early", dedupe_early),
        ] {
            if count > 0 {
                each(Count { what, count });
            }
        }
    }

    fn close(self: Box<Self>, worker: &mut Worker) {
        self.fanout.close(worker);
    }
}

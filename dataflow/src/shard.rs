//! A stage's dataflow for one partition, as the host that runs it sees it.
//!
//! A shard lives in one timely worker and shares nothing with any other. It is handed the records of its input
//! partitions, gives back the records to append, and tells its state as rows, so that a checkpoint can bring it back.

use std::fmt;

use bytes::Bytes;
use hashbrown::HashMap;
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::topics::Topic;
use timely::worker::Worker;

/// Records of one input partition that are taken in together, in the order of their offsets.
#[derive(Debug)]
pub struct Intake {
    /// The topic; the partition is the shard's.
    pub topic: Topic,
    /// The records.
    pub records: Vec<StoredRecord>,
}

/// Which of the two stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// One shard for each `events` partition.
    Conversations,
    /// One shard for each `fanout` partition (and the `signals` partition of the same number).
    Recipients,
}

impl Stage {
    /// The name in checkpoints, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conversations => "conversations",
            Self::Recipients => "recipients",
        }
    }

    /// The topics that the stage takes in.
    pub fn inputs(self) -> &'static [Topic] {
        match self {
            Self::Conversations => &[Topic::Events],
            Self::Recipients => &[Topic::Fanout, Topic::Signals],
        }
    }
}

/// A stage and a partition: the name of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId {
    /// The stage.
    pub stage: Stage,
    /// The partition of the stage's input topics.
    pub partition: u32,
}

impl fmt::Display for ShardId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.stage.name(), self.partition)
    }
}

/// How far a shard has taken in one of its input topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputPosition {
    /// The topic; the partition is the shard's.
    pub topic: Topic,
    /// The next offset to take in: everything below is in the state.
    pub next_offset: u64,
}

/// What a shard cannot go on after. A record that cannot be read is none of these: it is counted and passed over.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Records are missing between what was taken in and what came.
    #[error("{shard}: the log jumps from offset {expected} to {found} of {} (records are missing: verify the log)", topic.name())]
    Gap {
        /// The shard.
        shard: ShardId,
        /// The topic of the gap.
        topic: Topic,
        /// The offset that was due.
        expected: u64,
        /// The offset that came.
        found: u64,
    },
    /// A row of a checkpoint that cannot be read.
    #[error(
        "{shard}: a row of the checkpoint cannot be read: {what} (an older one, or the log from its start, is used)"
    )]
    State {
        /// The shard.
        shard: ShardId,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Which part of the state a snapshot writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// All of it.
    Full,
    /// What changed since the last snapshot of either kind (or since the shard was built).
    Changes,
}

/// Where a shard writes its state: rows of a key and a value, at most one of each key in one snapshot. A later
/// snapshot's row takes the place of an earlier one's. Keys begin with a byte of the shard's own that names the table.
pub trait StateSink {
    /// Sets a row.
    fn put(&mut self, key: &[u8], value: &[u8]);
    /// Removes a row (of an earlier snapshot). Harmless when there is none.
    fn delete(&mut self, key: &[u8]);
}

/// A shard's state as it was written: where a shard is built from.
#[derive(Debug, Clone, Default)]
pub struct SavedState {
    /// The next offset of each input topic. A topic that is missing starts at its beginning.
    pub positions: Vec<InputPosition>,
    /// The rows.
    pub rows: HashMap<Bytes, Bytes>,
}

impl SavedState {
    /// The next offset of a topic: zero when nothing was taken in.
    pub fn next_offset(&self, topic: Topic) -> u64 {
        self.positions.iter().find(|position| position.topic == topic).map_or(0, |position| position.next_offset)
    }
}

/// A row of a state that is not what its stage writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of the state cannot be read: {what}")]
pub struct UnreadableRow {
    /// What is wrong with it.
    pub what: &'static str,
}

/// Something that a shard counts, for the metrics: records it could not read, repeats it dropped, and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What was counted: a fixed, lower-case name without ids, such as `undecodable`.
    pub what: &'static str,
    /// How many since the last time.
    pub count: u64,
}

/// A stage's dataflow for one partition, inside one timely worker.
///
/// Its output is a function of the order in its input partitions alone; how they are cut into batches makes no
/// difference to any durable topic.
pub trait Shard {
    /// Which one it is.
    fn id(&self) -> ShardId;

    /// How far each of its input topics has been taken in. After [`Shard::run`], all that follows from what is below
    /// these has been given out.
    fn positions(&self) -> Vec<InputPosition>;

    /// Takes records in and runs the worker until everything that follows from them is in `out`, in the order in
    /// which it must be appended. Records below the position (a log that replays) are dropped.
    fn run(&mut self, worker: &mut Worker, intake: Vec<Intake>, out: &mut Vec<NewRecord>) -> Result<(), StageError>;

    /// Writes the state as of everything taken in so far. All `Changes` since a `Full` one (or since the state that
    /// the shard was built from), laid over it in their order, are the whole state.
    fn snapshot(&mut self, kind: SnapshotKind, sink: &mut dyn StateSink);

    /// Hands over what was counted since the last call.
    fn take_counts(&mut self, each: &mut dyn FnMut(Count));

    /// Ends the dataflow: closes its inputs and runs the worker until it is gone.
    fn close(self: Box<Self>, worker: &mut Worker);
}

/// Snapshots laid over one another in their order make the whole state.
impl StateSink for SavedState {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.rows.remove(key);
    }
}

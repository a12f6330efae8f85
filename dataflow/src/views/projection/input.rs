//! One partition being read: where it stands, and which of its records are repeats.

use std::sync::Arc;

use tidings_ingest::{Log, LogError, LogReader, Pace, StoredRecord, Wake};
use tidings_schemas::{
    limits::VIEW_PROJECTION_POLL_BYTES,
    topics::Topic,
    views::{Move, Position, ViewError, ViewStore},
};

use super::{
    metrics::Metrics,
    step::{self, Skipped, Step},
};

/// The topics that the projection reads.
pub const TOPICS: [Topic; 3] = [Topic::Directory, Topic::Timeline, Topic::Inbox];

/// The topic that a topic's records were derived from, whose offsets are the watermark for repeats.
pub(in crate::views) fn source_topic(topic: Topic) -> Option<Topic> {
    match topic {
        Topic::Timeline => Some(Topic::Events),
        Topic::Inbox => Some(Topic::Fanout),
        _ => None,
    }
}

/// The next offset of a partition, and of what its records were derived from.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    own: u64,
    source: u64,
}

/// One partition of one topic.
pub(super) struct Input {
    pub(super) topic: Topic,
    pub(super) partition: u32,
    reader: Box<dyn LogReader>,
    /// What was taken in.
    taken: Offsets,
    /// What of it is in the views.
    applied: Offsets,
    /// The partition's end when it was opened.
    end_at_open: u64,
    records: Vec<StoredRecord>,
}

/// What keeps a partition from being read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The views' store.
    #[error(transparent)]
    Views(#[from] ViewError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log lacks what the views hold.
    #[error(
        "the views hold {} partition {partition} up to {position}, the log ends at {end} (it was cut or put back: \
         remove the views' folder and start again; it is rebuilt from the log)",
        topic.name()
    )]
    AheadOfLog {
        /// The topic.
        topic: Topic,
        /// Its partition.
        partition: u32,
        /// The views' position.
        position: u64,
        /// The log's end.
        end: u64,
    },
}

impl Input {
    /// Opens the partition where the views are.
    pub(super) async fn open(
        log: &dyn Log,
        views: &dyn ViewStore,
        topic: Topic,
        partition: u32,
        wake: Wake,
    ) -> Result<Self, InputError> {
        let own = views.position(topic, partition).await?;
        let source = match source_topic(topic) {
            Some(source) => views.position(source, partition).await?,
            None => 0,
        };
        let applied = Offsets { own, source };
        let mut taken = applied;
        let range = log.range(topic, partition)?;
        if own > range.end {
            return Err(InputError::AheadOfLog { topic, partition, position: own, end: range.end });
        }
        if own < range.start {
            tracing::warn!(
                topic = topic.name(),
                partition,
                position = own,
                start = range.start,
                "the log no longer has what comes next for the views: they go on without it (the archive may have it)"
            );
            taken.own = range.start;
        }
        let mut reader = log.paced_reader(Pace::Steady, topic, partition, taken.own)?;
        reader.wake_with(wake);
        let (end_at_open, records) = (range.end, Vec::new());
        Ok(Self { topic, partition, reader, taken, applied, end_at_open, records })
    }

    /// Takes the next records in and adds their steps; gives how many bytes those were, and whether there may be more.
    pub(super) fn take(&mut self, metrics: &Metrics, steps: &mut Vec<Step>) -> Result<(Taken, usize), LogError> {
        let mut records = std::mem::take(&mut self.records);
        let polled = self.reader.poll(VIEW_PROJECTION_POLL_BYTES, &mut records);
        let mut bytes = 0;
        for record in records.drain(..) {
            bytes += record.key.len() + record.value.len();
            self.taken.own = record.offset + 1;
            match self.step(&record) {
                Ok(step) => steps.push(step),
                Err(skipped) => {
                    metrics.skipped(self.topic, skipped.reason());
                    if skipped != Skipped::Repeat {
                        tracing::warn!(
                            topic = self.topic.name(),
                            partition = self.partition,
                            offset = record.offset,
                            reason = skipped.reason(),
                            "a record has no effect on the views"
                        );
                    }
                }
            }
        }
        self.records = records;
        let count = polled?;
        metrics.taken(self.topic, count);
        let taken = match count {
            0 => Taken::Nothing,
            _ if bytes * 2 >= VIEW_PROJECTION_POLL_BYTES => Taken::More,
            _ => Taken::All,
        };
        Ok((taken, bytes))
    }

    fn step(&mut self, record: &StoredRecord) -> Result<Step, Skipped> {
        let (source, step) = step::decode(self.topic, record)?;
        if let Some(source) = source {
            if source.partition != self.partition {
                return Err(Skipped::ForeignSource);
            }
            if source.offset < self.taken.source {
                return Err(Skipped::Repeat);
            }
            self.taken.source = source.offset.saturating_add(1);
        }
        Ok(step)
    }

    /// The steps that the views make when what was taken in is applied; none when nothing was taken in.
    pub(super) fn moves(&self) -> impl Iterator<Item = Move> {
        let Self { topic, partition, taken, applied, .. } = *self;
        let step = move |topic, from, to| Move { topic, partition, from, to };
        let own = step(topic, applied.own, taken.own);
        let source = source_topic(topic).map(|topic| step(topic, applied.source, taken.source));
        std::iter::once(own).chain(source).filter(move |_| taken.own > applied.own)
    }

    /// What was taken in is in the views.
    pub(super) fn applied(&mut self) {
        self.applied = self.taken;
    }

    /// Where the views are.
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        let Self { topic, partition, applied, .. } = *self;
        let own = Position { topic, partition, next_offset: applied.own };
        let source = source_topic(topic).map(|topic| Position { topic, partition, next_offset: applied.source });
        std::iter::once(own).chain(source)
    }

    /// Whether all that was on the log when the partition was opened is taken in. That a look finds nothing does not
    /// say so: the records may be on their way.
    pub(super) fn has_reached_end_at_open(&self) -> bool {
        self.taken.own >= self.end_at_open
    }

    /// The next record to be taken in.
    pub(super) fn next_offset(&self) -> u64 {
        self.taken.own
    }

    /// Records on the log, as far as is known here, that are not yet taken in.
    pub(super) fn lag(&self, log: &Arc<dyn Log>) -> u64 {
        let end = log.end_seen(self.topic, self.partition).unwrap_or(self.taken.own);
        end.saturating_sub(self.taken.own)
    }
}

/// How much a partition gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Taken {
    /// There was nothing.
    Nothing,
    /// All there was.
    All,
    /// As much as is taken at once: there may be more.
    More,
}

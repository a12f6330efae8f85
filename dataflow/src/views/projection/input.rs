//! One partition being read: where it stands, and which of its records are repeats.

use std::sync::Arc;

use tidings_ingest::{Log, LogError, LogReader, StoredRecord, Wake};
use tidings_schemas::{
    limits::VIEW_PROJECTION_POLL_BYTES,
    topics::Topic,
    views::{Position, ViewError, ViewStore},
};

use super::{
    metrics::Metrics,
    step::{self, Skipped, Step},
};

/// The topics that the projection reads.
pub(super) const TOPICS: [Topic; 3] = [Topic::Directory, Topic::Timeline, Topic::Inbox];

/// The topic that a topic's records were derived from, whose offsets are the watermark for repeats.
pub(super) fn source_topic(topic: Topic) -> Option<Topic> {
    match topic {
        Topic::Timeline => Some(Topic::Events),
        Topic::Inbox => Some(Topic::Fanout),
        _ => None,
    }
}

/// One partition of one topic.
pub(super) struct Input {
    pub(super) topic: Topic,
    pub(super) partition: u32,
    reader: Box<dyn LogReader>,
    next_offset: u64,
    source_next_offset: u64,
    /// The partition's end when it was opened.
    end_at_open: u64,
    records: Vec<StoredRecord>,
}

/// What keeps a partition from being read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
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
        let mut next_offset = views.position(topic, partition).await?;
        let source_next_offset = match source_topic(topic) {
            Some(source) => views.position(source, partition).await?,
            None => 0,
        };
        let range = log.range(topic, partition)?;
        if next_offset > range.end {
            return Err(InputError::AheadOfLog { topic, partition, position: next_offset, end: range.end });
        }
        if next_offset < range.start {
            tracing::warn!(
                topic = topic.name(),
                partition,
                position = next_offset,
                start = range.start,
                "the log no longer has what comes next for the views: they go on without it (the archive may have it)"
            );
            next_offset = range.start;
        }
        let mut reader = log.reader(topic, partition, next_offset)?;
        reader.wake_with(wake);
        let (end_at_open, records) = (range.end, Vec::new());
        Ok(Self { topic, partition, reader, next_offset, source_next_offset, end_at_open, records })
    }

    /// Takes the next records in and adds their steps; gives whether there may be more at once.
    pub(super) fn take(&mut self, metrics: &Metrics, steps: &mut Vec<Step>) -> Result<Taken, LogError> {
        let mut records = std::mem::take(&mut self.records);
        let polled = self.reader.poll(VIEW_PROJECTION_POLL_BYTES, &mut records);
        let mut bytes = 0;
        for record in records.drain(..) {
            bytes += record.key.len() + record.value.len();
            self.next_offset = record.offset + 1;
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
        Ok(match count {
            0 => Taken::Nothing,
            _ if bytes * 2 >= VIEW_PROJECTION_POLL_BYTES => Taken::More,
            _ => Taken::All,
        })
    }

    fn step(&mut self, record: &StoredRecord) -> Result<Step, Skipped> {
        let (source, step) = step::decode(self.topic, record)?;
        if let Some(source) = source {
            if source.partition != self.partition {
                return Err(Skipped::ForeignSource);
            }
            if source.offset < self.source_next_offset {
                return Err(Skipped::Repeat);
            }
            self.source_next_offset = source.offset.saturating_add(1);
        }
        Ok(step)
    }

    /// Where the views are once the steps taken in are applied.
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        let Self { topic, partition, next_offset, source_next_offset, .. } = *self;
        let own = Position { topic, partition, next_offset };
        let source = source_topic(topic).map(|topic| Position { topic, partition, next_offset: source_next_offset });
        std::iter::once(own).chain(source)
    }

    /// Whether all that was on the log when the partition was opened is taken in. That a look finds nothing does not
    /// say so: the records may be on their way.
    pub(super) fn has_reached_end_at_open(&self) -> bool {
        self.next_offset >= self.end_at_open
    }

    /// Records on the log, as far as is known here, that are not yet taken in.
    pub(super) fn lag(&self, log: &Arc<dyn Log>) -> u64 {
        let end = log.end_seen(self.topic, self.partition).unwrap_or(self.next_offset);
        end.saturating_sub(self.next_offset)
    }
}

/// How much a partition gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// There was nothing.
    Nothing,
    /// All there was.
    All,
    /// As much as is taken at once: there may be more.
    More,
}

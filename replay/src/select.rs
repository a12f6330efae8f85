//! Which records of the log: topics, partitions, offsets, times; and where these stand in a log as it is now.

use std::ops::Range;

use tidings_ingest::{Log, LogError};
use tidings_schemas::limits::CLOCK_STEP_BACK_MAX;
use tidings_schemas::topics::Topic;

use crate::scan::{Scan, ScanError};

/// A place in a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bound {
    /// The oldest record kept.
    #[default]
    Beginning,
    /// Behind the newest, as it is when it is asked.
    End,
    /// This many records before the end.
    BeforeEnd(u64),
    /// This offset.
    At(u64),
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Empty: none.
    pub topics: Vec<Topic>,
    /// Empty: all partitions.
    pub partitions: Vec<u32>,
    /// The first offset.
    pub start: Bound,
    /// One past the last; `None`: the end, as it is when it is asked.
    pub end: Option<Bound>,
    /// Appended at or after this moment, in milliseconds since the Unix epoch.
    pub from_ms: Option<i64>,
    /// Appended before this moment.
    pub to_ms: Option<i64>,
}

/// A range of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// The offsets to read, all of which are there.
    pub offsets: Range<u64>,
    /// All that the partition holds.
    pub kept: Range<u64>,
}

impl Span {
    /// How many records it has.
    pub fn records(&self) -> u64 {
        self.offsets.end.saturating_sub(self.offsets.start)
    }
}

/// Why nothing was selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The log cannot say.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record that is there cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The topic has fewer partitions.
    #[error("topic {} has no partition {partition} (it has {count}, from 0)", topic.name())]
    NoPartition {
        /// The topic.
        topic: Topic,
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        count: u32,
    },
    /// An offset was named, and is not there.
    #[error(
        "offset {asked} of {} partition {partition} is not in the log, which holds {start} to {end} (retention drops the oldest; an offset must be there in every partition that is read: -p names one)",
        topic.name()
    )]
    NotKept {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// The offset named.
        asked: u64,
        /// The oldest kept.
        start: u64,
        /// The next to be written.
        end: u64,
    },
}

impl Selection {
    /// Whether the record's time is one that is asked for. Records of a [`Span`] may stand outside: the log's clock may
    /// step back.
    pub fn has_time(&self, timestamp_ms: i64) -> bool {
        self.from_ms.is_none_or(|from| timestamp_ms >= from) && self.to_ms.is_none_or(|to| timestamp_ms < to)
    }

    /// Where the selected records are, by topic and partition. With times, a span holds all records of these times, and
    /// perhaps some others at its ends: hold each against [`Selection::has_time`].
    ///
    /// # Errors
    /// A partition or an offset that is named is not there; the log cannot be read.
    pub fn resolve(&self, log: &dyn Log) -> Result<Vec<Span>, SelectError> {
        let mut spans = Vec::new();
        for topic in self.topics.iter().copied() {
            let count = log.partitions(topic);
            if let Some(partition) = self.partitions.iter().copied().find(|partition| *partition >= count) {
                return Err(SelectError::NoPartition { topic, partition, count });
            }
            for partition in 0..count {
                if self.partitions.is_empty() || self.partitions.contains(&partition) {
                    spans.push(self.span(log, topic, partition)?);
                }
            }
        }
        Ok(spans)
    }

    fn span(&self, log: &dyn Log, topic: Topic, partition: u32) -> Result<Span, SelectError> {
        let kept = log.range(topic, partition)?;
        let place = |bound: Bound| match bound {
            Bound::Beginning => Ok(kept.start),
            Bound::End => Ok(kept.end),
            Bound::BeforeEnd(count) => Ok(kept.end.saturating_sub(count).max(kept.start)),
            Bound::At(asked) if (kept.start..=kept.end).contains(&asked) => Ok(asked),
            Bound::At(asked) => Err(SelectError::NotKept { topic, partition, asked, start: kept.start, end: kept.end }),
        };
        let mut start = place(self.start)?;
        let mut end = self.end.map_or(Ok(kept.end), place)?.max(start);
        let step_ms = i64::try_from(CLOCK_STEP_BACK_MAX.as_millis()).unwrap_or(i64::MAX);
        // If no clock has stepped back by more than that, everything before the place found is older than `from`, and
        // everything behind the other is not older than `to`.
        if let Some(from) = self.from_ms {
            start = first_at_or_after(log, topic, partition, start..end, from.saturating_sub(step_ms))?;
        }
        if let Some(to) = self.to_ms {
            end = first_at_or_after(log, topic, partition, start..end, to.saturating_add(step_ms))?;
        }
        Ok(Span { topic, partition, offsets: start..end, kept: kept.start..kept.end })
    }
}

/// A place in the range before which a record is older than `moment_ms`, and behind which one is not; by bisection.
pub(crate) fn first_at_or_after(
    log: &dyn Log,
    topic: Topic,
    partition: u32,
    range: Range<u64>,
    moment_ms: i64,
) -> Result<u64, SelectError> {
    let Range { start: mut low, end: mut high } = range;
    while low < high {
        let middle = low + (high - low) / 2;
        if timestamp(log, topic, partition, middle)? < moment_ms {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The time of one record, which is there.
fn timestamp(log: &dyn Log, topic: Topic, partition: u32, offset: u64) -> Result<i64, SelectError> {
    let found = Scan::new(log, topic, partition, offset..offset + 1)?.next().transpose()?;
    found.map(|record| record.timestamp_ms).ok_or_else(|| {
        let reason = format!("{} partition {partition} has not given offset {offset}", topic.name());
        LogError::Unavailable { reason: reason.into() }.into()
    })
}

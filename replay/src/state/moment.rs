//! Where a moment is in each partition.

use tidings_ingest::Log;
use tidings_schemas::{limits::CLOCK_STEP_BACK_MAX, topics::Topic};

use crate::{
    scan::Scan,
    select::{SelectError, first_at_or_after},
};

/// A moment, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The log as it is now.
    Now,
    /// Milliseconds since the Unix epoch.
    At(i64),
    /// Just behind this record; in other partitions, the time at which it was appended.
    Record {
        /// Its topic.
        topic: Topic,
        /// Its partition.
        partition: u32,
        /// Its offset.
        offset: u64,
    },
}

/// A moment that is known to be in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    moment: Moment,
    /// In milliseconds since the Unix epoch. `None`: now.
    pub at_ms: Option<i64>,
}

impl AsOf {
    /// Looks the moment up.
    ///
    /// # Errors
    /// The record that it names is not in the log; the log cannot be read.
    pub fn find(log: &dyn Log, moment: Moment) -> Result<Self, SelectError> {
        let at_ms = match moment {
            Moment::Now => None,
            Moment::At(at_ms) => Some(at_ms),
            Moment::Record { topic, partition, offset } => {
                let count = log.partitions(topic);
                if partition >= count {
                    return Err(SelectError::NoPartition { topic, partition, count });
                }
                let kept = log.range(topic, partition)?;
                let (start, end) = (kept.start, kept.end);
                let not_kept = SelectError::NotKept { topic, partition, asked: offset, start, end };
                if !(start..end).contains(&offset) {
                    return Err(not_kept);
                }
                let found = Scan::new(log, topic, partition, offset..offset + 1)?.next().transpose()?;
                Some(found.ok_or(not_kept)?.timestamp_ms)
            }
        };
        Ok(Self { moment, at_ms })
    }

    /// One past the last record of a partition that had been appended: where the first stands that was appended later. (The
    /// log's clock may step back: what was appended after that one does not count, whatever its time.)
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn end(&self, log: &dyn Log, topic: Topic, partition: u32) -> Result<u64, SelectError> {
        let kept = log.range(topic, partition)?;
        let at_ms = match (self.moment, self.at_ms) {
            (Moment::Record { topic: of, partition: at, offset }, _) if (of, at) == (topic, partition) => {
                return Ok(offset + 1);
            }
            (_, None) => return Ok(kept.end),
            (_, Some(at_ms)) => at_ms,
        };
        let step_ms = i64::try_from(CLOCK_STEP_BACK_MAX.as_millis()).unwrap_or(i64::MAX);
        let place = first_at_or_after(
            log,
            topic,
            partition,
            kept.start..kept.end,
            at_ms.saturating_sub(step_ms).saturating_add(1),
        )?;
        for record in Scan::new(log, topic, partition, place..kept.end)? {
            let record = record?;
            if record.timestamp_ms > at_ms {
                return Ok(record.offset);
            }
        }
        Ok(kept.end)
    }
}

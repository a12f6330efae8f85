//! The conversations of one `events` partition as they stood.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    thread,
};

use tidings_dataflow::{
    conversations::saved,
    shard::{SavedState, ShardId, SnapshotKind, Stage},
    solo::SoloShard,
};
use tidings_ingest::OffsetRange;
use tidings_schemas::{
    limits::{SHARD_BATCH_RECORDS_MAX, SHARD_TURN_BYTES_MAX},
    topics::Topic,
};

use super::{Past, StateError, Told};
use crate::scan::{Scan, ScanError};

/// What a shard was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The log's beginning.
    Beginning,
    /// A checkpoint.
    Checkpoint {
        /// Its number.
        sequence: u64,
        /// The first offset that was taken in after it.
        offset: u64,
        /// When it was written, in milliseconds since the Unix epoch.
        written_at_ms: i64,
    },
}

/// A shard of the conversations stage as it stood.
#[derive(Debug)]
pub struct Standing {
    /// Which partition of `events`.
    pub partition: u32,
    /// One past the last event that had happened.
    pub end: u64,
    /// What it was built from.
    pub start: Start,
    /// Events that were taken in.
    pub taken: u64,
    /// The shard's clock, in milliseconds since the Unix epoch: `None` before the first event.
    pub clock_ms: Option<i64>,
    /// Its rows: `tidings_dataflow::conversations::saved` reads them.
    pub state: SavedState,
}

/// What would be read for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Which partition of `events`.
    pub partition: u32,
    /// What the shard is built from.
    pub start: Start,
    /// The events that it takes in.
    pub events: u64,
}

impl Past<'_> {
    /// What [`Past::standing`] would read.
    ///
    /// # Errors
    /// As there.
    pub fn plan(&self, partition: u32) -> Result<Planned, StateError> {
        let (start, from, end, _) = self.begin(partition)?;
        Ok(Planned { partition, start, events: end - from })
    }

    /// The conversations of a partition.
    ///
    /// # Errors
    /// The log cannot be read; what the shard must take in first is gone.
    pub fn standing(&self, partition: u32) -> Result<Standing, StateError> {
        let (start, from, end, mut state) = self.begin(partition)?;
        (self.told)(Told::Expect(end - from));
        let id = ShardId { stage: Stage::Conversations, partition };
        let mut shard = SoloShard::build(id, self.config, self.partitions(), &state)?;
        let mut events = Scan::new(self.log, Topic::Events, partition, from..end)?;
        loop {
            let batch = take_batch(&mut events)?;
            if batch.is_empty() {
                break;
            }
            (self.told)(Told::Took(batch.len() as u64));
            // What follows from it is in the log already, or will be.
            shard.take(Topic::Events, batch, &mut Vec::new())?;
        }
        shard.snapshot(SnapshotKind::Changes, &mut state);
        let clock_ms = saved::clock_ms(&state)?;
        Ok(Standing { partition, end, start, taken: end - from, clock_ms, state })
    }

    /// What the shard is built from, the first event it takes in, and one past the last.
    fn begin(&self, partition: u32) -> Result<(Start, u64, u64, SavedState), StateError> {
        let kept = self.log.range(Topic::Events, partition)?.start;
        let end = self.as_of.end(self.log, Topic::Events, partition)?;
        let id = ShardId { stage: Stage::Conversations, partition };
        let within = |_| OffsetRange { start: kept, end };
        let nearest = self.checkpoints.and_then(|checkpoints| checkpoints.nearest(id, within, self.told));
        // One of a shard that had taken in nothing is the log's beginning.
        let nearest = nearest.filter(|nearest| nearest.state.next_offset(Topic::Events) > 0);
        if let Some(nearest) = nearest {
            let offset = nearest.state.next_offset(Topic::Events);
            let (sequence, written_at_ms) = (nearest.sequence, nearest.written_at_ms);
            return Ok((Start::Checkpoint { sequence, offset, written_at_ms }, offset, end, nearest.state));
        }
        if kept > 0 {
            return Err(StateError::NotKept { partition, kept });
        }
        Ok((Start::Beginning, 0, end, SavedState::default()))
    }

    /// The conversations of all partitions, so many at a time, each given to `each`.
    ///
    /// # Errors
    /// As [`Past::standing`], and those of `each`.
    pub fn all(
        &self,
        threads: usize,
        each: &(dyn Fn(Standing) -> Result<(), StateError> + Sync),
    ) -> Result<(), StateError> {
        let partitions: Mutex<VecDeque<u32>> = Mutex::new((0..self.partitions().conversations).collect());
        let next = || partitions.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || {
            while let Some(partition) = next() {
                if let Err(error) = self.standing(partition).and_then(each) {
                    // The others need not begin anything more.
                    partitions.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Err(error);
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }
}

/// As much as a shard takes in at a time; empty at the end.
pub(crate) fn take_batch(events: &mut Scan<'_>) -> Result<Vec<tidings_ingest::StoredRecord>, ScanError> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < SHARD_BATCH_RECORDS_MAX && bytes < SHARD_TURN_BYTES_MAX {
        let Some(record) = events.next().transpose()? else { break };
        bytes += record.value.len();
        batch.push(record);
    }
    Ok(batch)
}

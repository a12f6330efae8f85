//! A history taken through the production stages.
//!
//! The events of all partitions are taken in the order of their times (of the same time: of their partitions), so that the
//! order in which the partitions' fan-out meets at the recipients is a function of the events alone: the recorded one is
//! what it happened to be, and would be another under other rules. Everything of a turn is given out, then forgotten.

use std::collections::{HashMap, VecDeque};

use tidings_dataflow::{
    host::HostConfig,
    shard::{SavedState, ShardId, Stage},
    solo::SoloShard,
};
use tidings_ingest::{Log, NewRecord, StoredRecord};
use tidings_schemas::{limits::DERIVE_TURN_EVENTS_MAX, topics::Topic};

use super::{Derived, DiffError};
use crate::{
    derived::{EVENTS_SOURCE, SOURCE, source},
    scan::Scan,
};

/// One partition of `events` and its shard.
struct Source<'a> {
    partition: u32,
    scan: Scan<'a>,
    shard: SoloShard,
    /// What was derived and not yet given out.
    ready: VecDeque<Derived>,
    has_ended: bool,
}

/// One partition of `fanout`, numbered as it is derived.
struct Sink {
    shard: SoloShard,
    next_offset: u64,
    pending: Vec<StoredRecord>,
}

/// A history on its way through the stages. Stays on the thread that built it.
pub struct Derivation<'a> {
    sources: Vec<Source<'a>>,
    sinks: Vec<Sink>,
}

impl<'a> Derivation<'a> {
    /// The events of each partition before `ends`, under these settings.
    ///
    /// # Errors
    /// The log cannot be read; retention has dropped a partition's beginning.
    pub fn new(log: &'a dyn Log, config: &HostConfig, ends: &[u64]) -> Result<Self, DiffError> {
        let counts = log.partition_counts();
        let build =
            |stage, partition| SoloShard::build(ShardId { stage, partition }, config, counts, &SavedState::default());
        let mut sources = Vec::new();
        for (partition, end) in (0..counts.conversations).zip(ends) {
            let kept = log.range(Topic::Events, partition)?.start;
            if kept > 0 {
                return Err(DiffError::NotKept { partition, kept });
            }
            sources.push(Source {
                partition,
                scan: Scan::new(log, Topic::Events, partition, 0..*end)?,
                shard: build(Stage::Conversations, partition)?,
                ready: VecDeque::new(),
                has_ended: false,
            });
        }
        let sink = |partition| {
            Ok::<_, DiffError>(Sink {
                shard: build(Stage::Recipients, partition)?,
                next_offset: 0,
                pending: Vec::new(),
            })
        };
        let sinks = (0..counts.recipients).map(sink).collect::<Result<_, _>>()?;
        Ok(Self { sources, sinks })
    }

    /// What follows from the next events, in their order; empty at the end.
    ///
    /// # Errors
    /// The log cannot be read; a stage cannot go on.
    pub fn turn(&mut self) -> Result<Vec<Derived>, DiffError> {
        let mut turn: Vec<Derived> = Vec::new();
        while turn.len() < DERIVE_TURN_EVENTS_MAX {
            for source in &mut self.sources {
                source.fill()?;
            }
            let earliest = self.sources.iter_mut().filter(|source| !source.ready.is_empty()).min_by_key(|source| {
                (source.ready.front().map_or(i64::MAX, |derived| derived.timestamp_ms), source.partition)
            });
            let Some(derived) = earliest.and_then(|source| source.ready.pop_front()) else { break };
            turn.push(derived);
        }
        self.recipients(&mut turn)?;
        Ok(turn)
    }

    /// Takes the fan-out of the events through the recipients stage, and adds the inbox records to their events.
    fn recipients(&mut self, turn: &mut [Derived]) -> Result<(), DiffError> {
        for derived in turn.iter() {
            for record in derived.records.iter().filter(|record| record.topic == Topic::Fanout) {
                let Some(sink) = self.sinks.get_mut(record.partition as usize) else { continue };
                let NewRecord { key, value, .. } = record.clone();
                let (offset, timestamp_ms) = (sink.next_offset, derived.timestamp_ms);
                sink.pending.push(StoredRecord { offset, timestamp_ms, key, value });
                sink.next_offset += 1;
            }
        }
        let places: HashMap<(u32, u64), usize> =
            turn.iter().enumerate().map(|(at, derived)| ((derived.partition, derived.offset), at)).collect();
        for sink in &mut self.sinks {
            if sink.pending.is_empty() {
                continue;
            }
            let mut out = Vec::new();
            sink.shard.take(Topic::Fanout, std::mem::take(&mut sink.pending), &mut out)?;
            for record in out.into_iter().filter(|record| record.topic == Topic::Inbox) {
                let event = source(&record.value, EVENTS_SOURCE).map(|event| (event.partition, event.offset));
                // All of a turn's fan-out goes back to its events.
                if let Some(derived) = event.and_then(|event| turn.get_mut(*places.get(&event)?)) {
                    derived.records.push(record);
                }
            }
        }
        Ok(())
    }
}

impl Source<'_> {
    /// Derives more, if nothing waits.
    fn fill(&mut self) -> Result<(), DiffError> {
        if !self.ready.is_empty() || self.has_ended {
            return Ok(());
        }
        let batch: Vec<StoredRecord> = self.scan.by_ref().take(DERIVE_TURN_EVENTS_MAX).collect::<Result<_, _>>()?;
        let Some(first) = batch.first().map(|record| record.offset) else {
            self.has_ended = true;
            return Ok(());
        };
        let partition = self.partition;
        self.ready.extend(batch.iter().map(|record| Derived {
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            records: Vec::new(),
        }));
        let mut out = Vec::new();
        self.shard.take(Topic::Events, batch, &mut out)?;
        for record in out.into_iter().filter(|record| matches!(record.topic, Topic::Timeline | Topic::Fanout)) {
            // What the stage makes names its source.
            let at = source(&record.value, SOURCE).and_then(|source| source.offset.checked_sub(first));
            let at = at.and_then(|at| usize::try_from(at).ok());
            if let Some(derived) = at.and_then(|at| self.ready.get_mut(at)) {
                derived.records.push(record);
            }
        }
        Ok(())
    }
}

//! The users of one `signals` partition as they were: who was online, and when each was seen last. Signals are kept for a
//! short while only, so what is known begins somewhere.

use tidings_dataflow::{
    recipients::saved::{self, SavedUser},
    shard::{InputPosition, SavedState, ShardId, SnapshotKind, Stage},
    solo::SoloShard,
};
use tidings_ingest::OffsetRange;
use tidings_schemas::topics::Topic;

use super::{
    Past, StateError, Told,
    standing::{Start, take_batch},
};
use crate::scan::Scan;

/// A shard of the recipients stage as it stood, as far as presence goes.
#[derive(Debug)]
pub struct Present {
    /// Which partition of `signals`.
    pub partition: u32,
    /// One past the last record that had been appended.
    pub end: u64,
    /// What it was built from; `Beginning`: the oldest signals that are kept.
    pub start: Start,
    /// When the oldest signal was appended that was taken in, in milliseconds since the Unix epoch. `None`: there was none.
    pub signals_from_ms: Option<i64>,
    /// The shard's clock, in milliseconds since the Unix epoch: when an edge was heard last. `None`: never.
    pub clock_ms: Option<i64>,
    /// Whether everybody is known who was online. If not, who gave no sign of life since the oldest signal that is kept is
    /// missing.
    pub is_complete: bool,
    /// Its rows.
    state: SavedState,
}

impl Present {
    /// A user, if the shard has met the user.
    ///
    /// # Errors
    /// The row cannot be read.
    pub fn user(&self, id: tidings_schemas::ids::UserId) -> Result<Option<SavedUser>, StateError> {
        Ok(saved::user(&self.state, id)?)
    }

    /// Those who were online, in no order.
    pub fn online(&self) -> impl Iterator<Item = Result<SavedUser, StateError>> {
        let is_online = |user: &SavedUser| user.online.as_ref().is_some_and(|online| online.is_online);
        saved::users(&self.state)
            .map(|user| user.map_err(Into::into))
            .filter(move |user| user.as_ref().map_or(true, is_online))
    }
}

impl Past<'_> {
    /// The users of a partition, from the nearest checkpoint and from the signals that are kept.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn present(&self, partition: u32) -> Result<Present, StateError> {
        let kept = self.log.range(Topic::Signals, partition)?;
        let end = self.as_of.end(self.log, Topic::Signals, partition)?;
        let id = ShardId { stage: Stage::Recipients, partition };
        // How far it has taken in the fan-out makes no difference to presence.
        let within = |topic| match topic {
            Topic::Signals => OffsetRange { start: kept.start, end },
            _ => OffsetRange { start: 0, end: u64::MAX },
        };
        let nearest = self.checkpoints.and_then(|checkpoints| checkpoints.nearest(id, within, self.told));
        let nearest = nearest.filter(|nearest| nearest.state.next_offset(Topic::Signals) > 0);
        let (start, from, mut state) = match nearest {
            Some(nearest) => {
                let offset = nearest.state.next_offset(Topic::Signals);
                let (sequence, written_at_ms) = (nearest.sequence, nearest.written_at_ms);
                (Start::Checkpoint { sequence, offset, written_at_ms }, offset, nearest.state)
            }
            None => {
                let positions = vec![InputPosition { topic: Topic::Signals, next_offset: kept.start }];
                (Start::Beginning, kept.start, SavedState { positions, ..SavedState::default() })
            }
        };
        (self.told)(Told::Expect(end.saturating_sub(from)));
        let mut shard = SoloShard::build(id, self.config, self.partitions(), &state)?;
        let mut signals = Scan::new(self.log, Topic::Signals, partition, from..end)?;
        let mut signals_from_ms = None;
        loop {
            let batch = take_batch(&mut signals)?;
            let Some(first) = batch.first() else { break };
            signals_from_ms = signals_from_ms.or(Some(first.timestamp_ms));
            (self.told)(Told::Took(batch.len() as u64));
            // Whom it would tell does not matter.
            shard.take(Topic::Signals, batch, &mut Vec::new())?;
        }
        shard.snapshot(SnapshotKind::Changes, &mut state);
        let clock_ms = saved::clock_ms(&state)?;
        // Who is online gives a sign of life within the time-out: after that long, everybody is known.
        let heard_for_ms = clock_ms.zip(signals_from_ms).map(|(clock_ms, from_ms)| clock_ms.saturating_sub(from_ms));
        let is_complete = kept.start == 0
            || matches!(start, Start::Checkpoint { .. })
            || heard_for_ms.is_some_and(|heard_for_ms| heard_for_ms > self.config.recipients.timeout_ms());
        Ok(Present { partition, end, start, signals_from_ms, clock_ms, is_complete, state })
    }
}

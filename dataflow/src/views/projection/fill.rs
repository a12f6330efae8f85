//! Views filled up to the log's end and no further, by whoever asks for it: for views that are built anew.

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::registry::Registry;
use tidings_ingest::{Log, LogError, LogExt as _};
use tidings_schemas::{
    limits::{SCAN_PATIENCE, SCAN_REOPEN_AFTER},
    topics::Topic,
    views::{Position, ViewStore},
};
use tokio::time::timeout;

use super::{
    ProjectionConfig, all_partitions,
    input::{Input, InputError, Taken},
    needs::Cache,
    worker::{Signal, Worker},
};
use crate::assignment::{Assignment, Partitions};

/// Why the views cannot be filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The views or the log.
    #[error(transparent)]
    Input(#[from] InputError),
    /// What follows is on the log, and does not come.
    #[error("nothing has come of {} partition {partition} for {} s, and there is more", topic.name(), SCAN_PATIENCE.as_secs())]
    Silent {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
    },
}

impl From<LogError> for FillError {
    fn from(error: LogError) -> Self {
        Self::Input(error.into())
    }
}

/// The projection of all partitions, step by step. Nobody else may apply to the same views.
pub struct Filler {
    worker: Worker,
    signal: Arc<Signal>,
    inputs: Vec<Input>,
    cache: Cache,
    first: usize,
    /// Records that were taken in.
    taken: u64,
    _assignment: Assignment,
}

impl Filler {
    /// Begins where the views are.
    ///
    /// # Errors
    /// The log or the views cannot be read, or these are of another log.
    pub async fn open(
        config: &ProjectionConfig,
        log: Arc<dyn Log>,
        views: Arc<dyn ViewStore>,
    ) -> Result<Self, FillError> {
        let signal = Arc::default();
        let partitions: Partitions = all_partitions(&*log);
        // What is counted here is nobody's: these views are not in use.
        let mut registry = Registry::default();
        let (worker, assignment) = super::worker(config, partitions.clone(), log, views, &signal, &mut registry);
        let inputs = worker.open(&partitions).await?;
        let cache = Cache::new(config.rows_cached_max);
        Ok(Self { worker, signal, inputs, cache, first: 0, taken: 0, _assignment: assignment })
    }

    /// Takes in all that is on the log now. `progress` is told of each batch's records.
    ///
    /// # Errors
    /// The log or the views cannot be read or written.
    pub async fn to_end(&mut self, progress: &(dyn Fn(u64) + Sync)) -> Result<(), FillError> {
        let mut ends = BTreeMap::new();
        for input in &self.inputs {
            let range = self.worker.log.range_now(input.topic, input.partition).await?;
            ends.insert((input.topic, input.partition), range.end);
        }
        let mut waited = std::time::Duration::ZERO;
        while let Some((topic, partition)) = self.behind(&ends) {
            let mut steps = Vec::new();
            let taken = self.worker.gather(&mut self.inputs, self.first, &mut steps)?;
            self.first = (self.first + 1) % self.inputs.len().max(1);
            if taken == Taken::Nothing {
                if waited >= SCAN_PATIENCE {
                    return Err(FillError::Silent { topic, partition });
                }
                // Woken or not: it is looked again.
                if timeout(SCAN_REOPEN_AFTER, self.signal.woken.notified()).await.is_err() {
                    waited += SCAN_REOPEN_AFTER;
                }
                continue;
            }
            waited = std::time::Duration::ZERO;
            let moves = self.inputs.iter().flat_map(Input::moves).collect();
            self.worker.apply(steps, moves, &mut self.cache).await?;
            self.inputs.iter_mut().for_each(Input::applied);
            let before = self.taken;
            self.taken = self.inputs.iter().map(Input::next_offset).sum();
            progress(self.taken.saturating_sub(before));
        }
        Ok(self.worker.confirm(&self.inputs, true).await?)
    }

    fn behind(&self, ends: &BTreeMap<(Topic, u32), u64>) -> Option<(Topic, u32)> {
        let is_behind =
            |input: &&Input| ends.get(&(input.topic, input.partition)).is_some_and(|end| input.next_offset() < *end);
        self.inputs.iter().find(is_behind).map(|input| (input.topic, input.partition))
    }

    /// Where the views are.
    pub fn positions(&self) -> Vec<Position> {
        self.inputs.iter().flat_map(Input::positions).collect()
    }
}

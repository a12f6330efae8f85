//! A host without threads, for simulations (feature `simulation`): whoever drives it gives its one worker each step.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tidings_ingest::{Log, Wake};
use tidings_schemas::clock::Clock;

use super::{
    Context, HostConfig, Ownership, context,
    wake::Waker,
    worker::{Next, Worker},
};
use crate::{checkpoints::CheckpointStore, shard::ShardId};

/// See the module. Dropping it is a crash: nothing more is said to anybody.
pub struct LocalHost {
    context: Arc<Context>,
    worker: Worker,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalStep {
    /// Another step.
    Again,
    /// Nothing until the host is woken, or until then by its clock's monotonic time.
    Sleep(Option<Duration>),
    /// Nothing any more: it was told to stop, and all shards are closed.
    End,
}

impl LocalHost {
    /// A host with these shards. `wake` is called when it is not to sleep any more. Checkpoints are written by tasks of
    /// the running tokio runtime.
    pub fn new(
        config: HostConfig,
        owned: &BTreeSet<ShardId>,
        log: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
        checkpoints: Option<CheckpointStore>,
        wake: Wake,
        registry: &mut Registry,
    ) -> Self {
        let checkpoints = checkpoints.map(|store| (store, tokio::runtime::Handle::current()));
        let waker = Arc::new(Waker::default());
        waker.adopt_task(wake);
        let context = context(config, owned, log, clock, checkpoints, vec![Arc::clone(&waker)], registry);
        Self { worker: Worker::new(Arc::clone(&context), 0, waker), context }
    }

    /// Which shards run here, to be changed.
    pub fn ownership(&self) -> Ownership {
        Ownership(Arc::clone(&self.context.assignments))
    }

    /// Asks it to give all shards up in order and end.
    pub fn stop(&self) {
        self.context.stop();
    }

    /// Gives each shard its turn.
    ///
    /// # Errors
    /// Why the host has failed for good.
    pub fn step(&mut self) -> Result<LocalStep, String> {
        match self.worker.step() {
            Ok(Next::Step) => Ok(LocalStep::Again),
            Ok(Next::Sleep(until)) => Ok(LocalStep::Sleep(until)),
            Ok(Next::End) => Ok(LocalStep::End),
            Err(error) => Err(error.to_string()),
        }
    }
}

//! A worker thread: runs its shards in turn, and sleeps until the log wakes it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tidings_ingest::{AppendError, LogError};
use tidings_schemas::topics::Topic;
use timely::{
    communication::allocator::{Allocator, Thread},
    worker::{Config, Worker as TimelyWorker},
};
use tokio::sync::mpsc;

use super::{Context, hosted::Hosted, opening, wake::Waker};
use crate::{
    checkpoints::CheckpointError,
    shard::{ShardId, StageError},
};

/// How long a worker that stops waits for its last appends.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("{shard} cannot read {}: {error}", topic.name())]
    Read { shard: ShardId, topic: Topic, error: LogError },
    #[error("{shard} cannot append what it made: {error}")]
    Append { shard: ShardId, error: AppendError },
    #[error("{shard} cannot list its checkpoints: {error}")]
    Checkpoints { shard: ShardId, error: CheckpointError },
}

/// A worker and its shards, before it starts.
pub(super) struct Worker {
    context: Arc<Context>,
    waker: Arc<Waker>,
    shards: Vec<ShardId>,
}

/// Runs the worker on this thread until it is told to stop; a failure and a panic are reported.
pub(super) fn run_guarded(worker: Worker, failed: &mpsc::Sender<String>) {
    let failure = match catch_unwind(AssertUnwindSafe(|| worker.run())) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("a dataflow worker panicked: {}", panic_text(&*panic)),
    };
    tracing::error!(%failure, "a dataflow worker ended");
    // There is room for one of each worker; if nobody listens any more the process is ending anyway.
    let _ = failed.try_send(failure);
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

impl Worker {
    pub(super) fn new(context: Arc<Context>, waker: Arc<Waker>, shards: Vec<ShardId>) -> Self {
        Self { context, waker, shards }
    }

    fn run(self) -> Result<(), WorkerError> {
        self.waker.adopt_current_thread();
        // An instance of its own: an exchange across threads would tie shards together.
        let mut timely = TimelyWorker::new(Config::default(), Allocator::Thread(Thread::default()), None);
        let mut hosted = Vec::new();
        for id in &self.shards {
            hosted.push(opening::open(&self.context, &self.waker, &mut timely, *id)?);
        }
        while !self.context.is_stopping() {
            // Cleared before the look, so that what comes after it is not slept through.
            self.waker.clear();
            let mut progressed = false;
            for shard in &mut hosted {
                progressed |= shard.turn(&mut timely, &self.context)?;
                shard.step(&self.context, self.context.clock.monotonic())?;
            }
            if !progressed {
                self.sleep(hosted.iter().filter_map(Hosted::due).min());
            }
        }
        self.settle(&mut hosted)?;
        for shard in hosted {
            shard.close(&mut timely, &self.context);
        }
        Ok(())
    }

    /// Waits, for a while, until what the shards gave out is durable.
    fn settle(&self, hosted: &mut [Hosted]) -> Result<(), WorkerError> {
        let patience_ends = self.context.clock.monotonic() + STOP_PATIENCE;
        loop {
            self.waker.clear();
            let now = self.context.clock.monotonic();
            for shard in &mut *hosted {
                shard.step(&self.context, now)?;
            }
            // Each is asked, not only until one is not: each then wakes the worker when it is.
            let unsettled = hosted.iter().filter(|shard| !shard.is_settled()).count();
            if unsettled == 0 || now >= patience_ends {
                return Ok(());
            }
            self.sleep(hosted.iter().filter_map(Hosted::due).chain([patience_ends]).min());
        }
    }

    fn sleep(&self, until: Option<Duration>) {
        self.waker.sleep(until.map(|until| until.saturating_sub(self.context.clock.monotonic())));
    }
}

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

use super::{
    Context,
    assignments::Wish,
    hosted::{Closing, Hosted},
    opening::Opening,
    wake::Waker,
};
use crate::{
    checkpoints::CheckpointError,
    shard::{ShardId, StageError},
};

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("{shard} cannot read {}: {error}", topic.name())]
    Read { shard: ShardId, topic: Topic, error: LogError },
    #[error("{shard} cannot append what it made: {error}")]
    Append { shard: ShardId, error: AppendError },
    #[error("{shard} cannot use its checkpoints: {error}")]
    Checkpoints { shard: ShardId, error: CheckpointError },
}

impl WorkerError {
    /// Whether the same can succeed later.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Stage(_) => false,
            Self::Read { error, .. } => error.is_retryable(),
            Self::Append { error, .. } => error.is_retryable(),
            Self::Checkpoints { error, .. } => error.is_retryable(),
        }
    }
}

/// Runs a worker on this thread until it is told to stop; a failure and a panic are reported.
pub(super) fn run_guarded(context: &Arc<Context>, number: usize, waker: Arc<Waker>, failed: &mpsc::Sender<String>) {
    let run = AssertUnwindSafe(|| Worker::new(Arc::clone(context), number, waker).run());
    let ended = catch_unwind(run);
    context.assignments.worker_ended(number);
    let failure = match ended {
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

/// A worker and its shards.
pub(super) struct Worker {
    context: Arc<Context>,
    number: usize,
    waker: Arc<Waker>,
    timely: TimelyWorker,
    shards: Vec<(ShardId, Phase)>,
}

/// Where a shard is between its opening and its end.
enum Phase {
    Opening(Box<Opening>),
    Running(Box<Hosted>),
    Closing(Box<Closing>),
}

/// What a worker has to do next.
pub(super) enum Next {
    /// Another step.
    Step,
    /// Nothing until it is woken, or until then.
    Sleep(Option<Duration>),
    /// Nothing any more: it was told to stop, and all shards are closed.
    End,
}

impl Worker {
    /// A worker of this thread, without shards.
    pub(super) fn new(context: Arc<Context>, number: usize, waker: Arc<Waker>) -> Self {
        // An instance of its own: an exchange across threads would tie shards together.
        let timely = TimelyWorker::new(Config::default(), Allocator::Thread(Thread::default()), None);
        Self { context, number, waker, timely, shards: Vec::new() }
    }

    fn run(mut self) -> Result<(), WorkerError> {
        self.waker.adopt_current_thread();
        loop {
            match self.step()? {
                Next::Step => {}
                Next::Sleep(until) => {
                    self.waker.sleep(until.map(|until| until.saturating_sub(self.context.clock.monotonic())));
                }
                Next::End => return Ok(()),
            }
        }
    }

    /// Gives each shard its turn.
    pub(super) fn step(&mut self) -> Result<Next, WorkerError> {
        // Cleared before the look, so that what comes after it is not slept through.
        self.waker.clear();
        let is_stopping = self.context.is_stopping();
        if is_stopping {
            self.close_all();
        } else if let Some(wishes) = self.context.assignments.wishes(self.number) {
            self.follow(wishes);
        }
        let mut progressed = false;
        let mut place = 0;
        while place < self.shards.len() {
            match self.step_shard(place)? {
                Stepped::Progressed => progressed = true,
                Stepped::Idle => {}
                Stepped::Gone => {
                    let (shard, phase) = self.shards.remove(place);
                    self.end(shard, phase);
                    progressed = true;
                    continue;
                }
            }
            place += 1;
        }
        if progressed {
            return Ok(Next::Step);
        }
        if is_stopping && self.shards.is_empty() {
            return Ok(Next::End);
        }
        let due = self.shards.iter().filter_map(|(_, phase)| match phase {
            Phase::Opening(opening) => opening.due(),
            Phase::Running(hosted) => hosted.due(),
            Phase::Closing(closing) => Some(closing.due()),
        });
        Ok(Next::Sleep(due.min()))
    }

    fn step_shard(&mut self, place: usize) -> Result<Stepped, WorkerError> {
        let Self { context, waker, timely, shards, .. } = self;
        let (_, phase) = &mut shards[place];
        match phase {
            Phase::Opening(opening) => match opening.step(context, waker, timely)? {
                Some(hosted) => {
                    *phase = Phase::Running(Box::new(hosted));
                    Ok(Stepped::Progressed)
                }
                None => Ok(Stepped::Idle),
            },
            Phase::Running(hosted) => {
                let progressed = hosted.turn(timely, context)?;
                hosted.step(context, context.clock.monotonic())?;
                Ok(if progressed { Stepped::Progressed } else { Stepped::Idle })
            }
            Phase::Closing(closing) => {
                let has_ended = closing.step(context, context.clock.monotonic())?;
                Ok(if has_ended { Stepped::Gone } else { Stepped::Idle })
            }
        }
    }

    /// Begins and ends shards as is wished.
    fn follow(&mut self, wishes: Vec<(ShardId, Wish)>) {
        for (shard, wish) in wishes {
            let place = self.shards.iter().position(|(here, _)| *here == shard);
            match (wish, place) {
                (Wish::Run, None) => {
                    self.shards.push((shard, Phase::Opening(Box::new(Opening::new(shard, &self.context)))));
                }
                // One that is being closed runs again when it is.
                (Wish::Run, Some(_)) => {}
                (Wish::Release { .. } | Wish::Drop, None) => self.context.assignments.given_up(shard),
                (Wish::Release { .. }, Some(place)) => {
                    let (_, phase) = self.shards.swap_remove(place);
                    self.close(shard, phase);
                }
                (Wish::Drop, Some(place)) => {
                    let (_, phase) = self.shards.swap_remove(place);
                    self.end(shard, phase);
                }
            }
        }
    }

    fn close_all(&mut self) {
        for (shard, phase) in std::mem::take(&mut self.shards) {
            self.close(shard, phase);
        }
    }

    /// Begins to give a shard up in order, if there is anything to put in order.
    fn close(&mut self, shard: ShardId, phase: Phase) {
        match phase {
            Phase::Running(hosted) => {
                let closing = Closing::new(*hosted, self.context.clock.monotonic());
                self.shards.push((shard, Phase::Closing(Box::new(closing))));
            }
            Phase::Closing(_) => self.shards.push((shard, phase)),
            Phase::Opening(_) => self.end(shard, phase),
        }
    }

    fn end(&mut self, shard: ShardId, phase: Phase) {
        match phase {
            Phase::Opening(_) => {}
            Phase::Running(hosted) => hosted.drop_now(&mut self.timely),
            Phase::Closing(closing) => closing.drop_now(&mut self.timely),
        }
        tracing::info!(%shard, "shard closed");
        self.context.assignments.given_up(shard);
    }
}

/// What came of a shard's turn.
enum Stepped {
    Progressed,
    Idle,
    Gone,
}

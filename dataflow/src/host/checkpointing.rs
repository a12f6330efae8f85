//! When a shard is checkpointed, and what becomes of it.
//!
//! The worker takes a snapshot (what changed: a short pause), holds it until all that follows from it is durable, and
//! hands it to a task that writes it. One is under way at a time; meanwhile changes add up in the shard.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tidings_schemas::{
    clock::Clock,
    limits::{CHECKPOINT_SILENT_INTERVALS, SHARD_LAST_CHECKPOINT_PATIENCE},
};
use tokio::sync::{mpsc, watch};

use super::{metrics::Metrics, output::Output, wake::Waker};
use crate::{
    checkpoints::{CheckpointError, CheckpointWriter, PartWriter, Snapshot},
    shard::{InputPosition, Shard, ShardId, SnapshotKind},
};

const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);

const IDLE: u8 = 0;
const WRITING: u8 = 1;
/// What the store holds can no longer be added to: the next snapshot must be a full one.
const LOST: u8 = 2;
/// The task has written all that it was given, and no more comes.
const ENDED: u8 = 3;

/// The checkpoints of one hosted shard.
pub(super) struct Checkpointing {
    interval: Duration,
    due: Duration,
    /// Where the newest snapshot stands.
    taken: Vec<InputPosition>,
    /// A snapshot that waits until what follows from it is durable.
    held: Option<Snapshot>,
    state: Arc<AtomicU8>,
    to_task: mpsc::Sender<Snapshot>,
    /// Dropped or told: what fails is not tried again.
    stopping: watch::Sender<bool>,
}

/// A last checkpoint that is being written.
pub(super) struct Ending {
    state: Arc<AtomicU8>,
    patience_ends: Duration,
    shard: ShardId,
    /// Kept until the end, so that the task is told nothing that it does not know.
    _stopping: watch::Sender<bool>,
}

impl Ending {
    /// Whether it has ended, or been waited for long enough.
    pub(super) fn has_ended(&self, now: Duration) -> bool {
        if self.state.load(Ordering::Acquire) == ENDED {
            return true;
        }
        if now >= self.patience_ends {
            let shard = self.shard;
            tracing::warn!(%shard, "the last checkpoint was not written in time: the next start reads more of the log");
            return true;
        }
        false
    }

    /// When it has been waited for long enough. Its end wakes the worker.
    pub(super) fn due(&self) -> Duration {
        self.patience_ends
    }
}

impl Checkpointing {
    /// Begins with the shard as it was built, which stands at these positions.
    pub(super) fn new(
        (runtime, clock, metrics, waker): (&tokio::runtime::Handle, &Arc<dyn Clock>, &Arc<Metrics>, &Arc<Waker>),
        shard: ShardId,
        writer: CheckpointWriter,
        interval: Duration,
        taken: Vec<InputPosition>,
    ) -> Self {
        let (to_task, snapshots) = mpsc::channel(2);
        let state = Arc::new(AtomicU8::new(if writer.is_owner() { IDLE } else { LOST }));
        let (stopping, is_stopping) = watch::channel(false);
        let writing = Writing {
            shard,
            writer,
            state: Arc::clone(&state),
            stopping: is_stopping,
            silence: interval * CHECKPOINT_SILENT_INTERVALS,
            clock: Arc::clone(clock),
            metrics: Arc::clone(metrics),
            waker: Arc::clone(waker),
        };
        runtime.spawn(writing.run(snapshots));
        let due = clock.monotonic() + interval;
        Self { interval, due, taken, held: None, state, to_task, stopping }
    }

    /// When something is to be done next: never while a snapshot is on its way, since its end wakes the worker.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.held.is_none() && self.state.load(Ordering::Acquire) != WRITING).then_some(self.due)
    }

    /// Takes a snapshot if one is due, and hands on one whose outputs have become durable.
    pub(super) fn step(&mut self, shard: &mut dyn Shard, output: &Output, clock: &dyn Clock, metrics: &Metrics) {
        let now = clock.monotonic();
        if self.held.is_none() && now >= self.due && self.state.load(Ordering::Acquire) != WRITING {
            self.take(shard, clock, metrics);
            self.due = now + self.interval;
        }
        if let Some(snapshot) = self.held.take_if(|snapshot| output.is_durable(&snapshot.positions)) {
            self.state.store(WRITING, Ordering::Release);
            // There is room: nothing was being written.
            let _ = self.to_task.try_send(snapshot);
        }
    }

    fn take(&mut self, shard: &mut dyn Shard, clock: &dyn Clock, metrics: &Metrics) {
        let lost = self.state.load(Ordering::Acquire) == LOST;
        let positions = shard.positions();
        if positions == self.taken && !lost {
            return;
        }
        let started = clock.monotonic();
        let mut parts = PartWriter::default();
        let kind = if lost { SnapshotKind::Full } else { SnapshotKind::Changes };
        shard.snapshot(kind, &mut parts);
        let took = clock.monotonic().saturating_sub(started);
        let label = [("stage", shard.id().stage.name())];
        metrics.snapshot_seconds.get_or_create(&label).observe(took.as_secs_f64());
        self.taken.clone_from(&positions);
        self.held = Some(Snapshot { positions, parts: parts.finish(), is_full: lost });
    }

    /// Begins to write a last checkpoint of a shard whose outputs are all durable.
    pub(super) fn finish(mut self, shard: &mut dyn Shard, clock: &dyn Clock, metrics: &Metrics) -> Ending {
        let earlier = self.held.take();
        self.take(shard, clock, metrics);
        for snapshot in earlier.into_iter().chain(self.held.take()) {
            // There is room for both besides the one that is being written.
            let _ = self.to_task.try_send(snapshot);
        }
        self.stopping.send_replace(true);
        let patience_ends = clock.monotonic() + SHARD_LAST_CHECKPOINT_PATIENCE;
        Ending { state: self.state, patience_ends, shard: shard.id(), _stopping: self.stopping }
    }
}

/// The task that writes.
struct Writing {
    shard: ShardId,
    writer: CheckpointWriter,
    state: Arc<AtomicU8>,
    stopping: watch::Receiver<bool>,
    /// For so long another owner must have written nothing, before this one writes again.
    silence: Duration,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    waker: Arc<Waker>,
}

impl Writing {
    async fn run(mut self, mut snapshots: mpsc::Receiver<Snapshot>) {
        let mut lost = false;
        while let Some(snapshot) = snapshots.recv().await {
            // Changes to what the store has lost are worth nothing.
            lost = (lost && !snapshot.is_full) || !self.write(&snapshot).await;
            self.state.store(if lost { LOST } else { IDLE }, Ordering::Release);
            self.waker.wake();
        }
        self.state.store(ENDED, Ordering::Release);
        self.waker.wake();
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow() || self.stopping.has_changed().is_err()
    }

    /// Waits, unless the shard ends.
    async fn sleep(&mut self, duration: Duration) {
        // Told or dropped: either ends the wait.
        let _ = tokio::time::timeout(duration, self.stopping.changed()).await;
    }

    /// Waits until the shard's other owner has written nothing for a while.
    async fn wait_for_silence(&mut self) {
        while !self.is_stopping() {
            self.sleep(self.silence).await;
            // While the store fails nothing is known.
            if self.writer.is_silent().await.unwrap_or(false) {
                return;
            }
        }
    }

    /// Writes until it is written. False: the store no longer has what the snapshot adds to.
    async fn write(&mut self, snapshot: &Snapshot) -> bool {
        let label = [("stage", self.shard.stage.name())];
        let mut delay = RETRY_DELAY_MIN;
        loop {
            let started = self.clock.monotonic();
            match self.writer.write(snapshot).await {
                Ok(written) => {
                    let took = self.clock.monotonic().saturating_sub(started);
                    self.metrics.checkpoint_seconds.get_or_create(&label).observe(took.as_secs_f64());
                    self.metrics.checkpoint_bytes.get_or_create(&label).inc_by(written.bytes);
                    let now_ms = self.clock.now_ms();
                    self.metrics.checkpoint_written_at_seconds.get_or_create(&label).set(now_ms / 1_000);
                    return true;
                }
                Err(error @ CheckpointError::Superseded { .. }) => {
                    tracing::warn!(shard = %self.shard, %error, "this owner's checkpoints pause until it is silent");
                    self.writer.start_anew();
                    self.wait_for_silence().await;
                    return false;
                }
                Err(error) => {
                    self.metrics.checkpoint_failures.get_or_create(&label).inc();
                    if matches!(error, CheckpointError::Damaged { .. }) {
                        tracing::error!(shard = %self.shard, %error, "a checkpoint cannot be added to: a full one follows");
                        self.writer.start_anew();
                        return false;
                    }
                    tracing::warn!(shard = %self.shard, %error, "a checkpoint cannot be written: tried again");
                    if self.is_stopping() {
                        return false;
                    }
                    self.sleep(delay).await;
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                }
            }
        }
    }
}

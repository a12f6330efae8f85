//! The host: worker threads, each a timely instance of its own, that run the shards of both stages on the log. Which
//! shards, is said from outside, and may change at any time.
//!
//! - `worker`: a thread: runs its shards in turn, and sleeps until the log wakes it (`wake`).
//! - `assignments`: which shards are to run here, and on which worker.
//! - `opening`: takes a shard over and builds it from its newest usable checkpoint; `hosted`: a shard that runs, with its
//!   readers, until it is closed.
//! - `output`: one shard's way back to the log: one append at a time, so that a failed one never lets a later one pass.
//! - `local` (feature `simulation`): a host without threads.
//! - `checkpointing`: when a shard is checkpointed. `backoff`: when what failed is tried again. `metrics`: what is counted.

mod assignments;
mod backoff;
mod checkpointing;
mod hosted;
#[cfg(feature = "simulation")]
pub mod local;
mod metrics;
mod opening;
mod output;
mod wake;
mod worker;

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tidings_ingest::Log;
use tidings_schemas::{
    clock::Clock,
    topics::{Partitions, Topic},
};
use tokio::sync::mpsc;

use self::{assignments::Assignments, metrics::Metrics, wake::Waker};
use crate::{
    checkpoints::{self, CheckpointConfig, CheckpointStore},
    conversations::ConversationsConfig,
    recipients::RecipientsConfig,
    shard::{ShardId, Stage},
};

/// Settings of the host and of both stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Worker threads; a shard goes to the one with the fewest. Never more than the machine has cores to spare: parked
    /// threads that share a core cost milliseconds.
    pub worker_threads: usize,
    /// In a fleet: the shards of these partitions (of `events` and of `fanout`) run here whoever else runs them, and
    /// not those that the group of the dataflow processes deals out: `[0, 1]`. For a fixed deal, where every partition
    /// must be named by some process, and for emergencies. Left out: the group's share.
    pub partitions: Option<BTreeSet<u32>>,
    /// Settings of the conversations stage.
    pub conversations: ConversationsConfig,
    /// Settings of the recipients stage.
    pub recipients: RecipientsConfig,
    /// Settings of the checkpoints.
    pub checkpoints: CheckpointConfig,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            worker_threads: 1,
            partitions: None,
            conversations: ConversationsConfig::default(),
            recipients: RecipientsConfig::default(),
            checkpoints: CheckpointConfig::default(),
        }
    }
}

/// What every worker thread works with.
pub(crate) struct Context {
    pub(crate) config: HostConfig,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) partitions: Partitions,
    pub(crate) metrics: Arc<Metrics>,
    /// Where checkpoints are, and what writes them. Without: every start reads the log from its beginning.
    pub(crate) checkpoints: Option<(CheckpointStore, tokio::runtime::Handle)>,
    assignments: Arc<Assignments>,
    stopping: AtomicBool,
}

impl Context {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.assignments.wake_all();
    }
}

/// The running host. Dropping it asks the workers to stop; [`Handle::shutdown`] also waits.
pub struct Handle {
    context: Arc<Context>,
    threads: Vec<JoinHandle<()>>,
    failures: mpsc::Receiver<String>,
}

/// All shards of both stages on this log.
pub fn all_shards(log: &dyn Log) -> BTreeSet<ShardId> {
    let shards = |stage, topic| (0..log.partitions(topic)).map(move |partition| ShardId { stage, partition });
    shards(Stage::Conversations, Topic::Events).chain(shards(Stage::Recipients, Topic::Fanout)).collect()
}

/// Starts the workers with these shards. Checkpoints are read and written in the running tokio runtime.
///
/// # Errors
/// When a thread cannot be started, or the store of the checkpoints not be opened.
pub fn start(
    config: HostConfig,
    owned: &BTreeSet<ShardId>,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    registry: &mut Registry,
) -> io::Result<Handle> {
    let worker_count = config.worker_threads.max(1);
    let checkpoints = match checkpoints::open(&config.checkpoints).map_err(io::Error::other)? {
        Some(objects) => {
            let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
            Some((CheckpointStore::new(objects, log.log_id()), runtime))
        }
        None => None,
    };
    let wakers: Vec<Arc<Waker>> = (0..worker_count).map(|_| Arc::default()).collect();
    let context = context(config, owned, log, clock, checkpoints, wakers.clone(), registry);
    let (failed, failures) = mpsc::channel(worker_count);
    let mut handle = Handle { context: Arc::clone(&context), threads: Vec::new(), failures };
    for (number, waker) in wakers.into_iter().enumerate() {
        let (context, failed) = (Arc::clone(&context), failed.clone());
        let run = move || worker::run_guarded(&context, number, waker, &failed);
        handle.threads.push(thread::Builder::new().name(format!("dataflow-{number}")).spawn(run)?);
    }
    Ok(handle)
}

/// What the workers, one for each waker, work with.
fn context(
    config: HostConfig,
    owned: &BTreeSet<ShardId>,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    checkpoints: Option<(CheckpointStore, tokio::runtime::Handle)>,
    wakers: Vec<Arc<Waker>>,
    registry: &mut Registry,
) -> Arc<Context> {
    let partitions = log.partition_counts();
    let metrics = Arc::new(Metrics::new(registry));
    let assignments = Arc::new(Assignments::new(wakers));
    assignments.own(owned);
    let stopping = AtomicBool::new(false);
    Arc::new(Context { config, log, clock, partitions, metrics, checkpoints, assignments, stopping })
}

/// Says which shards run here. May be held by whatever follows the ownership of shards.
#[derive(Debug, Clone)]
pub struct Ownership(Arc<Assignments>);

impl Ownership {
    /// From now on exactly these shards run here: new ones are opened from their newest checkpoints, and those that are
    /// gone are dropped without a last word, since they are another's now. Those that are being released go on to their
    /// end, and then run again if they are among these.
    pub fn own(&self, shards: &BTreeSet<ShardId>) {
        self.0.own(shards);
    }

    /// Gives shards up in order: nothing more is taken in, what they gave out becomes durable, a last checkpoint is
    /// written. The future ends when that is so, or after [`SHARD_SETTLE_PATIENCE`] and
    /// [`SHARD_LAST_CHECKPOINT_PATIENCE`] at the latest; the release goes on without it, too.
    ///
    /// [`SHARD_SETTLE_PATIENCE`]: tidings_schemas::limits::SHARD_SETTLE_PATIENCE
    /// [`SHARD_LAST_CHECKPOINT_PATIENCE`]: tidings_schemas::limits::SHARD_LAST_CHECKPOINT_PATIENCE
    pub fn release(&self, shards: BTreeSet<ShardId>) -> impl Future<Output = ()> + Send + use<> {
        self.0.release(shards)
    }

    /// The shards that run here, or are being opened.
    pub fn owned(&self) -> BTreeSet<ShardId> {
        self.0.owned()
    }
}

impl Handle {
    /// Which shards run here, to be changed.
    pub fn ownership(&self) -> Ownership {
        Ownership(Arc::clone(&self.context.assignments))
    }

    /// Waits until a worker fails for good, and says why: its shards are not run any more, so the process must end.
    pub async fn failure(&mut self) -> String {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Gives all shards up in order, and waits for that.
    pub async fn shutdown(mut self) {
        self.stop();
        for thread in std::mem::take(&mut self.threads) {
            // A panic in the thread was reported where it happened.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn stop(&self) {
        self.context.stop();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

//! The host: worker threads, each a timely instance of its own, that run the shards of both stages on the log.
//!
//! - `worker`: a thread: runs its shards in turn, and sleeps until the log wakes it (`wake`).
//! - `hosted`: one shard with its readers; `opening`: builds it from its newest usable checkpoint.
//! - `output`: one shard's way back to the log: one append at a time, so that a failed one never lets a later one pass.
//! - `checkpointing`: when a shard is checkpointed. `metrics`: what is counted.

mod checkpointing;
mod hosted;
mod metrics;
mod opening;
mod output;
mod wake;
mod worker;

use std::{
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

use self::{metrics::Metrics, wake::Waker, worker::Worker};
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
    /// Worker threads; shards are dealt out to them in turn. Never more than the machine has cores to spare: parked
    /// threads that share a core cost milliseconds.
    pub worker_threads: usize,
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
    stopping: AtomicBool,
}

impl Context {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// The running host. Dropping it asks the workers to stop; [`Handle::shutdown`] also waits.
pub struct Handle {
    context: Arc<Context>,
    wakers: Vec<Arc<Waker>>,
    threads: Vec<JoinHandle<()>>,
    failures: mpsc::Receiver<String>,
}

/// Starts the workers with all shards of both stages. Checkpoints are written in the running tokio runtime.
///
/// # Errors
/// When a thread cannot be started, or the folder of the checkpoints not be opened.
pub fn start(
    config: HostConfig,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    registry: &mut Registry,
) -> io::Result<Handle> {
    let partitions = Partitions {
        conversations: log.partitions(Topic::Events),
        recipients: log.partitions(Topic::Fanout),
        edges: log.partitions(Topic::Deliveries),
        directory: log.partitions(Topic::Directory),
    };
    let worker_count = config.worker_threads.max(1);
    let metrics = Arc::new(Metrics::new(registry));
    let checkpoints = match &config.checkpoints.directory {
        Some(directory) => {
            let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
            let objects = checkpoints::open_folder(directory).map_err(io::Error::other)?;
            Some((CheckpointStore::new(objects, log.log_id()), runtime))
        }
        None => None,
    };
    let stopping = AtomicBool::new(false);
    let context = Arc::new(Context { config, log, clock, partitions, metrics, checkpoints, stopping });
    let mut dealt: Vec<Vec<ShardId>> = vec![Vec::new(); worker_count];
    let all = (0..partitions.conversations)
        .map(|partition| ShardId { stage: Stage::Conversations, partition })
        .chain((0..partitions.recipients).map(|partition| ShardId { stage: Stage::Recipients, partition }));
    for (number, shard) in all.enumerate() {
        dealt[number % worker_count].push(shard);
    }
    let (failed, failures) = mpsc::channel(worker_count);
    let mut handle = Handle { context: Arc::clone(&context), wakers: Vec::new(), threads: Vec::new(), failures };
    for (number, shards) in dealt.into_iter().enumerate() {
        let (context, failed) = (Arc::clone(&context), failed.clone());
        let waker = Arc::new(Waker::default());
        handle.wakers.push(Arc::clone(&waker));
        let run = move || worker::run_guarded(Worker::new(context, waker, shards), &failed);
        handle.threads.push(thread::Builder::new().name(format!("dataflow-{number}")).spawn(run)?);
    }
    Ok(handle)
}

impl Handle {
    /// Waits until a worker fails for good, and says why: its shards are not run any more, so the process must end.
    pub async fn failure(&mut self) -> String {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Stops after what is at hand is on the log, and waits for that.
    pub async fn shutdown(mut self) {
        self.stop();
        for thread in std::mem::take(&mut self.threads) {
            // A panic in the thread was reported where it happened.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn stop(&self) {
        self.context.stopping.store(true, Ordering::Release);
        for waker in &self.wakers {
            waker.wake();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

//! The host: worker threads, each a timely instance of its own, that run the shards of both stages on the log.
//!
//! - [`worker`]: a thread: polls its shards' readers, runs them, sleeps until the log wakes it.
//! - [`output`]: one shard's way back to the log: one append at a time, so that a failed one never lets a later one pass.
//! - [`metrics`]: what is counted.

mod metrics;
mod output;
mod worker;

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tidings_ingest::Log;
use tidings_schemas::{
    clock::Clock,
    topics::{Partitions, Topic},
};
use tokio::sync::mpsc;

use self::{metrics::Metrics, worker::Worker};
use crate::{
    conversations::ConversationsConfig,
    recipients::RecipientsConfig,
    shard::{ShardId, Stage},
};

/// Settings of the host and of both stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Worker threads; shards are dealt out to them in turn. Never more than the machine has cores to spare: parked
    /// threads that share a core cost milliseconds.
    pub worker_threads: usize,
    /// Settings of the conversations stage.
    pub conversations: ConversationsConfig,
    /// Settings of the recipients stage.
    pub recipients: RecipientsConfig,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            worker_threads: 1,
            conversations: ConversationsConfig::default(),
            recipients: RecipientsConfig::default(),
        }
    }
}

/// What every worker thread works with.
pub(crate) struct Context {
    pub(crate) config: HostConfig,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) partitions: Partitions,
    pub(crate) metrics: Metrics,
    stopping: AtomicBool,
}

impl Context {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Wakes a worker thread that sleeps. A wake between the thread's last look and its sleep is kept: that is `unpark`'s.
#[derive(Debug, Default)]
pub(crate) struct Waker(OnceLock<Thread>);

impl Waker {
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }

    /// Says which thread to wake: called by the thread itself before its first look.
    pub(crate) fn adopt_current_thread(&self) {
        // Called once; a second call would be the same thread.
        let _ = self.0.set(thread::current());
    }
}

/// The running host. Dropping it asks the workers to stop; [`Handle::shutdown`] also waits.
pub struct Handle {
    context: Arc<Context>,
    wakers: Vec<Arc<Waker>>,
    threads: Vec<JoinHandle<()>>,
    failures: mpsc::Receiver<String>,
}

/// Starts the workers with all shards of both stages.
///
/// # Errors
/// When a thread cannot be started.
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
    let metrics = Metrics::new(registry);
    let context = Arc::new(Context { config, log, clock, partitions, metrics, stopping: AtomicBool::new(false) });
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

//! The projection that writes the views: a plain consumer of `timeline`, `inbox` and `directory`.
//!
//! - [`worker`]: the thread: reads from where the views are, applies, publishes the positions, starts over on a failure.
//! - [`fill`]: the same without a thread, up to the log's end: for views that are built anew.
//! - [`input`]: one partition being read, and the dropping of repeats.
//! - [`frames`]: records and rows whose payloads stay the bytes that they came as.
//! - [`step`]: a record, decoded as far as needed. [`needs`]: the rows that a batch of steps reads.
//! - [`batch`]: folds steps into rows and writes: [`timeline`], [`inbox`], [`directory`].
//! - [`recent`]: the rows that are changed again and again, kept at hand.
//! - [`metrics`]: what is counted.
//!
//! The writes of a batch are a function of the rows in the store and the records, and they go in one `apply` with the
//! positions. So whatever happens in between, going back to the store's own positions is always right: starting and
//! starting over are the same.

mod batch;
mod directory;
mod fill;
mod frames;
mod inbox;
mod input;
mod metrics;
mod needs;
mod recent;
mod step;
mod timeline;
mod worker;

use std::{io, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tidings_ingest::Log;
use tidings_schemas::{
    limits::{VIEW_APPLY_INTERVAL, VIEW_PROJECTION_ROWS_CACHED_MAX},
    views::ViewStore,
};

pub use fill::{FillError, Filler};
pub(super) use input::source_topic;
pub use input::{InputError, TOPICS};
pub use metrics::Metrics;
use worker::{Signal, Worker};

use crate::assignment::{self, Assignment, Partitions};

/// Settings of the views' projection.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectionConfig {
    /// Under load the views are written at most this often, in milliseconds; after a pause, at once.
    pub apply_interval_ms: u64,
    /// Rows that are kept in memory because they change again and again.
    pub rows_cached_max: usize,
}

impl Default for ProjectionConfig {
    fn default() -> Self {
        Self {
            apply_interval_ms: u64::try_from(VIEW_APPLY_INTERVAL.as_millis()).unwrap_or(u64::MAX),
            rows_cached_max: VIEW_PROJECTION_ROWS_CACHED_MAX,
        }
    }
}

/// The running projection. Dropping it asks it to stop; [`Handle::shutdown`] also waits.
pub struct Handle {
    assignment: Assignment,
    signal: Arc<Signal>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Handle {
    /// Stops after the batch at hand, and waits for that.
    pub async fn shutdown(mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported where it happened; there is nothing left to stop.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Which partitions are followed, to be changed.
    pub fn assignment(&self) -> Assignment {
        self.assignment.clone()
    }

    /// Whether everything that was on the log a moment ago is in the views.
    pub fn is_caught_up(&self) -> bool {
        self.signal.is_caught_up()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.signal.stop();
    }
}

/// All partitions that the projection reads, for a process that is alone.
pub fn all_partitions(log: &dyn Log) -> Partitions {
    assignment::all_partitions(log, &TOPICS)
}

/// Starts the projection of these partitions on a thread of its own. Calls of the store run on the given runtime.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    config: &ProjectionConfig,
    partitions: Partitions,
    log: Arc<dyn Log>,
    views: Arc<dyn ViewStore>,
    runtime: tokio::runtime::Handle,
    registry: &mut Registry,
) -> io::Result<Handle> {
    let signal = Arc::new(Signal::default());
    let (worker, assignment) = worker(config, partitions, log, views, &signal, registry);
    let run = move || runtime.block_on(worker.run());
    let thread = std::thread::Builder::new().name("views".to_owned()).spawn(run)?;
    Ok(Handle { assignment, signal, thread: Some(thread) })
}

/// The projection of all partitions as a task of whoever polls it, without a thread: for simulations. It never ends.
#[cfg(feature = "simulation")]
pub fn task(
    config: &ProjectionConfig,
    log: Arc<dyn Log>,
    views: Arc<dyn ViewStore>,
    registry: &mut Registry,
) -> impl Future<Output = ()> + use<> {
    let (worker, assignment) = worker(config, all_partitions(&*log), log, views, &Arc::default(), registry);
    async move {
        worker.run().await;
        drop(assignment);
    }
}

fn worker(
    config: &ProjectionConfig,
    partitions: Partitions,
    log: Arc<dyn Log>,
    views: Arc<dyn ViewStore>,
    signal: &Arc<Signal>,
    registry: &mut Registry,
) -> (Worker, Assignment) {
    let waking = Arc::clone(signal);
    let (assignment, assigned) = assignment::assignment(partitions, Arc::new(move || waking.wake()));
    let worker = Worker {
        log,
        views,
        metrics: Metrics::register(registry),
        signal: Arc::clone(signal),
        assigned,
        apply_interval: Duration::from_millis(config.apply_interval_ms),
        rows_cached_max: config.rows_cached_max,
    };
    (worker, assignment)
}

//! The projection that writes the archive: a plain consumer of `timeline` and `inbox`.
//!
//! - [`worker`]: the thread: goes on from the archive's own progress, cuts batches, inserts them, and tries again for as
//!   long as it takes. The log is the buffer: when the archive is slow or down nothing piles up here, and nothing is lost.
//! - [`feed`]: one partition being read: decodes its records, drops repeats, sets aside what cannot be read.
//! - [`metrics`]: what is counted.

mod feed;
mod metrics;
mod worker;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use prometheus_client::registry::Registry;
use tidings_ingest::Log;
use tidings_schemas::topics::Topic;
use tokio::sync::watch;

use super::store::Archive;
pub use metrics::Metrics;
use worker::Worker;

/// The topics that are archived.
pub const TOPICS: [Topic; 2] = [Topic::Timeline, Topic::Inbox];

/// The running projection. Dropping it asks it to stop; [`Handle::shutdown`] also waits.
pub struct Handle {
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
    log: Arc<dyn Log>,
    positions: Arc<Positions>,
}

/// How far each partition is in the archive, as far as this process knows.
pub(super) struct Positions {
    partitions: Vec<(Topic, u32, AtomicU64)>,
    /// Told of every change.
    moved: watch::Sender<()>,
}

impl Positions {
    fn of(log: &dyn Log) -> Self {
        let partitions = TOPICS.into_iter().flat_map(|topic| (0..log.partitions(topic)).map(move |p| (topic, p)));
        let partitions = partitions.map(|(topic, partition)| (topic, partition, AtomicU64::new(0))).collect();
        Self { partitions, moved: watch::Sender::new(()) }
    }

    pub(super) fn set(&self, topic: Topic, partition: u32, next_offset: u64) {
        if let Some(position) = self.partitions.iter().find(|known| (known.0, known.1) == (topic, partition)) {
            position.2.store(next_offset, Ordering::Release);
            self.moved.send_replace(());
        }
    }

    /// Records of a topic on the log, which ends where `end` says, that are not in the archive.
    pub(super) fn lag(&self, topic: Topic, end: impl Fn(Topic, u32) -> Option<u64>) -> u64 {
        let partitions = self.partitions.iter().filter(|known| known.0 == topic);
        let lag = partitions.map(|(topic, partition, next_offset)| {
            let end = end(*topic, *partition).unwrap_or(0);
            end.saturating_sub(next_offset.load(Ordering::Acquire))
        });
        lag.sum()
    }
}

impl Handle {
    /// Stops, and waits for the insert that is under way. What is not inserted yet is read from the log at the next start.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported where it happened; there is nothing left to stop.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Records on the log that are not in the archive.
    pub fn lag_records(&self) -> u64 {
        let end = |topic, partition| self.log.range(topic, partition).ok().map(|range| range.end);
        TOPICS.into_iter().map(|topic| self.positions.lag(topic, end)).sum()
    }

    /// Waits until everything that is on the log when this is looked at is in the archive.
    pub async fn caught_up(&self) {
        let mut moved = self.positions.moved.subscribe();
        while self.lag_records() > 0 {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }

    /// Everything of the partition below this is in the archive.
    pub fn position(&self, topic: Topic, partition: u32) -> u64 {
        let known = self.positions.partitions.iter().find(|known| (known.0, known.1) == (topic, partition));
        known.map_or(0, |known| known.2.load(Ordering::Acquire))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Starts the projection on a thread of its own. It brings the archive's schema up to date first, and waits, trying
/// again, for an archive that is not there.
///
/// # Errors
/// The thread cannot be started.
pub fn start(log: Arc<dyn Log>, archive: Arc<dyn Archive>, registry: &mut Registry) -> io::Result<Handle> {
    let metrics = Metrics::register(registry);
    let positions = Arc::new(Positions::of(log.as_ref()));
    let (stop, stopped) = watch::channel(false);
    let worker =
        Worker { log: Arc::clone(&log), archive, metrics, positions: Arc::clone(&positions), stopped: stopped.into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = thread::Builder::new().name("archive".to_owned()).spawn(move || runtime.block_on(worker.run()))?;
    Ok(Handle { stop, thread: Some(thread), log, positions })
}

//! The projection that writes the archive: a plain consumer of `timeline`, `inbox` and `signals`.
//!
//! - [`worker`]: the thread: goes on from the archive's own progress, cuts batches, inserts them, and tries again for as
//!   long as it takes. The log is the buffer: when the archive is slow or down nothing piles up here, and nothing is lost.
//! - [`feed`]: one partition being read: decodes its records, drops repeats, sets aside what cannot be read.
//! - [`chores`]: what is done to the archive now and then, beside. [`metrics`]: what is counted.

mod chores;
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
use crate::assignment::{self, Assignment, Partitions};
pub use metrics::Metrics;
use worker::Worker;

/// The topics that are archived.
pub const TOPICS: [Topic; 3] = [Topic::Timeline, Topic::Inbox, Topic::Signals];

/// The running projection. Dropping it asks it to stop; [`Handle::shutdown`] also waits.
pub struct Handle {
    assignment: Assignment,
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

/// The position of a partition that is not followed.
const NOT_FOLLOWED: u64 = u64::MAX;

impl Positions {
    fn of(log: &dyn Log, followed: &Partitions) -> Self {
        let all = all_partitions(log).into_iter();
        let partitions = all.map(|(topic, partition)| (topic, partition, AtomicU64::new(NOT_FOLLOWED))).collect();
        let positions = Self { partitions, moved: watch::Sender::new(()) };
        positions.follow(followed);
        positions
    }

    /// From now on these are followed, from where is not known yet.
    pub(super) fn follow(&self, followed: &Partitions) {
        for (topic, partition, position) in &self.partitions {
            let next_offset = if followed.contains(&(*topic, *partition)) { 0 } else { NOT_FOLLOWED };
            position.store(next_offset, Ordering::Release);
        }
        self.moved.send_replace(());
    }

    pub(super) fn set(&self, topic: Topic, partition: u32, next_offset: u64) {
        if let Some(position) = self.partitions.iter().find(|known| (known.0, known.1) == (topic, partition)) {
            position.2.store(next_offset, Ordering::Release);
            self.moved.send_replace(());
        }
    }

    /// Records of a topic on the log, which ends where `end` says, in the partitions that are followed, that are not in the
    /// archive.
    pub(super) fn lag(&self, topic: Topic, end: impl Fn(Topic, u32) -> Option<u64>) -> u64 {
        let partitions = self.partitions.iter().filter(|known| known.0 == topic);
        let lag = partitions.map(|(topic, partition, next_offset)| match next_offset.load(Ordering::Acquire) {
            NOT_FOLLOWED => 0,
            next_offset => end(*topic, *partition).unwrap_or(0).saturating_sub(next_offset),
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

    /// Which partitions are followed, to be changed.
    pub fn assignment(&self) -> Assignment {
        self.assignment.clone()
    }

    /// Records on the log, in the partitions that are followed, that are not in the archive.
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
        let known = known.map(|known| known.2.load(Ordering::Acquire));
        known.filter(|next_offset| *next_offset != NOT_FOLLOWED).unwrap_or(0)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// All partitions that the projection reads, for a process that is alone.
pub fn all_partitions(log: &dyn Log) -> Partitions {
    assignment::all_partitions(log, &TOPICS)
}

/// Whether other processes may follow other partitions into the same archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// This process has all of them.
    One,
    /// They are spread, and move.
    Many,
}

/// Starts the projection of these partitions on a thread of its own. It brings the archive's schema up to date first, and waits, trying
/// again, for an archive that is not there.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    partitions: Partitions,
    owners: Owners,
    log: Arc<dyn Log>,
    archive: Arc<dyn Archive>,
    registry: &mut Registry,
) -> io::Result<Handle> {
    let metrics = Metrics::register(registry);
    let positions = Arc::new(Positions::of(log.as_ref(), &partitions));
    let (stop, stopped) = watch::channel(false);
    // The projection waits for it: nobody needs to be woken.
    let (assignment, assigned) = assignment::assignment(partitions, Arc::new(|| ()));
    let worker = Worker {
        log: Arc::clone(&log),
        archive,
        metrics,
        positions: Arc::clone(&positions),
        stopped: stopped.into(),
        assigned,
        batch_is_of_one_partition: owners == Owners::Many,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = thread::Builder::new().name("archive".to_owned()).spawn(move || runtime.block_on(worker.run()))?;
    Ok(Handle { assignment, stop, thread: Some(thread), log, positions })
}

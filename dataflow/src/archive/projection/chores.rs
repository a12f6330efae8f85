//! What one of the projection's processes does to the archive now and then, beside the inserts: takes the content of deleted
//! messages out of it, and counts the days and hours that are over.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tidings_schemas::limits;
use tokio::task::JoinSet;

use crate::archive::store::Archive;

type Work = fn(Arc<dyn Archive>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// All of them. Dropping it ends those that are under way; they can be begun again at any point.
pub(super) struct Chores {
    archive: Arc<dyn Archive>,
    all: [Chore; 2],
}

struct Chore {
    interval: Duration,
    work: Work,
    begun: Option<Instant>,
    running: JoinSet<()>,
}

impl Chores {
    /// How often to look whether one is due.
    pub(super) const INTERVAL: Duration = limits::ARCHIVE_SUMMARY_INTERVAL;

    /// Those of this archive, due at once.
    pub(super) fn of(archive: &Arc<dyn Archive>) -> Self {
        let chore = |interval, work: Work| Chore { interval, work, begun: None, running: JoinSet::new() };
        Self {
            archive: Arc::clone(archive),
            all: [
                chore(limits::ARCHIVE_ERASURE_INTERVAL, |archive| Box::pin(erase_deleted(archive))),
                chore(limits::ARCHIVE_SUMMARY_INTERVAL, |archive| Box::pin(summarize(archive))),
            ],
        }
    }

    /// Begins each whose time has come, unless it still runs.
    pub(super) fn begin_those_due(&mut self) {
        for chore in &mut self.all {
            while chore.running.try_join_next().is_some() {}
            let is_due = chore.begun.is_none_or(|begun| begun.elapsed() >= chore.interval);
            if is_due && chore.running.is_empty() {
                chore.begun = Some(now());
                chore.running.spawn((chore.work)(Arc::clone(&self.archive)));
            }
        }
    }
}

async fn erase_deleted(archive: Arc<dyn Archive>) {
    match archive.erase(&[]).await {
        Ok(found) => {
            let rows: u64 = found.iter().map(|table| table.rows).sum();
            if rows > 0 {
                tracing::info!(rows, "the content of deleted messages is gone from the archive");
            }
        }
        Err(error) => tracing::warn!(%error, "the content of deleted messages is still in the archive: tried again"),
    }
}

async fn summarize(archive: Arc<dyn Archive>) {
    match archive.summarize().await {
        Ok(periods) => tracing::debug!(periods, "days and hours that are over are counted"),
        Err(error) => tracing::warn!(%error, "days and hours that are over are not counted: tried again"),
    }
}

#[allow(clippy::disallowed_methods, reason = "when something is done again: nothing durable follows from it")]
fn now() -> Instant {
    Instant::now()
}

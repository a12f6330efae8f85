//! The projection's loop.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tidings_ingest::{Log, LogError, LogExt as _, Wake};
use tidings_schemas::{limits, topics::Topic};
use tokio::sync::{Mutex, Notify, watch};

use super::{
    Metrics, Positions, TOPICS,
    chores::Chores,
    feed::{Feed, Taken},
};
use crate::archive::{
    rows::RowSet,
    store::{Archive, ArchiveError, Batch, Progress},
};
use crate::assignment::{Assigned, Partitions};

/// The projection, as its thread runs it.
pub(super) struct Worker {
    pub(super) log: Arc<dyn Log>,
    pub(super) archive: Arc<dyn Archive>,
    pub(super) metrics: Metrics,
    pub(super) positions: Arc<Positions>,
    pub(super) stopped: Stopped,
    pub(super) assigned: Assigned,
    /// Whether a batch is of one partition. An insert that was begun is finished by the owner of the partition, and with
    /// several owners two partitions of one batch may have come to be two owners'.
    pub(super) batch_is_of_one_partition: bool,
}

/// Set once the projection is to stop.
pub(super) struct Stopped(Mutex<watch::Receiver<bool>>);

impl From<watch::Receiver<bool>> for Stopped {
    fn from(receiver: watch::Receiver<bool>) -> Self {
        Self(Mutex::new(receiver))
    }
}

impl Stopped {
    fn is_set(&mut self) -> bool {
        let receiver = self.0.get_mut();
        // The handle is gone, too.
        receiver.has_changed().is_err() || *receiver.borrow()
    }
}

/// Why the projection starts over.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the archive was begun with records {first} to {end} of {topic} partition {partition} in one batch, which is not complete any more: {hint}"
    )]
    BrokenPlan { topic: &'static str, partition: u32, first: u64, end: u64, hint: &'static str },
}

/// What is being done ends here: the projection was told to stop, or to follow other partitions.
struct Stop;

impl Worker {
    /// Runs until it is told to stop. Whatever fails, going on from the archive's own progress is right.
    pub(super) async fn run(mut self) {
        let mut delay = *limits::ARCHIVE_RETRY_DELAY.start();
        while !self.stopped.is_set() {
            let partitions = self.assigned.take();
            self.positions.follow(&partitions);
            let failure = match self.follow(&partitions, &mut delay).await {
                Ok(Stop) => continue,
                Err(failure) => failure,
            };
            self.metrics.failed();
            match &failure {
                Failure::Archive(ArchiveError::Unavailable(_)) => {
                    tracing::warn!(error = %failure, ?delay, "the archive is behind and will catch up from the log");
                }
                _ => tracing::error!(error = %failure, ?delay, "the archive stands still"),
            }
            if self.wait_or_stop(tokio::time::sleep(delay)).await.is_err() {
                continue;
            }
            delay = (delay * 2).min(*limits::ARCHIVE_RETRY_DELAY.end());
        }
    }

    async fn follow(&self, partitions: &Partitions, delay: &mut Duration) -> Result<Stop, Failure> {
        self.archive.migrate().await?;
        let progress = self.archive.progress().await?;
        let woken = Arc::new(Notify::new());
        let mut feeds = self.open_feeds(partitions, &progress, &woken)?;
        let progress = progress.into_iter().filter(|known| partitions.contains(&(known.topic, known.partition)));
        let progress: Vec<_> = progress.collect();
        if self.finish_plans(&mut feeds, &progress, &woken).await?.is_err() {
            return Ok(Stop);
        }
        *delay = *limits::ARCHIVE_RETRY_DELAY.start();
        let mut first = 0;
        let mut last_begun = None;
        // One process of a fleet does it. Ended with this.
        let mut chores = partitions.contains(&(Topic::Timeline, 0)).then(|| Chores::of(&self.archive));
        loop {
            // A round: each partition has its insert, or all have one. Then a pause, however much has come meanwhile: many
            // small inserts cost the engine more than the rows do.
            let mut begun = None;
            let mut has_more = false;
            let count = feeds.len().max(1);
            for turn in 0..if self.batch_is_of_one_partition { count } else { 1 } {
                let (batch, taken) = self.gather(&mut feeds, (first + turn) % count)?;
                has_more |= taken != Taken::All;
                if !batch.ranges.is_empty() {
                    begun.get_or_insert_with(now);
                    if self.insert(&mut feeds, Arc::new(batch)).await.is_err() {
                        return Ok(Stop);
                    }
                }
            }
            first = (first + 1) % count;
            last_begun = begun.or(last_begun);
            if !has_more {
                if let Some(chores) = &mut chores {
                    chores.begin_those_due();
                }
                // Asleep until there is something; then a little longer, so that one insert holds what comes in it. Where
                // one insert has all partitions, one that took long was time enough.
                let least = if self.batch_is_of_one_partition {
                    limits::ARCHIVE_ROUND_PAUSE
                } else {
                    limits::ARCHIVE_BATCH_GATHER
                };
                let gathering = async {
                    // Time for the next chore also wakes.
                    let _ = tokio::time::timeout(Chores::INTERVAL, woken.notified()).await;
                    let since = last_begun.map_or(Duration::MAX, |begun: Instant| begun.elapsed());
                    let rest = limits::ARCHIVE_BATCH_INTERVAL.saturating_sub(since);
                    tokio::time::sleep(rest.max(least)).await;
                };
                if self.wait_or_stop(gathering).await.is_err() {
                    return Ok(Stop);
                }
            }
        }
    }

    fn open_feeds(
        &self,
        partitions: &Partitions,
        progress: &[Progress],
        woken: &Arc<Notify>,
    ) -> Result<Vec<Feed>, LogError> {
        let mut feeds = Vec::new();
        for (topic, partition) in partitions.iter().copied() {
            let known = progress.iter().find(|known| (known.topic, known.partition) == (topic, partition));
            let woken = Arc::clone(woken);
            let wake: Wake = Arc::new(move || woken.notify_one());
            let feed = Feed::open(self.log.as_ref(), topic, partition, known, wake, &self.metrics)?;
            self.positions.set(topic, partition, feed.archived());
            feeds.push(feed);
        }
        Ok(feeds)
    }

    /// Inserts again, in the same batches, the ranges whose insert was begun and not finished.
    async fn finish_plans(
        &self,
        feeds: &mut [Feed],
        progress: &[Progress],
        woken: &Notify,
    ) -> Result<Result<(), Stop>, Failure> {
        let mut plans: BTreeMap<&str, Vec<(Topic, u32, u64)>> = BTreeMap::new();
        for known in progress {
            if let Some(planned) = &known.planned {
                let range = (known.topic, known.partition, planned.end_offset);
                plans.entry(&planned.batch).or_default().push(range);
            }
        }
        for (batch, ranges) in plans {
            let mut rows = RowSet::default();
            for (topic, partition, end) in ranges {
                let feed = feeds.iter_mut().find(|feed| (feed.topic, feed.partition) == (topic, partition));
                let broken = |first, hint| Failure::BrokenPlan { topic: topic.name(), partition, first, end, hint };
                let Some(feed) = feed else {
                    return Err(broken(0, "the log has no such partition: is it the log that the archive is of?"));
                };
                // A range was cut when it was full: it is taken whole, whatever the limits are now.
                let mut part = RowSet::default();
                loop {
                    let taken = feed.take(self.log.as_ref(), &mut part, end, &self.metrics)?;
                    rows.append(&mut part);
                    if feed.range().is_some_and(|range| range.end_offset >= end) {
                        break;
                    }
                    if taken == Taken::All {
                        if self.log.range_now(topic, partition).await?.end < end {
                            let first = feed.archived();
                            return Err(broken(first, "the log ends before it: is it the log that the archive is of?"));
                        }
                        // On their way. (A wake-up between the look and here is kept.)
                        if let Err(stop) = self.wait_or_stop(woken.notified()).await {
                            return Ok(Err(stop));
                        }
                    }
                }
            }
            let ranges = feeds.iter().filter_map(Feed::range).collect();
            tracing::info!(batch, "finishing an insert into the archive that was begun");
            if let Err(stop) = self.insert(feeds, Arc::new(Batch { ranges, rows: rows.take() })).await {
                return Ok(Err(stop));
            }
        }
        Ok(Ok(()))
    }

    /// Takes what there is, up to the limits of a batch, from the feed whose turn it is and, if a batch may be of several
    /// partitions, from those after it.
    fn gather(&self, feeds: &mut [Feed], first: usize) -> Result<(Batch, Taken), LogError> {
        let mut rows = RowSet::default();
        let mut all = Taken::All;
        let (before, from) = feeds.split_at_mut(first.min(feeds.len()));
        for feed in from.iter_mut().chain(before) {
            let taken = feed.take(self.log.as_ref(), &mut rows, u64::MAX, &self.metrics)?;
            if taken != Taken::All || self.batch_is_of_one_partition {
                all = taken;
                break;
            }
        }
        let ranges = feeds.iter().filter_map(Feed::due_range).collect();
        for feed in feeds {
            self.positions.set(feed.topic, feed.partition, feed.reached());
        }
        Ok((Batch { ranges, rows: rows.take() }, all))
    }

    /// Inserts the batch, however long that takes and however often it must be tried.
    async fn insert(&self, feeds: &mut [Feed], batch: Arc<Batch>) -> Result<(), Stop> {
        let mut delay = *limits::ARCHIVE_RETRY_DELAY.start();
        loop {
            let started = now();
            match self.archive.insert(Arc::clone(&batch)).await {
                Ok(()) => {
                    self.metrics.inserted(&batch, started.elapsed());
                    break;
                }
                Err(error) => {
                    self.metrics.failed();
                    tracing::warn!(%error, ?delay, "an insert into the archive failed and will be tried again");
                    self.observe_lag();
                    self.wait_or_stop(tokio::time::sleep(delay)).await?;
                    delay = (delay * 2).min(*limits::ARCHIVE_RETRY_DELAY.end());
                }
            }
        }
        for feed in feeds {
            self.positions.set(feed.topic, feed.partition, feed.inserted());
        }
        self.observe_lag();
        Ok(())
    }

    fn observe_lag(&self) {
        for topic in TOPICS {
            let lag = self.positions.lag(topic, |topic, partition| self.log.end_seen(topic, partition));
            self.metrics.lag(topic, lag);
        }
    }

    async fn wait_or_stop<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Stop> {
        let mut stopped = self.stopped.0.lock().await;
        tokio::select! {
            // An error means that the handle is gone, which asks for the same.
            _ = stopped.wait_for(|stop| *stop) => Err(Stop),
            () = self.assigned.changed() => Err(Stop),
            value = waiting => Ok(value),
        }
    }
}

/// Takes the content of messages that were deleted out of the rows.
#[allow(clippy::disallowed_methods, reason = "how long an insert takes: nothing durable follows from it")]
fn now() -> Instant {
    Instant::now()
}

//! What the projection does, on a thread of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidings_ingest::{Log, Wake};
use tidings_schemas::{
    limits::{VIEW_CONFIRM_INTERVAL, VIEW_PROJECTION_BATCH_BYTES, VIEW_RETRY_BACKOFF},
    views::{Move, ViewError, ViewStore},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    batch,
    input::{Input, InputError, TOPICS, Taken},
    metrics::Metrics,
    needs::{Cache, Rows},
    step::Step,
};
use crate::assignment::{Assigned, Partitions};

/// What the projection hears, and tells.
#[derive(Debug, Default)]
pub(super) struct Signal {
    stopping: AtomicBool,
    caught_up: AtomicBool,
    /// A wake-up that comes while nobody sleeps is kept.
    pub(super) woken: Notify,
}

impl Signal {
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// All that the projection works with.
pub(super) struct Worker {
    pub(super) log: Arc<dyn Log>,
    pub(super) views: Arc<dyn ViewStore>,
    pub(super) metrics: Metrics,
    pub(super) signal: Arc<Signal>,
    pub(super) assigned: Assigned,
    pub(super) apply_interval: Duration,
    pub(super) rows_cached_max: usize,
}

impl Worker {
    /// Follows the log until it is told to stop; starts over from the store's positions when something fails.
    pub(super) async fn run(mut self) {
        let mut backoff = *VIEW_RETRY_BACKOFF.start();
        while !self.signal.is_stopping() {
            let mut has_applied = false;
            let partitions = self.assigned.take();
            let Err(error) = self.follow(&partitions, &mut has_applied).await else { continue };
            if has_applied {
                backoff = *VIEW_RETRY_BACKOFF.start();
            }
            self.signal.caught_up.store(false, Ordering::Release);
            if matches!(error, InputError::Views(ViewError::Overtaken { .. })) {
                // Nothing is wrong here: what another has applied, or the store has lost, is read anew. Soon, because
                // the other may be one that is about to go.
                self.metrics.overtaken();
                tracing::warn!(%error, "the projection of the views starts over from where they stand");
                self.pause(*VIEW_RETRY_BACKOFF.start()).await;
                continue;
            }
            self.metrics.failed();
            tracing::error!(%error, retry_in_ms = backoff.as_millis(), "the views cannot be kept up to date");
            self.pause(backoff).await;
            backoff = (backoff * 2).min(*VIEW_RETRY_BACKOFF.end());
        }
    }

    /// Follows the partitions from the store's positions. `Ok`: told to stop, or to follow others.
    async fn follow(&self, partitions: &Partitions, has_applied: &mut bool) -> Result<(), InputError> {
        let mut inputs = self.open(partitions).await?;
        let mut cache = Cache::new(self.rows_cached_max);
        let mut applied_at = None;
        let mut confirmed_at = now();
        let mut first = 0;
        let mut has_more = false;
        let mut was_at_end = false;
        while !self.is_to_end() {
            if let Some(applied_at) = applied_at.filter(|_| !has_more) {
                let since = now().saturating_duration_since(applied_at);
                self.pause(self.apply_interval.saturating_sub(since)).await;
            }
            let mut steps = Vec::new();
            let taken = self.gather(&mut inputs, first, &mut steps)?;
            first = (first + 1) % inputs.len().max(1);
            has_more = taken == Taken::More;
            if taken != Taken::Nothing {
                let moves = inputs.iter().flat_map(Input::moves).collect();
                self.apply(steps, moves, &mut cache).await?;
                inputs.iter_mut().for_each(Input::applied);
                *has_applied = true;
                applied_at = Some(now());
                self.measure_lag(&inputs);
            }
            let is_at_end = !has_more && inputs.iter().all(Input::has_reached_end_at_open);
            let comes_to_end = is_at_end && !was_at_end;
            was_at_end |= comes_to_end;
            if comes_to_end || now().saturating_duration_since(confirmed_at) >= VIEW_CONFIRM_INTERVAL {
                self.confirm(&inputs, was_at_end).await?;
                confirmed_at = now();
            }
            self.signal.caught_up.store(is_at_end, Ordering::Release);
            if taken == Taken::Nothing {
                applied_at = None;
                // The pause above may have taken the wake-up that came with the stop.
                if !self.is_to_end() {
                    // Either ends the wait.
                    let _ = timeout(VIEW_CONFIRM_INTERVAL, self.signal.woken.notified()).await;
                }
            }
        }
        Ok(())
    }

    /// Takes what there is, as much as goes into one batch, from the partition whose turn it is on.
    pub(super) fn gather(
        &self,
        inputs: &mut [Input],
        first: usize,
        steps: &mut Vec<Step>,
    ) -> Result<Taken, InputError> {
        let mut all = Taken::Nothing;
        let mut bytes_taken = 0;
        let (before, from) = inputs.split_at_mut(first.min(inputs.len()));
        for input in from.iter_mut().chain(before) {
            if bytes_taken >= VIEW_PROJECTION_BATCH_BYTES {
                return Ok(Taken::More);
            }
            let (taken, bytes) = input.take(&self.metrics, steps)?;
            bytes_taken += bytes;
            all = all.max(taken);
        }
        Ok(all)
    }

    /// Partitions where nothing happens would not tell that the store has lost them.
    pub(super) async fn confirm(&self, inputs: &[Input], at_end: bool) -> Result<(), InputError> {
        let positions = inputs.iter().flat_map(Input::positions).collect();
        Ok(self.views.confirm(positions, at_end).await?)
    }

    /// Whether what is being done ends here.
    fn is_to_end(&self) -> bool {
        self.signal.is_stopping() || self.assigned.is_changed()
    }

    pub(super) async fn open(&self, partitions: &Partitions) -> Result<Vec<Input>, InputError> {
        let mut inputs = Vec::new();
        for (topic, partition) in partitions {
            let signal = Arc::clone(&self.signal);
            let wake: Wake = Arc::new(move || signal.wake());
            inputs.push(Input::open(self.log.as_ref(), self.views.as_ref(), *topic, *partition, wake).await?);
        }
        Ok(inputs)
    }

    pub(super) async fn apply(&self, steps: Vec<Step>, moves: Vec<Move>, cache: &mut Cache) -> Result<(), InputError> {
        let started = now();
        let views = self.views.as_ref();
        let writes = async {
            let mut rows = Rows::load(&steps, cache, views).await?;
            let writes = batch::fold(steps, &mut rows);
            let count = writes.len();
            views.apply(writes, moves).await?;
            rows.keep(cache);
            Ok::<_, InputError>(count)
        }
        .await?;
        self.metrics.applied(writes, now().saturating_duration_since(started));
        Ok(())
    }

    fn measure_lag(&self, inputs: &[Input]) {
        for topic in TOPICS {
            let lag = inputs.iter().filter(|input| input.topic == topic).map(|input| input.lag(&self.log)).sum();
            self.metrics.lag(topic, lag);
        }
    }

    /// Waits, but not longer than until it is told to stop, or to follow others. A wake-up by the log in between is not lost: every
    /// partition is polled after each pause.
    async fn pause(&self, duration: Duration) {
        let until = now() + duration;
        while !self.is_to_end() {
            let remaining = until.saturating_duration_since(now());
            if remaining.is_zero() {
                return;
            }
            // Either ends the wait.
            let _ = timeout(remaining, self.signal.woken.notified()).await;
        }
    }
}

/// For pauses and durations alone: what is written does not depend on it, so a clock that a test holds still need not
/// stop the views.
fn now() -> Instant {
    Instant::now()
}

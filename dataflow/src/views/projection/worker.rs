//! The projection's thread.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tidings_ingest::{Log, Wake};
use tidings_schemas::{
    limits::VIEW_RETRY_BACKOFF,
    views::{Position, ViewStore},
};

use super::{
    batch,
    input::{Input, InputError, TOPICS, Taken},
    metrics::Metrics,
    needs::{Cache, Rows},
    step::Step,
};

/// What the projection's thread hears, and tells.
#[derive(Debug, Default)]
pub(super) struct Signal {
    stopping: AtomicBool,
    caught_up: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Signal {
    pub(super) fn set_thread(&self, thread: Thread) {
        // Set once, by `start`.
        let _ = self.thread.set(thread);
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// All that the thread works with.
pub(super) struct Worker {
    pub(super) log: Arc<dyn Log>,
    pub(super) views: Arc<dyn ViewStore>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) metrics: Metrics,
    pub(super) signal: Arc<Signal>,
    pub(super) apply_interval: Duration,
    pub(super) rows_cached_max: usize,
}

impl Worker {
    /// Follows the log until it is told to stop; starts over from the store's positions when something fails.
    pub(super) fn run(self) {
        let mut backoff = *VIEW_RETRY_BACKOFF.start();
        while !self.signal.is_stopping() {
            let mut has_applied = false;
            let Err(error) = self.follow(&mut has_applied) else { return };
            if has_applied {
                backoff = *VIEW_RETRY_BACKOFF.start();
            }
            self.signal.caught_up.store(false, Ordering::Release);
            self.metrics.failed();
            tracing::error!(%error, retry_in_ms = backoff.as_millis(), "the views cannot be kept up to date");
            self.pause(backoff);
            backoff = (backoff * 2).min(*VIEW_RETRY_BACKOFF.end());
        }
    }

    /// Follows the log from the store's positions. `Ok`: told to stop.
    fn follow(&self, has_applied: &mut bool) -> Result<(), InputError> {
        let mut inputs = self.runtime.block_on(self.open())?;
        let mut cache = Cache::new(self.rows_cached_max);
        let mut applied_at = None;
        let mut has_more = false;
        while !self.signal.is_stopping() {
            if let Some(applied_at) = applied_at.filter(|_| !has_more) {
                let since = now().saturating_duration_since(applied_at);
                self.pause(self.apply_interval.saturating_sub(since));
            }
            let mut steps = Vec::new();
            let mut positions = Vec::new();
            has_more = false;
            for input in &mut inputs {
                let taken = input.take(&self.metrics, &mut steps)?;
                if taken != Taken::Nothing {
                    positions.extend(input.positions());
                }
                has_more |= taken == Taken::More;
            }
            if positions.is_empty() {
                if inputs.iter().all(Input::has_reached_end_at_open) {
                    self.signal.caught_up.store(true, Ordering::Release);
                }
                applied_at = None;
                // The pause above may have taken the wake-up that came with the stop.
                if !self.signal.is_stopping() {
                    thread::park();
                }
                continue;
            }
            self.apply(steps, positions, &mut cache)?;
            *has_applied = true;
            applied_at = Some(now());
            if has_more {
                self.signal.caught_up.store(false, Ordering::Release);
            }
            self.measure_lag(&inputs);
        }
        Ok(())
    }

    async fn open(&self) -> Result<Vec<Input>, InputError> {
        let mut inputs = Vec::new();
        for topic in TOPICS {
            for partition in 0..self.log.partitions(topic) {
                let thread = thread::current();
                let wake: Wake = Arc::new(move || thread.unpark());
                inputs.push(Input::open(self.log.as_ref(), self.views.as_ref(), topic, partition, wake).await?);
            }
        }
        Ok(inputs)
    }

    fn apply(&self, steps: Vec<Step>, positions: Vec<Position>, cache: &mut Cache) -> Result<(), InputError> {
        let started = now();
        let views = self.views.as_ref();
        let writes = self.runtime.block_on(async {
            let mut rows = Rows::load(&steps, cache, views).await?;
            let writes = batch::fold(steps, &mut rows);
            let count = writes.len();
            views.apply(writes, positions).await?;
            rows.keep(cache);
            Ok::<_, InputError>(count)
        })?;
        self.metrics.applied(writes, now().saturating_duration_since(started));
        Ok(())
    }

    fn measure_lag(&self, inputs: &[Input]) {
        for topic in TOPICS {
            let lag = inputs.iter().filter(|input| input.topic == topic).map(|input| input.lag(&self.log)).sum();
            self.metrics.lag(topic, lag);
        }
    }

    /// Waits, but not longer than until it is told to stop. A wake-up by the log in between is not lost: every
    /// partition is polled after each pause.
    fn pause(&self, duration: Duration) {
        let until = now() + duration;
        while !self.signal.is_stopping() {
            let remaining = until.saturating_duration_since(now());
            if remaining.is_zero() {
                return;
            }
            thread::park_timeout(remaining);
        }
    }
}

/// For pauses and durations alone: what is written does not depend on it, so a clock that a test holds still need not
/// stop the views.
#[allow(clippy::disallowed_methods, reason = "paces and measures this thread; decides nothing")]
fn now() -> Instant {
    Instant::now()
}

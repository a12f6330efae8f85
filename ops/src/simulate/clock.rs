//! Virtual time: the paused clock of the runtime, and what a node takes it for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tidings_schemas::clock::Clock;
use tokio::time::Instant;

/// When every history begins, in milliseconds since the Unix epoch.
const BEGINNING_MS: i64 = 1_750_000_000_000;

/// The clock of a node: the true time, and how far its wall clock is off.
#[derive(Debug, Clone)]
pub(super) struct VirtualClock {
    started: Instant,
    skew_ms: Arc<AtomicI64>,
}

impl VirtualClock {
    /// The true clock, which begins now.
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), skew_ms: Arc::default() }
    }

    /// The clock of a node.
    pub(super) fn of_node(&self) -> Self {
        Self { started: self.started, skew_ms: Arc::default() }
    }

    /// From now on the wall clock is this far off.
    pub(super) fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// The moment of a monotonic time.
    pub(super) fn instant(&self, monotonic: Duration) -> Instant {
        self.started + monotonic
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        BEGINNING_MS + elapsed + self.skew_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

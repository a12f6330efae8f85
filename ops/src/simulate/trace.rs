//! What happened in a history: a hash of it always, and its lines when somebody wants to read them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// See the module. Clones are the same trace.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    is_kept: bool,
    started: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hash: u64,
    lines: Vec<String>,
}

impl Trace {
    /// Begins now; its lines are kept if `is_kept`.
    pub(super) fn new(is_kept: bool) -> Self {
        Self { is_kept, started: Instant::now(), state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mixes something that happened into the hash, with its moment.
    pub(super) fn mix(&self, what: &[u8]) {
        let elapsed = self.started.elapsed().as_nanos() as u64;
        let mut state = self.lock();
        state.hash = xxhash_rust::xxh3::xxh3_64_with_seed(what, state.hash ^ elapsed);
    }

    /// Writes a line.
    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        if self.is_kept {
            let elapsed = self.started.elapsed();
            let line = format!("{:>9.3} s  {}", elapsed.as_secs_f64(), line());
            self.lock().lines.push(line);
        }
    }

    /// What two runs of one seed must have in common.
    pub(super) fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// The lines.
    pub(super) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().lines)
    }
}

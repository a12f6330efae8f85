//! A progress line on standard error, on a terminal only.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tidings_schemas::clock::{Clock, SystemClock};

const INTERVAL: Duration = Duration::from_millis(200);

/// A count on its way to a total.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: u64,
    done: AtomicU64,
    clock: SystemClock,
    shown_at: Mutex<Duration>,
    terminal: bool,
}

impl Progress {
    /// Starts at zero.
    pub fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            done: AtomicU64::new(0),
            clock: SystemClock::new(),
            shown_at: Mutex::new(Duration::ZERO),
            terminal: stderr().is_terminal(),
        }
    }

    /// More is done.
    pub fn advance(&self, by: u64) {
        let done = self.done.fetch_add(by, Ordering::Relaxed) + by;
        self.show(done >= self.total, || format!("{} {done}/{}", self.what, self.total));
    }

    /// Shows a line in place of the last one, not too often.
    pub fn show(&self, last: bool, line: impl FnOnce() -> String) {
        if !self.terminal {
            return;
        }
        let now = self.clock.monotonic();
        let Ok(mut shown_at) = self.shown_at.lock() else { return };
        if last || *shown_at == Duration::ZERO || now - *shown_at >= INTERVAL {
            *shown_at = now;
            // A terminal that is gone is no reason to stop.
            let _ = write!(stderr(), "\r\x1b[2K{}{}", line(), if last { "\n" } else { "" });
        }
    }
}

//! Reads across the seam between the views' tails and the history behind them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod log_history;
mod seam;
mod world;

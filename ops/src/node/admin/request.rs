//! What an administrator asks of the program that runs, and what it answers: a line of JSON each.

use serde::{Deserialize, Serialize};
use tidings_replay::rebuild::Progress;

use crate::replay::rebuild::request::{Report, Request as Rebuild};

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Build views or archive anew.
    Rebuild(Rebuild),
    /// Leave the data folder alone until [`super::super::aside::LOCK_FILE`] is free.
    StepAside {
        /// The version of the program that asks: another one may not read what this one has written, and the other way
        /// round.
        version: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Progress(Progress),
    Done(Report),
    /// The program goes. The connection ends when it has nothing of the folder open any more.
    SteppingAside {
        /// Its process id, which stays.
        process: u32,
    },
    /// What was in use is in use.
    Failed {
        error: String,
        /// The log lacks what would be needed.
        is_not_kept: bool,
    },
}

//! Why the log refused.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidings_schemas::topics::Topic;
use tidings_schemas::wire::ErrorCode;

/// Why records are not in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// More is waiting to be written than the queue holds. Retry.
    #[error("the log's queue is full: retry after a moment")]
    Full,
    /// A record, or a call as a whole, is over its limit.
    #[error("{bytes} bytes to append are more than the {limit_bytes} allowed in one {unit}")]
    TooLarge {
        /// `record` or `call`.
        unit: &'static str,
        /// What was given.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// The topic has no such partition.
    #[error("topic {} has no partition {partition}", topic.name())]
    UnknownPartition {
        /// The topic.
        topic: Topic,
        /// The partition asked for.
        partition: u32,
    },
    /// The records were not written, and never will be by this call. Retry.
    #[error("the log cannot be written: {reason}")]
    Unavailable {
        /// What went wrong, with a hint.
        reason: Arc<str>,
    },
    /// Whether the records are in the log is not known: writing failed, and so did making sure that they are out.
    /// They may appear after a restart. Retry, with the record's own identity guarding against a repeat.
    #[error("whether the log holds the records is not known: {reason}")]
    Unknown {
        /// What went wrong, with a hint.
        reason: Arc<str>,
    },
}

impl AppendError {
    /// The code that a client sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Full | Self::Unavailable { .. } | Self::Unknown { .. } => ErrorCode::Unavailable,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::UnknownPartition { .. } => ErrorCode::Internal,
        }
    }

    /// Whether the same append can succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full | Self::Unavailable { .. } | Self::Unknown { .. })
    }
}

/// Why the log could not be opened or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The offset is not in the log: retention has dropped it, or it has never been written.
    #[error("offset {asked} of {} partition {partition} is not in the log, which holds {start} to {end}", topic.name())]
    OutOfRange {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        asked: u64,
        /// The oldest kept.
        start: u64,
        /// The next to be written.
        end: u64,
    },
    /// The topic has no such partition.
    #[error("topic {} has no partition {partition}", topic.name())]
    UnknownPartition {
        /// The topic.
        topic: Topic,
        /// The partition asked for.
        partition: u32,
    },
    /// What is stored is not what was written.
    #[error("{} is damaged at byte {position}: {what}; {hint}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes.
        position: u64,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {error}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// What it said.
        error: Arc<io::Error>,
    },
    /// Another process has this log open.
    #[error("the log in {} is open in another process ({holder}): stop that one first", directory.display())]
    Locked {
        /// The log's directory.
        directory: PathBuf,
        /// `pid N`, as the other process has written it.
        holder: String,
    },
    /// The log and the settings do not fit.
    #[error("the log in {place} does not fit the settings: {what}; {hint}")]
    Mismatch {
        /// The log's directory, or its brokers and topics.
        place: String,
        /// What differs.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// There is nothing to read.
    #[error("there is no log in {place} ({hint})")]
    Absent {
        /// The log's directory, or its brokers and topics.
        place: String,
        /// What to do.
        hint: &'static str,
    },
    /// Records are missing in the middle of a partition.
    #[error("{} partition {partition} lacks the records from offset {from} to {to}: {hint}", topic.name())]
    Missing {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// The first that is missing.
        from: u64,
        /// The first that is there again.
        to: u64,
        /// What to do.
        hint: &'static str,
    },
    /// The log has no connection to where it stands. The same call can succeed later.
    #[error("the log cannot be read: {reason}")]
    Unavailable {
        /// What went wrong, with a hint.
        reason: Arc<str>,
    },
}

impl LogError {
    /// Whether the same call can succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

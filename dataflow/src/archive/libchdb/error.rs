//! What can go wrong with the embedded engine.

use std::path::PathBuf;

/// An error of the embedded engine, or of getting it to run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// There is no library at that place.
    #[error("libchdb is not there: no file {} (run ./ops/fetch-libchdb, or set TIDINGS_LIBCHDB to where it is)", .0.display())]
    LibraryMissing(PathBuf),
    /// The file is not the library that is expected.
    #[error("cannot load libchdb from {}: {reason} (run ./ops/fetch-libchdb for the version that fits)", path.display())]
    LibraryUnusable {
        /// The file.
        path: PathBuf,
        /// What the dynamic linker says, or which symbol is missing.
        reason: String,
    },
    /// This process already has the engine open on another folder.
    #[error("the archive engine is already open on {}, and a process can have one folder only: cannot open {}", open.display(), asked.display())]
    OtherFolder {
        /// The folder that is open.
        open: PathBuf,
        /// The folder that was asked for.
        asked: PathBuf,
    },
    /// Another process has the folder open.
    #[error("the archive folder {} is in use by another process ({holder}): stop that one, or give this one a --data of its own", folder.display())]
    FolderInUse {
        /// The folder.
        folder: PathBuf,
        /// What the lock file says about its holder.
        holder: String,
    },
    /// The folder or the engine's configuration cannot be written.
    #[error("cannot prepare the archive folder {}: {reason}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The I/O error.
        reason: String,
    },
    /// The engine did not start, or gave no connection.
    #[error("the archive engine gives no connection on {} (what it says itself is on standard error)", .0.display())]
    NoConnection(PathBuf),
    /// The engine refused a statement or failed in it.
    #[error("{message}")]
    Statement {
        /// ClickHouse's error code; 0 when the message carries none.
        code: i32,
        /// ClickHouse's message, from `Code:` on.
        message: String,
    },
}

/// ClickHouse's error codes that are told apart.
pub mod code {
    /// A statement that does not parse.
    pub const SYNTAX_ERROR: i32 = 62;
    /// A table that is not there.
    pub const UNKNOWN_TABLE: i32 = 60;
    /// A database that is not there.
    pub const UNKNOWN_DATABASE: i32 = 81;
    /// Over `max_rows_to_read`.
    pub const TOO_MANY_ROWS: i32 = 158;
    /// Over `max_execution_time`.
    pub const TIMEOUT_EXCEEDED: i32 = 159;
    /// A write where only reading is allowed.
    pub const READONLY: i32 = 164;
    /// Over the number of queries at once.
    pub const TOO_MANY_SIMULTANEOUS_QUERIES: i32 = 202;
    /// Over a memory limit.
    pub const MEMORY_LIMIT_EXCEEDED: i32 = 241;
    /// Too many unmerged parts: inserts come faster than merges.
    pub const TOO_MANY_PARTS: i32 = 252;
    /// Over `max_result_rows` or `max_result_bytes`.
    pub const TOO_MANY_ROWS_OR_BYTES: i32 = 396;
    /// A setting beyond what it may be.
    pub const SETTING_CONSTRAINT_VIOLATION: i32 = 452;
    /// The user has no right to it.
    pub const ACCESS_DENIED: i32 = 497;
    /// A file of a table that is not what it must be: cut off, unreadable, empty, missing.
    pub(in crate::archive) const OF_DAMAGE: [i32; 8] = [32, 33, 40, 226, 227, 246, 271, 432];
}

impl EngineError {
    /// An error from the engine's message, which begins with `Code: N. DB::Exception: `, sometimes after a wrapper's
    /// own words.
    pub(in crate::archive) fn from_message(message: &str) -> Self {
        let message = message.find("Code: ").map_or(message, |start| &message[start..]).trim_end();
        let code = message
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0);
        Self::Statement { code, message: message.to_owned() }
    }

    /// ClickHouse's error code, when the engine itself spoke.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Statement { code, .. } => Some(*code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_read_from_the_message() {
        for (message, code) in [
            ("Code: 60. DB::Exception: Table t does not exist. (UNKNOWN_TABLE)", 60),
            ("Error: Code: 241. DB::Exception: memory", 241),
            ("Invalid or closed connection", 0),
            ("Code: x", 0),
        ] {
            assert_eq!(EngineError::from_message(message).code(), Some(code), "{message}");
        }
    }
}

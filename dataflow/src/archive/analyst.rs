//! What an analyst's query may take and see: limits that no query can lift, and the tables of the engine's own that tell
//! nothing of anybody.

use std::time::Duration;

use tidings_schemas::limits;

use super::libchdb::error::code;

/// Limits of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnalystLimits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// How long it may run, at least a second.
    pub execution_time: Duration,
    /// Rows of the result.
    pub result_rows: u64,
    /// Rows read from tables.
    pub rows_to_read: u64,
}

impl Default for AnalystLimits {
    fn default() -> Self {
        Self {
            memory_bytes: limits::ARCHIVE_MEMORY_BYTES_MAX as u64 / 2,
            execution_time: limits::ARCHIVE_SQL_TIME_MAX,
            result_rows: limits::ARCHIVE_SQL_RESULT_ROWS_MAX,
            rows_to_read: limits::ARCHIVE_SQL_ROWS_TO_READ_MAX,
        }
    }
}

/// The role that a reading session takes on: it reads the archive's databases, and of the engine's own tables those of
/// [`SYSTEM_TABLES`], which the port sees to.
pub(super) const ROLE: &str = "analyst";

/// What clients ask for to know the server and its tables. The others tell of other people's queries, of users, or of
/// folders and addresses of this machine.
pub(super) const SYSTEM_TABLES: [&str; 27] = [
    "aggregate_function_combinators",
    "collations",
    "columns",
    "completions",
    "contributors",
    "data_skipping_indices",
    "data_type_families",
    "databases",
    "documentation",
    "formats",
    "functions",
    "keywords",
    "licenses",
    "merge_tree_settings",
    "numbers",
    "numbers_mt",
    "one",
    "parts_columns",
    "projections",
    "settings",
    "settings_changes",
    "table_engines",
    "table_functions",
    "tables",
    "time_zones",
    "zeros",
    "zeros_mt",
];

impl AnalystLimits {
    /// The settings of a session, for a statement that may run for so many seconds.
    pub(super) fn settings(&self, seconds: u64) -> String {
        let result_bytes = limits::ARCHIVE_SQL_RESULT_BYTES_MAX;
        format!(
            "SET max_memory_usage = {}, max_execution_time = {seconds}, max_result_rows = {}, max_rows_to_read = {}, \
             max_result_bytes = {result_bytes}, result_overflow_mode = 'throw', read_overflow_mode = 'throw', \
             timeout_overflow_mode = 'throw'",
            self.memory_bytes, self.result_rows, self.rows_to_read
        )
    }

    /// Whether a statement may give a setting that value: any where it is no limit, else one that is none above it. (The
    /// engine's constraints see to it as well, but not in a subquery.)
    pub(super) fn allow(&self, setting: &[u8], value: &[u8]) -> bool {
        let most = match setting {
            b"max_execution_time" => self.execution_time.as_secs(),
            b"max_memory_usage" => self.memory_bytes,
            b"max_result_rows" => self.result_rows,
            b"max_result_bytes" => limits::ARCHIVE_SQL_RESULT_BYTES_MAX as u64,
            b"max_rows_to_read" => self.rows_to_read,
            b"max_threads" => limits::ARCHIVE_SQL_THREADS_MAX as u64,
            b"timeout_overflow_mode" | b"result_overflow_mode" | b"read_overflow_mode" => return value == b"'throw'",
            b"readonly" | b"profile" => return false,
            _ => return true,
        };
        let value = std::str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
        value.is_some_and(|value| (1..=most).contains(&value))
    }

    /// What to do about an error with this code, when it comes of a limit.
    pub(super) fn hint(&self, error_code: i32) -> Option<String> {
        let (limit, instead) = match error_code {
            code::TIMEOUT_EXCEEDED => (
                format!("archive.analyst_max_execution_seconds = {}", self.execution_time.as_secs()),
                "ask for fewer days, or for one conversation: conditions on conversation_id, recipient_id and times read \
                 only what they name",
            ),
            code::MEMORY_LIMIT_EXCEEDED => (
                format!("archive.analyst_max_memory_bytes = {}", self.memory_bytes),
                "group by fewer values, join less, or ask for fewer days",
            ),
            code::TOO_MANY_ROWS => (
                format!("archive.analyst_max_rows_to_read = {}", self.rows_to_read),
                "ask for fewer days, or for one conversation",
            ),
            code::TOO_MANY_ROWS_OR_BYTES => (
                format!(
                    "archive.analyst_max_result_rows = {}, and {} MiB",
                    self.result_rows,
                    limits::ARCHIVE_SQL_RESULT_BYTES_MAX >> 20
                ),
                "count instead of listing, or ask for a page at a time with ORDER BY and LIMIT",
            ),
            code::SETTING_CONSTRAINT_VIOLATION => {
                ("the analysts' limits".to_owned(), "ask without this setting: a query can lower a limit, not lift it")
            }
            _ => return None,
        };
        Some(format!("The limit is {limit}. Hint: {instead}"))
    }
}

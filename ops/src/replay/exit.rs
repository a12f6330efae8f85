//! How a replay ends: exit codes that scripts can rely on, and errors that know theirs.

use std::process::ExitCode;

use tidings_ingest::LogError;
use tidings_replay::{ScanError, select::SelectError};

use super::progress::say;

/// Why it ended. The numbers are the program's exit codes, and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Differences were found, or damage: gaps, wrong checksums, truncated files.
    Found = 1,
    /// The command line asks for what cannot be.
    Usage = 2,
    /// The source cannot be read.
    Source = 3,
    /// The target cannot be written, or is not one that may be.
    Target = 4,
}

/// A failure and its code.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub code: Code,
    /// What is said.
    pub error: anyhow::Error,
}

/// How a verb ends.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure with this message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, error: anyhow::anyhow!(message.into()) }
    }
}

/// Gives an error its code.
pub trait WithCode<T> {
    /// The error ends the program with `code`.
    ///
    /// # Errors
    /// The error that it was given.
    fn code(self, code: Code) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> WithCode<T> for Result<T, E> {
    fn code(self, code: Code) -> Result<T, Failure> {
        self.map_err(|error| Failure { code, error: error.into() })
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let code = match &error {
            LogError::Corrupt { .. } | LogError::Missing { .. } => Code::Found,
            LogError::UnknownPartition { .. } => Code::Usage,
            _ => Code::Source,
        };
        Self { code, error: error.into() }
    }
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Log(error) => error.into(),
            gap @ ScanError::Gap { .. } => Self { code: Code::Found, error: gap.into() },
        }
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::Log(error) => error.into(),
            SelectError::Scan(error) => error.into(),
            named => Self { code: Code::Usage, error: named.into() },
        }
    }
}

/// Says why it failed, and gives the program's exit code.
pub fn code(outcome: Outcome) -> ExitCode {
    match outcome {
        // It was said already.
        Ok(()) if crate::print::has_failed() => ExitCode::from(Code::Target as u8),
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, error }) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(code as u8)
        }
    }
}

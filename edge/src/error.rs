//! What a client is told when a request fails: a code of the closed list, a text that says what is wrong and what to
//! do, and when to try again.

use std::time::Duration;

pub use tidings_schemas::wire::ErrorCode;
use tidings_schemas::{client, limits::LOG_RETRY_AFTER, views::ViewError, wire};

/// A refusal or failure as the client reads it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct ApiError {
    /// Of the closed list.
    pub code: ErrorCode,
    /// What is wrong and what to do. Shown to clients: nothing internal, no secrets.
    pub message: String,
    /// In how many milliseconds a retry makes sense; absent where none is known.
    pub retry_after_ms: Option<u32>,
}

impl ApiError {
    /// An error of any code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// The request itself is wrong: sending it again changes nothing.
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// No valid token.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unauthenticated, message)
    }

    /// There is no such thing, or none that the caller may know of.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// Something that it takes is not there at the moment: the same request can succeed later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// Something that should not happen. `message` is what the client sees; log the cause.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Too many requests; the next one can succeed after `wait`.
    pub fn rate_limited(message: impl Into<String>, wait: Duration) -> Self {
        let millis = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
        Self { code: ErrorCode::RateLimited, message: message.into(), retry_after_ms: Some(millis) }
    }

    /// The error object of the contract.
    pub fn to_client(&self) -> client::Error {
        client::Error {
            code: self.code.name().to_owned(),
            message: self.message.clone(),
            retryable: self.code.is_retryable(),
            retry_after_ms: self.retry_after_ms,
        }
    }
}

impl From<wire::Refusal> for ApiError {
    fn from(refusal: wire::Refusal) -> Self {
        Self::new(refusal.code(), refusal.message)
    }
}

impl From<ViewError> for ApiError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Unavailable(_) | ViewError::Overtaken { .. } => {
                Self::unavailable("the views are not available or behind: try again")
            }
            ViewError::Corrupt(_) => {
                tracing::error!(%error, "a row of the views cannot be read");
                Self::internal("a stored row cannot be read")
            }
        }
    }
}

impl From<tidings_ingest::AppendError> for ApiError {
    fn from(error: tidings_ingest::AppendError) -> Self {
        // One for each request, at the worst moment: the log itself says what is wrong with it.
        tracing::debug!(%error, "an append to the log was refused");
        let millis = u32::try_from(LOG_RETRY_AFTER.as_millis()).unwrap_or(u32::MAX);
        let refusal = Self::unavailable("the log takes nothing at the moment: try again");
        Self { retry_after_ms: Some(millis), ..refusal }
    }
}

impl From<tidings_ingest::LogError> for ApiError {
    fn from(error: tidings_ingest::LogError) -> Self {
        tracing::warn!(%error, "the log did not answer");
        Self::unavailable("the log does not answer at the moment: try again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_object_carries_code_retryability_and_delay() {
        let error = ApiError::rate_limited("slow down", Duration::from_millis(250)).to_client();
        assert_eq!((error.code.as_str(), error.retryable, error.retry_after_ms), ("rate_limited", true, Some(250)));
        let error = ApiError::invalid_argument("no").to_client();
        assert_eq!((error.code.as_str(), error.retryable, error.retry_after_ms), ("invalid_argument", false, None));
    }

    #[test]
    fn who_meets_a_log_that_takes_nothing_is_told_to_wait() {
        let error = tidings_ingest::AppendError::Unavailable { reason: "the disk is full".into() };
        let error = ApiError::from(error).to_client();
        assert!(error.retryable && error.retry_after_ms.is_some_and(|millis| millis >= 500), "{error:?}");
        assert!(!error.message.contains("disk"), "nothing internal");
    }

    #[test]
    fn a_refusal_without_a_known_code_is_internal() {
        let refusal = wire::Refusal { code: 999, ..Default::default() };
        assert_eq!(ApiError::from(refusal).to_client().code, "internal");
    }
}

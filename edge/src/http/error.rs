//! Errors as responses: `{"error": {code, message, retryable, retry_after_ms?}}` with the fitting status.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tidings_schemas::client;

use super::reply::json;
use crate::error::{ApiError, ErrorCode};

/// The code of an error response, for the metrics. In the response's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToldCode(pub(super) ErrorCode);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        with_status(status, &self)
    }
}

/// The response to an error whose status is not its code's own one.
pub(super) fn with_status(status: StatusCode, error: &ApiError) -> Response {
    let mut response = json(status, &client::ErrorResponse { error: Some(error.to_client()) });
    if let Some(millis) = error.retry_after_ms {
        let seconds = HeaderValue::from(millis.div_ceil(1000).max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    if error.code == ErrorCode::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.extensions_mut().insert(ToldCode(error.code));
    response
}

/// A known path with another method. The router adds the `Allow` header.
pub(super) async fn method_not_allowed() -> Response {
    let error = ApiError::invalid_argument("this path does not take this method: see the Allow header, and /docs");
    with_status(StatusCode::METHOD_NOT_ALLOWED, &error)
}

/// A path that is not there.
pub(super) fn no_such_path() -> ApiError {
    ApiError::not_found("there is nothing at this path: see /docs for the API")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_code_has_its_status_and_headers() {
        for code in ErrorCode::ALL {
            let response = ApiError::new(code, "x").into_response();
            assert_eq!(response.status().as_u16(), code.http_status());
            assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), response.status() == 401);
        }
        let response = ApiError::rate_limited("slow down", Duration::from_millis(1_001)).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }
}

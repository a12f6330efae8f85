//! What every request passes through: a deadline, a net for panics, the headers that keep browsers safe, the rule for
//! other origins, and the metrics.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    body::Body,
    extract::{MatchedPath, State},
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;

use super::{App, error::ToldCode};
use crate::{
    error::ApiError,
    metrics::{Door, seconds},
};

/// For pages: nothing from elsewhere, nothing inline, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     media-src 'self' blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// How long a browser may remember that another origin is allowed.
const PREFLIGHT_SECONDS: &str = "600";

/// The middleware.
pub(super) async fn guard(State(app): State<App>, request: Request<Body>, next: Next) -> Response {
    let since = app.http.clock.monotonic();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let origin = allowed_origin(&app.http.config.allowed_origins, request.headers());

    let mut response = match origin.as_ref().filter(|_| is_preflight(&request)) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => answer(&app, request, next).await,
    };

    if let Some(ToldCode(code)) = response.extensions().get() {
        app.http.metrics.error(Door::Http, *code);
    }
    let route = route.as_deref().unwrap_or("none");
    let elapsed = seconds(since, app.http.clock.monotonic());
    app.http_metrics.answered(route, &method, response.status().as_u16(), elapsed);
    put_headers(response.headers_mut(), origin, !app.http.config.allowed_origins.is_empty());
    response
}

/// The handler's answer, in time and whatever happens in it.
async fn answer(app: &App, request: Request<Body>, next: Next) -> Response {
    let deadline = Duration::from_millis(app.http.config.request_timeout_ms);
    match tokio::time::timeout(deadline, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a request's handler panicked: this is a defect");
            ApiError::internal("something went wrong here: it has been noted").into_response()
        }
        Err(_) => ApiError::unavailable("the request took too long: try again").into_response(),
    }
}

/// The request's origin, if its pages may call the API.
fn allowed_origin(allowed: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let is_allowed = allowed.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes());
    is_allowed.then(|| origin.clone())
}

fn is_preflight(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn put_headers(headers: &mut HeaderMap, origin: Option<HeaderValue>, varies: bool) {
    let fixed = HeaderValue::from_static;
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(header::REFERRER_POLICY, fixed("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(fixed("no-store"));
    let is_page = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        headers.insert(header::CONTENT_SECURITY_POLICY, fixed(CONTENT_SECURITY_POLICY));
        headers.insert(header::X_FRAME_OPTIONS, fixed("DENY"));
        headers.insert("cross-origin-opener-policy", fixed("same-origin"));
    }
    if varies {
        headers.append(header::VARY, fixed("origin"));
    }
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, HEAD, POST, PUT, PATCH, DELETE"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fixed("authorization, content-type, x-content-sha256"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, fixed("retry-after, etag"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, fixed(PREFLIGHT_SECONDS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_origins_are_allowed_by_name_only() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_static("https://app.example"));
        let allowed = |list: &[&str]| {
            allowed_origin(&list.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>(), &headers).is_some()
        };
        assert!(!allowed(&[]));
        assert!(!allowed(&["https://app.example.org", "http://app.example"]));
        assert!(allowed(&["https://other.example", "https://app.example"]));
        assert!(allowed(&["*"]));
        assert_eq!(allowed_origin(&["*".to_owned()], &HeaderMap::new()), None);
    }
}

//! What every request passes through: a deadline, a net for panics, the headers that keep browsers safe, the rule for
//! other origins, and the metrics.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{MatchedPath, State},
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use tidings_schemas::clock::Clock;

use super::{
    error::ToldCode,
    metrics::HttpMetrics,
    origins::{FOREIGN, Origin, Origins},
};
use crate::{
    error::{ApiError, ErrorCode},
    metrics::{Door, Metrics, seconds},
};

/// For pages: nothing from elsewhere, nothing inline, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     media-src 'self' blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// How long a browser may remember that another origin is allowed.
const PREFLIGHT_SECONDS: &str = "600";

/// What the middleware works with.
pub(super) struct Guard {
    /// A request must be answered within this.
    pub(super) deadline: Duration,
    pub(super) origins: Arc<Origins>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) http_metrics: HttpMetrics,
}

/// The middleware.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request<Body>, next: Next) -> Response {
    let since = guard.clock.monotonic();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let origin = guard.origins.of(request.headers());
    let is_api = request.uri().path().starts_with("/v1/");

    let mut response = match origin {
        Origin::Foreign if is_api => ApiError::new(ErrorCode::PermissionDenied, FOREIGN).into_response(),
        Origin::Allowed(_) if is_preflight(&request) => StatusCode::NO_CONTENT.into_response(),
        _ => answer(guard.deadline, request, next).await,
    };

    if let Some(ToldCode(code)) = response.extensions().get() {
        guard.metrics.error(Door::Http, *code);
    }
    let route = route.as_deref().unwrap_or("none");
    let elapsed = seconds(since, guard.clock.monotonic());
    guard.http_metrics.answered(route, &method, response.status().as_u16(), elapsed);
    let allowed = match origin {
        Origin::Allowed(origin) => Some(origin),
        _ => None,
    };
    put_headers(response.headers_mut(), allowed, guard.origins.allows_others());
    response
}

/// The handler's answer, in time and whatever happens in it.
async fn answer(deadline: Duration, request: Request<Body>, next: Next) -> Response {
    match tokio::time::timeout(deadline, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a request's handler panicked: this is a defect");
            ApiError::internal("something went wrong here: it has been noted").into_response()
        }
        Err(_) => ApiError::unavailable("the request took too long: try again").into_response(),
    }
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
    use std::net::SocketAddr;

    use axum::{Router, middleware, routing::get};
    use prometheus_client::registry::Registry;
    use tidings_schemas::clock::SystemClock;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn panics() -> &'static str {
        panic!("the test wants this")
    }

    /// A read whose store does not answer.
    async fn hangs() -> &'static str {
        std::future::pending().await
    }

    async fn serve(registry: &mut Registry) -> SocketAddr {
        let state = Guard {
            deadline: Duration::from_millis(100),
            origins: Arc::default(),
            clock: Arc::new(SystemClock::new()),
            metrics: Arc::new(Metrics::new(registry)),
            http_metrics: HttpMetrics::new(registry),
        };
        let router = Router::new()
            .route("/v1/panics", get(panics))
            .route("/v1/hangs", get(hangs))
            .route("/v1/good", get(async || "good"))
            .layer(middleware::from_fn_with_state(Arc::new(state), guard));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_panic_and_a_slow_read_are_errors_of_one_request() {
        let mut registry = Registry::default();
        let address = serve(&mut registry).await;
        for (path, status, code) in [("/v1/panics", 500, "internal"), ("/v1/hangs", 503, "unavailable")] {
            // Another one on its way meanwhile, and one after it.
            let (answer, other) = tokio::join!(fetch(address, path), fetch(address, "/v1/good"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
            assert!(!answer.contains("the test wants this"), "nothing internal is told: {answer}");
            assert!(other.ends_with("good"), "{other}");
            assert!(fetch(address, "/v1/good").await.ends_with("good"));
            let mut metrics = String::new();
            prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
            let counted = format!("tidings_edge_errors_total{{door=\"http\",code=\"{code}\"}} 1\n");
            assert!(metrics.contains(&counted), "{metrics}");
            let request = format!("route=\"{path}\",method=\"GET\",status=\"{status}\"}} 1\n");
            assert!(metrics.contains(&request), "{metrics}");
        }
    }
}

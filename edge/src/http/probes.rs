//! For those who run it: is the process alive, can it serve, and what has it counted.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{App, Check, reply::json};

/// `GET /livez`: the process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// The body of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Check>,
}

/// `GET /readyz`: 200 when all checks pass, else 503 with what is wrong.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let checks = app.http.host.checks().await;
    let ready = checks.iter().all(|check| check.problem.is_none());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Readiness { ready, checks })
}

/// `GET /metrics`: for Prometheus.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], app.http.host.metrics_text()).into_response()
}

//! For those who run it: is the process alive, can it serve, and what has it counted. Beside the other endpoints, or, in
//! a process without an edge, on a port of their own.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Check, Host, error, reply::json};

/// The three of them.
pub(super) fn router<S: Clone + Send + Sync + 'static>(host: Arc<dyn Host>) -> Router<S> {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(host)
}

/// The probes of a process without an edge. Dropping it ends them.
#[derive(Debug)]
pub struct Probes {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Probes {
    /// Answers on a port of its own, in the running tokio runtime.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    pub async fn serve(listen: SocketAddr, host: Arc<dyn Host>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let router: Router = router(host).fallback(|| async { error::no_such_path() });
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the probes are not answered any more");
            }
        });
        Ok(Self { address, serving })
    }

    /// Where they are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `GET /livez`: the process answers.
async fn live() -> &'static str {
    "ok\n"
}

/// The body of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Check>,
}

/// `GET /readyz`: 200 when all checks pass, else 503 with what is wrong.
async fn ready(State(host): State<Arc<dyn Host>>) -> Response {
    let checks = host.checks().await;
    let ready = checks.iter().all(|check| check.problem.is_none());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Readiness { ready, checks })
}

/// `GET /metrics`: for Prometheus.
async fn metrics(State(host): State<Arc<dyn Host>>) -> Response {
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], host.metrics_text()).into_response()
}

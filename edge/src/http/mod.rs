//! The HTTP door: the client contract's endpoints, the probes, the API reference and the web client.
//!
//! - `endpoints`: one endpoint a file, with its handler and its OpenAPI text. `endpoint`: what they have in common;
//!   router and OpenAPI document are made from the same list.
//! - `extract`, `reply`, `error`: what comes in and what goes out. `guard`: what every request passes through;
//!   `origins`: whose pages may call.
//! - `openapi`: the document. `docs`: the page that renders it. `assets`: the web client. `probes`: `/livez`,
//!   `/readyz`, `/metrics`, also of a process without an edge. [`host`]: what the process around the edge answers for these.

mod assets;
pub mod config;
mod docs;
mod endpoint;
mod endpoints;
mod error;
mod extract;
mod guard;
pub mod host;
mod metrics;
mod openapi;
pub(crate) mod origins;
mod probes;
mod reply;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, middleware, routing::get};
use prometheus_client::registry::Registry;
use tidings_schemas::clock::Clock;

use self::{assets::Assets, guard::Guard, metrics::HttpMetrics, origins::Origins};
pub use self::{
    config::HttpConfig,
    host::{Check, Host},
    probes::Probes,
};
use crate::{auth::Auth, commands::Commands, metrics::Metrics, rate_limits::AddressLimit, read::Reads};

/// What the endpoints work with.
pub struct Http {
    /// Settings.
    pub config: HttpConfig,
    /// Changes.
    pub commands: Arc<Commands>,
    /// Reads.
    pub reads: Arc<Reads>,
    /// Accounts and tokens.
    pub auth: Arc<Auth>,
    /// For requests without a user.
    pub address_limit: Arc<AddressLimit>,
    /// The process around the edge.
    pub host: Arc<dyn Host>,
    /// The edge's metrics.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The epoch of the update streams.
    pub epoch: String,
}

/// The address of the client that a request came from. The server puts it into each request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// What handlers share.
pub(crate) struct Shared {
    pub(crate) http: Http,
    pub(crate) assets: Assets,
}

/// The state of the router.
pub(crate) type App = Arc<Shared>;

/// The router of everything but `/v1/connect`. Reads the web client into memory.
pub(crate) fn router(http: Http, origins: Arc<Origins>, registry: &mut Registry) -> Router {
    let assets = Assets::load(http.config.web_directory.as_deref());
    let guard = Guard {
        deadline: Duration::from_millis(http.config.request_timeout_ms),
        origins,
        clock: Arc::clone(&http.clock),
        metrics: Arc::clone(&http.metrics),
        http_metrics: HttpMetrics::new(registry),
    };
    let mut router: Router<App> = probes::router(Arc::clone(&http.host));
    let app: App = Arc::new(Shared { http, assets });
    for endpoint in endpoints::all() {
        router = router.route(endpoint.path, endpoint.handler);
    }
    router
        .route("/openapi.json", get(openapi::serve))
        .route("/docs", get(docs::page))
        .route("/docs/style.css", get(docs::style))
        .fallback(assets::fallback)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::guard))
        .with_state(app)
}

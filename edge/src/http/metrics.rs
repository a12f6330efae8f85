//! What the HTTP door counts.

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

type Labels<const N: usize> = [(&'static str, String); N];

/// Requests by route, method and status, and how long they took by route.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    requests: Family<Labels<3>, Counter>,
    request_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
}

impl HttpMetrics {
    /// Makes and registers them, as `tidings_edge_http_…`.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        let metrics = Self { requests: Family::default(), request_seconds: Family::new_with_constructor(buckets) };
        let to = registry.sub_registry_with_prefix("tidings_edge_http");
        to.register("requests", "HTTP requests, by route, method and status", metrics.requests.clone());
        let latency = metrics.request_seconds.clone();
        to.register_with_unit("request", "HTTP request to response, by route", Unit::Seconds, latency);
        metrics
    }

    /// Counts a request. `route` is the pattern that matched, never the path itself: its ids would be labels.
    pub(crate) fn answered(&self, route: &str, method: &axum::http::Method, status: u16, seconds: f64) {
        const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        let labels = [("route", route.to_owned()), ("method", method.to_owned()), ("status", status.to_string())];
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.get_or_create(&[("route", route.to_owned())]).observe(seconds);
    }
}

//! What the edge counts. No user or conversation in any label.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tidings_schemas::{errors::CloseCode, wire::ErrorCode};

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The edge's metrics. All are cheap to update: atomics, and a read lock where there is a label.
#[derive(Debug)]
pub struct Metrics {
    /// Open TCP connections, of both doors.
    pub connections: Gauge,
    /// Sessions: connections that said `hello`.
    pub sessions: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Frames from clients.
    pub frames_received: Counter,
    /// Frames to clients, pushes and replies.
    pub frames_sent: Counter,
    /// Bytes read from WebSockets.
    pub received_bytes: Counter,
    /// Bytes written to WebSockets.
    pub sent_bytes: Counter,
    /// Writes to sockets; `frames_sent` over this is how well frames are batched.
    pub socket_writes: Counter,
    /// From taking a command's event to its durability.
    pub append_seconds: Histogram,
    /// From taking a command to its verdict.
    pub verdict_seconds: Histogram,
    /// From the append of a delivery to its being queued on the connection (the log's clock against this machine's).
    pub delivery_lag_seconds: Histogram,
    /// From `hello` to `welcome`.
    pub attach_seconds: Histogram,
    /// Bytes that wait in the outgoing queues of all WebSockets; set once a second.
    pub outgoing_queue_bytes: Gauge,
    /// Requests that wait for a verdict.
    pub verdicts_pending: Gauge,
    /// Receipts that wait to be appended.
    pub receipts_pending: Gauge,
    /// Signals that wait to be appended.
    pub signals_pending: Gauge,
    /// Sessions that read what they missed, from the views or the archive.
    pub catch_ups: Counter,
    /// Updates read for sessions that catch up.
    pub catch_up_updates: Counter,
    /// Requests at other edges that were taken off users' rate limits here.
    pub spent_elsewhere: Counter,
    dropped: Family<Labels<1>, Counter>,
    closes: Family<Labels<1>, Counter>,
    errors: Family<Labels<2>, Counter>,
}

/// Which of the two doors a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A WebSocket.
    WebSocket,
    /// HTTP.
    Http,
}

impl Metrics {
    /// Makes and registers all of them, as `tidings_edge_…`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Gauge::default(),
            sessions: Gauge::default(),
            connections_accepted: Counter::default(),
            frames_received: Counter::default(),
            frames_sent: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            socket_writes: Counter::default(),
            append_seconds: latency(),
            verdict_seconds: latency(),
            delivery_lag_seconds: latency(),
            attach_seconds: latency(),
            outgoing_queue_bytes: Gauge::default(),
            verdicts_pending: Gauge::default(),
            receipts_pending: Gauge::default(),
            signals_pending: Gauge::default(),
            catch_ups: Counter::default(),
            catch_up_updates: Counter::default(),
            spent_elsewhere: Counter::default(),
            dropped: Family::default(),
            closes: Family::default(),
            errors: Family::default(),
        };
        metrics.register(registry.sub_registry_with_prefix("tidings_edge"));
        metrics
    }

    fn register(&self, to: &mut Registry) {
        to.register("connections", "Open connections", self.connections.clone());
        to.register("sessions", "Connections that said hello", self.sessions.clone());
        to.register("connections_accepted", "Connections accepted", self.connections_accepted.clone());
        to.register("frames_received", "Frames from clients", self.frames_received.clone());
        to.register("frames_sent", "Frames to clients", self.frames_sent.clone());
        to.register_with_unit("received", "Read from WebSockets", Unit::Bytes, self.received_bytes.clone());
        to.register_with_unit("sent", "Written to WebSockets", Unit::Bytes, self.sent_bytes.clone());
        to.register("socket_writes", "Writes to sockets", self.socket_writes.clone());
        to.register_with_unit("append", "Command to durable event", Unit::Seconds, self.append_seconds.clone());
        to.register_with_unit("verdict", "Command to its verdict", Unit::Seconds, self.verdict_seconds.clone());
        let lag = self.delivery_lag_seconds.clone();
        to.register_with_unit("delivery_lag", "Delivery appended to queued for its clients", Unit::Seconds, lag);
        to.register_with_unit("attach", "Hello to welcome", Unit::Seconds, self.attach_seconds.clone());
        let queued = self.outgoing_queue_bytes.clone();
        to.register_with_unit("outgoing_queue", "Waiting in the outgoing queues of WebSockets", Unit::Bytes, queued);
        to.register("verdicts_pending", "Requests that wait for a verdict", self.verdicts_pending.clone());
        to.register("receipts_pending", "Receipts that wait to be appended", self.receipts_pending.clone());
        to.register("signals_pending", "Signals that wait to be appended", self.signals_pending.clone());
        to.register("catch_ups", "Sessions that read what they missed", self.catch_ups.clone());
        to.register("catch_up_updates", "Updates read by catching up", self.catch_up_updates.clone());
        to.register("spent_elsewhere", "Requests at other edges that count here", self.spent_elsewhere.clone());
        to.register("dropped", "What was dropped, by reason", self.dropped.clone());
        to.register("closes", "WebSockets closed, by code", self.closes.clone());
        to.register("errors", "Errors told to clients, by door and code", self.errors.clone());
    }

    /// Counts what was dropped. `reason` is of a small fixed set, such as `typing_slow_consumer`.
    pub fn dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a WebSocket that the server closed.
    pub fn closed(&self, code: CloseCode) {
        self.closes.get_or_create(&[("code", code.reason())]).inc();
    }

    /// Counts a WebSocket that ended otherwise: `client` (a goodbye) or `broken`.
    pub fn ended(&self, how: &'static str) {
        self.closes.get_or_create(&[("code", how)]).inc();
    }

    /// Counts an error that a client was told.
    pub fn error(&self, door: Door, code: ErrorCode) {
        let door = match door {
            Door::WebSocket => "websocket",
            Door::Http => "http",
        };
        self.errors.get_or_create(&[("door", door), ("code", code.name())]).inc();
    }
}

/// From a tenth of a millisecond to some thirteen seconds.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

/// A duration since `since`, both from the injected monotonic clock, in seconds.
pub fn seconds(since: Duration, now: Duration) -> f64 {
    now.saturating_sub(since).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_prefix_and_unit() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.dropped("typing_slow_consumer");
        metrics.closed(CloseCode::SlowConsumer);
        metrics.error(Door::WebSocket, ErrorCode::NotAMember);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for expected in [
            "tidings_edge_dropped_total{reason=\"typing_slow_consumer\"} 1",
            "tidings_edge_closes_total{code=\"slow_consumer\"} 1",
            "tidings_edge_errors_total{door=\"websocket\",code=\"not_a_member\"} 1",
            "tidings_edge_verdict_seconds_bucket",
            "tidings_edge_sent_bytes_total",
        ] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
    }
}

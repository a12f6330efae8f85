//! The edge's settings. Defaults are the limits' defaults; units are last in the names.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tidings_schemas::limits;

use crate::{proxies::Network, tls::TlsConfig};

/// Settings of an edge node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port for HTTP and WebSocket. Port 0: any free one.
    pub listen: SocketAddr,
    /// How long this edge keeps its number (its partition of `deliveries`) without a sign of life: after that another edge
    /// may take it. (With the embedded log there is one edge, and no lease.)
    pub lease_duration_ms: u32,
    /// How often it gives that sign.
    pub lease_renew_interval_ms: u32,
    /// Open connections, of both kinds. Over: a WebSocket is closed with 4003, HTTP is answered with 503.
    pub connections_max: usize,
    /// Bytes waiting to be written to one connection. Past half of it typing and presence are dropped, past all of it the
    /// connection is closed with 4001.
    pub outgoing_queue_bytes_max: usize,
    /// `hello` must come within this. Else: close 4500.
    pub hello_timeout_ms: u64,
    /// How often clients are asked to send `heartbeat`.
    pub heartbeat_interval_ms: u32,
    /// The server pings a connection this often, and closes it (4002) after two unanswered.
    pub ping_interval_ms: u64,
    /// How long a command waits for its verdict before `queued` (a send) or `unavailable` (the rest).
    pub verdict_timeout_ms: u64,
    /// The receipts of one conversation leave the edge at most this often.
    pub receipt_interval_ms: u64,
    /// Sends of one user each second. 0: no limit.
    pub user_sends_per_second: u32,
    /// Sends of one user at once.
    pub user_sends_burst: u32,
    /// Connects and requests without a user, of one address, each second. 0: no limit.
    pub address_requests_per_second: u32,
    /// Connects and requests without a user, of one address, at once.
    pub address_requests_burst: u32,
    /// Whether addresses of this machine are limited, too. Off: a local proxy or a load test is all clients at once.
    pub limit_loopback: bool,
    /// Proxies in front of this edge, as addresses or ranges (`10.0.0.0/8`). Where one of them connects, the client's
    /// address for the limits above is the rightmost one in `X-Forwarded-For` that is not theirs. None: the header is
    /// ignored, since anybody can send it.
    pub trusted_proxies: Vec<Network>,
    /// Memory for older history that was read from the archive lately, in bytes. 0: none.
    pub history_cache_bytes: u64,
    /// After `goaway`, how long until connections are closed with 4000.
    pub drain_delay_ms: u64,
    /// What `goaway` tells clients to wait before they come back, at the least; each gets up to as much again, at random,
    /// so that they don't come all at once.
    pub drain_reconnect_after_ms: u32,
    /// TLS on the port.
    pub tls: TlsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            lease_duration_ms: u32::try_from(millis(limits::EDGE_LEASE_DURATION)).unwrap_or(u32::MAX),
            lease_renew_interval_ms: u32::try_from(millis(limits::EDGE_LEASE_RENEW_INTERVAL)).unwrap_or(u32::MAX),
            connections_max: limits::CONNECTIONS_MAX,
            outgoing_queue_bytes_max: limits::OUTGOING_QUEUE_BYTES_MAX,
            hello_timeout_ms: millis(limits::HELLO_TIMEOUT),
            heartbeat_interval_ms: u32::try_from(millis(limits::HEARTBEAT_INTERVAL)).unwrap_or(u32::MAX),
            ping_interval_ms: millis(limits::PING_INTERVAL),
            verdict_timeout_ms: millis(limits::VERDICT_TIMEOUT),
            receipt_interval_ms: millis(limits::RECEIPT_BATCH_INTERVAL),
            user_sends_per_second: limits::USER_SENDS_PER_SECOND,
            user_sends_burst: limits::USER_SENDS_BURST,
            address_requests_per_second: limits::ADDRESS_REQUESTS_PER_SECOND,
            address_requests_burst: limits::ADDRESS_REQUESTS_BURST,
            limit_loopback: false,
            trusted_proxies: Vec::new(),
            history_cache_bytes: limits::HISTORY_CACHE_BYTES,
            drain_delay_ms: 500,
            drain_reconnect_after_ms: 1_000,
            tls: TlsConfig::default(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! The edge node: what clients talk to. It holds no authoritative state; kill one, and its clients resume on another.
//!
//! - [`start`]: an edge as a whole. [`server`]: one port for both doors. [`tls`]: TLS on it. [`http`]: the endpoints. [`websocket`]: a connection, from handshake to close.
//! - [`auth`]: accounts, tokens, outside issuers. [`read`]: typed reads of the views and of the history behind them.
//! - [`commands`]: what both doors call: a command becomes an event, and the event's verdict the reply.
//! - [`connections`]: all open WebSockets. [`sessions`]: who is connected here, and each session's place in the user's update stream.
//! - [`deliveries`]: reads this edge's partition and routes verdicts, pushes and notices.
//! - [`leases`]: which number this edge has.
//! - [`signals`], [`receipts`]: batch what many clients say into few records.
//! - [`revocations`]: ends the sessions of tokens that were ended. [`verdicts`]: requests that wait. [`membership`]: whether a user is in a conversation.
//! - [`proxies`]: who a client behind a proxy is. [`rate_limits`], `shared_limits`, [`metrics`], [`error`], [`config`].

pub mod auth;
pub mod commands;
pub mod config;
pub mod connections;
pub mod deliveries;
mod edge;
pub mod error;
pub mod http;
pub mod leases;
pub mod membership;
pub mod metrics;
mod outbox;
pub mod proxies;
pub mod rate_limits;
pub mod read;
pub mod receipts;
pub mod revocations;
pub mod server;
pub mod sessions;
mod shared_limits;
pub mod signals;
pub mod tls;
pub mod verdicts;
pub mod websocket;

pub use config::Config;
#[cfg(feature = "simulation")]
pub use edge::Portless;
pub use edge::{Dependencies, Handle, StartError, epoch, start};

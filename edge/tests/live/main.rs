//! The WebSocket side of the client contract, with real sockets, against an edge on the real log, stages and views.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod bad_input;
mod chat;
mod leases;
mod pressure;
mod resume;
mod signing_out;
mod support;
mod tls;
mod unreadable;
mod watches;

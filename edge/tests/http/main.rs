//! The HTTP door over real sockets, against an edge on the real log, stages and views.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accounts;
mod bad_requests;
mod conversations;
mod messages;
mod node;
mod pages;
mod request;

//! `tidings replay`, run as its users run it, on logs that `tidings up` has made.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(dead_code, reason = "the harness is the protocol tests', who use all of it")]

#[path = "../../../ingest/tests/support/broker.rs"]
mod broker;
mod chats;
mod copies;
mod diff;
mod dump;
#[path = "../protocol/harness.rs"]
mod harness;
mod kafka;
mod past;
mod rebuild;
mod sql;
mod tool;
mod verify;

//! Every line of the client contract, with real sockets against a real process on the embedded default.
//!
//! Each test starts a server of its own on a fresh data folder. [`harness`]: the server, and people who talk to it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(dead_code, reason = "the harness serves other tests, too")]

mod accounts;
mod bad_input;
mod conversations;
mod harness;
mod messages;
mod node;
mod presence;
mod receipts;
mod terminal;
mod updates;

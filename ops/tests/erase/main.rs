//! `tidings erase`, run as operators run it, on data folders that `tidings up` has filled.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(dead_code, reason = "the harness is the protocol tests', who use all of it")]

#[path = "../../../ingest/tests/support/broker.rs"]
mod broker;
mod crashed;
mod erased;
mod fleet;
#[path = "../protocol/harness.rs"]
mod harness;
#[path = "../replay/tool.rs"]
mod replay;
mod running;
mod tool;

//! A thin, safe wrapper around libchdb, the ClickHouse engine as a shared library, loaded at run time.
//!
//! - [`engine`]: loads the library and opens the engine's one data folder. [`Engine`] is the handle to it.
//! - [`connection`]: [`Connection`], a session: queries, streaming inserts, classification of a statement.
//! - [`configuration`]: the engine's own configuration files, made small enough for a machine that it shares.
//! - [`symbols`]: the C interface, and where most of the `unsafe` is.
//! - [`exit`]: leaving the process without the engine's teardown.
//! - [`error`]: what can go wrong, with the engine's error codes.
//!
//! What the library demands, and how it is kept: signal handlers are refused before anything else; there is one data
//! folder for each process and one process for each folder (a lock file says so clearly); a connection stays on the
//! thread that opened it ([`Connection`] is not `Send`); the library is
//! never unloaded and the engine never taken down: it ends with the process.

#![allow(unsafe_code, reason = "a C library has no other door; every block says why it is sound")]

pub mod configuration;
pub mod connection;
pub mod engine;
pub mod error;
mod exit;
mod symbols;

pub use connection::{Connection, Output, StatementClass, Statements};
pub use engine::Engine;
pub use error::EngineError;

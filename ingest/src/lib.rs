//! The log: what everything else is kept up to date from.
//!
//! - [`log`]: the port. [`Log`] appends and opens readers, [`LogReader`] reads one partition from an offset.
//! - [`error`]: why an append or a read was refused, with the code that a client sees.
//! - [`embedded`]: the implementation that needs nothing but a directory.
//! - [`asynchronous`]: the same port for async callers: [`LogExt::append`] and [`AsyncReader`].
//! - `memory` (a feature): a log in memory, for simulations.
//! - `conformance` (a feature): what every implementation must pass.

pub mod asynchronous;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod embedded;
pub mod error;
pub mod log;
#[cfg(feature = "simulation")]
pub mod memory;

pub use asynchronous::{AsyncReader, LogExt};
pub use embedded::EmbeddedLog;
pub use embedded::config::EmbeddedConfig;
pub use error::{AppendError, LogError};
pub use log::{Log, LogReader, NewRecord, OffsetRange, OnAppended, StoredRecord, Wake};

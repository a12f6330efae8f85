//! The views: what the edges read. Rebuildable from the log at any time.
//!
//! - [`store`]: the embedded store of the rows ([`tidings_schemas::views::ViewStore`]), on fjall.
//! - [`redis`]: the same on Redis, for any number of processes.
//! - [`projection`]: the consumer that reads `timeline`, `inbox` and `directory` and writes the rows.
//! - [`conformance`] (feature `conformance`): what every implementation of the store must do, as functions over a factory.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod projection;
pub mod redis;
pub mod store;

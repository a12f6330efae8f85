//! The views: what the edges read. Rebuildable from the log at any time.
//!
//! - [`store`]: the embedded store of the rows ([`tidings_schemas::views::ViewStore`]), on fjall.
//! - [`redis`]: the same on Redis, for any number of processes.
//! - [`owners`]: all that a store holds, for comparing two of them.
//! - [`projection`]: the consumer that reads `timeline`, `inbox` and `directory` and writes the rows.
//! - `memory` (feature `simulation`): rows in memory, for simulations.
//! - [`conformance`] (feature `conformance`): what every implementation of the store must do, as functions over a factory.

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "simulation")]
pub mod memory;
pub mod owners;
pub mod projection;
pub mod redis;
pub mod store;

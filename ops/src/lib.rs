//! The parts of the `tidings` program.
//!
//! - [`node`]: `up`, everything in one process. [`config`]: file, environment and flags, and the generated reference.
//! - [`clickhouse`]: the archive's engine as a server of its own. [`sql`]: asking it.
//! - [`chat`]: the terminal client. [`load`] and [`check`]: load a server, and hold what the clients saw against the
//!   contract. [`client`]: the public contract from a client's side, which these three share.
//! - [`replay`]: the log read back. [`erase`]: users and deleted messages taken out of it.
//! - [`print`]: what they all say on standard output. [`plan`]: what a service of a given size takes. `simulate` (a feature): the whole from a seed, held against the same.

#[macro_use]
pub mod print;

pub mod chat;
pub mod check;
pub mod clickhouse;
pub mod client;
pub mod config;
pub mod erase;
pub mod load;
pub mod node;
pub mod plan;
pub mod progress;
pub mod replay;
#[cfg(feature = "simulation")]
pub mod simulate;
pub mod sql;

//! The parts of the `tidings` program.
//!
//! - [`node`]: `up`, everything in one process. [`config`]: file, environment and flags, and the generated reference.
//! - [`chat`]: the terminal client. [`load`] and [`check`]: load a server, and hold what the clients saw against the
//!   contract. `simulate` (a feature): the whole from a seed, held against the same. [`client`]: the public contract from a client's side, which these three share.

pub mod chat;
pub mod check;
pub mod client;
pub mod config;
pub mod load;
pub mod node;
pub mod progress;
#[cfg(feature = "simulation")]
pub mod simulate;

//! What is derived from the event log, and kept incrementally up to date.
//!
//! - [`shard`]: a stage's dataflow for one partition, as the host sees it.

pub mod shard;

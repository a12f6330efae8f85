//! What is derived from the event log, and kept incrementally up to date.
//!
//! - [`archive`]: the archive: SQL over everything that was said, and history beyond the views' tail.
//! - [`recipients`]: the stage that numbers each recipient's stream, routes it, and keeps presence.
//! - [`shard`]: a stage's dataflow for one partition, as the host sees it.

pub mod archive;
pub mod recipients;
pub mod conversations;
pub mod shard;

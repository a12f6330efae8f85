//! What is derived from the event log, and kept incrementally up to date.
//!
//! - [`archive`]: the archive: SQL over everything that was said, and history beyond the views' tail.
//! - [`assignment`]: which partitions a projection follows.
//! - [`checkpoints`]: shards' states in object storage.
//! - [`conversations`]: the stage that decides what became of each event and whom it is for.
//! - [`host`]: the worker threads that run the stages' shards on the log.
//! - [`password`]: passwords of the stores, from a file or the environment.
//! - [`recipients`]: the stage that numbers each recipient's stream, routes it, and keeps presence.
//! - [`shard`]: a stage's dataflow for one partition, as the host sees it.
//! - [`solo`]: one shard on the caller's own thread, without a host.
//! - [`views`]: what the edges read, and the projection that writes it.

pub mod archive;
pub mod assignment;
pub mod checkpoints;
pub mod conversations;
pub mod host;
pub mod password;
pub mod recipients;
pub mod shard;
pub mod solo;
pub mod views;

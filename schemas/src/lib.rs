//! What the parts of Tidings agree on. Depends on no other crate here.
//!
//! - [`wire`]: the records of every topic, the views' values and the checkpoints' manifest, generated from `proto/`.
//! - [`client`]: the client contract (frames and HTTP bodies), with protobuf's JSON mapping.
//! - [`ids`]: users, conversations, messages, sessions. [`topics`]: the topics and what they are partitioned by.
//! - [`limits`]: every bound in the system. [`errors`]: error and close codes.
//! - [`erasure`]: what is left of a message whose content was erased.
//! - [`views`]: the key layout of the views and the port to their store.
//! - [`clock`], [`time`]: injected time and randomness, and the contract's timestamps.

pub mod clock;
pub mod erasure;
pub mod errors;
pub mod ids;
pub mod limits;
pub mod time;
pub mod topics;
pub mod views;

/// The records of every topic, the views' values and the checkpoints' manifest (`tidings.v1`).
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated; the documentation is in proto/")]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/tidings.v1.rs"));
}

/// The client contract (`tidings.client.v1`), binary and JSON.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the documentation is in proto/"
)]
pub mod client {
    include!(concat!(env!("OUT_DIR"), "/tidings.client.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/tidings.client.v1.serde.rs"));
}

/// The compiled descriptor set of `proto/`, for tools and for the test that refuses a breaking change.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

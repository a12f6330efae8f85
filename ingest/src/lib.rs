//! The log: what everything else is kept up to date from.
//!
//! - [`log`]: the port. [`Log`] appends and opens readers, [`LogReader`] reads one partition from an offset.
//! - [`error`]: why an append or a read was refused, with the code that a client sees.
//! - [`embedded`]: the implementation that needs nothing but a directory. [`kafka`]: the one for many processes.
//! - [`bulk`]: a log made of another's records, with their places and times.
//! - [`settings`], [`collector`]: what the settings, and the metrics, of both have in common.
//! - [`asynchronous`]: the same port for async callers: [`LogExt::append`] and [`AsyncReader`]. [`waiting`]: for callers
//!   with a thread of their own.
//! - [`group`]: which process does what. [`Groups`] are joined, a [`Membership`] says what is one's own.
//! - `memory` (a feature): a log in memory, for simulations.
//! - `conformance` (a feature): what every implementation must pass.

pub mod asynchronous;
pub mod bulk;
mod collector;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod embedded;
pub mod error;
pub mod group;
pub mod kafka;
pub mod log;
#[cfg(feature = "simulation")]
pub mod memory;
pub mod settings;
pub mod waiting;

pub use asynchronous::{AsyncReader, LogExt};
pub use bulk::{Bulk, BulkPlan};
pub use embedded::EmbeddedLog;
pub use embedded::bulk::BulkLog;
pub use embedded::config::EmbeddedConfig;
pub use embedded::read_only::ReadOnlyLog;
pub use embedded::rewrite::{Replacement, Rewritten, rewrite};
pub use error::{AppendError, LogError};
pub use group::{Assignment, FixedMember, Groups, Membership};
pub use kafka::KafkaLog;
pub use kafka::bulk::KafkaBulkLog;
pub use kafka::config::KafkaConfig;
pub use log::{Log, LogReader, NewRecord, OffsetRange, OnAppended, OnRange, Pace, StoredRecord, Wake};
pub use settings::{PartitionCounts, Retention};
pub use waiting::WaitingReader;

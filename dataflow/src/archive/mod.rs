//! The archive: every entry, change, update and receipt, kept for SQL and for history beyond the views' tail.
//!
//! - [`store`]: the port. [`sql`]: its implementation, over whatever runs the statements.
//! - [`embedded`]: the embedded engine, with its [`threads`], and the [`repair`] of its tables.
//! - [`clickhouse`]: a ClickHouse server, over HTTP. [`erasure`]: takes what is erased out of the tables.
//! - [`projection`]: the consumer that writes the archive from the log.
//! - [`rebuild`]: tables built anew, compared with those in use, and put in their place.
//! - [`summaries`]: days and hours that are over, counted once.
//! - [`analyst`]: what an analyst's query may take and see. [`http`]: a local ClickHouse-compatible port for analysts' tools.
//! - [`libchdb`]: the ClickHouse engine as a shared library, behind a thin safe wrapper.
//! - [`migrations`]: the schema, from `schemas/sql/`. [`tables`]: its tables as inserts and reads see them.
//! - [`rows`]: from the log's records to rows and back. [`row_facts`]: what a row says of itself. [`row_binary`]: the format of rows on their way in and out.
//! - [`conformance`]: what every implementation of the port must pass.

pub mod analyst;
pub mod clickhouse;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod embedded;
pub mod erasure;
pub mod http;
pub mod libchdb;
pub mod migrations;
pub mod projection;
pub mod rebuild;
mod repair;
pub mod row_binary;
pub mod row_facts;
pub mod rows;
pub mod sql;
pub mod store;
mod summaries;
pub mod tables;
mod threads;

pub use analyst::AnalystLimits;
pub use clickhouse::{ClickHouseArchive, ClickHouseConfig};
pub use embedded::{ArchiveSettings, EmbeddedArchive};
pub use store::{Archive, ArchiveError, Batch};

//! The archive: every entry, change, update and receipt, kept for SQL and for history beyond the views' tail.
//!
//! - [`libchdb`]: the ClickHouse engine as a shared library, behind a thin safe wrapper.
//! - [`migrations`]: the schema, from `schemas/sql/`. [`tables`]: its tables as inserts and reads see them.
//! - [`row_binary`]: the format of rows on their way in and out.

pub mod libchdb;
pub mod migrations;
pub mod row_binary;
pub mod tables;

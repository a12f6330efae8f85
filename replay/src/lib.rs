//! Reading the log back, for those who look at it afterwards.
//!
//! - [`scan`]: a range of one partition, every record in order, with gaps found. [`show`]: a record as readable text.

pub mod scan;
pub mod show;

pub use scan::{Scan, ScanError};

//! Reading the log back, for those who look at it afterwards. Prints nothing: `tidings replay` (`ops/src/replay/`) does.
//!
//! - [`select`]: which records: topics, partitions, offsets, times. [`scan`]: a range of one partition, with gaps found.
//! - [`fields`]: what the fields of the schemas mean. [`decode`]: a record as JSON. [`concern`]: whom a record concerns.
//! - [`tail`]: several partitions followed.

pub mod concern;
pub mod decode;
pub mod fields;
pub mod scan;
pub mod select;
pub mod tail;

pub use concern::Concern;
pub use scan::{Scan, ScanError};
pub use select::{Bound, Selection, Span};

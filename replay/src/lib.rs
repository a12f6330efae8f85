//! Reading the log back, for those who look at it afterwards. Prints nothing: `tidings replay` (`ops/src/replay/`) does.
//!
//! - [`select`]: which records: topics, partitions, offsets, times. [`scan`]: a range of one partition, with gaps found.
//! - [`fields`]: what the fields of the schemas mean. [`decode`]: a record as JSON. [`concern`]: whom a record concerns.
//! - [`tail`]: several partitions followed. [`raw`]: dumps byte for byte. [`import`]: such a dump into an empty log.
//! - [`verify`]: what was derived, derived again and compared. [`rebuild`]: the stores, built anew and put in place.
//! - [`state`]: what was so at a moment of the past. [`trace`]: one event's whole life. [`diff`]: what other rules would make
//!   of the same history. [`derived`]: where what follows from an event stands.
//! - [`erasure`]: what is taken out of a log for good.
//! - [`history`]: what happened, as another system takes it in. [`ids`]: ids mapped.

pub mod concern;
pub mod decode;
pub mod derived;
pub mod diff;
pub mod erasure;
pub mod fields;
pub mod history;
pub mod ids;
pub mod import;
pub mod raw;
pub mod rebuild;
pub mod scan;
pub mod select;
pub mod state;
pub mod tail;
pub mod trace;
pub mod verify;

pub use concern::Concern;
pub use scan::{Scan, ScanError};
pub use select::{Bound, Selection, Span};

//! What is taken out of a log when users are erased and messages were deleted: which records, and what is left of them.
//!
//! - [`rules`]: whose records, and which messages, as the log says. [`records`]: a record without what is erased.
//! - [`rows`]: the same for the views' rows. [`traces`]: where a user has written and is.
//! - [`needles`]: what is then searched for.
//!
//! A record keeps its place, its ids and its times, so that the stages decide the same; what is left out of an event is
//! left out of all that was derived from it in the same way, so that deriving again gives what is recorded.

pub mod needles;
pub mod records;
pub mod rows;
pub mod rules;
pub mod traces;

pub use needles::{Needles, needles, words_of_others};
pub use rules::{Erasing, Rules, erasing, rules};
pub use traces::{Traces, traces};

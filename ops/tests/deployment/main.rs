//! The deployment files, held against the program: what they name exists, what they say is read and accepted.
//!
//! - [`files`]: reading them. [`commands`]: every `tidings` command line, with its settings, by the program itself.
//! - [`compose`], [`kubernetes`], [`systemd`]: their own shape. [`users`]: who may do what on the stores.
//! - [`metrics`]: dashboards, alerts and documents name metrics that there are.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod commands;
mod compose;
mod files;
mod kubernetes;
mod metrics;
mod systemd;
mod users;

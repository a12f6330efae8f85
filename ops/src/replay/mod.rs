//! `tidings replay`: the log read back, copied and played again. docs/REPLAY.md is its guide.
//!
//! - [`dump`]: records out of the log. [`import`]: a raw dump into an empty log. [`into`]: history played into another.
//! - [`verify`]: what was derived, derived again and compared. [`rebuild`]: the stores, built anew.
//! - [`state`]: what was so at a moment of the past. [`trace`]: one message's whole life. [`table`]: columns for people.
//! - [`diff`]: what other rules would make of the same history. [`derive`]: what this program's make of it.
//! - [`source`], [`target`]: which logs. [`ranges`]: which records. [`exit`]: how it ends. [`progress`]: what is shown meanwhile.
//!   [`work`]: how it is gone about. [`people`]: users by name. [`draft`]: files that are whole or not there.
//!   [`output`]: how records are written. [`parquet`]: as a Parquet file.

pub mod derive;
pub mod diff;
pub mod draft;
pub mod dump;
pub mod exit;
pub mod import;
pub mod into;
pub mod output;
pub mod parquet;
pub mod people;
pub mod progress;
pub mod ranges;
pub mod rebuild;
pub mod source;
pub mod state;
pub mod table;
pub mod target;
pub mod trace;
pub mod verify;
pub mod work;

use std::process::ExitCode;

/// What to replay, from the command line.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct ReplayArgs {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 differences or damage were found; 2 what was asked for cannot be; 3 the source cannot be \
                          read; 4 the target cannot be written. docs/REPLAY.md is the guide.";

#[derive(Debug, Clone, clap::Subcommand)]
enum Verb {
    /// Write records of the log out: as a table, JSON lines, Parquet, or byte for byte.
    Dump(dump::DumpArgs),
    /// Make a log of a raw dump: the same partitions, offsets, keys, values and times.
    Import(import::ImportArgs),
    /// Play history into another system, which derives the rest itself.
    Into(into::IntoArgs),
    /// Derive timeline, fan-out and inbox anew, and compare with what was recorded.
    Verify(verify::VerifyArgs),
    /// Build the views or the archive anew from the log, compare, and put them in place, while the system runs.
    Rebuild(rebuild::RebuildArgs),
    /// What was so at a moment of the past: who was in a conversation, what was unread, who was online.
    State(Box<state::StateArgs>),
    /// One message's whole life: event, verdict, recipients, pushes, delivered, seen, edits, archive, and how long each took.
    Trace(Box<trace::TraceArgs>),
    /// Run the same history through changed limits or another build, and show what would come out differently.
    Diff(diff::DiffArgs),
    /// Write what this program's stages derive from the events, for `diff --with` of another build.
    Derive(derive::DeriveArgs),
}

/// Runs the verb; says on standard error why it failed.
pub fn run(args: &ReplayArgs) -> ExitCode {
    let outcome = match &args.verb {
        Verb::Dump(args) => dump::run(args),
        Verb::Import(args) => import::run(args),
        Verb::Into(args) => into::run(args),
        Verb::Verify(args) => verify::run(args),
        Verb::Rebuild(args) => rebuild::run(args),
        Verb::State(args) => state::run(args),
        Verb::Trace(args) => trace::run(args),
        Verb::Diff(args) => diff::run(args),
        Verb::Derive(args) => derive::run(args),
    };
    exit::code(outcome)
}

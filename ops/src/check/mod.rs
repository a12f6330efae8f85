//! `tidings check`: takes what the load's clients saw and holds it against what the contract promises.
//!
//! - Nothing is lost: every message that was acknowledged reached a device of every member.
//! - Nothing is repeated: a client's message became one message, and no device got an offset or a message twice.
//! - Nothing is reordered: everybody has the same message at the same `seq`, and every device saw each conversation's
//!   messages in ascending `seq`, and its updates with ascending offsets, without a gap.
//! - Receipts only move forward.

mod judge;
mod report;

use std::path::PathBuf;

pub use judge::{Finding, Judge, Verdict};

use crate::{
    load::record,
    replay::exit::{Code, Failure, Outcome, WithCode as _},
};

/// What to check, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// What `tidings load --record FILE` wrote.
    #[arg(value_name = "FILE")]
    pub record: PathBuf,
    /// The verdict as JSON on standard output.
    #[arg(long)]
    pub json: bool,
    /// How many findings of each kind to print.
    #[arg(long, default_value_t = 5)]
    pub show: usize,
}

/// Checks, prints the verdict, and fails if anything is wrong. The exit code is 1 when something is, 3 when the record cannot
/// be read.
pub fn run(args: &CheckArgs) -> Outcome {
    let mut judge = Judge::default();
    for observation in record::read(&args.record).code(Code::Source)? {
        judge.observe(&observation.code(Code::Source)?);
    }
    let verdict = judge.verdict();
    report::show(&verdict, args).code(Code::Target)?;
    match verdict.findings.len() {
        0 => Ok(()),
        wrong => Err(Failure::new(Code::Found, format!("{wrong} things are wrong"))),
    }
}

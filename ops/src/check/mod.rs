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

use anyhow::{Result, bail};

pub use judge::{Finding, Judge, Verdict};

use crate::load::record;

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

/// Checks, prints the verdict, and fails if anything is wrong.
pub fn run(args: &CheckArgs) -> Result<()> {
    let mut judge = Judge::default();
    for observation in record::read(&args.record)? {
        judge.observe(&observation?);
    }
    let verdict = judge.verdict();
    report::show(&verdict, args)?;
    if verdict.findings.is_empty() { Ok(()) } else { bail!("{} things are wrong", verdict.findings.len()) }
}

//! How a verb works through a log, and in which form it answers.

use std::thread;

/// How to work, from the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WorkArgs {
    /// Threads, each with partitions of its own. Left out: as many as the machine has cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Only say what would be read.
    #[arg(long)]
    pub dry_run: bool,
    /// The answer as JSON.
    #[arg(long)]
    pub json: bool,
}

impl WorkArgs {
    /// Partitions at a time.
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from)
    }
}

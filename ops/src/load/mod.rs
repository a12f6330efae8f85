//! `tidings load`: an open-loop load generator over real sockets.
//!
//! Open loop: message *i* is due at `start + i / rate`, whatever the server does, and its latency is measured from that
//! moment, so that a server that stalls cannot slow the measurement down with it (coordinated omission).
//!
//! - [`plan`]: who is in which conversation, and who sends what when. [`accounts`]: users and their tokens.
//! - [`device`]: one connection's task: sends, receipts, reconnects with resume. [`unacknowledged`]: what it tries again, and
//!   when. [`record`]: what it saw, for `check`.
//! - [`stats`] and [`report`]: histograms, and how they are shown.
//! - [`hops`]: where a message's time goes.
//! - [`messages`], [`connections`], [`catch_up`]: the three measurements.

pub mod accounts;
pub mod catch_up;
pub mod connections;
pub mod device;
pub mod hops;
pub mod messages;
pub mod plan;
pub mod record;
pub mod report;
pub mod stats;
mod unacknowledged;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::client::{Format, Server};

/// What to do, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// The server. May be repeated: clients then come to any of them, and go to another when one fails them.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: Vec<String>,
    /// For https: trust the certificates that this authority (or this very certificate, in PEM) vouches for, instead of
    /// those that the system trusts.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A connection on which nothing has come for so long, not even a ping, is given up.
    #[arg(long, default_value_t = 60.0)]
    pub silence_seconds: f64,
    /// Users. Each has one connection, unless --connections says otherwise.
    #[arg(long, default_value_t = 100)]
    pub users: usize,
    /// Messages a second, all users together.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// How long to send.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds of sending at the start that do not count.
    #[arg(long, default_value_t = 2.0)]
    pub warmup_seconds: f64,
    /// The share of messages that go to groups, 0 to 1; the rest go to direct chats of two.
    #[arg(long, default_value_t = 0.0)]
    pub group_share: f64,
    /// Groups.
    #[arg(long, default_value_t = 1)]
    pub groups: usize,
    /// Members of each group.
    #[arg(long, default_value_t = 100)]
    pub group_size: usize,
    /// Bytes of text in each message.
    #[arg(long, default_value_t = 100)]
    pub text_bytes: usize,
    /// Receivers send receipts (delivered and seen), gathered for this long for each conversation. 0: none.
    #[arg(long, default_value_t = 250)]
    pub receipt_interval_ms: u64,
    /// The frames' format.
    #[arg(long, value_enum, default_value = "protobuf")]
    pub format: Format,
    /// How long to wait at the end for what is still on its way.
    #[arg(long, default_value_t = 30.0)]
    pub drain_seconds: f64,
    /// Writes down what every client saw, for `tidings check`.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Keeps the accounts here and uses them again (making an account costs a password hash).
    #[arg(long, value_name = "FILE")]
    pub accounts: Option<PathBuf>,
    /// Instead of messages: open this many idle connections over the users and measure connects a second.
    #[arg(long, value_name = "COUNT")]
    pub connections: Option<usize>,
    /// With --connections: the server's process id, to measure its memory for each connection.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Instead of messages: leave a client this many messages behind and measure how long it takes to have them all.
    #[arg(long, value_name = "MESSAGES")]
    pub catch_up: Option<usize>,
    /// Instead of one rate: look for the highest with p99 under this, starting at --rate.
    #[arg(long, value_name = "MILLISECONDS")]
    pub find_max_p99_ms: Option<f64>,
    /// A process whose /metrics are read before and after, to show the latency of each hop: the base URL of `tidings up`,
    /// or of each process of a fleet.
    #[arg(long, value_name = "URL")]
    pub hops: Vec<String>,
    /// The result as JSON on standard output.
    #[arg(long)]
    pub json: bool,
    /// What the choice of conversations and senders follows from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of the generator itself.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

impl LoadArgs {
    /// The servers.
    pub fn servers(&self) -> Result<Vec<Server>> {
        self.url.iter().map(|url| Server::parse(url, self.ca.as_deref())).collect()
    }

    /// The first of them: for what is measured on one.
    pub fn server(&self) -> Result<Server> {
        self.servers()?.into_iter().next().context("--url is missing")
    }

    /// The processes whose metrics are read.
    pub fn hop_processes(&self) -> Result<Vec<Server>> {
        self.hops.iter().map(|url| Server::parse(url, self.ca.as_deref())).collect()
    }

    fn validate(&self) -> Result<()> {
        ensure!(self.silence_seconds >= 1.0 && self.silence_seconds <= 3_600.0, "--silence-seconds must be 1 to 3600");
        ensure!(self.users >= 2, "--users must be at least 2, for somebody to talk to");
        ensure!(self.rate > 0.0 && self.rate <= 1e6, "--rate must be above 0 and at most 1000000");
        ensure!(self.seconds > 0.0 && self.seconds <= 86_400.0, "--seconds must be above 0 and at most 86400");
        ensure!((0.0..=1.0).contains(&self.group_share), "--group-share must be between 0 and 1");
        ensure!(
            self.group_share == 0.0 || (2..=self.users).contains(&self.group_size),
            "--group-size must be between 2 and --users ({})",
            self.users
        );
        ensure!(self.group_share == 0.0 || self.groups >= 1, "--groups must be at least 1");
        ensure!(self.threads >= 1, "--threads must be at least 1");
        Ok(())
    }
}

/// Runs the measurement that the arguments ask for.
pub fn run(args: &LoadArgs) -> Result<()> {
    args.validate()?;
    let runtime = if args.threads == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build()?
    };
    runtime.block_on(async {
        if let Some(count) = args.connections {
            connections::run(args, count).await
        } else if let Some(behind) = args.catch_up {
            catch_up::run(args, behind).await
        } else if let Some(p99_ms_max) = args.find_max_p99_ms {
            messages::find_max(args, p99_ms_max).await
        } else {
            messages::run(args).await
        }
    })
}

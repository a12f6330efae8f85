//! `tidings up`: every role in one process; `tidings edge`, `dataflow`, `project`: one role, in a fleet.
//!
//! - [`assembly`]: puts the parts together, in the order in which they need each other, and takes them down in reverse.
//! - [`roles`]: which parts. [`ownership`]: which partitions, in a fleet. [`log`], [`views`], [`archive`]: the three stores by their settings, and what writes them.
//! - [`admin`]: what an administrator asks of the program while it runs.
//! - [`edge`]: the edge with its lease. [`history`]: the archive as the edge reads it. [`health`]: readiness and metrics.

pub(crate) mod admin;
mod archive;
mod assembly;
mod edge;
mod health;
mod history;
mod log;
mod ownership;
mod roles;
mod views;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub(crate) use self::archive::SQL_ADDRESS_FILE;
use crate::config::{NodeConfig, Settings, SettingsArgs};

pub use roles::Roles;

/// What to do, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArgs {
    /// Address and port for the web client, HTTP and WebSocket (default 127.0.0.1:8080); without an edge, for probes and
    /// metrics (default: any free port).
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// The folder of all data (default ./data).
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the other settings come from.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Runs until SIGINT or SIGTERM, then goes away in good order.
pub fn run(args: &NodeArgs, roles: Roles) -> Result<()> {
    let mut settings = Settings::read(&args.settings)?;
    if let Some(listen) = args.listen {
        if roles.edge {
            settings.edge.listen = listen;
        } else {
            settings.node.probes_listen = listen;
        }
    }
    if let Some(data) = &args.data {
        settings.node.data.clone_from(data);
    }
    log_to_stderr(&settings.node)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if settings.node.threads > 0 {
        runtime.worker_threads(settings.node.threads);
    }
    let runtime = runtime.enable_all().build().context("cannot start threads")?;
    let failure = runtime.block_on(async {
        let mut node = assembly::start(settings, roles).await?;
        say_where_to_look(&node);
        let failure = tokio::select! {
            stopped = stop_signal() => stopped.map(|()| None)?,
            failure = node.failure() => Some(failure),
        };
        tracing::info!("going away");
        node.shutdown().await;
        anyhow::Ok(failure)
    })?;
    match failure {
        None => Ok(()),
        Some(failure) => bail!("{failure}"),
    }
}

/// The process's log, as the settings say.
pub(crate) fn log_to_stderr(config: &NodeConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log_level)
        .with_context(|| format!("node.log_level {:?} is not a filter (hint: info)", config.log_level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.log_json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn stop_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for signals")?,
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the program's output")]
fn say_where_to_look(node: &assembly::Node) {
    println!("Tidings is up.");
    if let Some(url) = node.url() {
        println!("  web client      {url}/   (open it in two browsers)");
        println!("  API reference   {url}/docs");
    }
    if let Some(sql) = node.sql_address() {
        println!("  SQL             curl 'http://{sql}/?query=SELECT+count()+FROM+messages'");
    }
    if let Some(url) = node.probes_url() {
        println!("  metrics         {url}/metrics");
    }
    println!("  data            {}", node.data().display());
    println!("Ctrl-C stops it; kill -9 does no harm.");
}

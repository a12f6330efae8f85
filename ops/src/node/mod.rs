//! `tidings up`: every role in one process; `tidings edge`, `dataflow`, `project`: one role, in a fleet.
//!
//! - [`assembly`]: puts the parts together, in the order in which they need each other, and takes them down in reverse.
//! - [`roles`]: which parts. [`ownership`]: which partitions, in a fleet. [`log`], [`views`], [`archive`]: the three stores by their settings, and what writes them.
//! - [`admin`]: what an administrator asks of the program while it runs. [`aside`]: going from the data folder for a while.
//! - [`edge`]: the edge with its lease. [`history`]: the archive as the edge reads it. [`health`]: readiness and metrics.

pub(crate) mod admin;
mod archive;
pub(crate) mod aside;
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
use crate::config::{LogKind, NodeConfig, Settings, SettingsArgs};

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
    let ended = runtime.block_on(live(settings, roles, &args.settings))?;
    match ended {
        Ended::Stopped => Ok(()),
        Ended::StoppedEarly => {
            // What was being opened may take its time, and is not needed.
            runtime.shutdown_background();
            Ok(())
        }
        Ended::Failed(failure) => bail!("{failure}"),
    }
}

/// How a life ended.
enum Ended {
    /// By a signal.
    Stopped,
    /// By a signal, before everything had started.
    StoppedEarly,
    /// A part of it failed, for this reason.
    Failed(String),
}

/// From the start to the end.
async fn live(settings: Settings, roles: Roles, args: &SettingsArgs) -> Result<Ended> {
    let mut stop = tokio::spawn(stop_signal());
    let (leaving, mut asked) = aside::leaving(args);
    let starting = async {
        // Until all stores are open, and the program can be asked.
        let _turn = match settings.node.log {
            LogKind::Embedded => Some(aside::turn(&settings.node.data).await?),
            LogKind::Kafka => None,
        };
        assembly::start(settings, roles, leaving).await
    };
    let mut node = tokio::select! {
        stopped = &mut stop => return stopped.context("waiting for signals failed")?.map(|()| Ended::StoppedEarly),
        node = starting => node?,
    };
    say_where_to_look(&node);
    let (ended, asker) = tokio::select! {
        stopped = &mut stop => (stopped.context("waiting for signals failed")?.map(|()| Ended::Stopped)?, None),
        failure = node.failure() => (Ended::Failed(failure), None),
        Some(asker) = asked.recv() => (Ended::Stopped, Some(asker)),
    };
    match asker {
        None => tracing::info!("going away"),
        Some(_) => tracing::warn!("stepping aside: something is to be erased from the data folder"),
    }
    node.shutdown().await;
    match asker {
        // Whoever wants it to end while it goes wants it to stay away.
        Some(asker) if !stop.is_finished() => Err(aside::start_again(asker)),
        _ => Ok(ended),
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

fn say_where_to_look(node: &assembly::Node) {
    outln!("Tidings is up.");
    if let Some(url) = node.url() {
        outln!("  web client      {url}/   (open it in two browsers)");
        outln!("  API reference   {url}/docs");
    }
    if let Some(sql) = node.sql_address() {
        outln!("  SQL             curl 'http://{sql}/?query=SELECT+count()+FROM+messages'");
    }
    if let Some(url) = node.probes_url() {
        outln!("  metrics         {url}/metrics");
    }
    outln!("  data            {}", node.data().display());
    outln!("Ctrl-C stops it; kill -9 does no harm.");
}

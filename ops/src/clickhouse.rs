//! `tidings clickhouse`: the embedded ClickHouse engine as a server of its own, for a fleet on machines where there is no
//! other, and for tests. It speaks as much of ClickHouse's HTTP interface as the archive and analysts' tools need.

use std::{io::Write as _, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use tidings_dataflow::{
    archive::{
        ArchiveSettings, EmbeddedArchive,
        http::{self, Credentials, HttpConfig},
        libchdb::configuration::EngineConfiguration,
    },
    password,
};

use crate::node;

/// What to do, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct ClickHouseArgs {
    /// Address and port of the HTTP interface.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8123")]
    pub listen: SocketAddr,
    /// The folder of the data. One process at a time.
    #[arg(long, value_name = "DIR", default_value = "data/clickhouse")]
    pub data: PathBuf,
    /// The engine, `libchdb.so` (default: where ./ops/fetch-libchdb puts it).
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// The database that names without one are looked up in. It begins with `tidings`.
    #[arg(long, value_name = "NAME", default_value = "tidings")]
    pub database: String,
    /// The user that may use the port, with a password from --password-file or the environment's
    /// TIDINGS_CLICKHOUSE_PASSWORD. Without a password, everybody who reaches the port may, on this machine only.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub user: String,
    /// A file with the password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Answer queries only: nothing can be changed.
    #[arg(long)]
    pub read_only: bool,
}

/// Runs until SIGINT or SIGTERM.
pub fn run(args: &ClickHouseArgs) -> Result<()> {
    node::log_to_stderr(&crate::config::NodeConfig::default())?;
    let password = password::read(args.password_file.as_deref(), "TIDINGS_CLICKHOUSE_PASSWORD")?;
    let credentials = password.map(|password| Credentials::new(&args.user, &password));
    if credentials.is_none() && !args.listen.ip().is_loopback() {
        let address = args.listen;
        bail!("{address} can be reached from elsewhere, and there is no password (hint: --password-file FILE)");
    }
    let mut engine = EngineConfiguration::in_folder(&args.data);
    if let Some(library) = &args.library {
        engine.library.clone_from(library);
    }
    let settings = ArchiveSettings { database: args.database.clone(), ..ArchiveSettings::default() };
    let archive = EmbeddedArchive::open(&engine, settings).context("cannot open the engine")?;
    let config = HttpConfig { listen: args.listen, writable: !args.read_only, limits: engine.analyst, credentials };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start threads")?.block_on(async {
        let port = http::serve(&config, &archive).await.with_context(|| format!("cannot listen on {}", args.listen))?;
        say(port.address(), args);
        node::stop_signal().await?;
        port.shutdown().await;
        Ok(())
    })
}

/// Nobody needs to read it.
fn say(address: SocketAddr, args: &ClickHouseArgs) {
    let _ = writeln!(std::io::stdout(), "ClickHouse is up on http://{address} (data in {}).", args.data.display());
}

//! Settings: from a file, the environment and flags; and the generated reference.
//!
//! - [`layers`]: which value counts. [`reference`]: every setting with its meaning and default.

pub mod layers;
pub mod reference;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_dataflow::{
    archive::{AnalystLimits, ClickHouseConfig},
    host::HostConfig,
    views,
};
use tidings_edge::{auth::AuthConfig, config::Config as EdgeConfig, http::HttpConfig};
use tidings_ingest::{EmbeddedConfig, KafkaConfig};
use tidings_schemas::limits::{
    ARCHIVE_MEMORY_BYTES_MAX, ARCHIVE_SQL_RESULT_ROWS_MAX, ARCHIVE_SQL_ROWS_TO_READ_MAX, ARCHIVE_SQL_TIME_MAX,
};

/// Every setting of every role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The process as a whole.
    pub node: NodeConfig,
    /// The embedded log.
    pub log: EmbeddedConfig,
    /// The log on Kafka, with `node.log = "kafka"`.
    pub kafka: KafkaConfig,
    /// The stages: what is accepted, who is told, who is online.
    pub dataflow: HostConfig,
    /// The embedded store of the views, which edges read.
    pub views: views::store::StoreConfig,
    /// Redis, as the store of the views.
    pub redis: views::redis::RedisConfig,
    /// What writes the views.
    pub projection: views::projection::ProjectionConfig,
    /// The archive: SQL on every message, and old history.
    pub archive: ArchiveConfig,
    /// ClickHouse, as the store of the archive.
    pub clickhouse: ClickHouseConfig,
    /// The edge: connections, frames, limits of clients.
    pub edge: EdgeConfig,
    /// Accounts and tokens.
    pub auth: AuthConfig,
    /// The HTTP door and the web client.
    pub http: HttpConfig,
}

/// The process as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// The folder of all data. Everything in it belongs to one Tidings.
    pub data: PathBuf,
    /// Where the log is: `embedded` (in the data folder) or `kafka`.
    pub log: LogKind,
    /// Where the views are: `embedded` (in the data folder) or `redis`.
    pub views: ViewsKind,
    /// Where the archive is: `embedded` (in the data folder), `clickhouse`, or `none`: then history ends where the views'
    /// tails end.
    pub archive: ArchiveKind,
    /// Address of the probes and metrics of a process without an edge. Port 0: any free one, which is printed.
    pub probes_listen: SocketAddr,
    /// Threads that serve clients. 0: as many as the machine has cores.
    pub threads: usize,
    /// What is logged: `error`, `warn`, `info`, `debug`, or a filter such as `info,tidings_edge=debug`.
    pub log_level: String,
    /// Logs as JSON, one object a line, instead of text.
    pub log_json: bool,
}

/// Where the views are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ViewsKind {
    /// In the data folder, for one process.
    #[default]
    Embedded,
    /// In Redis (section `redis`), for any number of processes.
    Redis,
}

/// Where the archive is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveKind {
    /// In the data folder, for one process.
    #[default]
    Embedded,
    /// On a ClickHouse server (section `clickhouse`), for any number of processes.
    ClickHouse,
    /// Nowhere.
    None,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            log: LogKind::Embedded,
            views: ViewsKind::default(),
            archive: ArchiveKind::default(),
            probes_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads: 0,
            log_level: "info".to_owned(),
            log_json: false,
        }
    }
}

/// The implementations of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// In the data folder of this process, for this process alone.
    Embedded,
    /// On Kafka, for any number of processes.
    Kafka,
}

/// The archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveConfig {
    /// Whether there is one: `false` is the same as `node.archive = "none"`.
    pub enabled: bool,
    /// The embedded engine, `libchdb.so`. Left out: where `./ops/fetch-libchdb` puts it.
    pub library: Option<PathBuf>,
    /// Address of the embedded engine's ClickHouse-compatible HTTP port.
    pub http_listen: SocketAddr,
    /// Whether that port may also write. Everybody who may use it may, then.
    pub http_writable: bool,
    /// How long messages are kept, in days.
    pub retention_days: u32,
    /// Memory of one query on that port, in bytes; at most what the engine has, 1 GiB.
    pub analyst_max_memory_bytes: u64,
    /// How long a query on that port may run, in seconds. Over: cancelled.
    pub analyst_max_execution_seconds: u64,
    /// Rows of the result of a query on that port. Over: refused.
    pub analyst_max_result_rows: u64,
    /// Rows that a query on that port may read from tables. Over: refused.
    pub analyst_max_rows_to_read: u64,
}

impl ArchiveConfig {
    /// What a query on the SQL port may take.
    ///
    /// # Errors
    /// A limit is nothing, or more memory than the engine has.
    pub fn analyst_limits(&self) -> Result<AnalystLimits> {
        let limits = AnalystLimits {
            memory_bytes: self.analyst_max_memory_bytes,
            execution_time: Duration::from_secs(self.analyst_max_execution_seconds),
            result_rows: self.analyst_max_result_rows,
            rows_to_read: self.analyst_max_rows_to_read,
        };
        let engine = ARCHIVE_MEMORY_BYTES_MAX as u64;
        ensure!(
            limits.memory_bytes > 0 && limits.memory_bytes <= engine,
            "archive.analyst_max_memory_bytes = {} cannot be used (hint: 1 to {engine}, what the engine has)",
            limits.memory_bytes
        );
        ensure!(
            limits.execution_time.as_secs() > 0 && limits.result_rows > 0 && limits.rows_to_read > 0,
            "a limit of archive.analyst_max_… is 0, which the engine takes for no limit (hint: 1 or more)"
        );
        Ok(limits)
    }
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            library: None,
            http_listen: SocketAddr::from(([127, 0, 0, 1], 8123)),
            http_writable: false,
            retention_days: 365,
            analyst_max_memory_bytes: ARCHIVE_MEMORY_BYTES_MAX as u64 / 2,
            analyst_max_execution_seconds: ARCHIVE_SQL_TIME_MAX.as_secs(),
            analyst_max_result_rows: ARCHIVE_SQL_RESULT_ROWS_MAX,
            analyst_max_rows_to_read: ARCHIVE_SQL_ROWS_TO_READ_MAX,
        }
    }
}

/// Where settings come from, on every command line that needs them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SettingsArgs {
    /// A TOML file with settings (`tidings config` prints one with all of them).
    #[arg(long, value_name = "FILE", env = "TIDINGS_CONFIG")]
    pub config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Only read the settings, say whether each is known and has a value that it may have, and end.
    #[arg(long)]
    pub check: bool,
}

impl Settings {
    /// Reads the three layers, and what only a start would find: whether the filter of the log can be used.
    ///
    /// # Errors
    /// A setting is unknown, or its value is none that it may have.
    pub fn check(args: &SettingsArgs) -> Result<()> {
        let settings = Self::read(args)?;
        settings.archive.analyst_limits()?;
        let level = &settings.node.log_level;
        tracing_subscriber::EnvFilter::try_new(level)
            .with_context(|| format!("node.log_level {level:?} is not a filter (hint: info)"))?;
        Ok(())
    }

    /// Reads the three layers.
    pub fn read(args: &SettingsArgs) -> Result<Self> {
        let table = layers::read(args.config.as_deref(), std::env::vars(), &args.set)?;
        table.try_into().context("a setting is wrong (hint: `tidings config` lists all of them)")
    }
}

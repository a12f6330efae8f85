//! The log of a process, by its settings.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tidings_ingest::{EmbeddedLog, Log};
use tidings_schemas::clock::{Clock, Entropy};

use crate::config::Settings;

/// An open log.
pub(super) struct OpenLog {
    pub(super) log: Arc<dyn Log>,
    /// Whether other processes may work on the same log: then partitions and edges' numbers are dealt out.
    pub(super) is_shared: bool,
}

/// Opens the log that the settings name.
pub(super) async fn open(
    settings: &Settings,
    data: &Path,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    registry: &mut Registry,
) -> Result<OpenLog> {
    let mut config = settings.log.clone();
    config.directory = data.join("log");
    let (clock, entropy) = (Arc::clone(clock), Arc::clone(entropy));
    let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open(&config, clock, entropy))
        .await
        .context("the log's start failed")?
        .context("cannot open the log")?;
    let log = Arc::new(opened);
    tidings_ingest::embedded::metrics::register(&log, registry);
    Ok(OpenLog { log, is_shared: false })
}

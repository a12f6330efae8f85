//! The log of a process, on whichever implementation the settings name.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tidings_ingest::{EmbeddedLog, Groups, KafkaLog, Log, embedded, kafka};
use tidings_schemas::clock::{Clock, Entropy};

use crate::config::{LogKind, Settings};

/// An open log, and the groups of those who work on it.
pub(super) struct OpenLog {
    pub(super) log: Arc<dyn Log>,
    pub(super) groups: Arc<dyn Groups>,
    /// Whether other processes may work on it.
    pub(super) is_shared: bool,
}

/// Opens the log, and shows what it counts.
pub(super) async fn open(
    settings: &Settings,
    data: &Path,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    registry: &mut Registry,
) -> Result<OpenLog> {
    let (clock, entropy) = (Arc::clone(clock), Arc::clone(entropy));
    match settings.node.log {
        LogKind::Embedded => {
            let mut config = settings.log.clone();
            config.directory = data.join("log");
            let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open(&config, clock, entropy)).await;
            let log = Arc::new(opened.context("the log's start failed")?.context("cannot open the log")?);
            embedded::metrics::register(&log, registry);
            Ok(OpenLog { groups: Arc::clone(&log) as _, log, is_shared: false })
        }
        LogKind::Kafka => {
            let config = settings.kafka.clone();
            let opened = tokio::task::spawn_blocking(move || KafkaLog::open(&config, clock, entropy)).await;
            let log = opened.context("the log's start failed")?;
            let log =
                Arc::new(log.context("cannot open the log on Kafka (hint: ./ops/kafka start, --set kafka.brokers=…)")?);
            kafka::metrics::register(&log, registry);
            Ok(OpenLog { groups: Arc::clone(&log) as _, log, is_shared: true })
        }
    }
}

//! The archive of a process, by its settings: embedded with its SQL port, or on a ClickHouse server; and the projection
//! that fills it.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tidings_dataflow::{
    archive::{
        Archive, ArchiveSettings, ClickHouseArchive, EmbeddedArchive,
        http::{self, HttpConfig, HttpHandle},
        libchdb::configuration::EngineConfiguration,
        projection::{self, Owners},
        rebuild::Rebuilding,
    },
    assignment::{Assignment, Partitions},
};
use tidings_edge::read::HistoryReader;
use tidings_ingest::Log;
use tidings_schemas::clock::Entropy;

use super::history::{ArchiveHistory, Filler};
use crate::config::{ArchiveConfig, ArchiveKind, Settings};

/// An open archive.
pub(super) struct OpenArchive {
    store: Arc<dyn Archive>,
    rebuilding: Arc<dyn Rebuilding>,
    http: Option<HttpHandle>,
}

impl OpenArchive {
    /// Opens the archive that the settings name. Without its engine there is none, which is said loudly: live chat does
    /// without, and once the engine is there the archive is filled from the log.
    pub(super) async fn open(settings: &Settings, data: &Path, entropy: &dyn Entropy) -> Result<Option<Self>> {
        let config = &settings.archive;
        match settings.node.archive {
            ArchiveKind::Embedded if config.enabled => {
                let opened = open_embedded(config, data).await?;
                Ok(opened.map(|(archive, http)| Self { store: archive.clone(), rebuilding: archive, http: Some(http) }))
            }
            ArchiveKind::ClickHouse if config.enabled => {
                let archive = ClickHouseArchive::new(&settings.clickhouse, config.retention_days, entropy.next_u64());
                let archive = Arc::new(archive.context("the settings of clickhouse cannot be used")?);
                Ok(Some(Self { store: archive.clone(), rebuilding: archive, http: None }))
            }
            _ => Ok(None),
        }
    }

    /// Its tables, to be built anew.
    pub(super) fn rebuilding(&self) -> Arc<dyn Rebuilding> {
        Arc::clone(&self.rebuilding)
    }

    /// Starts the projection of these partitions.
    pub(super) fn project(
        &self,
        partitions: Partitions,
        owners: Owners,
        log: &Arc<dyn Log>,
        registry: &mut Registry,
    ) -> Result<ArchiveProjection> {
        let handle = projection::start(partitions, owners, Arc::clone(log), Arc::clone(&self.store), registry);
        Ok(ArchiveProjection(handle.context("cannot start the archive's projection")?))
    }

    /// Where SQL is answered by this process.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpHandle::address)
    }

    /// What the edge reads of it.
    pub(super) fn history(&self, filler: Filler) -> Arc<dyn HistoryReader> {
        Arc::new(ArchiveHistory { archive: Arc::clone(&self.store), filler })
    }

    /// Ends the queries.
    pub(super) async fn shutdown(self) {
        if let Some(http) = self.http {
            http.shutdown().await;
        }
    }
}

/// What writes the archive.
pub(super) struct ArchiveProjection(projection::Handle);

impl ArchiveProjection {
    /// Which partitions it follows, to be changed.
    pub(super) fn assignment(&self) -> Assignment {
        self.0.assignment()
    }

    /// Ends the insert that is under way.
    pub(super) async fn shutdown(self) {
        self.0.shutdown().await;
    }
}

async fn open_embedded(config: &ArchiveConfig, data: &Path) -> Result<Option<(Arc<EmbeddedArchive>, HttpHandle)>> {
    let mut engine = EngineConfiguration::in_folder(data.join("archive"));
    if let Some(library) = &config.library {
        engine.library.clone_from(library);
    }
    let limits = config.analyst_limits()?;
    engine.analyst = limits;
    let settings = ArchiveSettings { retention_days: config.retention_days, ..ArchiveSettings::default() };
    let opened = tokio::task::spawn_blocking(move || EmbeddedArchive::open(&engine, settings))
        .await
        .context("the archive's start failed")?;
    let archive = match opened {
        Ok(archive) => Arc::new(archive),
        Err(error) => {
            tracing::error!(%error, "no archive: there is no SQL, and history ends where the views' tails end");
            return Ok(None);
        }
    };
    // Before anybody can ask. The projection tries again what fails here.
    if let Err(error) = archive.migrate().await {
        tracing::warn!(%error, "the archive's tables cannot be made yet");
    }
    let listen = HttpConfig { listen: config.http_listen, writable: config.http_writable, limits, credentials: None };
    let http = http::serve(&listen, &archive).await.with_context(|| {
        let address = config.http_listen;
        format!("cannot listen on {address} for SQL (hint: --set archive.http_listen=127.0.0.1:0)")
    })?;
    // For `tidings sql --data`, to say where to ask instead. It is only a hint.
    if let Err(error) = std::fs::write(data.join("archive").join(SQL_ADDRESS_FILE), http.address().to_string()) {
        tracing::warn!(%error, "the address of the SQL port cannot be noted");
    }
    Ok(Some((archive, http)))
}

/// In the archive's folder: where the program that runs on it answers SQL.
pub(crate) const SQL_ADDRESS_FILE: &str = "sql-address";

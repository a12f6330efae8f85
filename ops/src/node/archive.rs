//! The archive of a process, by its settings: the store, the projection that fills it, and the SQL port of the embedded
//! engine.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use prometheus_client::registry::Registry;
use tidings_dataflow::{
    archive::{
        Archive, ArchiveSettings, ClickHouseArchive, EmbeddedArchive,
        http::{self, Credentials, HttpConfig, HttpHandle},
        libchdb::configuration::EngineConfiguration,
        projection::{self, Owners},
    },
    assignment::{Assignment, Partitions},
};
use tidings_edge::read::HistoryReader;
use tidings_ingest::Log;
use tidings_schemas::clock::Entropy;

use super::history::ArchiveHistory;
use crate::config::{ArchiveConfig, ArchiveKind, Settings};

/// An open archive.
pub(super) struct OpenArchive {
    store: Arc<dyn Archive>,
    http: Option<HttpHandle>,
    /// Whether other processes write it.
    is_shared: bool,
}

impl OpenArchive {
    /// Opens the archive that the settings name. Without its engine there is none, which is said loudly: live chat does
    /// without, and once the engine is there the archive is filled from the log.
    pub(super) async fn open(settings: &Settings, data: &Path, entropy: &dyn Entropy) -> Result<Option<Self>> {
        let config = &settings.archive;
        if !config.enabled {
            return Ok(None);
        }
        if config.kind == ArchiveKind::Clickhouse {
            let archive = ClickHouseArchive::new(&settings.clickhouse, config.retention_days, entropy.next_u64());
            let store = Arc::new(archive.context("the settings of clickhouse cannot be used")?);
            return Ok(Some(Self { store, http: None, is_shared: true }));
        }
        match open_embedded(config, data).await? {
            Ok(archive) => {
                let http = serve(config, &archive).await?;
                Ok(Some(Self { store: archive, http: Some(http), is_shared: false }))
            }
            Err(error) => {
                tracing::error!(%error, "no archive: there is no SQL, and history ends where the views' tails end");
                Ok(None)
            }
        }
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

    /// Where SQL is answered.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpHandle::address)
    }

    /// What the edge reads of it.
    pub(super) fn history(&self) -> Arc<dyn HistoryReader> {
        Arc::new(ArchiveHistory { archive: Arc::clone(&self.store), is_shared: self.is_shared })
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

/// The engine on its own, served to others: what stands in for a ClickHouse server where there is none.
pub(super) async fn serve_engine(config: &ArchiveConfig, data: &Path) -> Result<HttpHandle> {
    let archive = open_embedded(config, data).await?.context("cannot open the archive's engine")?;
    serve(config, &archive).await
}

async fn open_embedded(
    config: &ArchiveConfig,
    data: &Path,
) -> Result<Result<Arc<EmbeddedArchive>, impl std::error::Error + Send + Sync + 'static>> {
    let mut engine = EngineConfiguration::in_folder(data.join("archive"));
    if let Some(library) = &config.library {
        engine.library.clone_from(library);
    }
    let settings = ArchiveSettings { retention_days: config.retention_days, ..ArchiveSettings::default() };
    let opened = tokio::task::spawn_blocking(move || EmbeddedArchive::open(&engine, settings).map(Arc::new));
    opened.await.context("the archive's start failed")
}

async fn serve(config: &ArchiveConfig, archive: &Arc<EmbeddedArchive>) -> Result<HttpHandle> {
    let credentials = match (&config.http_username, &config.http_password_file) {
        (None, None) => None,
        (Some(username), Some(file)) => {
            let password = fs::read_to_string(file)
                .with_context(|| format!("cannot read archive.http_password_file {}", file.display()))?;
            Some(Credentials::new(username, password.trim_end_matches(['\r', '\n'])))
        }
        _ => bail!("archive.http_username and archive.http_password_file belong together"),
    };
    let listen = HttpConfig { listen: config.http_listen, writable: config.http_writable, credentials };
    http::serve(&listen, archive).await.with_context(|| {
        let address = config.http_listen;
        format!("cannot listen on {address} for SQL (hint: --set archive.http_listen=127.0.0.1:0)")
    })
}

//! The archive of a process: the engine, the projection that fills it, and the SQL port.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tidings_dataflow::archive::{
    ArchiveSettings, EmbeddedArchive,
    http::{self, HttpConfig, HttpHandle},
    libchdb::configuration::EngineConfiguration,
    projection,
};
use tidings_edge::read::HistoryReader;
use tidings_ingest::Log;

use super::history::ArchiveHistory;
use crate::config::ArchiveConfig;

/// A running archive.
pub(super) struct RunningArchive {
    archive: Arc<EmbeddedArchive>,
    projection: projection::Handle,
    http: HttpHandle,
}

impl RunningArchive {
    /// Starts the archive. Without its engine there is none, which is said loudly: live chat does without, and once the
    /// engine is there the archive is filled from the log.
    pub(super) async fn start(
        config: &ArchiveConfig,
        data: &Path,
        log: &Arc<dyn Log>,
        registry: &mut Registry,
    ) -> Result<Option<Self>> {
        if !config.enabled {
            return Ok(None);
        }
        let mut engine = EngineConfiguration::in_folder(data.join("archive"));
        if let Some(library) = &config.library {
            engine.library.clone_from(library);
        }
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
        let listen = HttpConfig { listen: config.http_listen, writable: config.http_writable };
        let http = http::serve(&listen, &archive).await.with_context(|| {
            let address = config.http_listen;
            format!("cannot listen on {address} for SQL (hint: --set archive.http_listen=127.0.0.1:0)")
        })?;
        let projection = projection::start(
            projection::all_partitions(&**log),
            projection::Owners::One,
            Arc::clone(log),
            Arc::clone(&archive) as _,
            registry,
        )
        .context("cannot start the archive's projection")?;
        Ok(Some(Self { archive, projection, http }))
    }

    /// Where SQL is answered.
    pub(super) fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// What the edge reads of it.
    pub(super) fn history(&self) -> Arc<dyn HistoryReader> {
        Arc::new(ArchiveHistory(Arc::clone(&self.archive) as _))
    }

    /// Ends the inserts and the queries.
    pub(super) async fn shutdown(self) {
        self.projection.shutdown().await;
        self.http.shutdown().await;
    }
}

//! The parts of one process, started in the order in which they need each other, and stopped in reverse.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tidings_dataflow::{
    host,
    views::{projection, store::FjallViews},
};
use tidings_edge::{self as edge, Dependencies};
use tidings_ingest::{EmbeddedLog, Log};
use tidings_schemas::{
    clock::{Clock, Entropy, SystemClock, SystemEntropy},
    views::ViewStore,
};

use super::{archive::RunningArchive, health::Health};
use crate::config::Settings;

/// Everything that runs.
pub(super) struct Node {
    data: PathBuf,
    edge: edge::Handle,
    archive: Option<RunningArchive>,
    projection: Arc<projection::Handle>,
    host: host::Handle,
    views: FjallViews,
    log: Arc<dyn Log>,
    stopping: Arc<AtomicBool>,
}

/// Starts it all, in the running runtime.
pub(super) async fn start(settings: Settings) -> Result<Node> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let data = settings.node.data.clone();
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make the data folder {}", data.display()))?;

    let mut log_config = settings.log;
    log_config.directory = data.join("log");
    let (log_clock, log_entropy) = (Arc::clone(&clock), Arc::clone(&entropy));
    let log = tokio::task::spawn_blocking(move || EmbeddedLog::open(&log_config, log_clock, log_entropy))
        .await
        .context("the log's start failed")?
        .context("cannot open the log")?;
    let embedded = Arc::new(log);
    let log: Arc<dyn Log> = Arc::clone(&embedded) as _;
    let views =
        FjallViews::open(&data.join("views"), log.log_id(), &settings.views).context("cannot open the views")?;
    let store: Arc<dyn ViewStore> = Arc::new(views.clone());

    let mut registry = Registry::default();
    tidings_ingest::embedded::metrics::register(&embedded, &mut registry);
    let health = Arc::new(Health::default());
    let group_members_max = settings.dataflow.conversations.group_members_max;
    let mut dataflow = settings.dataflow;
    dataflow.checkpoints.directory.get_or_insert_with(|| data.join("checkpoints"));
    let host = host::start(dataflow, Arc::clone(&log), Arc::clone(&clock), &mut registry)
        .context("cannot start the dataflow")?;
    let runtime = tokio::runtime::Handle::current();
    let projection =
        projection::start(&settings.projection, Arc::clone(&log), Arc::clone(&store), runtime, &mut registry)
            .context("cannot start the views' projection")?;
    let projection = Arc::new(projection);
    let progress = Arc::downgrade(&projection);
    let was_ready = AtomicBool::new(false);
    health.add(
        "views",
        Box::new(move || {
            // Once caught up, being a moment behind is how it works.
            let ready = was_ready.load(Ordering::Relaxed)
                || progress.upgrade().is_some_and(|projection| projection.is_caught_up());
            was_ready.store(ready, Ordering::Relaxed);
            (!ready).then(|| "the views are still being brought up to date from the log".to_owned())
        }),
    );
    let archive = RunningArchive::start(&settings.archive, &data, &log, &mut registry).await?;
    let stopping = Arc::new(AtomicBool::new(false));
    let is_stopping = Arc::clone(&stopping);
    health.add(
        "node",
        Box::new(move || is_stopping.load(Ordering::Relaxed).then(|| "the process is going away".to_owned())),
    );

    let mut http = settings.http;
    http.web_directory = http.web_directory.or_else(web_directory);
    let dependencies = Dependencies {
        log: Arc::clone(&log),
        views: store,
        history: archive.as_ref().map(RunningArchive::history),
        host: Arc::clone(&health) as Arc<dyn tidings_edge::http::Host>,
        clock,
        entropy,
        data_directory: data.clone(),
        group_members_max,
    };
    let edge = edge::start(settings.edge, settings.auth, http, dependencies, &mut registry)
        .context("cannot start the edge")?;
    health.show(Arc::new(registry));
    Ok(Node { data, edge, archive, projection, host, views, log, stopping })
}

/// The built web client: beside the program in a checkout, or below the working folder.
fn web_directory() -> Option<PathBuf> {
    let in_checkout = |folder: &Path| {
        let dist = folder.join("edge/web/dist");
        dist.join("index.html").is_file().then_some(dist)
    };
    let program = std::env::current_exe().ok();
    program
        .iter()
        .flat_map(|program| program.ancestors().skip(1))
        .find_map(in_checkout)
        .or_else(|| in_checkout(&std::env::current_dir().ok()?))
}

impl Node {
    /// The edge's address for browsers.
    pub(super) fn url(&self) -> String {
        self.edge.url()
    }

    pub(super) fn sql_address(&self) -> Option<SocketAddr> {
        self.archive.as_ref().map(RunningArchive::address)
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Waits until a part fails for good, and says why.
    pub(super) async fn failure(&mut self) -> String {
        self.host.failure().await
    }

    /// Clients first, then what they need.
    pub(super) async fn shutdown(self) {
        let Self { edge, archive, projection, host, views, log, stopping, .. } = self;
        stopping.store(true, Ordering::Relaxed);
        edge.shutdown().await;
        host.shutdown().await;
        if let Some(projection) = Arc::into_inner(projection) {
            projection.shutdown().await;
        }
        if let Some(archive) = archive {
            archive.shutdown().await;
        }
        if let Err(error) = views.sync() {
            tracing::warn!(%error, "the views are not synced: they are brought up to date at the next start");
        }
        drop(log);
    }
}

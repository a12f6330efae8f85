//! The parts of one process, started in the order in which they need each other, and stopped in reverse.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use prometheus_client::registry::Registry;
use tidings_dataflow::{archive::projection::Owners, host};
use tidings_edge::{
    Dependencies,
    http::{Host, Probes},
    leases::EdgeIdentity,
};
use tidings_ingest::Log;
use tidings_schemas::clock::{Clock, Entropy, SystemClock, SystemEntropy};

use super::{
    archive::RunningArchive,
    edge::RunningEdge,
    health::Health,
    history::Filler,
    log,
    roles::Roles,
    views::{OpenViews, RunningProjection},
};
use crate::config::{LogKind, Settings};

/// Everything that runs.
pub(super) struct Node {
    data: PathBuf,
    edge: Option<RunningEdge>,
    probes: Option<Probes>,
    archive: Option<RunningArchive>,
    projection: Option<RunningProjection>,
    host: Option<host::Handle>,
    views: Option<OpenViews>,
    log: Arc<dyn Log>,
    stopping: Arc<AtomicBool>,
}

/// Starts these roles, in the running runtime.
pub(super) async fn start(settings: Settings, roles: Roles) -> Result<Node> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let data = settings.node.data.clone();
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make the data folder {}", data.display()))?;

    let mut registry = Registry::default();
    let health = Arc::new(Health::default());
    let log = log::open(&settings, &data, &clock, &entropy, &mut registry).await?;
    // Then partitions and the numbers of edges are dealt out.
    let is_shared = settings.node.log == LogKind::Kafka;
    if roles != Roles::ALL && !is_shared {
        bail!("the embedded log is of one process alone, which has all roles (hint: tidings up)");
    }
    let views = if roles.edge || roles.project {
        Some(OpenViews::open(&settings, &data, log.as_ref(), entropy.as_ref())?)
    } else {
        None
    };

    let host = if roles.dataflow {
        let mut config = settings.dataflow.clone();
        config.checkpoints.directory.get_or_insert_with(|| data.join("checkpoints"));
        let shards = host::all_shards(log.as_ref());
        let host = host::start(config, &shards, Arc::clone(&log), Arc::clone(&clock), &mut registry);
        Some(host.context("cannot start the dataflow")?)
    } else {
        None
    };
    let projection = match &views {
        Some(views) if roles.project => {
            let partitions = tidings_dataflow::views::projection::all_partitions(log.as_ref());
            let config = &settings.projection;
            Some(RunningProjection::start(config, partitions, &log, views, &health, &mut registry)?)
        }
        _ => None,
    };
    let mut archive = RunningArchive::open(&settings, &data, entropy.as_ref()).await?;
    if let Some(archive) = archive.as_mut().filter(|_| roles.project) {
        let partitions = tidings_dataflow::archive::projection::all_partitions(log.as_ref());
        let owners = if is_shared { Owners::Many } else { Owners::One };
        archive.fill(partitions, owners, &log, &mut registry)?;
    }
    let stopping = Arc::new(AtomicBool::new(false));
    let is_stopping = Arc::clone(&stopping);
    health.add(
        "node",
        Box::new(move || is_stopping.load(Ordering::Relaxed).then(|| "the process is going away".to_owned())),
    );

    let filler = if roles.project && !is_shared { Filler::ThisProcess } else { Filler::Others };
    let edge = match &views {
        Some(views) if roles.edge => {
            let dependencies = Dependencies {
                identity: EdgeIdentity::default(),
                log: Arc::clone(&log),
                views: Arc::clone(&views.for_readers),
                history: archive.as_ref().map(|archive| archive.history(filler)),
                host: Arc::clone(&health) as Arc<dyn Host>,
                clock,
                entropy,
                data_directory: data.clone(),
                group_members_max: settings.dataflow.conversations.group_members_max,
            };
            let Settings { edge, auth, http, .. } = settings;
            Some(RunningEdge::start(edge, auth, http, dependencies, is_shared, &mut registry).await?)
        }
        _ => None,
    };
    let probes = if roles.edge {
        None
    } else {
        let listen = settings.node.probes_listen;
        let probes = Probes::serve(listen, Arc::clone(&health) as Arc<dyn Host>).await;
        Some(probes.with_context(|| format!("cannot listen on {listen} for probes (hint: node.probes_listen)"))?)
    };
    health.show(Arc::new(registry));
    Ok(Node { data, edge, probes, archive, projection, host, views, log, stopping })
}

impl Node {
    /// Where clients are served.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.edge.as_ref().map(RunningEdge::address)
    }

    /// Where the probes are: the edge's port, or one of their own.
    pub(super) fn probes_address(&self) -> Option<SocketAddr> {
        self.address().or_else(|| self.probes.as_ref().map(Probes::address))
    }

    pub(super) fn sql_address(&self) -> Option<SocketAddr> {
        self.archive.as_ref().and_then(RunningArchive::address)
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Waits until a part fails for good, and says why.
    pub(super) async fn failure(&mut self) -> String {
        let Self { host, edge, .. } = self;
        tokio::select! {
            failure = of_some(host.as_mut().map(host::Handle::failure)) => failure,
            failure = of_some(edge.as_mut().map(RunningEdge::failure)) => failure,
        }
    }

    /// Clients first, then what they need.
    pub(super) async fn shutdown(self) {
        let Self { edge, probes, archive, projection, host, views, log, stopping, .. } = self;
        stopping.store(true, Ordering::Relaxed);
        if let Some(edge) = edge {
            edge.shutdown().await;
        }
        if let Some(host) = host {
            host.shutdown().await;
        }
        if let Some(projection) = projection {
            projection.shutdown().await;
        }
        if let Some(archive) = archive {
            archive.shutdown().await;
        }
        if let Some(views) = views {
            views.close();
        }
        drop(probes);
        drop(log);
    }
}

/// What the future gives, or nothing ever.
async fn of_some<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

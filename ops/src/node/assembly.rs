//! The parts of one process, started in the order in which they need each other, and stopped in reverse.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use prometheus_client::registry::Registry;
use tidings_dataflow::{
    archive::projection::{self as archive_projection, Owners},
    assignment::Partitions,
    host,
    views::projection as views_projection,
};
use tidings_edge::{
    Dependencies,
    http::{Host, Probes},
    leases::EdgeIdentity,
};
use tidings_ingest::Log;
use tidings_schemas::clock::{Clock, Entropy, SystemClock, SystemEntropy};

use super::{
    admin::{Admin, Leaving},
    archive::{ArchiveProjection, OpenArchive},
    edge::RunningEdge,
    health::Health,
    history::Filler,
    log::{self, OpenLog},
    ownership::Member,
    roles::Roles,
    views::{OpenViews, RunningProjection},
};
use crate::{
    config::{ArchiveKind, Settings, ViewsKind},
    replay::rebuild::job::{self, Job},
};

/// Everything that runs.
pub(super) struct Node {
    data: PathBuf,
    admin: Option<Admin>,
    edge: Option<RunningEdge>,
    probes: Option<Probes>,
    members: Vec<Member>,
    archive: Option<OpenArchive>,
    archive_projection: Option<ArchiveProjection>,
    projection: Option<RunningProjection>,
    host: Option<host::Handle>,
    views: Option<OpenViews>,
    log: Arc<dyn Log>,
    stopping: Arc<AtomicBool>,
}

/// Starts these roles, in the running runtime. `leaving`: how administrators have it step aside.
pub(super) async fn start(settings: Settings, roles: Roles, leaving: Leaving) -> Result<Node> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let data = settings.node.data.clone();
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make the data folder {}", data.display()))?;

    let mut registry = Registry::default();
    let health = Arc::new(Health::default());
    let OpenLog { log, groups, is_shared } = log::open(&settings, &data, &clock, &entropy, &mut registry).await?;
    if is_shared {
        check_shared(&settings)?;
    } else if settings.dataflow.partitions.is_some() {
        bail!("with the embedded log every partition is this process' own (hint: leave dataflow.partitions out)");
    } else if roles != Roles::ALL {
        bail!(
            "the embedded log is of one process alone, which has all roles (hint: tidings up, or node.log = \"kafka\")"
        );
    }
    let views = if roles.edge || roles.project {
        Some(OpenViews::open(&settings, &data, log.as_ref(), entropy.as_ref())?)
    } else {
        None
    };
    let archive =
        if roles.edge || roles.project { OpenArchive::open(&settings, &data, entropy.as_ref()).await? } else { None };

    // Alone, everything is its own from the start; in a fleet, what the group says.
    let of_alone = |partitions: Partitions| if is_shared { Partitions::new() } else { partitions };
    let mut members = Vec::new();
    let host = if roles.dataflow {
        let mut config = settings.dataflow.clone();
        config.checkpoints.directory.get_or_insert_with(|| data.join("checkpoints"));
        let shards = if is_shared { BTreeSet::new() } else { host::all_shards(log.as_ref()) };
        let fixed = config.partitions.clone();
        let host = host::start(config, &shards, Arc::clone(&log), Arc::clone(&clock), &mut registry);
        let host = host.context("cannot start the dataflow")?;
        members.push(match fixed {
            Some(partitions) => Member::of_fixed_stages(&partitions, log.as_ref(), host.ownership())?,
            None => Member::of_stages(groups.as_ref(), host.ownership())?,
        });
        Some(host)
    } else {
        None
    };
    let (projection, archive_projection) = match &views {
        Some(views) if roles.project => {
            let partitions = of_alone(views_projection::all_partitions(log.as_ref()));
            let projection =
                RunningProjection::start(&settings.projection, partitions, &log, views, &health, &mut registry)?;
            let partitions = of_alone(archive_projection::all_partitions(log.as_ref()));
            let owners = if is_shared { Owners::Many } else { Owners::One };
            let archived = archive.as_ref().map(|archive| archive.project(partitions, owners, &log, &mut registry));
            let archived = archived.transpose()?;
            let assignment = archived.as_ref().map(ArchiveProjection::assignment);
            members.push(Member::of_projections(groups.as_ref(), projection.assignment(), assignment)?);
            (Some(projection), archived)
        }
        _ => (None, None),
    };
    for member in &members {
        health.add("group", member.probe());
    }
    let stopping = Arc::new(AtomicBool::new(false));
    let is_stopping = Arc::clone(&stopping);
    health.add(
        "node",
        Box::new(move || is_stopping.load(Ordering::Relaxed).then(|| "the process is going away".to_owned())),
    );

    let (views_config, projection_config) = (settings.views.clone(), settings.projection.clone());
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
            let edge = RunningEdge::start(edge, auth, http, dependencies, is_shared, &mut registry).await?;
            edge.probe().into_iter().for_each(|probe| health.add("lease", probe));
            Some(edge)
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
    // Where the stores are this process' own, nobody else can work on them.
    let admin = views.as_ref().and_then(OpenViews::embedded).and_then(|embedded| {
        let job = Job {
            log: Arc::clone(&log),
            views: Some(job::OpenViews::Embedded { views: embedded, data: data.clone(), config: views_config }),
            archive: archive.as_ref().map(OpenArchive::rebuilding),
            projection: projection_config,
            is_alone: false,
        };
        Admin::start(&data, job, leaving)
    });
    Ok(Node { admin, data, edge, probes, members, archive_projection, archive, projection, host, views, log, stopping })
}

impl Node {
    /// The edge's address for browsers.
    pub(super) fn url(&self) -> Option<String> {
        self.edge.as_ref().map(RunningEdge::url)
    }

    /// Where the probes are: at the edge, or on a port of their own.
    pub(super) fn probes_url(&self) -> Option<String> {
        self.url().or_else(|| self.probes.as_ref().map(|probes| format!("http://{}", probes.address())))
    }

    pub(super) fn sql_address(&self) -> Option<SocketAddr> {
        self.archive.as_ref().and_then(OpenArchive::address)
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
        let Self {
            admin,
            edge,
            probes,
            members,
            archive,
            archive_projection,
            projection,
            host,
            views,
            log,
            stopping,
            ..
        } = self;
        stopping.store(true, Ordering::Relaxed);
        if let Some(admin) = admin {
            admin.shutdown().await;
        }
        if let Some(edge) = edge {
            edge.shutdown().await;
        }
        for member in members {
            member.shutdown().await;
        }
        if let Some(host) = host {
            host.shutdown().await;
        }
        if let Some(projection) = projection {
            projection.shutdown().await;
        }
        if let Some(projection) = archive_projection {
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

/// Stores of one process alone cannot be a fleet's.
fn check_shared(settings: &Settings) -> Result<()> {
    if settings.node.views == ViewsKind::Embedded {
        bail!("with the log on Kafka the views must be in Redis (hint: node.views = \"redis\")");
    }
    if settings.archive.enabled && settings.node.archive == ArchiveKind::Embedded {
        bail!(
            "with the log on Kafka the archive must be on ClickHouse (hint: node.archive = \"clickhouse\", or \
             node.archive = \"none\")"
        );
    }
    Ok(())
}

/// What the future gives, or nothing ever.
async fn of_some<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

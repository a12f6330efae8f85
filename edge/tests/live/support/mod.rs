//! A whole Tidings in the test's process, and clients of it.

pub(crate) mod client;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tidings_dataflow::{
    host::{self, HostConfig},
    views::{
        projection::{self, ProjectionConfig},
        store::{FjallViews, StoreConfig},
    },
};
use tidings_edge::{
    Config, Dependencies,
    auth::AuthConfig,
    http::{Check, Host, HttpConfig},
    leases::EdgeIdentity,
};
use tidings_ingest::{
    Log,
    embedded::{
        EmbeddedLog,
        config::{EmbeddedConfig, PartitionCounts},
    },
};
use tidings_schemas::{
    clock::{Clock, Entropy, SystemClock, SystemEntropy},
    topics::Topic,
};

pub(crate) use client::{Client, User};

/// A process around an edge that has nothing to say.
struct QuietHost;

#[async_trait::async_trait]
impl Host for QuietHost {
    async fn checks(&self) -> Vec<Check> {
        Vec::new()
    }

    fn metrics_text(&self) -> String {
        String::new()
    }
}

/// Everything but the edge: what survives an edge.
pub(crate) struct Backend {
    pub(crate) folder: TempDir,
    pub(crate) log: Arc<dyn Log>,
    views: Arc<FjallViews>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    stages: Option<host::Handle>,
    edges: AtomicU32,
    _projection: projection::Handle,
}

impl Backend {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let log = open_log(folder.path(), Arc::clone(&clock), Arc::clone(&entropy));
        let views =
            Arc::new(FjallViews::open(&folder.path().join("views"), log.log_id(), &StoreConfig::default()).unwrap());
        let mut registry = Registry::default();
        let projection = projection::start(
            &ProjectionConfig::default(),
            projection::all_partitions(&*log),
            Arc::clone(&log),
            views.clone(),
            tokio::runtime::Handle::current(),
            &mut registry,
        )
        .unwrap();
        let mut backend = Self {
            folder,
            log,
            views,
            clock,
            entropy,
            stages: None,
            edges: AtomicU32::new(0),
            _projection: projection,
        };
        backend.start_stages();
        backend
    }

    /// Starts the stages again, on the log from its start: what they did before they only repeat.
    pub(crate) fn start_stages(&mut self) {
        let (log, clock) = (Arc::clone(&self.log), Arc::clone(&self.clock));
        self.stages = Some(
            host::start(HostConfig::default(), &host::all_shards(&*log), log, clock, &mut Registry::default()).unwrap(),
        );
    }

    pub(crate) async fn stop_stages(&mut self) {
        if let Some(stages) = self.stages.take() {
            stages.shutdown().await;
        }
    }

    /// How many records there are in all partitions of a topic.
    pub(crate) fn records(&self, topic: Topic) -> u64 {
        (0..self.log.partitions(topic)).map(|partition| self.log.range(topic, partition).unwrap().end).sum()
    }

    /// An edge on it, which listens on a free port. Each has a number of its own.
    pub(crate) fn edge(&self, change: impl FnOnce(&mut Config)) -> Edge {
        self.edge_with(change, |_| {})
    }

    /// An edge with other settings of accounts and tokens.
    pub(crate) fn edge_with(&self, change: impl FnOnce(&mut Config), auth: impl FnOnce(&mut AuthConfig)) -> Edge {
        self.edge_on(Arc::clone(&self.log), change, auth)
    }

    /// The log.
    pub(crate) fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log)
    }

    /// An edge that has the log through something else.
    pub(crate) fn edge_on(
        &self,
        log: Arc<dyn Log>,
        change: impl FnOnce(&mut Config),
        auth: impl FnOnce(&mut AuthConfig),
    ) -> Edge {
        let change_auth = auth;
        let mut config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        change(&mut config);
        // Cheap hashes: it is not them that are tested.
        let mut auth = AuthConfig { password_hash_memory_kib: 8, password_hash_iterations: 1, ..AuthConfig::default() };
        change_auth(&mut auth);
        let number = self.edges.fetch_add(1, Ordering::Relaxed);
        let identity = EdgeIdentity { edge_id: number % self.log.partitions(Topic::Deliveries), run: number.into() };
        let dependencies = Dependencies {
            identity,
            log,
            views: self.views.clone(),
            history: None,
            host: Arc::new(QuietHost),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            data_directory: self.folder.path().to_owned(),
            group_members_max: 100,
        };
        let mut registry = Registry::default();
        let handle = tidings_edge::start(config, auth, HttpConfig::default(), dependencies, &mut registry).unwrap();
        Edge { handle, registry }
    }
}

fn open_log(folder: &Path, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Arc<dyn Log> {
    let config = EmbeddedConfig {
        directory: folder.join("log"),
        partitions: Some(PartitionCounts::default()),
        ..EmbeddedConfig::default()
    };
    Arc::new(EmbeddedLog::open(&config, clock, entropy).unwrap())
}

/// A running edge.
pub(crate) struct Edge {
    pub(crate) handle: tidings_edge::Handle,
    registry: Registry,
}

impl Edge {
    /// The metrics, as text.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// The value of a metric with its labels, as it stands in the text; zero if it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// A new account.
    pub(crate) async fn user(&self, name: &str) -> User {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let username = format!("{name}{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        User::register(self.handle.address(), &username).await
    }
}

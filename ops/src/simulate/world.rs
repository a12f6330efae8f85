//! The nodes of a history and what they stand on: edges, hosts of the stages, the projection; the log, the views and the
//! checkpoint store that are true.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use tidings_dataflow::{
    checkpoints::{CheckpointConfig, CheckpointStore},
    host::{
        HostConfig, Ownership,
        local::{LocalHost, LocalStep},
    },
    shard::ShardId,
    views::{
        memory::MemoryViews,
        projection::{self, ProjectionConfig},
    },
};
use tidings_edge::{
    Config, Dependencies, Portless,
    auth::AuthConfig,
    http::{Check, Host as EdgeHost},
    leases::EdgeIdentity,
    websocket::format::Format,
};
use tidings_ingest::{Log, memory::MemoryLog};
use tidings_schemas::topics::Partitions;
use tokio::{
    sync::Notify,
    task::{JoinHandle, spawn_local},
    time::{sleep, sleep_until},
};

use super::{
    clock::VirtualClock,
    gate::{Gate, Weather},
    node_log::{Connection, NodeLog},
    node_stores::{NodeObjects, NodeViews},
    pipe::{ClientEnd, Cut, Pipe, ServerEnd},
    random::{Random, SeededEntropy},
    trace::Trace,
};
use crate::{check::Finding, load::record::Observation};

/// How long a node that cannot start waits before it tries again.
const START_RETRY: Duration = Duration::from_millis(40);

/// See the module.
pub(super) struct World {
    pub(super) trace: Trace,
    pub(super) weather: Arc<Weather>,
    pub(super) clock: VirtualClock,
    pub(super) log: Arc<MemoryLog>,
    pub(super) objects: Arc<InMemory>,
    pub(super) views: MemoryViews,
    pub(super) edges: RefCell<Vec<Edge>>,
    pub(super) hosts: RefCell<Vec<Host>>,
    /// One, or for a while two.
    projections: RefCell<Vec<(Arc<Gate>, JoinHandle<()>)>>,
    users: RefCell<Vec<String>>,
    random: RefCell<Random>,
    observations: RefCell<Vec<Observation>>,
    findings: RefCell<Vec<Finding>>,
    keys_folder: PathBuf,
    /// Shards of which a checkpoint was damaged on purpose.
    spoiled: RefCell<BTreeSet<ShardId>>,
    nodes_started: Cell<u64>,
}

/// An edge, up or down.
pub(super) struct Edge {
    pub(super) gate: Arc<Gate>,
    pub(super) clock: VirtualClock,
    portless: Option<Portless>,
    connections: Vec<JoinHandle<()>>,
    pipes: Vec<Weak<Pipe>>,
}

/// A host of the stages, up or down.
pub(super) struct Host {
    pub(super) gate: Arc<Gate>,
    pub(super) owned: BTreeSet<ShardId>,
    pub(super) ownership: Option<Ownership>,
    task: Option<JoinHandle<()>>,
}

struct NoHost;

#[async_trait]
impl EdgeHost for NoHost {
    async fn checks(&self) -> Vec<Check> {
        Vec::new()
    }

    fn metrics_text(&self) -> String {
        String::new()
    }
}

impl World {
    /// A log without records and no node.
    pub(super) fn new(random: Random, partitions: Partitions, keys_folder: PathBuf, keep_trace: bool) -> Rc<Self> {
        let clock = VirtualClock::new();
        let log = MemoryLog::new(0x7, partitions, Arc::new(clock.clone()));
        Rc::new(Self {
            trace: Trace::new(keep_trace),
            weather: Arc::default(),
            clock,
            log: Arc::new(log),
            objects: Arc::default(),
            views: MemoryViews::default(),
            edges: RefCell::default(),
            hosts: RefCell::default(),
            projections: RefCell::default(),
            users: RefCell::default(),
            random: RefCell::new(random),
            observations: RefCell::default(),
            findings: RefCell::default(),
            keys_folder,
            spoiled: RefCell::default(),
            nodes_started: Cell::new(0),
        })
    }

    pub(super) fn fork(&self) -> Random {
        self.random.borrow_mut().fork()
    }

    /// Something that must not be.
    pub(super) fn find(&self, kind: &'static str, detail: String) {
        self.trace.say(|| format!("FOUND {kind}: {detail}"));
        self.findings.borrow_mut().push(Finding { kind, detail });
    }

    pub(super) fn take_findings(&self) -> Vec<Finding> {
        self.findings.take()
    }

    pub(super) fn observe(&self, observation: Observation) {
        self.trace.say(|| format!("{observation:?}"));
        // Encoded, so that two runs are compared by all that clients saw.
        self.trace.mix(&serde_json::to_vec(&observation).unwrap_or_default());
        self.observations.borrow_mut().push(observation);
    }

    pub(super) fn take_observations(&self) -> Vec<Observation> {
        self.observations.take()
    }

    pub(super) fn set_users(&self, users: Vec<String>) {
        *self.users.borrow_mut() = users;
    }

    pub(super) fn user_ids(&self) -> Vec<String> {
        self.users.borrow().clone()
    }

    pub(super) fn set_spoiled(&self, shard: ShardId) {
        self.spoiled.borrow_mut().insert(shard);
    }

    pub(super) fn is_spoiled(&self, shard: ShardId) -> bool {
        self.spoiled.borrow().contains(&shard)
    }

    fn node_log(&self, name: &str, gate: &Arc<Gate>) -> Arc<dyn Log> {
        self.nodes_started.set(self.nodes_started.get() + 1);
        let name = format!("{name}.{}", self.nodes_started.get());
        let node = NodeLog::new(name, &self.log, gate, &self.weather, self.fork(), &self.trace);
        Arc::new(Connection(node))
    }

    // ---- edges ----

    pub(super) fn edge_count(&self) -> usize {
        self.edges.borrow().len()
    }

    pub(super) fn add_edge(&self) {
        let clock = self.clock.of_node();
        let gate = Arc::new(Gate::default());
        gate.kill();
        self.edges.borrow_mut().push(Edge { gate, clock, portless: None, connections: Vec::new(), pipes: Vec::new() });
    }

    pub(super) fn is_edge_up(&self, edge: usize) -> bool {
        self.edges.borrow()[edge].portless.is_some()
    }

    /// Starts an edge that is down; tries until the log lets it.
    pub(super) async fn start_edge(&self, edge: usize) {
        while !self.is_edge_up(edge) && !self.try_start_edge(edge) {
            sleep(START_RETRY).await;
        }
    }

    fn try_start_edge(&self, edge: usize) -> bool {
        let clock = self.edges.borrow()[edge].clock.clone();
        let gate = Arc::new(Gate::default());
        let config = Config::default();
        let log = self.node_log(&format!("edge {edge}"), &gate);
        let readable = self.views.for_readers(projection::all_partitions(&*self.log).len());
        let dependencies = Dependencies {
            // As leases would have it: a number that grows with each start.
            identity: EdgeIdentity { edge_id: u32::try_from(edge).unwrap_or(u32::MAX), run: self.nodes_started.get() },
            log,
            views: Arc::new(NodeViews::new(&readable, &gate, &self.weather, self.fork())),
            history: None,
            host: Arc::new(NoHost),
            clock: Arc::new(clock),
            entropy: Arc::new(SeededEntropy::new(self.fork())),
            data_directory: self.keys_folder.clone(),
            group_members_max: HostConfig::default().conversations.group_members_max,
        };
        // Nobody signs in; an edge that starts makes a hash all the same.
        let auth = AuthConfig { password_hash_memory_kib: 8, password_hash_iterations: 1, ..AuthConfig::default() };
        match Portless::start(&config, auth, dependencies, &mut Registry::default()) {
            Ok(portless) => {
                self.trace.say(|| format!("edge {edge}: up"));
                let mut edges = self.edges.borrow_mut();
                (edges[edge].gate, edges[edge].portless) = (gate, Some(portless));
                true
            }
            Err(error) => {
                self.trace.say(|| format!("edge {edge}: does not start: {error}"));
                gate.kill();
                false
            }
        }
    }

    /// Kills an edge, as SIGKILL does.
    pub(super) fn crash_edge(&self, edge: usize) {
        self.trace.say(|| format!("edge {edge}: killed"));
        let (connections, portless) = {
            let edge = &mut self.edges.borrow_mut()[edge];
            edge.gate.kill();
            edge.pipes.clear();
            (std::mem::take(&mut edge.connections), edge.portless.take())
        };
        connections.iter().for_each(JoinHandle::abort);
        drop(portless);
    }

    pub(super) fn pause_edge(&self, edge: usize, paused: bool) {
        self.trace.say(|| format!("edge {edge}: {}", if paused { "stopped" } else { "goes on" }));
        let (gate, pipes) = {
            let edge = &self.edges.borrow()[edge];
            (Arc::clone(&edge.gate), edge.pipes.clone())
        };
        gate.set_paused(paused);
        pipes.iter().filter_map(Weak::upgrade).for_each(|pipe| pipe.wake());
    }

    /// A connection to an edge, if it is up.
    pub(super) fn connect(&self, edge: usize) -> Option<ClientEnd> {
        let mut edges = self.edges.borrow_mut();
        let edge = &mut edges[edge];
        let portless = edge.portless.as_ref()?;
        let pipe = Pipe::new(&edge.gate);
        edge.connections.retain(|connection| !connection.is_finished());
        edge.connections.push(portless.connect(ServerEnd(Arc::clone(&pipe)), Format::Protobuf));
        edge.pipes.retain(|pipe| pipe.strong_count() > 0);
        edge.pipes.push(Arc::downgrade(&pipe));
        Some(ClientEnd::new(pipe))
    }

    /// Cuts one of the connections.
    pub(super) fn cut_connection(&self, random: &mut Random) {
        let edges = self.edges.borrow();
        let pipes: Vec<_> = edges.iter().flat_map(|edge| &edge.pipes).filter_map(Weak::upgrade).collect();
        drop(edges);
        let how = [Cut::All, Cut::Replies, Cut::Silent][random.place(3)];
        if let Some(pipe) = random.pick(&pipes) {
            self.trace.say(|| format!("a connection is cut: {how:?}"));
            pipe.cut(how);
        }
    }

    // ---- hosts ----

    pub(super) fn add_host(&self) {
        let gate = Arc::new(Gate::default());
        gate.kill();
        self.hosts.borrow_mut().push(Host { gate, owned: BTreeSet::new(), ownership: None, task: None });
    }

    /// Starts a host that is down, with the shards that it is to own.
    pub(super) fn start_host(self: &Rc<Self>, host: usize) {
        if self.hosts.borrow()[host].task.is_some() {
            return;
        }
        self.trace.say(|| format!("host {host}: up"));
        let gate = Arc::new(Gate::default());
        let log = self.node_log(&format!("host {host}"), &gate);
        let objects = Arc::new(NodeObjects::new(&self.objects, &gate, &self.weather, self.fork()));
        let interval_ms = self.random.borrow_mut().between(100, 3_000);
        let checkpoints = CheckpointConfig { interval_ms, deltas_max: 3, ..CheckpointConfig::default() };
        let config = HostConfig { checkpoints, ..HostConfig::default() };
        let woken = Arc::new(Notify::new());
        let wake = Arc::clone(&woken);
        let owned = self.hosts.borrow()[host].owned.clone();
        let local = LocalHost::new(
            config,
            &owned,
            log,
            Arc::new(self.clock.of_node()),
            Some(CheckpointStore::new(objects, self.log.log_id())),
            Arc::new(move || wake.notify_one()),
            &mut Registry::default(),
        );
        let ownership = local.ownership();
        let task = spawn_local(run_host(Rc::clone(self), host, local, Arc::clone(&gate), woken));
        let mut hosts = self.hosts.borrow_mut();
        (hosts[host].gate, hosts[host].ownership, hosts[host].task) = (gate, Some(ownership), Some(task));
    }

    pub(super) fn crash_host(&self, host: usize) {
        self.trace.say(|| format!("host {host}: killed"));
        let host = &mut self.hosts.borrow_mut()[host];
        host.gate.kill();
        host.ownership = None;
        if let Some(task) = host.task.take() {
            task.abort();
        }
    }

    pub(super) fn pause_host(&self, host: usize, paused: bool) {
        self.trace.say(|| format!("host {host}: {}", if paused { "stopped" } else { "goes on" }));
        let gate = Arc::clone(&self.hosts.borrow()[host].gate);
        gate.set_paused(paused);
    }

    /// Says which shards a host is to own.
    pub(super) fn own(&self, host: usize, change: impl FnOnce(&mut BTreeSet<ShardId>)) {
        let host = &mut self.hosts.borrow_mut()[host];
        change(&mut host.owned);
        if let Some(ownership) = &host.ownership {
            ownership.own(&host.owned);
        }
    }

    // ---- the projection ----

    /// Starts the projection if there is none.
    pub(super) fn start_projection(&self) {
        if self.projections.borrow().is_empty() {
            self.add_projection();
        }
    }

    /// Starts another one of the same partitions.
    pub(super) fn add_projection(&self) {
        self.trace.say(|| "projection: up".to_owned());
        let gate = Arc::new(Gate::default());
        let log = self.node_log("projection", &gate);
        let views = Arc::new(NodeViews::new(&self.views, &gate, &self.weather, self.fork()));
        let task = projection::task(&ProjectionConfig::default(), log, views, &mut Registry::default());
        self.projections.borrow_mut().push((gate, spawn_local(task)));
    }

    /// Kills all projections but this many of the oldest.
    pub(super) fn crash_projections(&self, kept: usize) {
        while self.projections.borrow().len() > kept {
            self.trace.say(|| "projection: killed".to_owned());
            if let Some((gate, task)) = self.projections.borrow_mut().pop() {
                gate.kill();
                task.abort();
            }
        }
    }

    pub(super) fn projection_gate(&self) -> Option<Arc<Gate>> {
        self.projections.borrow().first().map(|(gate, _)| Arc::clone(gate))
    }

    /// Stops every node, so that all can be looked at as it is now.
    pub(super) fn stop(&self) {
        (0..self.edge_count()).for_each(|edge| self.crash_edge(edge));
        let hosts = self.hosts.borrow().len();
        (0..hosts).for_each(|host| self.crash_host(host));
        self.crash_projections(0);
    }

    /// Sets every node right and every shard with one owner.
    pub(super) async fn heal(self: &Rc<Self>, all: &BTreeSet<ShardId>) {
        self.trace.say(|| "the storm is over".to_owned());
        self.weather.set_stormy(false);
        for edge in 0..self.edge_count() {
            let gate = Arc::clone(&self.edges.borrow()[edge].gate);
            gate.clear();
            self.pause_edge(edge, false);
            self.start_edge(edge).await;
        }
        let hosts = self.hosts.borrow().len();
        let mut dealt: BTreeMap<usize, BTreeSet<ShardId>> = BTreeMap::new();
        for (number, shard) in all.iter().enumerate() {
            dealt.entry(number % hosts).or_default().insert(*shard);
        }
        for host in 0..hosts {
            let gate = Arc::clone(&self.hosts.borrow()[host].gate);
            gate.clear();
            self.start_host(host);
            self.own(host, |owned| *owned = dealt.remove(&host).unwrap_or_default());
        }
        self.crash_projections(1);
        if let Some(gate) = self.projection_gate() {
            gate.clear();
        }
        self.start_projection();
    }
}

/// Gives a host its steps, as a thread would.
async fn run_host(world: Rc<World>, number: usize, mut host: LocalHost, gate: Arc<Gate>, woken: Arc<Notify>) {
    let clock = world.clock.clone();
    loop {
        gate.passed().await;
        match host.step() {
            Ok(LocalStep::Again) => tokio::task::yield_now().await,
            Ok(LocalStep::Sleep(None)) => woken.notified().await,
            Ok(LocalStep::Sleep(Some(until))) => {
                tokio::select! {
                    biased;
                    () = woken.notified() => {}
                    () = sleep_until(clock.instant(until)) => {}
                }
            }
            Ok(LocalStep::End) => return,
            Err(error) => return world.find("stage", format!("host {number} failed: {error}")),
        }
    }
}

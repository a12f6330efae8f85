//! The fleet: one of each service, two of each role, of which the first may be on a host of its own; or one process that
//! is everything.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process,
    sync::Arc,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    Args,
    disk::Disk,
    machine::Machine,
    network::{Host, Network},
    process::{Process, script},
};

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// A fleet with as many brokers as most faults need.
    OneBroker,
    /// A fleet that can lose a broker for good.
    ThreeBrokers,
    /// `tidings up`, on a small disk.
    Alone,
}

/// The processes that can have hosts of their own: the first of each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Edge,
    Dataflow,
    Projection,
}

impl Place {
    /// How many there are.
    pub(crate) const COUNT: u8 = 3;
}

/// Partitions of `events`, and of `fanout`.
pub(crate) const SHARDS: u32 = 4;
/// Of each role.
const PROCESSES: u16 = 2;
/// A disk for checkpoints, and one for everything, in MiB. (An empty `tidings up` takes 100.)
const CHECKPOINTS_MEBIBYTES: u32 = 32;
const EVERYTHING_MEBIBYTES: u32 = 640;
/// The engine wants one where it can be reached from elsewhere. It is as secret as the run's network.
const PASSWORD: &str = "for the fault run";

/// All processes.
pub(crate) struct Fleet {
    pub(crate) edges: Vec<Process>,
    pub(crate) dataflow: Vec<Process>,
    pub(crate) projections: Vec<Process>,
    clickhouse: Option<Process>,
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    settings: Vec<String>,
    network: Option<Arc<Network>>,
    disk: Option<Disk>,
    /// Removes the folder, unless it is to be kept.
    owned_folder: Option<TempDir>,
    ports: Ports,
    setup: Setup,
}

/// The ports of one fleet, from the first one on, and where its services listen.
#[derive(Debug, Clone, Copy)]
struct Ports {
    first: u16,
    services: Ipv4Addr,
}

impl Ports {
    fn at(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.services, self.first + port))
    }
    /// Brokers listen on the next nine, their controllers on those from ten on.
    fn kafka(self) -> SocketAddr {
        self.at(0)
    }
    fn redis(self) -> SocketAddr {
        self.at(30)
    }
    fn clickhouse(self) -> SocketAddr {
        self.at(31)
    }
    fn edge(self, number: u16) -> SocketAddr {
        self.at(40 + number)
    }
    fn dataflow(self, number: u16) -> SocketAddr {
        self.at(50 + number)
    }
    fn projection(self, number: u16) -> SocketAddr {
        self.at(60 + number)
    }
    fn spare(self, number: u16) -> SocketAddr {
        self.at(70 + number)
    }
}

impl Fleet {
    /// Starts everything, on no data, and waits until all of it is ready.
    pub(crate) fn start(args: &Args, setup: Setup, machine: &Machine) -> Result<Self> {
        let network = machine.network.as_ref().ok();
        let services = network.map_or(Ipv4Addr::LOCALHOST, |network| network.services());
        let owned_folder = TempDir::with_prefix("tidings-faults-").context("cannot make a folder")?;
        let folder = owned_folder.path().to_owned();
        let mebibytes = if setup == Setup::Alone { EVERYTHING_MEBIBYTES } else { CHECKPOINTS_MEBIBYTES };
        let disk = machine.mounts.is_ok().then(|| Disk::mount(folder.join("disk"), mebibytes)).transpose()?;
        let mut fleet = Self {
            dataflow: Vec::new(),
            projections: Vec::new(),
            edges: Vec::new(),
            clickhouse: None,
            program: args.program.clone(),
            settings: Vec::new(),
            network: network.cloned(),
            disk,
            owned_folder: Some(owned_folder),
            ports: Ports { first: args.port, services },
            folder,
            setup,
        };
        match setup {
            Setup::Alone => fleet.start_alone()?,
            Setup::OneBroker => fleet.start_all("1")?,
            Setup::ThreeBrokers => fleet.start_all("3")?,
        }
        Ok(fleet)
    }

    fn start_alone(&mut self) -> Result<()> {
        println!("starting one process");
        let (listen, data) = (self.ports.edge(0), path(&self.disk_folder("data"))?);
        self.settings = set(vec![
            format!("archive.http_listen={}", self.sql_of_alone()),
            "auth.password_hash_memory_kib=64".to_owned(),
            "auth.password_hash_iterations=1".to_owned(),
            // So that a full disk is met soon: space is claimed when a segment is begun.
            "log.journal_segment_bytes=4194304".to_owned(),
        ]);
        self.edges = vec![self.process("up", "up", None, listen, &data, &[])];
        self.ready()
    }

    fn start_all(&mut self, brokers: &str) -> Result<()> {
        println!("starting a fleet with {brokers} brokers");
        let log = self.folder.join("services.log");
        let kafka = path(&self.folder.join("kafka"))?;
        let (address, pid) = (self.ports.services.to_string(), process::id().to_string());
        let port = self.ports.kafka().port().to_string();
        let start = ["ops/kafka", "start", "--brokers", brokers, "--listen", &address, "--port", &port];
        script(&[&start, ["--data", &kafka, "--with-pid", &pid].as_slice()].concat(), &[], &log)?;
        self.redis("start")?;

        let listen = self.ports.clickhouse();
        let data = path(&self.folder.join("clickhouse"))?;
        let arguments = words(&format!("clickhouse --listen {listen} --data {data}"));
        let mut clickhouse =
            Process::new("clickhouse", &self.program, arguments, listen, &self.folder).ready_at("/ping");
        clickhouse.environment = with_password();
        clickhouse.start()?;
        clickhouse.ready()?;
        self.clickhouse = Some(clickhouse);

        self.settings = self.settings_of_fleet()?;
        for number in 0..PROCESSES {
            let is_first = number == 0;
            let at = |place| is_first.then_some(place);
            let dataflow = self.role("dataflow", number, at(Place::Dataflow), self.ports.dataflow(number))?;
            let projection = self.role("project", number, at(Place::Projection), self.ports.projection(number))?;
            let edge = self.role("edge", number, at(Place::Edge), self.ports.edge(number))?;
            self.dataflow.push(dataflow);
            self.projections.push(projection);
            self.edges.push(edge);
        }
        // The first one makes the topics.
        self.dataflow[0].start()?;
        self.dataflow[0].ready()?;
        self.ready()
    }

    fn role(&self, role: &str, number: u16, place: Option<Place>, listen: SocketAddr) -> Result<Process> {
        let name = format!("{role}-{number}");
        let data = path(&self.folder.join(&name))?;
        Ok(self.process(&name, role, place, listen, &data, &[]))
    }

    fn process(
        &self,
        name: &str,
        role: &str,
        place: Option<Place>,
        mut listen: SocketAddr,
        data: &str,
        more: &[&str],
    ) -> Process {
        let host = place.and_then(|place| self.host(place).ok());
        if let Some(host) = host {
            listen.set_ip(IpAddr::V4(host.address()));
        }
        let mut arguments = words(&format!("{role} --listen {listen} --data {data}"));
        arguments.extend(self.settings.iter().cloned());
        arguments.extend(set(more.iter().map(|setting| (*setting).to_owned()).collect()));
        let mut process = Process::new(name, &self.program, arguments, listen, &self.folder);
        process.environment = with_password();
        process.launched_by(host.map(Host::command).unwrap_or_default())
    }

    /// Starts one more of a role, on no host of its own, that is nobody's care but the caller's.
    pub(crate) fn spare(&self, role: &str, number: u16, more: &[&str]) -> Result<Process> {
        let name = format!("{role}-spare-{number}");
        let data = path(&self.folder.join(&name))?;
        let mut process = self.process(&name, role, None, self.ports.spare(number), &data, more);
        process.start()?;
        Ok(process)
    }

    fn settings_of_fleet(&self) -> Result<Vec<String>> {
        let checkpoints = path(&self.disk_folder("checkpoints"))?;
        let keys = path(&self.folder.join("keys.json"))?;
        Ok(set(vec![
            "node.log=kafka".to_owned(),
            "node.views=redis".to_owned(),
            "node.archive=clickhouse".to_owned(),
            format!("kafka.brokers={}", self.ports.kafka()),
            "kafka.session_timeout_ms=2000".to_owned(),
            "kafka.heartbeat_interval_ms=600".to_owned(),
            format!("kafka.partitions.conversations={SHARDS}"),
            format!("kafka.partitions.recipients={SHARDS}"),
            // One number more than edges: one that was killed comes back before its lease has run out.
            format!("kafka.partitions.edges={}", PROCESSES + 1),
            format!("redis.address={}", self.ports.redis()),
            format!("clickhouse.url=http://{}", self.ports.clickhouse()),
            format!("dataflow.checkpoints.directory={checkpoints}"),
            format!("auth.keys_file={keys}"),
            "auth.password_hash_memory_kib=64".to_owned(),
            "auth.password_hash_iterations=1".to_owned(),
            // So that clients soon notice an edge that says nothing any more.
            "edge.ping_interval_ms=1000".to_owned(),
            "edge.drain_delay_ms=500".to_owned(),
            // All clients come from one address, which is not the loopback's if edges have hosts.
            "edge.address_requests_per_second=100000".to_owned(),
            "edge.address_requests_burst=100000".to_owned(),
        ]))
    }

    /// A folder on the small disk, or, without one, beside the others.
    fn disk_folder(&self, name: &str) -> PathBuf {
        self.disk.as_ref().map_or(self.folder.as_path(), Disk::path).join(name)
    }

    /// The small disk.
    pub(crate) fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().context("there is no disk to fill")
    }

    /// The host of a process that has one.
    pub(crate) fn host(&self, place: Place) -> Result<&Host> {
        let network = self.network.as_ref().context("there are no hosts")?;
        Ok(network.host(place as usize))
    }

    /// Where brokers listen, all of them.
    pub(crate) fn kafka_ports(&self) -> RangeInclusive<u16> {
        let first = self.ports.kafka().port();
        first..=first + 9
    }

    /// Where Redis listens.
    pub(crate) fn redis_port(&self) -> RangeInclusive<u16> {
        let port = self.ports.redis().port();
        port..=port
    }

    /// Every process of a role.
    pub(crate) fn roles(&mut self) -> impl Iterator<Item = &mut Process> {
        self.dataflow.iter_mut().chain(&mut self.projections).chain(&mut self.edges)
    }

    /// Starts what has ended, and waits until everything is ready.
    pub(crate) fn ready(&mut self) -> Result<()> {
        for process in self.roles() {
            if process.has_ended() {
                process.start()?;
            }
        }
        self.roles().try_for_each(Process::ready)
    }

    /// Where clients may go.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        self.edges.iter().map(|edge| format!("http://{}", edge.address()))
    }

    /// Clients that come back have what they missed.
    pub(crate) fn catch_up(&self) -> Result<()> {
        let url = self.urls().next().context("there is no edge")?;
        let accounts = path(&self.folder.join("accounts.json"))?;
        let load = ["load", "--catch-up", "20", "--url", &url, "--accounts", &accounts];
        script(&[[path(&self.program)?.as_str()].as_slice(), &load].concat(), &[], &self.folder.join("load.log"))
    }

    /// ClickHouse's engine.
    pub(crate) fn clickhouse(&mut self) -> Result<&mut Process> {
        self.clickhouse.as_mut().context("there is no engine besides the process itself")
    }

    /// Where SQL is answered, and with which headers.
    pub(crate) fn sql(&self) -> (SocketAddr, Vec<(&'static str, &'static str)>) {
        match self.setup {
            Setup::Alone => (self.sql_of_alone(), Vec::new()),
            _ => (self.ports.clickhouse(), vec![("X-ClickHouse-User", "default"), ("X-ClickHouse-Key", PASSWORD)]),
        }
    }

    /// It needs no password where nobody else reaches it.
    fn sql_of_alone(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.clickhouse().port()))
    }

    /// Does something to the brokers.
    pub(crate) fn kafka(&self, arguments: &[&str]) -> Result<()> {
        let data = path(&self.folder.join("kafka"))?;
        let all: Vec<&str> = ["ops/kafka"].iter().chain(arguments).copied().chain(["--data", &data]).collect();
        script(&all, &[], &self.folder.join("services.log"))
    }

    /// Does something to Redis.
    pub(crate) fn redis(&self, what: &str) -> Result<()> {
        let (address, data) = (self.ports.redis(), path(&self.folder.join("redis"))?);
        let (port, bind) = (address.port().to_string(), address.ip().to_string());
        script(&["ops/redis", what, &port, &data], &[("BIND", &bind)], &self.folder.join("services.log"))
    }

    /// Says something to Redis.
    pub(crate) fn redis_command(&self, command: &str) -> Result<()> {
        let address = self.ports.redis();
        let (port, host) = (address.port().to_string(), address.ip().to_string());
        script(&["redis-cli", "-h", &host, "-p", &port, command], &[], &self.folder.join("services.log"))
    }

    /// Leaves the folder for a look.
    pub(crate) fn keep(&mut self) {
        if let Some(folder) = self.owned_folder.take() {
            println!("kept for a look: {}", folder.keep().display());
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.roles().for_each(|process| {
            // It may have ended by itself.
            let _ = process.kill();
        });
        if let Some(clickhouse) = &mut self.clickhouse {
            let _ = clickhouse.kill();
        }
        if self.setup == Setup::Alone {
            return;
        }
        for stopped in [self.redis("kill"), self.kafka(&["stop"])] {
            if let Err(error) = stopped {
                eprintln!("{error:#}");
            }
        }
    }
}

fn set(settings: Vec<String>) -> Vec<String> {
    settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

fn with_password() -> Vec<(String, String)> {
    vec![("TIDINGS_CLICKHOUSE_PASSWORD".to_owned(), PASSWORD.to_owned())]
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn path(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the path of the temporary folder is no text")?.to_owned())
}

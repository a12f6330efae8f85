//! The fleet: one of each service, two of each role.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    Args,
    process::{Process, script},
};

/// How many brokers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brokers {
    /// As many as most faults need.
    One,
    /// So that one can be lost for good.
    Three,
}

impl Brokers {
    fn count(self) -> u16 {
        match self {
            Self::One => 1,
            Self::Three => 3,
        }
    }
}

/// All processes.
pub(crate) struct Fleet {
    pub(crate) edges: Vec<Process>,
    pub(crate) dataflow: Vec<Process>,
    pub(crate) projections: Vec<Process>,
    pub(crate) clickhouse: Process,
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    /// Removes the folder, unless it is to be kept.
    owned_folder: Option<TempDir>,
    ports: Ports,
}

/// The ports of one fleet, from the first one on.
#[derive(Debug, Clone, Copy)]
struct Ports(u16);

impl Ports {
    /// Brokers listen on the next nine, their controllers on those from ten on.
    fn kafka(self) -> u16 {
        self.0
    }
    fn redis(self) -> u16 {
        self.0 + 30
    }
    fn clickhouse(self) -> SocketAddr {
        local(self.0 + 31)
    }
    fn edge(self, number: u16) -> SocketAddr {
        local(self.0 + 40 + number)
    }
    fn dataflow(self, number: u16) -> SocketAddr {
        local(self.0 + 50 + number)
    }
    fn projection(self, number: u16) -> SocketAddr {
        local(self.0 + 60 + number)
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Of each role.
const PROCESSES: u16 = 2;

impl Fleet {
    /// Starts everything, on no data, and waits until all of it is ready.
    pub(crate) fn start(args: &Args, brokers: Brokers) -> Result<Self> {
        let ports = Ports(args.port);
        let owned_folder = TempDir::with_prefix("tidings-faults-").context("cannot make a folder")?;
        let folder = owned_folder.path().to_owned();
        let services = folder.join("services.log");
        println!("starting a fleet with {} brokers", brokers.count());
        let kafka = path(&folder.join("kafka"))?;
        let (count, port, pid) = (brokers.count().to_string(), ports.kafka().to_string(), process::id().to_string());
        let start = ["ops/kafka", "start", "--brokers", &count, "--port", &port, "--data", &kafka, "--with-pid", &pid];
        script(&start, &services)?;
        let (port, redis) = (ports.redis().to_string(), path(&folder.join("redis"))?);
        script(&["ops/redis", "start", &port, &redis], &services)?;

        let program = args.program.clone();
        let mut clickhouse = Process::new(
            "clickhouse",
            &program,
            words(&format!("clickhouse --listen {} --data {}", ports.clickhouse(), path(&folder.join("clickhouse"))?)),
            ports.clickhouse(),
            &folder,
        )
        .ready_at("/ping");
        clickhouse.start()?;
        clickhouse.ready()?;

        let settings = Self::settings(ports, &folder)?;
        let role = |role: &str, number: u16, listen: SocketAddr| -> Result<Process> {
            let name = format!("{role}-{number}");
            let data = path(&folder.join(&name))?;
            let mut arguments = words(&format!("{role} --listen {listen} --data {data}"));
            arguments.extend(settings.iter().cloned());
            Ok(Process::new(&name, &program, arguments, listen, &folder))
        };
        let all = |name: &str, listen: &dyn Fn(u16) -> SocketAddr| -> Result<Vec<Process>> {
            (0..PROCESSES).map(|number| role(name, number, listen(number))).collect()
        };
        let mut fleet = Self {
            dataflow: all("dataflow", &|number| ports.dataflow(number))?,
            projections: all("project", &|number| ports.projection(number))?,
            edges: all("edge", &|number| ports.edge(number))?,
            clickhouse,
            program: program.clone(),
            folder: folder.clone(),
            owned_folder: Some(owned_folder),
            ports,
        };
        // The first one makes the topics.
        fleet.dataflow[0].start()?;
        fleet.dataflow[0].ready()?;
        for process in fleet.roles() {
            if process.has_ended() {
                process.start()?;
            }
        }
        fleet.ready()?;
        Ok(fleet)
    }

    fn settings(ports: Ports, folder: &Path) -> Result<Vec<String>> {
        let checkpoints = path(&folder.join("checkpoints"))?;
        let keys = path(&folder.join("keys.json"))?;
        let settings = [
            "node.log=kafka".to_owned(),
            "node.views=redis".to_owned(),
            "node.archive=clickhouse".to_owned(),
            format!("kafka.brokers=127.0.0.1:{}", ports.kafka()),
            "kafka.session_timeout_ms=2000".to_owned(),
            "kafka.heartbeat_interval_ms=600".to_owned(),
            "kafka.partitions.conversations=4".to_owned(),
            "kafka.partitions.recipients=4".to_owned(),
            "kafka.partitions.edges=8".to_owned(),
            format!("redis.address=127.0.0.1:{}", ports.redis()),
            format!("clickhouse.url=http://{}", ports.clickhouse()),
            format!("dataflow.checkpoints.directory={checkpoints}"),
            format!("auth.keys_file={keys}"),
            "auth.password_hash_memory_kib=64".to_owned(),
            "auth.password_hash_iterations=1".to_owned(),
            // So that clients soon notice an edge that says nothing any more.
            "edge.ping_interval_ms=1000".to_owned(),
            "edge.drain_delay_ms=500".to_owned(),
        ];
        Ok(settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect())
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
        let ports = self.ports;
        (0..PROCESSES).map(move |number| format!("http://{}", ports.edge(number)))
    }

    /// Where SQL is answered.
    pub(crate) fn sql(&self) -> SocketAddr {
        self.ports.clickhouse()
    }

    /// Does something to the brokers.
    pub(crate) fn kafka(&self, arguments: &[&str]) -> Result<()> {
        let data = path(&self.folder.join("kafka"))?;
        let all: Vec<&str> = ["ops/kafka"].iter().chain(arguments).copied().chain(["--data", &data]).collect();
        script(&all, &self.folder.join("services.log"))
    }

    /// Does something to Redis.
    pub(crate) fn redis(&self, what: &str) -> Result<()> {
        let (port, data) = (self.ports.redis().to_string(), path(&self.folder.join("redis"))?);
        script(&["ops/redis", what, &port, &data], &self.folder.join("services.log"))
    }

    /// Says something to Redis.
    pub(crate) fn redis_command(&self, command: &str) -> Result<()> {
        let port = self.ports.redis().to_string();
        script(&["redis-cli", "-h", "127.0.0.1", "-p", &port, command], &self.folder.join("services.log"))
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
        let _ = self.clickhouse.kill();
        for stopped in [self.redis("kill"), self.kafka(&["stop"])] {
            if let Err(error) = stopped {
                eprintln!("{error:#}");
            }
        }
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn path(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the path of the temporary folder is no text")?.to_owned())
}

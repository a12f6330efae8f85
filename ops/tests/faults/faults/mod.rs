//! What is done to the fleet.
//!
//! - Here: processes and stores that end, stop and come back. [`networks`]: between them. [`clocks`], [`disks`].
//!   [`owners`]: shards with more than one.

mod clocks;
mod disks;
mod networks;
mod owners;

use std::{thread, time::Duration};

use anyhow::Result;
use rustix::process::Signal;

use crate::fleet::{Fleet, Setup};

/// One way to break a fleet.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What is done, for people.
    pub(crate) what: &'static str,
    /// Whether it is among those of a short run.
    pub(crate) is_short: bool,
    /// The fleet that it needs.
    pub(crate) setup: Setup,
    /// What it needs of the machine.
    pub(crate) needs: Option<Need>,
    /// Messages are delivered again within this, at the latest, counted from the moment when they were to be sent.
    pub(crate) resumes_within: Duration,
    /// How long the fault itself lasts.
    pub(crate) lasts: Duration,
    /// No client may have to connect again for it.
    pub(crate) keeps_connections: bool,
    /// What comes before the load.
    pub(crate) prepare: fn(&mut Fleet) -> Result<()>,
    /// Does it, and returns when the fault is over. What was killed for good may stay dead: the fleet is mended
    /// afterwards.
    pub(crate) inject: fn(&mut Fleet, Duration) -> Result<()>,
    /// What comes after the load and all checks.
    pub(crate) after: fn(&mut Fleet) -> Result<()>,
}

/// What a machine may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Network namespaces, and links between them.
    Network,
    /// Mounts of one's own.
    Mounts,
    /// A C compiler, for the library that tells a process another time.
    Compiler,
}

/// What most faults are.
const BASE: Fault = Fault {
    name: "",
    what: "",
    is_short: false,
    setup: Setup::OneBroker,
    needs: None,
    resumes_within: seconds(0),
    lasts: seconds(0),
    keeps_connections: false,
    prepare: |_| Ok(()),
    inject: |_, _| Ok(()),
    after: |_| Ok(()),
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// All of them.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "none",
        what: "nothing is broken",
        is_short: true,
        resumes_within: seconds(2),
        lasts: seconds(0),
        inject: |_, _| Ok(()),
        ..BASE
    },
    Fault {
        name: "edge-killed",
        what: "SIGKILL of an edge; its clients go to the other",
        is_short: true,
        resumes_within: seconds(3),
        lasts: seconds(5),
        inject: |fleet, lasts| {
            fleet.edges[0].kill()?;
            thread::sleep(lasts);
            fleet.edges[0].start()
        },
        ..BASE
    },
    Fault {
        name: "edge-drained",
        what: "SIGTERM of an edge, as in a rolling restart",
        is_short: false,
        resumes_within: seconds(3),
        lasts: seconds(1),
        inject: |fleet, lasts| {
            fleet.edges[0].stop()?;
            thread::sleep(lasts);
            fleet.edges[0].start()
        },
        ..BASE
    },
    Fault {
        name: "edge-zombie",
        what: "SIGSTOP of an edge, and SIGCONT when its lease has run out",
        is_short: false,
        resumes_within: seconds(8),
        lasts: seconds(30),
        inject: |fleet, lasts| stopped(fleet, lasts, |fleet| &mut fleet.edges[0]),
        ..BASE
    },
    Fault {
        name: "dataflow-killed",
        what: "SIGKILL of a dataflow process; the other takes its shards over",
        is_short: true,
        resumes_within: seconds(5),
        lasts: seconds(8),
        inject: |fleet, lasts| {
            fleet.dataflow[0].kill()?;
            thread::sleep(lasts);
            fleet.dataflow[0].start()
        },
        ..BASE
    },
    Fault {
        name: "dataflow-zombie",
        what: "SIGSTOP of a dataflow process, and SIGCONT when the other has its shards",
        is_short: true,
        resumes_within: seconds(6),
        lasts: seconds(12),
        inject: |fleet, lasts| stopped(fleet, lasts, |fleet| &mut fleet.dataflow[1]),
        ..BASE
    },
    Fault {
        name: "projection-killed",
        what: "SIGKILL of a projection; the other takes its partitions over",
        is_short: true,
        resumes_within: seconds(5),
        lasts: seconds(6),
        inject: |fleet, lasts| {
            fleet.projections[0].kill()?;
            thread::sleep(lasts);
            fleet.projections[0].start()
        },
        ..BASE
    },
    Fault {
        name: "projection-zombie",
        what: "SIGSTOP of a projection, and SIGCONT when the other has its partitions",
        is_short: false,
        resumes_within: seconds(5),
        lasts: seconds(30),
        inject: |fleet, lasts| stopped(fleet, lasts, |fleet| &mut fleet.projections[1]),
        ..BASE
    },
    Fault {
        name: "broker-restarted",
        what: "SIGKILL of the only broker, and its restart after 15 s",
        is_short: true,
        resumes_within: seconds(40),
        lasts: seconds(15),
        keeps_connections: true,
        inject: |fleet, lasts| {
            fleet.kafka(&["kill", "1"])?;
            thread::sleep(lasts);
            fleet.kafka(&["restart", "1"])
        },
        ..BASE
    },
    Fault {
        name: "redis-flushed",
        what: "FLUSHALL: the views are gone, and are rebuilt from the log",
        is_short: true,
        resumes_within: seconds(5),
        lasts: seconds(1),
        inject: |fleet, lasts| {
            fleet.redis_command("FLUSHALL")?;
            thread::sleep(lasts);
            Ok(())
        },
        ..BASE
    },
    Fault {
        name: "redis-restarted",
        what: "SIGKILL of Redis, and its restart with what it kept",
        is_short: false,
        resumes_within: seconds(10),
        lasts: seconds(3),
        inject: |fleet, lasts| {
            fleet.redis("kill")?;
            thread::sleep(lasts);
            fleet.redis("start")
        },
        ..BASE
    },
    Fault {
        name: "clickhouse-down",
        what: "SIGKILL of ClickHouse's engine, and its restart: the archive catches up",
        is_short: true,
        resumes_within: seconds(3),
        lasts: seconds(6),
        inject: |fleet, lasts| {
            fleet.clickhouse()?.kill()?;
            thread::sleep(lasts);
            fleet.clickhouse()?.start()?;
            fleet.clickhouse()?.ready()
        },
        ..BASE
    },
    Fault {
        name: "broker-lost",
        what: "SIGKILL of one of three brokers, for good",
        is_short: false,
        setup: Setup::ThreeBrokers,
        resumes_within: seconds(30),
        lasts: seconds(10),
        inject: |fleet, lasts| {
            fleet.kafka(&["kill", "2"])?;
            thread::sleep(lasts);
            Ok(())
        },
        // For good, as far as this load is concerned: the next round has three again.
        after: |fleet| fleet.kafka(&["restart", "2"]),
        ..BASE
    },
    networks::DELAYED,
    networks::LOSSY,
    networks::EDGE_CUT_OFF,
    networks::DATAFLOW_CUT_OFF,
    networks::PROJECTION_CUT_OFF,
    clocks::STEPPED,
    disks::CHECKPOINTS_FULL,
    disks::FULL,
    owners::TWO,
];

fn stopped(fleet: &mut Fleet, lasts: Duration, which: fn(&mut Fleet) -> &mut crate::process::Process) -> Result<()> {
    which(fleet).signal(Signal::STOP)?;
    thread::sleep(lasts);
    which(fleet).signal(Signal::CONT)
}

//! Real brokers for these tests, started by `ops/kafka`; they stop when the test process ends.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test crate uses a part of it; and these are tests"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tidings_ingest::{KafkaConfig, KafkaLog};
use tidings_schemas::clock::{SystemClock, SystemEntropy};

/// Where `ops/kafka` finds free ports, if the variable is not set.
const PORT_DEFAULT: u16 = 19_000;
const PORT_VARIABLE: &str = "TIDINGS_TEST_KAFKA_PORT";

/// Brokers of these tests' own.
pub struct Brokers {
    data: PathBuf,
    /// As `kafka.brokers` has it.
    pub bootstrap: String,
}

/// The one broker that the tests of a file share, each with topics of its own.
pub fn shared() -> &'static Brokers {
    static SHARED: OnceLock<Brokers> = OnceLock::new();
    SHARED.get_or_init(|| Brokers::start("one", 1, 0, &[]))
}

/// Settings with a prefix that no other test has.
pub fn settings(brokers: &Brokers) -> KafkaConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let topic_prefix = format!("test{}-{}.", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    KafkaConfig { brokers: brokers.bootstrap.clone(), topic_prefix, ..KafkaConfig::default() }
}

/// Opens the log with these settings.
pub fn open(config: &KafkaConfig) -> KafkaLog {
    KafkaLog::open(config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
        .unwrap_or_else(|error| panic!("{error}"))
}

impl Brokers {
    /// Starts brokers without any data, `port_offset` past the first port.
    pub fn start(name: &str, brokers: u32, port_offset: u16, more: &[&str]) -> Self {
        let base = std::env::var(PORT_VARIABLE).map_or(PORT_DEFAULT, |port| port.parse().unwrap());
        let data = root().join("target/kafka-tests").join(name);
        let port = (base + port_offset).to_string();
        let (brokers, pid) = (brokers.to_string(), std::process::id().to_string());
        let mut arguments = vec!["start", "--fresh", "--brokers", &brokers, "--port", &port, "--with-pid", &pid];
        arguments.extend(more);
        let started = run(&data, &arguments);
        let bootstrap = String::from_utf8(started.stdout).unwrap().trim().to_owned();
        Self { data, bootstrap }
    }

    /// As a crash would.
    pub fn kill(&self, number: u32) {
        run(&self.data, &["kill", &number.to_string()]);
    }

    /// Starts a killed one again, and waits until it is ready.
    pub fn restart(&self, number: u32) {
        run(&self.data, &["restart", &number.to_string()]);
    }

    /// A file below the brokers' data.
    pub fn file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        run(&self.data, &["stop"]);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(root().join("ops/kafka")).args(arguments).arg("--data").arg(data).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ops/kafka {} failed ({}):\n{said}", arguments.join(" "), output.status);
    output
}

//! A Redis server of a test's own: Debian's `redis-server` on a free port, in a folder of its own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses some of it, and may panic")]

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tidings_dataflow::views::redis::{RedisConfig, RedisViews};

/// The log that the tests' views are of.
pub const LOG: u128 = 7;

/// How a server keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Not at all.
    None,
    /// An append-only file that is synced each second.
    EverySecond,
    /// Snapshots, made when a test asks for one.
    Snapshots,
}

/// A running server, ended with the test.
pub struct Redis {
    folder: TempDir,
    port: u16,
    durability: Durability,
    child: Option<Child>,
}

impl Redis {
    pub fn start(durability: Durability) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap().port();
        let mut redis = Self { folder, port, durability, child: None };
        redis.run();
        redis
    }

    /// Starts it (again) and waits until it answers and has loaded its data.
    #[allow(clippy::disallowed_methods, reason = "waits for another process")]
    pub fn run(&mut self) {
        let append_only = if self.durability == Durability::EverySecond { "yes" } else { "no" };
        let output = File::create(self.folder.path().join("output")).unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", append_only, "--appendfsync", "everysec", "--zset-max-listpack-value", "512"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::from(output.try_clone().unwrap()))
            .stderr(Stdio::from(output))
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server cannot be started: {error} (./ops/test redis installs it)"));
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.try_command(&["PING"]).is_ok_and(|answer: String| answer == "PONG") {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::yield_now();
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn config(&self) -> RedisConfig {
        RedisConfig { address: format!("127.0.0.1:{}", self.port), ..RedisConfig::default() }
    }

    /// The views of a log, as another process would open them.
    pub fn views_of(&self, log_id: u128) -> RedisViews {
        static TOKEN: AtomicU64 = AtomicU64::new(1);
        RedisViews::new(&self.config(), log_id, TOKEN.fetch_add(1, Ordering::Relaxed)).unwrap()
    }

    pub fn views(&self) -> RedisViews {
        self.views_of(LOG)
    }

    /// What an operator does with `redis-cli`.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap()
    }

    fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

//! What the archive's tests share: the process's one engine.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses some of it, and may panic")]

use std::sync::OnceLock;

use tidings_dataflow::archive::libchdb::{Connection, Engine, configuration::EngineConfiguration};

/// The process's engine, in a folder that is removed by the operating system's next clean-up at the latest.
pub fn engine() -> Engine {
    static ENGINE: OnceLock<(Engine, tempfile::TempDir)> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            (Engine::open(&EngineConfiguration::in_folder(folder.path())).unwrap(), folder)
        })
        .0
        .clone()
}

/// A fresh database for one test.
pub fn database(name: &str) -> String {
    let database = format!("tidings_{name}");
    Connection::open(&engine(), Vec::new())
        .and_then(|mut connection| {
            connection.query(&format!("CREATE DATABASE {database} ENGINE = Atomic"), "Null", &[])
        })
        .unwrap();
    database
}

//! What the archive's tests share: the process's one engine.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses some of it, and may panic")]

use std::sync::OnceLock;

use tidings_dataflow::archive::{
    Archive as _, ArchiveSettings, EmbeddedArchive,
    libchdb::{Connection, Engine, configuration::EngineConfiguration},
};

/// The process's engine, in a folder that is removed by the operating system's next clean-up at the latest.
pub fn engine() -> Engine {
    static ENGINE: OnceLock<(Engine, tempfile::TempDir)> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let engine = Engine::open(&EngineConfiguration::in_folder(folder.path()));
            (engine.unwrap_or_else(|error| panic!("{error}")), folder)
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

/// A migrated archive in a database of its own.
pub async fn open(database: &str) -> EmbeddedArchive {
    let configuration = EngineConfiguration::in_folder(engine().folder());
    let settings = ArchiveSettings { database: database.to_owned(), ..ArchiveSettings::default() };
    let archive = EmbeddedArchive::open(&configuration, settings).unwrap();
    archive.migrate().await.unwrap();
    archive
}

/// What a statement answers, as tab-separated text.
pub fn sql(database: &str, statement: &str) -> String {
    let mut connection = Connection::open(&engine(), vec![format!("USE {database}")]).unwrap();
    String::from_utf8(connection.query(statement, "TSV", &[]).unwrap().bytes).unwrap()
}

//! What the archive's tests share: the process's one engine.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses some of it, and may panic")]

use std::{fs, path::Path, sync::OnceLock};

use tidings_dataflow::archive::{
    Archive as _, ArchiveSettings, EmbeddedArchive,
    libchdb::{Connection, Engine, configuration::EngineConfiguration},
};

/// The process's engine, in a folder of the test binary's own, emptied at the start: it may not go while the engine runs,
/// and the engine runs until the process ends.
pub fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let open = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(concat!(env!("CARGO_CRATE_NAME"), "-archive"));
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        Engine::open(&EngineConfiguration::in_folder(folder)).unwrap_or_else(|error| panic!("{error}"))
    };
    ENGINE.get_or_init(open).clone()
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

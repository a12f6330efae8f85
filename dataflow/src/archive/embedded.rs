//! The archive in libchdb: [`EmbeddedArchive`], on a thread that writes, one that counts, and a few that read.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_schemas::limits;

use super::{
    libchdb::{Connection, Engine, EngineError, configuration::EngineConfiguration},
    repair,
    sql::{Sql, SqlArchive, identifier},
    store::ArchiveError,
    threads::SessionThreads,
};

/// Settings of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveSettings {
    /// The database that the tables are in.
    pub database: String,
    /// How long rows stay, in days. Whole months are dropped once all in them is older.
    pub retention_days: u32,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self { database: "tidings".to_owned(), retention_days: limits::ARCHIVE_RETENTION_DAYS }
    }
}

/// The embedded archive. Dropping it waits for what runs in it, at most as long as a statement may run.
pub type EmbeddedArchive = SqlArchive<EngineSql>;

/// The embedded engine's SQL.
pub struct EngineSql {
    engine: Engine,
    settings: ArchiveSettings,
    writer: SessionThreads,
    counter: SessionThreads,
    readers: SessionThreads,
    damage: Arc<Damage>,
}

/// The last error that told of a damaged part, until its table is opened anew.
#[derive(Default)]
struct Damage(Mutex<Option<EngineError>>);

impl Damage {
    fn note(&self, error: EngineError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<EngineError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl EmbeddedArchive {
    /// Opens the archive: the engine on the configuration's folder, and the database, made when it is not there. The
    /// schema is brought up to date by [`Archive::migrate`].
    ///
    /// # Errors
    /// The library is missing, the folder is in use, the engine does not start: [`EngineError`] says which.
    pub fn open(configuration: &EngineConfiguration, settings: ArchiveSettings) -> Result<Self, EngineError> {
        let engine = Engine::open(configuration)?;
        let database = identifier(&settings.database);
        Connection::open(&engine, Vec::new())?.query(
            &format!("CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic"),
            "Null",
            &[],
        )?;
        // Two cores are shared with the chat: one thread for each statement, and no statement for ever.
        let seconds = |duration: Duration| duration.as_secs().max(1);
        let setup = |time_max| {
            let settings = format!("SET max_threads = 1, max_insert_threads = 1, max_execution_time = {time_max}");
            vec![format!("USE {database}"), settings]
        };
        let threads = |name, count, waiting, time_max, more: Option<String>| {
            let setup: Vec<String> = setup(time_max).into_iter().chain(more).collect();
            SessionThreads::start(&engine, name, &setup, count, waiting).map_err(|error| EngineError::Folder {
                folder: engine.folder().to_owned(),
                reason: format!("no thread: {error}"),
            })
        };
        let writer = threads("archive-write", 1, 4, seconds(limits::ARCHIVE_INSERT_TIMEOUT), None)?;
        // What it cannot do in memory it does on the disk: inserts and readers need some, too.
        let (memory, spilled) =
            (limits::ARCHIVE_SUMMARY_MEMORY_BYTES_MAX, limits::ARCHIVE_SUMMARY_MEMORY_BYTES_MAX / 4);
        let frugal = format!(
            "SET max_memory_usage = {memory}, max_bytes_before_external_group_by = {spilled}, \
             max_bytes_before_external_sort = {spilled}"
        );
        let counter = threads("archive-count", 1, 1, seconds(limits::ARCHIVE_SUMMARY_TIMEOUT), Some(frugal))?;
        let readers = threads(
            "archive-read",
            limits::ARCHIVE_READERS_MAX,
            limits::ARCHIVE_READS_WAITING_MAX,
            seconds(limits::ARCHIVE_CALL_TIMEOUT),
            None,
        )?;
        let retention_days = settings.retention_days;
        // The engine has one process: no other writes.
        Ok(Self::on(
            EngineSql { engine, settings, writer, counter, readers, damage: Arc::default() },
            retention_days,
            0,
        ))
    }

    /// The engine, to serve SQL from.
    pub fn engine(&self) -> &Engine {
        &self.sql.engine
    }

    /// The settings.
    pub fn settings(&self) -> &ArchiveSettings {
        &self.sql.settings
    }
}

impl EngineSql {
    /// Runs it on one of the threads. Damage that it meets is repaired before the error is told.
    async fn on<T: Send + 'static>(
        &self,
        threads: &SessionThreads,
        timeout: Duration,
        work: impl FnOnce(&mut Connection) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let damage = Arc::clone(&self.damage);
        let watched = move |session: &mut Connection| {
            work(session).inspect_err(|error| {
                if repair::is_damage(error) {
                    damage.note(error.clone());
                }
            })
        };
        let outcome = threads.run(timeout, watched).await;
        if let Some(error) = self.damage.take() {
            let damage = Arc::clone(&self.damage);
            let repair = move |session: &mut Connection| {
                repair::look_anew(session, &error).inspect_err(|_| damage.note(error.clone()))
            };
            if let Err(error) = self.writer.run(limits::ARCHIVE_INSERT_TIMEOUT, repair).await {
                tracing::error!(%error, "the archive's tables are not repaired: tried again at the next call");
            }
        }
        outcome
    }
}

#[async_trait]
impl Sql for EngineSql {
    async fn read(&self, sql: String) -> Result<Bytes, ArchiveError> {
        let query = move |session: &mut Connection| session.query(&sql, "RowBinary", &[]);
        Ok(self.on(&self.readers, limits::ARCHIVE_CALL_TIMEOUT, query).await?.bytes.into())
    }

    async fn run(&self, sql: String) -> Result<Bytes, ArchiveError> {
        let query = move |session: &mut Connection| session.query(&sql, "RowBinary", &[]);
        Ok(self.on(&self.writer, limits::ARCHIVE_INSERT_TIMEOUT, query).await?.bytes.into())
    }

    async fn compute(&self, sql: String) -> Result<Bytes, ArchiveError> {
        let query = move |session: &mut Connection| session.query(&sql, "RowBinary", &[]);
        Ok(self.on(&self.counter, limits::ARCHIVE_SUMMARY_TIMEOUT, query).await?.bytes.into())
    }

    async fn insert(&self, insert: String, rows: Bytes) -> Result<(), ArchiveError> {
        let insert = move |session: &mut Connection| session.insert(&insert, "RowBinary", [rows.as_ref()]).map(drop);
        self.on(&self.writer, limits::ARCHIVE_INSERT_TIMEOUT, insert).await
    }

    /// It was made when the engine was opened.
    async fn create_database(&self) -> Result<(), ArchiveError> {
        Ok(())
    }
}

//! The archive in libchdb: [`EmbeddedArchive`], on a thread that writes and a few that read.

use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits,
    topics::Topic,
    wire,
};

use super::{
    libchdb::{Connection, Engine, EngineError, configuration::EngineConfiguration},
    migrations::{self, AGEING_TABLES, CREATE_MIGRATIONS_TABLE},
    row_binary::{RowBinaryError, RowBinaryReader, RowBinaryWriter},
    rows,
    store::{Archive, ArchiveError, Batch, EntriesQuery, Planned, Progress, TableRows},
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
pub struct EmbeddedArchive {
    engine: Engine,
    settings: ArchiveSettings,
    writer: SessionThreads,
    readers: SessionThreads,
    positions: Mutex<Positions>,
}

/// What this process knows of the positions in the archive.
#[derive(Default)]
struct Positions {
    /// Whether they were read: before that, any batch may have been begun by a process that died.
    are_read: bool,
    /// Of each partition: the next offset of it, and of its source.
    next_offsets: HashMap<(Topic, u32), (u64, u64)>,
    /// Batches whose insert was begun and is not known to have been finished.
    begun: HashSet<String>,
}

impl Positions {
    /// Whether all of the batch is in the archive.
    fn cover(&self, batch: &Batch) -> bool {
        batch.ranges.iter().all(|range| {
            let known = self.next_offsets.get(&(range.topic, range.partition));
            known.is_some_and(|(next_offset, _)| *next_offset >= range.end_offset)
        })
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
        let seconds = |duration: std::time::Duration| duration.as_secs().max(1);
        let setup = |time_max| {
            let settings = format!("SET max_threads = 1, max_insert_threads = 1, max_execution_time = {time_max}");
            vec![format!("USE {database}"), settings]
        };
        let threads = |name, count, waiting, time_max| {
            SessionThreads::start(&engine, name, &setup(time_max), count, waiting).map_err(|error| {
                EngineError::Folder { folder: engine.folder().to_owned(), reason: format!("no thread: {error}") }
            })
        };
        let writer = threads("archive-write", 1, 4, seconds(limits::ARCHIVE_INSERT_TIMEOUT))?;
        let readers = threads(
            "archive-read",
            limits::ARCHIVE_READERS_MAX,
            limits::ARCHIVE_READS_WAITING_MAX,
            seconds(limits::ARCHIVE_CALL_TIMEOUT),
        )?;
        Ok(Self { engine, settings, writer, readers, positions: Mutex::default() })
    }

    /// The engine, to serve SQL from.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The settings.
    pub fn settings(&self) -> &ArchiveSettings {
        &self.settings
    }

    async fn read<T: Send + 'static>(
        &self,
        sql: String,
        row: fn(&mut RowBinaryReader<'_>) -> Result<T, RowBinaryError>,
    ) -> Result<Vec<T>, ArchiveError> {
        let query = move |session: &mut Connection| session.query(&sql, "RowBinary", &[]);
        let output = self.readers.run(limits::ARCHIVE_CALL_TIMEOUT, query).await?;
        let mut reader = RowBinaryReader::new(&output.bytes);
        let mut found = Vec::new();
        while !reader.is_empty() {
            found.push(row(&mut reader)?);
        }
        Ok(found)
    }

    fn positions(&self) -> MutexGuard<'_, Positions> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Archive for EmbeddedArchive {
    async fn migrate(&self) -> Result<(), ArchiveError> {
        let retention_days = self.settings.retention_days;
        let timeout = limits::ARCHIVE_INSERT_TIMEOUT;
        let applied = |session: &mut Connection| {
            session.query(CREATE_MIGRATIONS_TABLE, "Null", &[])?;
            session.query("SELECT version, checksum FROM migrations FINAL ORDER BY version", "RowBinary", &[])
        };
        let output = self.writer.run(timeout, applied).await?;
        let mut reader = RowBinaryReader::new(&output.bytes);
        let mut applied = Vec::new();
        while !reader.is_empty() {
            applied.push((reader.u32()?, reader.text()?.to_owned()));
        }
        let pending = migrations::pending(&applied)?;
        let apply = move |session: &mut Connection| {
            for migration in pending {
                // Each statement can be repeated: a crash in between is made good at the next start.
                for statement in migration.statements(retention_days) {
                    session.query(&statement, "Null", &[])?;
                }
                let mut row = RowBinaryWriter::default();
                row.u32(migration.version).string(migration.name).string(migration.checksum());
                let insert = "INSERT INTO migrations (version, name, checksum)";
                session.insert(insert, "RowBinary", [row.as_bytes()])?;
                tracing::info!(version = migration.version, name = migration.name, "archive schema migrated");
            }
            keep_for(session, retention_days)
        };
        self.writer.run(timeout, apply).await
    }

    async fn progress(&self) -> Result<Vec<Progress>, ArchiveError> {
        let sql = "SELECT topic, partition, next_offset, next_source_offset, planned_end, batch \
                   FROM source_positions FINAL ORDER BY topic, partition";
        // On the writer's thread: an insert that is under way comes first.
        let query = move |session: &mut Connection| session.query(sql, "RowBinary", &[]);
        let output = self.writer.run(limits::ARCHIVE_CALL_TIMEOUT, query).await?;
        let mut row = RowBinaryReader::new(&output.bytes);
        let mut found = Vec::new();
        while !row.is_empty() {
            let topic = Topic::from_name(row.text()?);
            let (partition, next_offset, next_source_offset) = (row.u32()?, row.u64()?, row.u64()?);
            let planned = Planned { end_offset: row.u64()?, batch: row.text()?.to_owned() };
            // A topic of a newer program is none of ours.
            let Some(topic) = topic else { continue };
            let planned = (planned.end_offset > next_offset).then_some(planned);
            found.push(Progress { topic, partition, next_offset, next_source_offset, planned });
        }
        let mut positions = self.positions();
        positions.are_read = true;
        for progress in &found {
            let key = (progress.topic, progress.partition);
            positions.next_offsets.insert(key, (progress.next_offset, progress.next_source_offset));
            positions.begun.extend(progress.planned.iter().map(|planned| planned.batch.clone()));
        }
        drop(positions);
        Ok(found)
    }

    fn next_source_offset(&self, topic: Topic, partition: u32) -> u64 {
        self.positions().next_offsets.get(&(topic, partition)).map_or(0, |(_, source)| *source)
    }

    async fn insert(&self, batch: Arc<Batch>) -> Result<(), ArchiveError> {
        let id = batch.id();
        let are_read = self.positions().are_read;
        if !are_read {
            self.progress().await?;
        }
        let begun_before = {
            let mut positions = self.positions();
            if positions.cover(&batch) {
                // It was finished, and its caller was not told.
                return Ok(());
            }
            // Until it is known to be finished, every further attempt looks at what is there already.
            !positions.begun.insert(id.clone())
        };
        let inserted = Arc::clone(&batch);
        let insert = move |session: &mut Connection| insert(session, &batch, begun_before);
        self.writer.run(limits::ARCHIVE_INSERT_TIMEOUT, insert).await?;
        let mut positions = self.positions();
        positions.begun.remove(&id);
        for range in &inserted.ranges {
            positions.next_offsets.insert((range.topic, range.partition), (range.end_offset, range.source.to));
        }
        Ok(())
    }

    async fn entries(&self, query: EntriesQuery) -> Result<Vec<wire::Entry>, ArchiveError> {
        let (columns, limit) = (rows::ENTRY_COLUMNS, query.limit.min(limits::ARCHIVE_READ_ROWS_MAX));
        let (conversation, first, last) = (query.conversation, query.seqs.start(), query.seqs.end());
        let order = if query.newest_first { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT {columns} FROM timeline_entries WHERE conversation_id = '{conversation}' \
             AND seq >= {first} AND seq <= {last} ORDER BY seq {order} LIMIT 1 BY seq LIMIT {limit}"
        );
        self.read(sql, rows::read_entry).await
    }

    async fn entry_by_message_id(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<Option<wire::Entry>, ArchiveError> {
        let columns = rows::ENTRY_COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM timeline_entries \
             WHERE conversation_id = '{conversation}' AND message_id = '{message}' LIMIT 1"
        );
        Ok(self.read(sql, rows::read_entry).await?.into_iter().next())
    }

    async fn changes_for(&self, conversation: ConversationId, seqs: &[u64]) -> Result<Vec<wire::Change>, ArchiveError> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let columns = rows::CHANGE_COLUMNS;
        let seqs: Vec<String> = seqs.iter().take(limits::ARCHIVE_READ_ROWS_MAX).map(u64::to_string).collect();
        let seqs = seqs.join(", ");
        let sql = format!(
            "SELECT {columns} FROM message_changes WHERE conversation_id = '{conversation}' AND seq IN ({seqs}) \
             ORDER BY seq, kind = 'deleted' DESC, source_offset DESC LIMIT 1 BY seq"
        );
        self.read(sql, rows::read_change).await
    }

    async fn inbox(
        &self,
        recipient: UserId,
        offsets: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, wire::InboxRow)>, ArchiveError> {
        let (columns, limit) = (rows::INBOX_COLUMNS, limit.min(limits::ARCHIVE_READ_ROWS_MAX));
        let (first, last) = (offsets.start(), offsets.end());
        let sql = format!(
            "SELECT {columns} FROM inbox_entries WHERE recipient_id = '{recipient}' \
             AND offset >= {first} AND offset <= {last} ORDER BY offset LIMIT 1 BY offset LIMIT {limit}"
        );
        self.read(sql, rows::read_inbox).await
    }
}

/// Writes the ranges down, inserts the rows of each table, and moves the positions: in this order, each a step that
/// can be repeated.
fn insert(session: &mut Connection, batch: &Batch, begun_before: bool) -> Result<(), EngineError> {
    let id = batch.id();
    write_positions(session, batch, &id, false)?;
    for rows in &batch.rows {
        if begun_before {
            insert_missing(session, rows)?;
        } else {
            insert_rows(session, rows.table.name(), rows)?;
        }
    }
    write_positions(session, batch, &id, true)
}

fn insert_rows(session: &mut Connection, into: &str, rows: &TableRows) -> Result<(), EngineError> {
    let insert = format!("INSERT INTO {into} ({})", rows.table.columns());
    session.insert(&insert, "RowBinary", [rows.row_binary.as_slice()]).map(|_| ())
}

/// Inserts the rows whose key is not in the table yet: an attempt before this one may have inserted all, none, or those
/// of some months.
fn insert_missing(session: &mut Connection, rows: &TableRows) -> Result<(), EngineError> {
    let (table, columns, key) = (rows.table.name(), rows.table.columns(), rows.table.key());
    let again = format!("{table}_again");
    session.query(&format!("CREATE OR REPLACE TABLE {again} AS {table} ENGINE = Memory"), "Null", &[])?;
    insert_rows(session, &again, rows)?;
    let missing = format!(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM {again} WHERE ({key}) NOT IN \
         (SELECT {key} FROM {table} WHERE ({key}) IN (SELECT {key} FROM {again}))"
    );
    session.query(&missing, "Null", &[])?;
    session.query(&format!("DROP TABLE {again} SYNC"), "Null", &[]).map(|_| ())
}

fn write_positions(session: &mut Connection, batch: &Batch, id: &str, done: bool) -> Result<(), EngineError> {
    let mut rows = RowBinaryWriter::default();
    for range in &batch.ranges {
        // The newest row of a partition counts: done is after planned, and a later range after both.
        let (next, source, version) = if done {
            (range.end_offset, range.source.to, range.end_offset.saturating_mul(2))
        } else {
            (range.first_offset, range.source.from, range.first_offset.saturating_mul(2).saturating_add(1))
        };
        rows.string(range.topic.name()).u32(range.partition).u64(next).u64(source).u64(range.end_offset);
        rows.string(id).u64(version);
    }
    let insert = "INSERT INTO source_positions \
                  (topic, partition, next_offset, next_source_offset, planned_end, batch, version)";
    session.insert(insert, "RowBinary", [rows.as_bytes()]).map(|_| ())
}

/// Makes the tables keep rows for as long as the setting now says.
fn keep_for(session: &mut Connection, retention_days: u32) -> Result<(), EngineError> {
    for (table, column) in AGEING_TABLES {
        let sql =
            "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = {name:String}";
        let definition = session.query(sql, "RowBinary", &[("name", table)])?;
        let wanted = format!("toIntervalDay({retention_days})");
        if !String::from_utf8_lossy(&definition.bytes).contains(&wanted) {
            let alter = format!("ALTER TABLE {table} MODIFY TTL toDateTime({column}) + INTERVAL {retention_days} DAY");
            session.query(&alter, "Null", &[])?;
            tracing::info!(table, retention_days, "archive retention changed");
        }
    }
    Ok(())
}

/// A name as SQL takes it, whatever is in it.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

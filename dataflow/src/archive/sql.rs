//! The archive in SQL, whoever runs it: [`SqlArchive`] is the one implementation of the port, over a small [`Sql`], which
//! is the embedded engine or a ClickHouse server.
//!
//! How a row comes to be there once: the ranges of a batch are written down, its rows inserted, the positions moved, each
//! a step that can be repeated. A batch that was begun before and is not known to be finished is compared with the tables
//! by key, and only what is missing goes in. Two writers of one partition, and an answer that was lost while the server
//! went on, may leave a row twice for a while: the tables replace rows of the same key when they are merged, and whoever
//! reads with FINAL (as the views, this port and the SQL port do) sees it once. Positions never go back: the row with the
//! largest version counts, and it grows with the offset.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits,
    topics::Topic,
    wire,
};

use super::{
    erasure::ErasedTable,
    migrations::{self, AGEING_TABLES, CREATE_MIGRATIONS_TABLE},
    row_binary::{RowBinaryError, RowBinaryReader, RowBinaryWriter},
    rows,
    store::{Archive, ArchiveError, Batch, EntriesQuery, Planned, Progress, TableRows},
};

/// Runs statements in the archive's database. Every call has a time-out; one that fails may have been done all the same.
#[async_trait]
pub trait Sql: Send + Sync + 'static {
    /// What a read of history answers, in RowBinary. Several may run at once.
    async fn read(&self, sql: String) -> Result<Bytes, ArchiveError>;

    /// Runs one statement of the writer's, and gives its answer in RowBinary.
    async fn run(&self, sql: String) -> Result<Bytes, ArchiveError>;

    /// Runs one statement of the writer's that may take long, and that no insert waits for.
    async fn compute(&self, sql: String) -> Result<Bytes, ArchiveError>;

    /// Inserts rows in RowBinary; the statement is without `FORMAT`.
    async fn insert(&self, insert: String, rows: Bytes) -> Result<(), ArchiveError>;

    /// Makes the database where it is not there.
    async fn create_database(&self) -> Result<(), ArchiveError>;
}

/// The archive, on whatever runs its SQL.
pub struct SqlArchive<S> {
    pub(super) sql: S,
    retention_days: u32,
    /// In the names of this process's tables for a comparison, with a number for each: none is ever used twice.
    token: u64,
    comparisons: AtomicU64,
    /// Tables of comparisons that are still there: the server went away before they could be dropped.
    undropped: Mutex<Vec<String>>,
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

impl<S: Sql> SqlArchive<S> {
    /// The archive whose rows stay for so many days. `token`: a number that no other process has which writes to the same
    /// database.
    pub(super) fn on(sql: S, retention_days: u32, token: u64) -> Self {
        Self {
            sql,
            retention_days,
            token,
            comparisons: AtomicU64::new(0),
            undropped: Mutex::default(),
            positions: Mutex::default(),
        }
    }

    async fn read<T>(
        &self,
        sql: String,
        row: fn(&mut RowBinaryReader<'_>) -> Result<T, RowBinaryError>,
    ) -> Result<Vec<T>, ArchiveError> {
        let answer = self.sql.read(sql).await?;
        let mut reader = RowBinaryReader::new(&answer);
        let mut found = Vec::new();
        while !reader.is_empty() {
            found.push(row(&mut reader)?);
        }
        Ok(found)
    }

    fn positions(&self) -> MutexGuard<'_, Positions> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the ranges down, inserts the rows of each table, and moves the positions: in this order, each a step that
    /// can be repeated.
    async fn insert_batch(&self, batch: &Batch, begun_before: bool) -> Result<(), ArchiveError> {
        let id = batch.id();
        self.write_positions(batch, &id, false).await?;
        for rows in &batch.rows {
            if begun_before {
                self.insert_missing(rows).await?;
            } else {
                self.insert_rows(rows.table.name(), rows).await?;
            }
        }
        self.write_positions(batch, &id, true).await
    }

    async fn insert_rows(&self, into: &str, rows: &TableRows) -> Result<(), ArchiveError> {
        let insert = format!("INSERT INTO {into} ({})", rows.table.columns());
        self.sql.insert(insert, rows.row_binary.clone()).await
    }

    /// Inserts the rows whose key is not in the table yet: an attempt before this one may have inserted all, none, or
    /// those of some months.
    ///
    /// The table for the comparison has a name of its own each time, and withstands a crash of the server: were it
    /// emptied by an earlier attempt that comes late, or by a restart, nothing would be missing, and rows would be lost.
    async fn insert_missing(&self, rows: &TableRows) -> Result<(), ArchiveError> {
        let (table, columns, key) = (rows.table.name(), rows.table.columns(), rows.table.key());
        let number = self.comparisons.fetch_add(1, Ordering::Relaxed);
        let again = format!("{table}{COMPARISON}{:016x}_{number}", self.token);
        let engine = "ENGINE = MergeTree ORDER BY tuple() SETTINGS fsync_after_insert = 1, fsync_part_directory = 1";
        let missing = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {again} WHERE ({key}) NOT IN \
             (SELECT {key} FROM {table} WHERE ({key}) IN (SELECT {key} FROM {again}))"
        );
        let compared = async {
            self.sql.run(format!("CREATE TABLE {again} AS {table} {engine}")).await?;
            self.insert_rows(&again, rows).await?;
            self.sql.run(missing).await
        };
        let outcome = compared.await;
        // Whatever came of it; what cannot be dropped now is dropped after the next insert.
        self.undropped.lock().unwrap_or_else(PoisonError::into_inner).push(again);
        let outcome = outcome.map(drop);
        self.drop_comparisons().await;
        outcome
    }

    /// Drops the tables of past comparisons, as far as that can be done now.
    async fn drop_comparisons(&self) {
        let tables = std::mem::take(&mut *self.undropped.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = Vec::new();
        for table in tables {
            if self.sql.run(format!("DROP TABLE IF EXISTS {table} SYNC")).await.is_err() {
                left.push(table);
            }
        }
        self.undropped.lock().unwrap_or_else(PoisonError::into_inner).extend(left);
    }

    async fn write_positions(&self, batch: &Batch, id: &str, done: bool) -> Result<(), ArchiveError> {
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
        self.sql.insert(insert.to_owned(), rows.into_bytes().into()).await
    }

    /// How far each partition is, as it is written down.
    pub(super) async fn read_progress(&self) -> Result<Vec<Progress>, ArchiveError> {
        let sql = "SELECT topic, partition, next_offset, next_source_offset, planned_end, batch \
                   FROM source_positions FINAL ORDER BY topic, partition";
        let answer = self.sql.run(sql.to_owned()).await?;
        let mut row = RowBinaryReader::new(&answer);
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
        Ok(found)
    }

    /// How many days rows stay.
    pub(super) fn retention_days(&self) -> u32 {
        self.retention_days
    }

    /// Makes the tables keep rows for as long as the setting now says.
    async fn keep_for(&self, retention_days: u32) -> Result<(), ArchiveError> {
        for (table, column) in AGEING_TABLES {
            let sql = format!(
                "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = '{table}'"
            );
            let definition = self.sql.run(sql).await?;
            let wanted = format!("toIntervalDay({retention_days})");
            if !String::from_utf8_lossy(&definition).contains(&wanted) {
                let alter =
                    format!("ALTER TABLE {table} MODIFY TTL toDateTime({column}) + INTERVAL {retention_days} DAY");
                self.sql.run(alter).await?;
                tracing::info!(table, retention_days, "archive retention changed");
            }
        }
        Ok(())
    }

    /// Removes the tables that processes which died in a comparison have left behind.
    async fn remove_old_comparisons(&self) -> Result<(), ArchiveError> {
        let mut sql = "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE ".to_owned();
        // An underscore stands for any character there, unless it is escaped.
        let _ = write!(sql, "'%{}%'", COMPARISON.replace('_', "\\\\_"));
        let _ = write!(sql, " AND metadata_modification_time < now() - {COMPARISON_SECONDS_MAX}");
        let answer = self.sql.run(sql).await?;
        let mut names = RowBinaryReader::new(&answer);
        while !names.is_empty() {
            self.sql.run(format!("DROP TABLE IF EXISTS {} SYNC", identifier(names.text()?))).await?;
        }
        Ok(())
    }
}

/// In the name of every table that is made for a comparison.
const COMPARISON: &str = "_again_";
/// A table for a comparison that is older than this is nobody's any more.
const COMPARISON_SECONDS_MAX: u32 = 24 * 60 * 60;

/// A name as SQL takes it, whatever is in it.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[async_trait]
impl<S: Sql> Archive for SqlArchive<S> {
    async fn migrate(&self) -> Result<(), ArchiveError> {
        self.sql.create_database().await?;
        self.sql.run(CREATE_MIGRATIONS_TABLE.to_owned()).await?;
        let sql = "SELECT version, checksum FROM migrations FINAL ORDER BY version";
        let answer = self.sql.run(sql.to_owned()).await?;
        let mut reader = RowBinaryReader::new(&answer);
        let mut applied = Vec::new();
        while !reader.is_empty() {
            applied.push((reader.u32()?, reader.text()?.to_owned()));
        }
        for migration in migrations::pending(&applied)? {
            // Each statement can be repeated: a crash in between is made good at the next start, and two processes that
            // begin at once do no harm.
            for statement in migration.statements(self.retention_days) {
                self.sql.run(statement).await?;
            }
            let mut row = RowBinaryWriter::default();
            row.u32(migration.version).string(migration.name).string(migration.checksum());
            let insert = "INSERT INTO migrations (version, name, checksum)";
            self.sql.insert(insert.to_owned(), row.into_bytes().into()).await?;
            tracing::info!(version = migration.version, name = migration.name, "archive schema migrated");
        }
        self.keep_for(self.retention_days).await?;
        self.remove_old_comparisons().await
    }

    async fn progress(&self) -> Result<Vec<Progress>, ArchiveError> {
        let found = self.read_progress().await?;
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
        self.insert_batch(&batch, begun_before).await?;
        self.drop_comparisons().await;
        let mut positions = self.positions();
        positions.begun.remove(&id);
        for range in &batch.ranges {
            positions.next_offsets.insert((range.topic, range.partition), (range.end_offset, range.source.to));
        }
        Ok(())
    }

    async fn erase(&self, users: &[UserId]) -> Result<Vec<ErasedTable>, ArchiveError> {
        self.erase_content(users).await
    }

    async fn summarize(&self) -> Result<u64, ArchiveError> {
        self.summarize_now().await
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

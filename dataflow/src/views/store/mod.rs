//! The embedded store of the views: one fjall keyspace whose keys are table, owner and sort, and the positions beside
//! them, so that a batch and its positions are one atomic write.
//!
//! - [`identity`]: which log and which version of the rows a folder is of; anything else is rebuilt.
//! - [`keys`]: rows' and positions' keys as bytes.
//! - [`positions`]: the positions in memory, and those who wait for one.
//! - [`journal_sync`]: the thread that syncs the journal now and then. A crash of the machine may take the rows of the
//!   last moment away together with their positions; they are applied again from the log. A crash of the process alone
//!   takes nothing away.

mod identity;
mod journal_sync;
mod keys;
mod positions;

use std::{
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch as WriteBatch, PersistMode, Readable, Snapshot, UserKey,
    UserValue, compaction::Leveled,
};
use tidings_schemas::{
    limits::{
        VIEW_INLINE_READS_MAX, VIEW_SCAN_ROWS_MAX, VIEW_STORE_CACHE_BYTES, VIEW_STORE_JOURNAL_BYTES_MAX,
        VIEW_STORE_MEMORY_WAIT, VIEW_STORE_MEMTABLE_BYTES, VIEW_STORE_MEMTABLES_MAX, VIEW_STORE_SYNC_INTERVAL,
    },
    topics::Topic,
    views::{Key, Move, Position, Scan, ViewError, ViewStore, Write},
};

use identity::Identity;
pub use identity::OpenError;
use journal_sync::JournalSync;
use positions::Positions;

/// Tables are merged when there are so many: twice as many as usual, because rows are written more often than they are
/// read, and merging costs nearly half as much then.
const UNMERGED_TABLES_MAX: u8 = 8;

/// How often a batch that waits for memory looks again: the store tells nobody when it has written a table.
const MEMORY_POLL: Duration = Duration::from_millis(1);

/// Settings of the embedded store of the views.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Memory for pages read from the tables on disk, in bytes.
    pub cache_bytes: u64,
    /// Memory for new rows before they are written out to a table, in bytes (at the most, four times this).
    pub memtable_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { cache_bytes: VIEW_STORE_CACHE_BYTES, memtable_bytes: VIEW_STORE_MEMTABLE_BYTES }
    }
}

/// The embedded store of the views. Cheap to clone; the last clone to go closes it.
#[derive(Clone)]
pub struct FjallViews {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped first: the thread holds a handle of the database, whose end waits for its own threads.
    _journal_sync: JournalSync,
    rows: Keyspace,
    database: Database,
    positions: Positions,
    memory_bytes_max: u64,
    /// What readers see: the store after the last whole batch. (A snapshot that is opened while a batch is being
    /// committed can show a part of it: the writing of a table in the background moves the store's clock past the
    /// batch's time. So only the writer opens one, when its batch is done.)
    visible: RwLock<Snapshot>,
    /// Held while a batch is committed and made visible.
    writing: Mutex<()>,
}

impl FjallViews {
    /// Opens the views in `folder`, which are those of the log with this id. What is there of another log, of another
    /// version of the rows, or damaged, is dropped: the projection fills it again from the log.
    ///
    /// # Errors
    /// The folder cannot be read or written, or another process has it open.
    pub fn open(folder: &Path, log_id: u128, config: &StoreConfig) -> Result<Self, OpenError> {
        let identity = Identity { log_id };
        identity.prepare(folder)?;
        let (database, rows) = match open_database(&identity::rows_folder(folder), config) {
            Ok(opened) => opened,
            Err(error) if is_damage(&error) => {
                tracing::warn!(
                    folder = %folder.display(), %error,
                    "the views are damaged: they are dropped and rebuilt from the log"
                );
                identity.start_over(folder)?;
                open_database(&identity::rows_folder(folder), config)
                    .map_err(|error| OpenError::from_fjall(folder, &error))?
            }
            Err(error) => return Err(OpenError::from_fjall(folder, &error)),
        };
        let positions = Positions::load(&rows).map_err(|error| OpenError::from_fjall(folder, &error))?;
        let journal_sync = JournalSync::start(database.clone(), VIEW_STORE_SYNC_INTERVAL)
            .map_err(|error| OpenError::Io { folder: folder.to_owned(), error })?;
        let memory_bytes_max = config.memtable_bytes.saturating_mul(VIEW_STORE_MEMTABLES_MAX);
        let inner = Inner {
            _journal_sync: journal_sync,
            visible: RwLock::new(database.snapshot()),
            writing: Mutex::new(()),
            rows,
            database,
            positions,
            memory_bytes_max,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Bytes on disk: tables and journal.
    pub fn disk_bytes(&self) -> u64 {
        self.inner.database.disk_space().unwrap_or_default()
    }

    /// Bytes of rows in memory that are not yet in a table on disk.
    pub fn memory_bytes(&self) -> u64 {
        self.inner.database.write_buffer_size()
    }

    /// Syncs what was applied so far to the disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<(), ViewError> {
        self.inner.database.persist(PersistMode::SyncData).map_err(|error| view_error(&error))
    }

    async fn run<T: Send + 'static>(
        &self,
        rows: usize,
        read: impl FnOnce(&Inner) -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ViewError> {
        if rows <= VIEW_INLINE_READS_MAX {
            return read(&self.inner);
        }
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || read(&inner)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(ViewError::Unavailable(error.to_string())),
        }
    }
}

fn open_database(folder: &Path, config: &StoreConfig) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(folder)
        .cache_size(config.cache_bytes)
        .max_journaling_size(VIEW_STORE_JOURNAL_BYTES_MAX)
        // One for writing rows out to tables, so that this never waits for the other's merging of tables.
        .worker_threads(2)
        .open()?;
    let memtable_bytes = config.memtable_bytes;
    let rows = database.keyspace("rows", || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(memtable_bytes)
            .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(UNMERGED_TABLES_MAX)))
    })?;
    Ok((database, rows))
}

impl Inner {
    fn visible(&self) -> Snapshot {
        self.visible.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        let snapshot = self.visible();
        keys.iter()
            .map(|key| {
                let value = snapshot.get(&self.rows, keys::row(key)).map_err(|error| view_error(&error))?;
                Ok(value.map(|value| Bytes::copy_from_slice(&value)))
            })
            .collect()
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        let Some(range) = keys::range(scan.table, scan.owner, &scan.from, &scan.to) else { return Ok(Vec::new()) };
        let limit = scan.limit.min(VIEW_SCAN_ROWS_MAX);
        let rows = self.visible().range(&self.rows, range);
        let read = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|error| view_error(&error))?;
            Ok((Bytes::copy_from_slice(keys::sort_of(&key)), Bytes::copy_from_slice(&value)))
        };
        if scan.reverse { rows.rev().take(limit).map(read).collect() } else { rows.take(limit).map(read).collect() }
    }

    /// Waits while the disk is behind with what is in memory.
    fn wait_for_memory(&self) -> Result<(), ViewError> {
        let mut waited = Duration::ZERO;
        while self.database.write_buffer_size() > self.memory_bytes_max {
            if waited.is_zero() {
                // What was read back from the journal at the start is in memory, and only a batch would send it on.
                self.rows.rotate_memtable().map_err(|error| view_error(&error))?;
            }
            if waited >= VIEW_STORE_MEMORY_WAIT {
                return Err(ViewError::Unavailable("the disk is too slow for the views".to_owned()));
            }
            std::thread::sleep(MEMORY_POLL);
            waited += MEMORY_POLL;
        }
        Ok(())
    }

    fn apply(&self, writes: &[Write], moves: &[Move]) -> Result<(), ViewError> {
        self.wait_for_memory()?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for Move { topic, partition, from, .. } in moves {
            self.positions.check(*topic, *partition, *from)?;
        }
        let mut changes = self.changes(writes)?;
        for step in moves {
            let key = keys::position(step.topic, step.partition);
            changes.push((key, Some(UserValue::from(step.to.to_be_bytes()))));
        }
        // Neighbours go to the same place in memory. Stable: changes of one row stay in their order.
        changes.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut batch =
            WriteBatch::with_capacity(self.database.clone(), changes.len()).durability(Some(PersistMode::Buffer));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.rows, key, value),
                None => batch.remove(&self.rows, key),
            }
        }
        batch.commit().map_err(|error| view_error(&error))?;
        let snapshot = self.database.snapshot();
        *self.visible.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.positions.publish(moves);
        Ok(())
    }

    /// The writes as rows: the value, or none where the row goes.
    fn changes(&self, writes: &[Write]) -> Result<Vec<(UserKey, Option<UserValue>)>, ViewError> {
        let mut changes = Vec::with_capacity(writes.len() + 16);
        for (index, write) in writes.iter().enumerate() {
            match write {
                Write::Put(key, value) => {
                    keys::check(key)?;
                    changes.push((keys::row(key), Some(UserValue::from(&**value))));
                }
                Write::Delete(key) => changes.push((keys::row(key), None)),
                Write::DeleteBelow(bound) => {
                    changes.extend(self.stored_below(bound)?.into_iter().map(|key| (key, None)));
                    let earlier = put_below(writes.get(..index).unwrap_or_default(), bound);
                    changes.extend(earlier.map(|key| (keys::row(key), None)));
                }
            }
        }
        Ok(changes)
    }

    /// The keys of the owner's stored rows below the bound.
    fn stored_below(&self, bound: &Key) -> Result<Vec<UserKey>, ViewError> {
        let below = std::ops::Bound::Excluded(bound.sort.clone());
        let Some(range) = keys::range(bound.table, bound.owner, &std::ops::Bound::Unbounded, &below) else {
            return Ok(Vec::new());
        };
        self.visible().range(&self.rows, range).map(|guard| guard.key().map_err(|error| view_error(&error))).collect()
    }
}

/// The rows below the bound that earlier writes of the same batch put.
fn put_below<'a>(earlier: &'a [Write], bound: &'a Key) -> impl Iterator<Item = &'a Key> {
    earlier.iter().filter_map(move |write| match write {
        Write::Put(key, _) if key.table == bound.table && key.owner == bound.owner && key.sort < bound.sort => {
            Some(key)
        }
        _ => None,
    })
}

#[async_trait]
impl ViewStore for FjallViews {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        if keys.len() <= VIEW_INLINE_READS_MAX {
            return self.inner.get(keys);
        }
        let keys = keys.to_vec();
        self.run(keys.len(), move |inner| inner.get(&keys)).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        self.run(scan.limit, move |inner| inner.scan(&scan)).await
    }

    async fn apply(&self, writes: Vec<Write>, moves: Vec<Move>) -> Result<(), ViewError> {
        self.inner.apply(&writes, &moves)
    }

    /// Readers are not kept away while the views are filled: the process that serves them is the one that fills them, and
    /// says that it is not ready.
    async fn confirm(&self, positions: Vec<Position>, _at_end: bool) -> Result<(), ViewError> {
        let mut positions = positions.into_iter();
        positions.try_for_each(|at| self.inner.positions.check(at.topic, at.partition, at.next_offset))
    }

    async fn position(&self, topic: Topic, partition: u32) -> Result<u64, ViewError> {
        Ok(self.inner.positions.get(topic, partition))
    }

    async fn wait_past(&self, topic: Topic, partition: u32, offset: u64, timeout: Duration) -> Result<(), ViewError> {
        self.inner.positions.wait_past(topic, partition, offset, timeout).await
    }
}

impl std::fmt::Debug for FjallViews {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FjallViews").finish_non_exhaustive()
    }
}

/// Whether the store is damaged rather than out of reach.
fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            // A file that is missing or too short is not one that cannot be reached.
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData)
        }
        fjall::Error::Locked | fjall::Error::Poisoned => false,
        _ => true,
    }
}

fn view_error(error: &fjall::Error) -> ViewError {
    if is_damage(error) { ViewError::Corrupt(error.to_string()) } else { ViewError::Unavailable(error.to_string()) }
}

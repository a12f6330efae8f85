//! The store while it is open: one fjall keyspace, and what readers see of it.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    thread,
    time::Duration,
};

use bytes::Bytes;
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch as WriteBatch, PersistMode, Readable,
    Snapshot, UserKey, UserValue, compaction::Leveled,
};
use tidings_schemas::{
    limits::{
        VIEW_SCAN_ROWS_MAX, VIEW_STORE_JOURNAL_BYTES_MAX, VIEW_STORE_MEMORY_WAIT, VIEW_STORE_MEMTABLES_MAX,
        VIEW_STORE_UNMERGED_TABLES_MAX, VIEW_STORE_UNWRITTEN_TABLES_MAX,
    },
    views::{Key, Move, Scan, ViewError, Write},
};

use super::{StoreConfig, keys, positions::Positions, view_error};

/// Tables are merged when there are so many: twice as many as usual, because rows are written more often than they are
/// read, and merging costs nearly half as much then.
const UNMERGED_TABLES: u8 = 8;

/// How often a batch that waits for the disk looks again, and how often one who closes the store does: fjall tells nobody.
const POLL: Duration = Duration::from_millis(1);

/// How long an end may take that fjall's own threads are known to come to.
const END_POLLS_MAX: u32 = 5_000;

/// The open store.
pub(super) struct Opened {
    pub(super) rows: Keyspace,
    pub(super) database: Database,
    memory_bytes_max: u64,
    /// What readers see: the store after the last whole batch. (A snapshot that is opened while a batch is being
    /// committed can show a part of it: the writing of a table in the background moves the store's clock past the
    /// batch's time. So only the writer opens one, when its batch is done.)
    visible: RwLock<Snapshot>,
    /// Held while a batch is committed and made visible.
    writing: Mutex<()>,
}

impl Opened {
    /// Opens what is in this folder, or makes it.
    pub(super) fn open(folder: &Path, config: &StoreConfig) -> fjall::Result<Self> {
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
                .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(UNMERGED_TABLES)))
        })?;
        Ok(Self {
            visible: RwLock::new(database.snapshot()),
            writing: Mutex::new(()),
            memory_bytes_max: memtable_bytes.saturating_mul(VIEW_STORE_MEMTABLES_MAX),
            rows,
            database,
        })
    }

    /// Ends it, and comes back when nothing of it is left: whatever its threads still hold they may write out when they
    /// let go of it, into the files of who opens it next.
    pub(super) fn close(mut opened: Arc<Self>) {
        let alone = loop {
            match Arc::try_unwrap(opened) {
                Ok(alone) => break alone,
                // A read or a batch is under way: bounded, and no new one comes.
                Err(shared) => opened = shared,
            }
            thread::sleep(POLL);
        };
        let left = Arc::downgrade(&alone.database.supervisor.keyspaces);
        drop(alone);
        (0..END_POLLS_MAX).take_while(|_| Weak::strong_count(&left) > 0).for_each(|_| thread::sleep(POLL));
    }

    /// Whether it has met an error of its disk and refuses every later write.
    pub(super) fn is_broken(&self) -> bool {
        self.database.persist(PersistMode::Buffer).is_err()
    }

    /// Syncs what was applied so far to the disk.
    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncData)
    }

    /// Syncs everything, also what says where it is.
    pub(super) fn sync_all(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncAll)
    }

    /// Changes with every batch.
    pub(super) fn written_at(&self) -> u64 {
        self.database.seqno()
    }

    /// Bytes on disk: tables and journal.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or_default()
    }

    /// Bytes of rows in memory that are not yet in a table on disk.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.database.write_buffer_size()
    }

    pub(super) fn visible(&self) -> Snapshot {
        self.visible.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        let snapshot = self.visible();
        keys.iter()
            .map(|key| {
                let value = snapshot.get(&self.rows, keys::row(key)).map_err(|error| view_error(&error))?;
                Ok(value.map(|value| Bytes::copy_from_slice(&value)))
            })
            .collect()
    }

    pub(super) fn scan(&self, scan: &Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        let Some(range) = keys::range(scan.table, scan.owner, &scan.from, &scan.to) else { return Ok(Vec::new()) };
        let limit = scan.limit.min(VIEW_SCAN_ROWS_MAX);
        let rows = self.visible().range(&self.rows, range);
        let read = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|error| view_error(&error))?;
            Ok((Bytes::copy_from_slice(keys::sort_of(&key)), Bytes::copy_from_slice(&value)))
        };
        if scan.reverse { rows.rev().take(limit).map(read).collect() } else { rows.take(limit).map(read).collect() }
    }

    /// While this is held, no batch is applied.
    pub(super) fn hold_writes(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a batch if `check` says so and the positions are where its moves begin, and moves them.
    pub(super) fn apply(
        &self,
        writes: &[Write],
        moves: &[Move],
        positions: &Positions,
        check: impl FnOnce() -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        self.wait_for_disk()?;
        let _writing = self.hold_writes();
        check()?;
        for Move { topic, partition, from, .. } in moves {
            positions.check(*topic, *partition, *from)?;
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
        positions.publish(moves);
        Ok(())
    }

    /// Waits while the disk is behind with what is in memory, or with the merging of tables. (A commit would wait for the
    /// same, but without an end: also for threads that an error has ended.)
    fn wait_for_disk(&self) -> Result<(), ViewError> {
        let mut waited = Duration::ZERO;
        while self.is_disk_behind() {
            if self.is_broken() {
                return Err(view_error(&fjall::Error::Poisoned));
            }
            if waited.is_zero() && self.is_memory_full() {
                // What was read back from the journal at the start is in memory, and only a batch would send it on.
                self.rows.rotate_memtable().map_err(|error| view_error(&error))?;
            }
            if waited >= VIEW_STORE_MEMORY_WAIT {
                return Err(ViewError::Unavailable("the disk is too slow for the views".to_owned()));
            }
            thread::sleep(POLL);
            waited += POLL;
        }
        Ok(())
    }

    fn is_disk_behind(&self) -> bool {
        self.is_memory_full()
            || self.rows.tree.sealed_memtable_count() >= VIEW_STORE_UNWRITTEN_TABLES_MAX
            || self.rows.tree.l0_run_count() >= VIEW_STORE_UNMERGED_TABLES_MAX
    }

    fn is_memory_full(&self) -> bool {
        self.database.write_buffer_size() > self.memory_bytes_max
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

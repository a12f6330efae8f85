//! Views in memory, for simulations (feature `simulation`). They can be dropped at any moment, as a store that is flushed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tidings_schemas::{
    limits::{VIEW_SCAN_ROWS_MAX, VIEW_SORT_BYTES_MAX},
    topics::Topic,
    views::{Key, Move, Position, Scan, ViewError, ViewStore, Write},
};
use tokio::sync::oneshot;

/// See the module. Clones share the rows.
#[derive(Debug, Clone, Default)]
pub struct MemoryViews {
    rows: Arc<Mutex<Rows>>,
    /// For readers: how many partitions must have been at the log's end.
    whole_partitions: Option<usize>,
}

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Key, Bytes>,
    positions: BTreeMap<(Topic, u32), u64>,
    /// Partitions that have been at the log's end since the rows were begun.
    whole: BTreeSet<(Topic, u32)>,
    /// Who waits for a partition to be past an offset, in the order in which they came.
    waiting: Vec<(Topic, u32, u64, oneshot::Sender<()>)>,
}

impl Rows {
    fn check(&self, topic: Topic, partition: u32, expected: u64) -> Result<(), ViewError> {
        let found = self.positions.get(&(topic, partition)).copied().unwrap_or(0);
        if found == expected { Ok(()) } else { Err(ViewError::Overtaken { topic, partition, expected, found }) }
    }
}

impl MemoryViews {
    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops all rows and positions.
    pub fn clear(&self) {
        let mut rows = self.lock();
        rows.rows.clear();
        rows.positions.clear();
        rows.whole.clear();
    }

    /// The same rows for those who only read: they are refused until this many partitions have been at the log's end.
    pub fn for_readers(&self, partitions: usize) -> Self {
        Self { whole_partitions: Some(partitions), ..self.clone() }
    }

    fn read(&self) -> Result<MutexGuard<'_, Rows>, ViewError> {
        let rows = self.lock();
        match self.whole_partitions {
            Some(partitions) if rows.whole.len() < partitions => {
                Err(ViewError::Unavailable("the views are being rebuilt from the log".to_owned()))
            }
            _ => Ok(rows),
        }
    }

    /// All rows, for comparing.
    pub fn rows(&self) -> BTreeMap<Key, Bytes> {
        self.lock().rows.clone()
    }
}

#[async_trait]
impl ViewStore for MemoryViews {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        let rows = self.read()?;
        Ok(keys.iter().map(|key| rows.rows.get(key).cloned()).collect())
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        let Scan { table, owner, from, to, reverse, limit } = scan;
        let key = |sort: Bytes| Key { table, owner, sort };
        let from = match from {
            Bound::Unbounded => Bound::Included(key(Bytes::new())),
            bound => bound.map(key),
        };
        let to = match to {
            // Longer than any sort key, so past all of the owner's.
            Bound::Unbounded => Bound::Excluded(key(Bytes::from_static(&[0xff; VIEW_SORT_BYTES_MAX + 1]))),
            bound => bound.map(key),
        };
        if let (Bound::Included(begin) | Bound::Excluded(begin), Bound::Included(end) | Bound::Excluded(end)) =
            (&from, &to)
            && begin >= end
            && !matches!((&from, &to), (Bound::Included(begin), Bound::Included(end)) if begin == end)
        {
            return Ok(Vec::new());
        }
        let rows = self.read()?;
        let range = rows.rows.range((from, to));
        let found = |(key, value): (&Key, &Bytes)| (key.sort.clone(), value.clone());
        Ok(if reverse {
            range.rev().take(limit.min(VIEW_SCAN_ROWS_MAX)).map(found).collect()
        } else {
            range.take(limit.min(VIEW_SCAN_ROWS_MAX)).map(found).collect()
        })
    }

    async fn apply(&self, writes: Vec<Write>, moves: Vec<Move>) -> Result<(), ViewError> {
        let is_too_long = |write: &Write| {
            let (Write::Put(key, _) | Write::Delete(key) | Write::DeleteBelow(key)) = write;
            key.sort.len() > VIEW_SORT_BYTES_MAX
        };
        if writes.iter().any(is_too_long) {
            return Err(ViewError::Corrupt(format!("a sort key has more than {VIEW_SORT_BYTES_MAX} bytes")));
        }
        let mut rows = self.lock();
        for Move { topic, partition, from, .. } in &moves {
            rows.check(*topic, *partition, *from)?;
        }
        for write in writes {
            match write {
                Write::Put(key, value) => drop(rows.rows.insert(key, value)),
                Write::Delete(key) => drop(rows.rows.remove(&key)),
                Write::DeleteBelow(end) => {
                    let start = Key { sort: Bytes::new(), ..end.clone() };
                    let below: Vec<Key> = rows.rows.range(start..end).map(|(key, _)| key.clone()).collect();
                    for key in below {
                        rows.rows.remove(&key);
                    }
                }
            }
        }
        for Move { topic, partition, to, .. } in moves {
            rows.positions.insert((topic, partition), to);
        }
        let Rows { positions, waiting, .. } = &mut *rows;
        let (passed, still) = std::mem::take(waiting).into_iter().partition(|(topic, partition, offset, _)| {
            positions.get(&(*topic, *partition)).is_some_and(|next_offset| next_offset > offset)
        });
        *waiting = still;
        drop(rows);
        for (_, _, _, waiter) in passed {
            // Who no longer waits has dropped its end.
            let _: Result<(), ()> = waiter.send(());
        }
        Ok(())
    }

    async fn confirm(&self, positions: Vec<Position>, at_end: bool) -> Result<(), ViewError> {
        let mut rows = self.lock();
        for Position { topic, partition, next_offset } in &positions {
            rows.check(*topic, *partition, *next_offset)?;
        }
        if at_end {
            rows.whole.extend(positions.iter().map(|position| (position.topic, position.partition)));
        }
        Ok(())
    }

    async fn position(&self, topic: Topic, partition: u32) -> Result<u64, ViewError> {
        Ok(self.lock().positions.get(&(topic, partition)).copied().unwrap_or(0))
    }

    async fn wait_past(&self, topic: Topic, partition: u32, offset: u64, timeout: Duration) -> Result<(), ViewError> {
        let passed = {
            let mut rows = self.lock();
            if rows.positions.get(&(topic, partition)).is_some_and(|next_offset| *next_offset > offset) {
                return Ok(());
            }
            rows.waiting.retain(|(_, _, _, waiter)| !waiter.is_closed());
            let (waiter, passed) = oneshot::channel();
            rows.waiting.push((topic, partition, offset, waiter));
            passed
        };
        match tokio::time::timeout(timeout, passed).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(ViewError::Unavailable(format!(
                "{}/{partition} was not applied past offset {offset} in {timeout:?}",
                topic.name()
            ))),
        }
    }
}

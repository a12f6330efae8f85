//! Counts how often a store refuses a batch because another projection was faster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tidings_schemas::{
    topics::Topic,
    views::{Key, Move, Position, Scan, ViewError, ViewStore, Write},
};

/// The count, of all stores that it was put before.
#[derive(Clone, Default)]
pub(crate) struct Overtaken(Arc<AtomicUsize>);

impl Overtaken {
    /// The store, with its refusals counted.
    pub(crate) fn count(&self, inner: Arc<dyn ViewStore>) -> Counting {
        Counting { inner, overtaken: self.clone() }
    }

    pub(crate) fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// See [`Overtaken::count`].
pub(crate) struct Counting {
    inner: Arc<dyn ViewStore>,
    overtaken: Overtaken,
}

#[async_trait]
impl ViewStore for Counting {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        let rows = self.inner.get(keys).await;
        // So that the other has time to apply between this one's reading and its writing.
        tokio::task::yield_now().await;
        rows
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        self.inner.scan(scan).await
    }

    async fn apply(&self, writes: Vec<Write>, moves: Vec<Move>) -> Result<(), ViewError> {
        let applied = self.inner.apply(writes, moves).await;
        if matches!(applied, Err(ViewError::Overtaken { .. })) {
            self.overtaken.0.fetch_add(1, Ordering::Relaxed);
        }
        applied
    }

    async fn confirm(&self, positions: Vec<Position>, at_end: bool) -> Result<(), ViewError> {
        self.inner.confirm(positions, at_end).await
    }

    async fn position(&self, topic: Topic, partition: u32) -> Result<u64, ViewError> {
        self.inner.position(topic, partition).await
    }

    async fn wait_past(&self, topic: Topic, partition: u32, offset: u64, timeout: Duration) -> Result<(), ViewError> {
        self.inner.wait_past(topic, partition, offset, timeout).await
    }
}

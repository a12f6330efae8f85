//! A real store that now and then says that it is unavailable: before it has done what was asked, or after.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rand::{Rng, rngs::StdRng};
use tidings_schemas::{
    topics::Topic,
    views::{Key, Move, Position, Scan, ViewError, ViewStore, Write},
};

/// Fails one call in some dozens. Calls come from one thread: the projection's.
pub(crate) struct Flaky {
    inner: Arc<dyn ViewStore>,
    random: Mutex<StdRng>,
    calls_until_failure: AtomicUsize,
    failures: AtomicUsize,
}

impl Flaky {
    pub(crate) fn new(inner: Arc<dyn ViewStore>, random: StdRng) -> Self {
        Self {
            inner,
            random: Mutex::new(random),
            calls_until_failure: AtomicUsize::new(5),
            failures: AtomicUsize::new(0),
        }
    }

    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    fn fail(&self) -> Result<(), ViewError> {
        if self.calls_until_failure.fetch_sub(1, Ordering::Relaxed) == 1 {
            let calls = self.random.lock().unwrap().random_range(10..50);
            self.calls_until_failure.store(calls, Ordering::Relaxed);
            self.failures.fetch_add(1, Ordering::Relaxed);
            return Err(ViewError::Unavailable("on purpose".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl ViewStore for Flaky {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        self.fail()?;
        self.inner.get(keys).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        self.fail()?;
        self.inner.scan(scan).await
    }

    async fn apply(&self, writes: Vec<Write>, moves: Vec<Move>) -> Result<(), ViewError> {
        self.fail()?;
        self.inner.apply(writes, moves).await?;
        self.fail()
    }

    async fn confirm(&self, positions: Vec<Position>, at_end: bool) -> Result<(), ViewError> {
        self.fail()?;
        self.inner.confirm(positions, at_end).await
    }

    async fn position(&self, topic: Topic, partition: u32) -> Result<u64, ViewError> {
        self.fail()?;
        self.inner.position(topic, partition).await
    }

    async fn wait_past(&self, topic: Topic, partition: u32, offset: u64, timeout: Duration) -> Result<(), ViewError> {
        self.inner.wait_past(topic, partition, offset, timeout).await
    }
}

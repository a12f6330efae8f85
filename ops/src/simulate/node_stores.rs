//! The views and the checkpoint store as one node has them: calls take their time and fail, before or after they are done.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, memory::InMemory, path::Path,
};
use tidings_dataflow::views::memory::MemoryViews;
use tidings_schemas::{
    topics::Topic,
    views::{Key, Move, Position, Scan, ViewError, ViewStore, Write},
};
use tokio::time::sleep;

use super::{
    gate::{Gate, Weather},
    random::Random,
};

const FAILED_PER_MILLE: u64 = 6;

/// How calls of a store go.
struct Line {
    gate: Arc<Gate>,
    weather: Arc<Weather>,
    random: Mutex<Random>,
    slow_ms: u64,
}

impl Line {
    /// Takes its time. False: the call is lost.
    async fn pass(&self) -> bool {
        let stormy = self.weather.is_stormy();
        let (wait, is_lost) = {
            let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = match random.below(100) {
                _ if !stormy => 0,
                0..80 => 0,
                80..97 => random.below(self.slow_ms),
                _ => random.below(20 * self.slow_ms),
            };
            (wait, stormy && random.chance(FAILED_PER_MILLE))
        };
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        self.gate.passed().await;
        !is_lost
    }
}

/// The views as a node has them.
pub(super) struct NodeViews {
    inner: MemoryViews,
    line: Line,
}

impl NodeViews {
    pub(super) fn new(inner: &MemoryViews, gate: &Arc<Gate>, weather: &Arc<Weather>, random: Random) -> Self {
        let line =
            Line { gate: Arc::clone(gate), weather: Arc::clone(weather), random: Mutex::new(random), slow_ms: 15 };
        Self { inner: inner.clone(), line }
    }

    async fn pass(&self) -> Result<(), ViewError> {
        if self.line.pass().await { Ok(()) } else { Err(ViewError::Unavailable("no answer (simulated)".to_owned())) }
    }
}

#[async_trait]
impl ViewStore for NodeViews {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        self.pass().await?;
        self.inner.get(keys).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        self.pass().await?;
        self.inner.scan(scan).await
    }

    async fn apply(&self, writes: Vec<Write>, moves: Vec<Move>) -> Result<(), ViewError> {
        self.pass().await?;
        self.inner.apply(writes, moves).await?;
        self.pass().await
    }

    async fn confirm(&self, positions: Vec<Position>, at_end: bool) -> Result<(), ViewError> {
        self.pass().await?;
        self.inner.confirm(positions, at_end).await
    }

    async fn position(&self, topic: Topic, partition: u32) -> Result<u64, ViewError> {
        self.pass().await?;
        self.inner.position(topic, partition).await
    }

    async fn wait_past(&self, topic: Topic, partition: u32, offset: u64, timeout: Duration) -> Result<(), ViewError> {
        self.pass().await?;
        self.inner.wait_past(topic, partition, offset, timeout).await
    }
}

/// The checkpoint store as a node has it.
pub(super) struct NodeObjects {
    inner: Arc<InMemory>,
    line: Line,
}

impl NodeObjects {
    pub(super) fn new(inner: &Arc<InMemory>, gate: &Arc<Gate>, weather: &Arc<Weather>, random: Random) -> Self {
        let line =
            Line { gate: Arc::clone(gate), weather: Arc::clone(weather), random: Mutex::new(random), slow_ms: 30 };
        Self { inner: Arc::clone(inner), line }
    }

    async fn pass(&self) -> object_store::Result<()> {
        if self.line.pass().await {
            return Ok(());
        }
        Err(object_store::Error::Generic { store: "simulated", source: "no answer".into() })
    }
}

impl fmt::Debug for NodeObjects {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NodeObjects")
    }
}

impl fmt::Display for NodeObjects {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("simulated store")
    }
}

#[async_trait]
impl ObjectStore for NodeObjects {
    async fn put_opts(
        &self,
        place: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.pass().await?;
        let result = self.inner.put_opts(place, payload, options).await?;
        self.pass().await?;
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        place: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(place, options).await
    }

    async fn get_opts(&self, place: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.pass().await?;
        self.inner.get_opts(place, options).await
    }

    fn delete_stream(
        &self,
        places: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(places)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        // What is listed is what is there when it is asked, not when the answer comes.
        let listed = self.inner.list(prefix);
        let stormy = self.line.weather.is_stormy();
        let wait = {
            let mut random = self.line.random.lock().unwrap_or_else(PoisonError::into_inner);
            if stormy && random.chance(200) { random.below(self.line.slow_ms * 10) } else { 0 }
        };
        let gate = Arc::clone(&self.line.gate);
        futures_util::stream::once(async move {
            let listed: Vec<_> = listed.collect().await;
            if wait > 0 {
                sleep(Duration::from_millis(wait)).await;
            }
            gate.passed().await;
            futures_util::stream::iter(listed)
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

//! A checkpoint store that is full can still be read: a shard is taken over from it, and written once there is room.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, memory::InMemory, path::Path,
};
use tidings_dataflow::checkpoints::{CheckpointError, CheckpointStore};

use crate::taking_over::{Owner, newest};

/// In memory, and full when told.
#[derive(Debug, Default)]
struct Disk {
    inner: InMemory,
    is_full: AtomicBool,
}

impl fmt::Display for Disk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a disk")
    }
}

#[async_trait]
impl ObjectStore for Disk {
    async fn put_opts(&self, place: &Path, payload: PutPayload, how: PutOptions) -> object_store::Result<PutResult> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(object_store::Error::Generic { store: "disk", source: "no space left".into() });
        }
        self.inner.put_opts(place, payload, how).await
    }

    async fn put_multipart_opts(
        &self,
        place: &Path,
        how: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(place, how).await
    }

    async fn get_opts(&self, place: &Path, how: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(place, how).await
    }

    fn delete_stream(
        &self,
        places: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(places)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

#[tokio::test]
async fn a_shard_is_taken_over_though_the_store_is_full() {
    let disk = Arc::new(Disk::default());
    let store = CheckpointStore::new(Arc::clone(&disk) as _, 7);
    let mut before = Owner::open(&store).await;
    for _ in 0..3 {
        before.advance().await.unwrap();
    }
    disk.is_full.store(true, Ordering::Relaxed);
    // It stands where the newest checkpoint does, and the one before is not told yet.
    let mut after = Owner::open(&store).await;
    assert!(!after.writer.is_owner());
    assert_eq!(after.next_offset, 3);
    after.next_offset = 5;
    assert!(matches!(after.write(false).await, Err(CheckpointError::Superseded { .. })), "it has nothing to add to");
    assert!(matches!(after.write(true).await, Err(CheckpointError::Store(_))));

    disk.is_full.store(false, Ordering::Relaxed);
    after.write(true).await.unwrap();
    assert!(after.writer.is_owner());
    after.advance().await.unwrap();
    assert_eq!(newest(&store).await.0, 6);
    assert!(matches!(before.advance().await, Err(CheckpointError::Superseded { .. })));
}

#[tokio::test]
async fn who_wrote_meanwhile_is_not_hidden() {
    let disk = Arc::new(Disk::default());
    let store = CheckpointStore::new(Arc::clone(&disk) as _, 7);
    let mut one = Owner::open(&store).await;
    one.advance().await.unwrap();
    disk.is_full.store(true, Ordering::Relaxed);
    let mut other = Owner::open(&store).await;
    disk.is_full.store(false, Ordering::Relaxed);
    for _ in 0..3 {
        one.advance().await.unwrap();
    }
    // It is behind, and not the owner: it waits until the first is silent, and is not behind.
    assert!(matches!(other.write(true).await, Err(CheckpointError::Superseded { .. })));
    assert_eq!(newest(&store).await.0, 4);
    one.advance().await.unwrap();
}

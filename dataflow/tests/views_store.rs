//! The embedded store of the views: it passes the conformance suite, drops what is of another log or damaged, and is
//! held by one process alone.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tidings_dataflow::views::{
    conformance::{self, Factory},
    store::{FjallViews, OpenError, StoreConfig},
};
use tidings_schemas::{
    ids::UserId,
    limits::VIEW_STORE_MEMTABLES_MAX,
    topics::Topic,
    views::{Key, Move, ViewStore, Write},
};

const LOG: u128 = 7;

/// Small, so that rows leave memory for tables within a test.
const SMALL: StoreConfig = StoreConfig { cache_bytes: 1024 * 1024, memtable_bytes: 64 * 1024 };

struct Folder {
    folder: TempDir,
    config: StoreConfig,
}

impl Folder {
    fn new(config: StoreConfig) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), config }
    }

    fn open(&self) -> Result<FjallViews, OpenError> {
        FjallViews::open(self.folder.path(), LOG, &self.config)
    }
}

#[async_trait]
impl Factory for Folder {
    async fn create(&self) -> Arc<dyn ViewStore> {
        Arc::new(self.open().unwrap())
    }

    async fn reopen(&self, store: Arc<dyn ViewStore>) -> Arc<dyn ViewStore> {
        drop(store);
        Arc::new(self.open().unwrap())
    }
}

macro_rules! conforms {
    ($($check:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            conformance::$check(&Folder::new(StoreConfig::default())).await;
            conformance::$check(&Folder::new(SMALL)).await;
        }
    )+};
}

conforms!(
    gets_what_was_put,
    applies_writes_in_order,
    keeps_owners_and_tables_apart,
    scans_between_bounds,
    takes_any_sort_bytes,
    keeps_values_of_any_size,
    deletes_below,
    keeps_positions,
    refuses_a_batch_from_elsewhere,
    lets_one_of_many_apply,
    shows_batches_whole,
    wakes_who_waits,
    reads_many,
);

async fn put_one(store: &FjallViews) {
    let step = Move { topic: Topic::Inbox, partition: 0, from: 0, to: 1 };
    store.apply(vec![Write::Put(Key::user(UserId(1)), Bytes::from_static(b"x"))], vec![step]).await.unwrap();
}

async fn is_empty(store: &FjallViews) -> bool {
    let row = store.get(&[Key::user(UserId(1))]).await.unwrap();
    let position = store.position(Topic::Inbox, 0).await.unwrap();
    assert_eq!(row == [None], position == 0, "row {row:?}, position {position}");
    position == 0
}

#[tokio::test]
async fn views_of_another_log_are_dropped() {
    let folder = Folder::new(StoreConfig::default());
    put_one(&folder.open().unwrap()).await;
    assert!(!is_empty(&folder.open().unwrap()).await);
    let other = FjallViews::open(folder.folder.path(), LOG + 1, &folder.config).unwrap();
    assert!(is_empty(&other).await);
}

#[tokio::test]
async fn a_folder_that_was_half_made_or_half_dropped_is_made_anew() {
    let folder = Folder::new(StoreConfig::default());
    put_one(&folder.open().unwrap()).await;
    fs::remove_file(folder.folder.path().join("identity")).unwrap();
    assert!(is_empty(&folder.open().unwrap()).await);
    assert!(folder.folder.path().join("identity").exists());
}

#[tokio::test]
async fn damaged_views_are_dropped_and_made_anew() {
    let folder = Folder::new(StoreConfig::default());
    put_one(&folder.open().unwrap()).await;
    let journal: PathBuf = fs::read_dir(folder.folder.path().join("rows"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .unwrap();
    let mut bytes = fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let row = bytes[..end].iter().rposition(|byte| *byte == b'x').unwrap();
    bytes[row] ^= 0xff;
    fs::write(&journal, bytes).unwrap();
    let store = folder.open().unwrap();
    assert!(is_empty(&store).await);
    put_one(&store).await;
    drop(store);
    assert!(!is_empty(&folder.open().unwrap()).await);
}

#[tokio::test]
async fn two_processes_cannot_have_the_same_views_open() {
    let folder = Folder::new(StoreConfig::default());
    let store = folder.open().unwrap();
    put_one(&store).await;
    let refused = folder.open().unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("another process"), "{refused}");
    drop(store);
    assert!(!is_empty(&folder.open().unwrap()).await);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = FjallViews::open(&file.path().join("views"), LOG, &StoreConfig::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused}");
}

#[tokio::test]
async fn memory_and_journal_stay_bounded_while_rows_leave_for_tables() {
    let folder = Folder::new(StoreConfig { memtable_bytes: 256 * 1024, ..SMALL });
    let store = folder.open().unwrap();
    let value = Bytes::from(vec![7; 200]);
    for batch in 0..200_u64 {
        let writes =
            (0..200).map(|n| Write::Put(Key::inbox(UserId(u128::from(n % 17) << 100), batch * 200 + n), value.clone()));
        store.apply(writes.collect(), vec![]).await.unwrap();
        // The limit, and the batch that went over it: 200 rows of at most 400 bytes in memory.
        let limit = folder.config.memtable_bytes * VIEW_STORE_MEMTABLES_MAX + 200 * 400;
        assert!(store.memory_bytes() <= limit, "{} bytes", store.memory_bytes());
    }
    assert!(store.disk_bytes() > 0);
}

//! The embedded store of the views: one fjall keyspace whose keys are table, owner and sort, and the positions beside
//! them, so that a batch and its positions are one atomic write.
//!
//! - [`generations`]: rows that are built anew beside those in use, and take their place.
//! - [`identity`]: which log and which version of the rows a folder is of; anything else is rebuilt.
//! - [`keys`]: rows' and positions' keys as bytes.
//! - [`opened`]: the store while it is open. [`held`]: over the life of the process; an error of the disk ends what is
//!   open, and it is opened anew.
//! - [`positions`]: the positions in memory, and those who wait for one. [`rewrite`]: the rows without what was erased.
//! - [`keeper`]: the thread that syncs the journal now and then, and opens the store anew. A crash of the machine may take
//!   the rows of the last moment away together with their positions; they are applied again from the log. A crash of the
//!   process alone takes nothing away.

mod generations;
mod held;
mod identity;
mod keeper;
mod keys;
mod opened;
mod positions;
pub mod rewrite;

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tidings_schemas::{
    limits::{VIEW_INLINE_READS_MAX, VIEW_STORE_CACHE_BYTES, VIEW_STORE_MEMTABLE_BYTES},
    topics::Topic,
    views::{Key, Move, Position, Scan, ViewError, ViewStore, Write},
};

pub use generations::Retired;
use held::Store;
use identity::Folder;
pub use identity::OpenError;
use keeper::Keeper;
use opened::Opened;

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
    shared: Arc<Shared>,
    is_for_readers: bool,
}

/// What all clones share.
struct Shared {
    folder: Folder,
    config: StoreConfig,
    /// The rows in use. Whoever has begun on others goes on with them to the end of the call.
    current: RwLock<Arc<Inner>>,
    /// Told when other rows have taken their place.
    switched: tokio::sync::watch::Sender<()>,
}

/// Rows.
struct Inner {
    /// Dropped first: the thread uses the store. None while they are being built.
    keeper: OnceLock<Keeper>,
    store: Arc<Store>,
    /// Other rows have taken the place of these: nothing more is applied.
    is_retired: AtomicBool,
    /// These rows have just taken the place of others. Whoever applies has read the others: it must begin anew.
    is_unseen: AtomicBool,
}

impl Inner {
    fn new(store: Store) -> Self {
        let (is_retired, is_unseen) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { keeper: OnceLock::new(), store: Arc::new(store), is_retired, is_unseen }
    }

    /// From now on these rows are kept: synced, and opened anew when the disk has refused.
    fn keep(&self) -> io::Result<()> {
        let keeper = Keeper::start(Arc::clone(&self.store))?;
        // The one that was there goes on; this one ends.
        let _ = self.keeper.set(keeper);
        Ok(())
    }
}

impl FjallViews {
    /// Opens the views in `folder`, which are those of the log with this id. What is there of another log, of another
    /// version of the rows, or damaged, is dropped: the projection fills it again from the log.
    ///
    /// # Errors
    /// The folder cannot be read or written, or another process has it open.
    pub fn open(folder: &Path, log_id: u128, config: &StoreConfig) -> Result<Self, OpenError> {
        let folder = Folder::new(folder, log_id);
        let inner = Inner::new(Store::open(folder.clone(), config.clone())?);
        folder.io(inner.keep())?;
        Ok(Self::of(folder, config.clone(), inner))
    }

    fn of(folder: Folder, config: StoreConfig, inner: Inner) -> Self {
        let current = RwLock::new(Arc::new(inner));
        let shared = Shared { folder, config, current, switched: tokio::sync::watch::Sender::new(()) };
        Self { shared: Arc::new(shared), is_for_readers: false }
    }

    /// The rows in use.
    fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same store, for those who read only: it is unavailable while rows are missing that readers have seen, because
    /// the store was found damaged after an error of its disk and is being filled again.
    #[must_use]
    pub fn for_readers(&self) -> Self {
        Self { is_for_readers: true, ..self.clone() }
    }

    /// Bytes on disk: tables and journal.
    pub fn disk_bytes(&self) -> u64 {
        self.inner().store.opened().map_or(0, |opened| opened.disk_bytes())
    }

    /// Bytes of rows in memory that are not yet in a table on disk.
    pub fn memory_bytes(&self) -> u64 {
        self.inner().store.opened().map_or(0, |opened| opened.memory_bytes())
    }

    /// Syncs what was applied so far to the disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<(), ViewError> {
        self.inner().store.opened()?.sync().map_err(|error| view_error(&error))
    }

    fn readable(&self) -> Result<Arc<Opened>, ViewError> {
        let inner = self.inner();
        if self.is_for_readers { inner.store.readable() } else { inner.store.opened() }
    }

    async fn run<T: Send + 'static>(
        &self,
        rows: usize,
        read: impl FnOnce(&Opened) -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, ViewError> {
        let opened = self.readable()?;
        if rows <= VIEW_INLINE_READS_MAX {
            return read(&opened);
        }
        match tokio::task::spawn_blocking(move || read(&opened)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(ViewError::Unavailable(error.to_string())),
        }
    }
}

#[async_trait]
impl ViewStore for FjallViews {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError> {
        if keys.len() <= VIEW_INLINE_READS_MAX {
            return self.readable()?.get(keys);
        }
        let keys = keys.to_vec();
        self.run(keys.len(), move |opened| opened.get(&keys)).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
        self.run(scan.limit, move |opened| opened.scan(&scan)).await
    }

    async fn apply(&self, writes: Vec<Write>, moves: Vec<Move>) -> Result<(), ViewError> {
        let inner = self.inner();
        let opened = inner.store.opened()?;
        let check = || match moves.first() {
            Some(Move { topic, partition, from, .. }) => inner.check_seen(*topic, *partition, *from),
            None => Ok(()),
        };
        let outcome = opened.apply(&writes, &moves, &inner.store.positions, check);
        if outcome.is_err()
            && opened.is_broken()
            && let Some(keeper) = inner.keeper.get()
        {
            keeper.mend();
        }
        outcome
    }

    /// Readers are not kept away while the views are filled for the first time: the process that serves them is the one
    /// that fills them, and says that it is not ready.
    async fn confirm(&self, positions: Vec<Position>, at_end: bool) -> Result<(), ViewError> {
        let inner = self.inner();
        if let Some(at) = positions.first() {
            inner.check_seen(at.topic, at.partition, at.next_offset)?;
        }
        for at in positions {
            inner.store.positions.check(at.topic, at.partition, at.next_offset)?;
        }
        if at_end {
            inner.store.filled();
        }
        Ok(())
    }

    async fn position(&self, topic: Topic, partition: u32) -> Result<u64, ViewError> {
        Ok(self.inner().store.positions.get(topic, partition))
    }

    async fn wait_past(&self, topic: Topic, partition: u32, offset: u64, timeout: Duration) -> Result<(), ViewError> {
        let waiting = async {
            loop {
                let mut switched = self.shared.switched.subscribe();
                let inner = self.inner();
                tokio::select! {
                    passed = inner.store.positions.wait_past(topic, partition, offset, timeout) => return passed,
                    // What was waited on moves no more: other rows have taken its place.
                    changed = switched.changed() => if changed.is_err() { std::future::pending::<()>().await },
                }
            }
        };
        match tokio::time::timeout(timeout, waiting).await {
            Ok(passed) => passed,
            Err(_) => Err(positions::not_in_time(topic, partition, offset, timeout)),
        }
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
            // A file that is missing or too short is not one that cannot be reached; nor is one that is there too early,
            // left by one who could not make the rest.
            matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::UnexpectedEof | ErrorKind::InvalidData
            )
        }
        fjall::Error::Locked | fjall::Error::Poisoned => false,
        _ => true,
    }
}

fn view_error(error: &fjall::Error) -> ViewError {
    match error {
        fjall::Error::Poisoned => {
            ViewError::Unavailable("their store has met an error of its disk and takes no writes".to_owned())
        }
        error if is_damage(error) => ViewError::Corrupt(error.to_string()),
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            ViewError::Unavailable(error.to_string())
        }
        error => ViewError::Unavailable(error.to_string()),
    }
}

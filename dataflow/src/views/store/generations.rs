//! Generations of rows: new ones are built beside those in use, in a folder of their own, and take their place while the
//! store is open. The file `current` names the folder of those in use; it is replaced in one step. What it does not name
//! is removed at the next start.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use fjall::Readable as _;
use tidings_schemas::{
    limits::{VIEW_RETIRE_WAIT, VIEW_SCAN_ROWS_MAX},
    topics::Topic,
    views::{Table, ViewError},
};

use super::{FjallViews, Inner, OpenError, held::Store, identity::remove_if_there, keys, view_error};
use crate::views::owners::{Owners, ViewOwners};

/// The folder of the first rows.
const FIRST: &str = "rows";
/// What the names of the folders of all others begin with.
const OTHERS: &str = "rows-";
const CURRENT_FILE: &str = "current";
/// How often one who waits for the last reader of retired rows looks again: nobody tells.
const RETIRE_POLL: Duration = Duration::from_millis(10);

/// The folder of the rows in use.
pub(super) fn current(folder: &Path) -> Result<PathBuf, OpenError> {
    match fs::read_to_string(folder.join(CURRENT_FILE)) {
        Ok(name) if is_rows(name.trim()) => Ok(folder.join(name.trim())),
        // Not one of ours: as if there were none, so the views are rebuilt.
        Ok(_) => Ok(folder.join(FIRST)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(folder.join(FIRST)),
        Err(error) => Err(OpenError::Io { folder: folder.to_owned(), error }),
    }
}

fn is_rows(name: &str) -> bool {
    name == FIRST || name.strip_prefix(OTHERS).is_some_and(|number| number.parse::<u64>().is_ok())
}

fn generations(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_rows) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes all rows but these.
pub(super) fn remove_others(folder: &Path, kept: &Path) -> Result<(), OpenError> {
    let remove = || {
        for rows in generations(folder)?.iter().filter(|rows| *rows != kept) {
            remove_if_there(fs::remove_dir_all(rows))?;
        }
        Ok(())
    };
    remove().map_err(|error| OpenError::Io { folder: folder.to_owned(), error })
}

/// Removes all rows, and what says which are in use.
pub(super) fn remove_all(folder: &Path) -> io::Result<()> {
    for rows in generations(folder)? {
        remove_if_there(fs::remove_dir_all(rows))?;
    }
    remove_if_there(fs::remove_file(folder.join(CURRENT_FILE)))
}

/// Rows that are no longer in use, and their folder.
pub struct Retired {
    inner: Arc<Inner>,
}

impl Retired {
    /// Waits for the last who reads them, and removes them from the disk. What is still being read after
    /// `VIEW_RETIRE_WAIT` stays until the next start. Blocks.
    ///
    /// # Errors
    /// The folder cannot be removed now; the next start tries again.
    pub fn remove(self) -> io::Result<()> {
        let Self { mut inner } = self;
        let mut waited = Duration::ZERO;
        loop {
            match Arc::try_unwrap(inner) {
                Ok(Inner { keeper, store, .. }) => {
                    drop(keeper);
                    store.close();
                    return remove_if_there(fs::remove_dir_all(store.rows()));
                }
                Err(_) if waited >= VIEW_RETIRE_WAIT => return Ok(()),
                Err(read) => inner = read,
            }
            std::thread::sleep(RETIRE_POLL);
            waited += RETIRE_POLL;
        }
    }
}

impl FjallViews {
    /// Begins rows anew beside those in use: a store of its own, empty, in the same folder, until
    /// [`FjallViews::switch_to`] makes it the one in use. Dropped before that, it leaves nothing that counts.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn beside(&self) -> Result<Self, OpenError> {
        let folder = &self.shared.folder;
        let used = folder.io(generations(folder.path()))?;
        let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(OTHERS)?.parse::<u64>().ok();
        let next = used.iter().filter_map(number).max().unwrap_or(1).saturating_add(1);
        let rows = folder.path().join(format!("{OTHERS}{next}"));
        let store = Store::begin(folder.clone(), rows, self.shared.config.clone())?;
        Ok(Self::of(folder.clone(), self.shared.config.clone(), Inner::new(store)))
    }

    /// Removes rows that were never in use from the disk, once nobody has them any more. Blocks.
    ///
    /// # Errors
    /// The folder cannot be removed now; the next start tries again.
    pub fn discard(self) -> io::Result<()> {
        let inner = self.inner();
        drop(self);
        Retired { inner }.remove()
    }

    /// Makes the other's rows the ones in use, for everybody who has this store, in one step. `None`: a partition stands
    /// further here than there, and nothing was done: readers would go back in time. Whoever applies batches here is told to begin anew
    /// ([`ViewError::Overtaken`]); nobody may apply to the other any more.
    ///
    /// # Errors
    /// The disk refuses; nothing has changed then.
    pub fn switch_to(&self, other: &Self) -> Result<Option<Retired>, ViewError> {
        let (old, new) = (self.inner(), other.inner());
        new.store.opened()?.sync_all().map_err(|error| view_error(&error))?;
        let folder = self.shared.folder.path();
        let cannot = |error: io::Error| {
            ViewError::Unavailable(format!("the folder {} cannot be written: {error}", folder.display()))
        };
        new.keep().map_err(cannot)?;
        let opened = old.store.opened()?;
        let writing = opened.hold_writes();
        let is_behind = |((topic, partition), next_offset)| new.store.positions.get(topic, partition) < next_offset;
        if old.store.positions.all().into_iter().any(is_behind) {
            return Ok(None);
        }
        put_in_use(folder, new.store.rows()).map_err(cannot)?;
        new.is_unseen.store(true, Ordering::Release);
        old.is_retired.store(true, Ordering::Release);
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.shared.switched.send_replace(());
        drop(writing);
        drop(opened);
        Ok(Some(Retired { inner: old }))
    }

    /// Where each partition stands that was ever applied.
    pub fn positions(&self) -> Vec<((Topic, u32), u64)> {
        self.inner().store.positions.all()
    }
}

impl Inner {
    /// Whether who applies has read these very rows, and they are in use.
    pub(super) fn check_seen(&self, topic: Topic, partition: u32, expected: u64) -> Result<(), ViewError> {
        if self.is_retired.load(Ordering::Acquire) || self.is_unseen.swap(false, Ordering::AcqRel) {
            let found = self.store.positions.get(topic, partition);
            return Err(ViewError::Overtaken { topic, partition, expected, found });
        }
        Ok(())
    }
}

/// Says that these rows are the ones in use.
pub(super) fn put_in_use(folder: &Path, rows: &Path) -> io::Result<()> {
    let name = rows.file_name().and_then(|name| name.to_str()).unwrap_or(FIRST);
    let unfinished = folder.join("current.new");
    fs::write(&unfinished, name)?;
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, folder.join(CURRENT_FILE))?;
    fs::File::open(folder)?.sync_all()
}

#[async_trait]
impl ViewOwners for FjallViews {
    /// In the order of the keys. The cursor is the last owner that was given.
    async fn owners(&self, after: Option<Vec<u8>>) -> Result<Owners, ViewError> {
        let opened = self.readable()?;
        let (snapshot, rows) = (opened.visible(), &opened.rows);
        let mut found = Vec::new();
        let mut from = match after.as_deref().and_then(keys::owner_of) {
            Some((table, owner)) => keys::next_owner(table, owner),
            None => keys::first_owner(Table::ALL[0]),
        };
        while found.len() < VIEW_SCAN_ROWS_MAX {
            let Some(guard) = snapshot.range(rows, from..).next() else {
                return Ok(Owners { found, next: None });
            };
            let key = guard.key().map_err(|error| view_error(&error))?;
            let Some((table, owner)) = keys::owner_of(&key) else {
                return Err(ViewError::Corrupt(format!("a key of {} bytes that is no row's", key.len())));
            };
            found.push((table, owner));
            from = keys::next_owner(table, owner);
        }
        let next = found.last().map(|(table, owner)| keys::owner_bytes(*table, *owner));
        Ok(Owners { found, next })
    }
}

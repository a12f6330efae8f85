//! A disk in memory that can lose power and can fail, as real ones do:
//!
//! - What was not synced when the power goes is kept or lost page by page, at random; names are kept up to a random
//!   point in each directory's history.
//! - A failed write has written some of it. A failed sync has made some pages durable, and forgets about the others: a
//!   later sync succeeds without them, while reads still see them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tidings_ingest::embedded::disk::{DirectoryLock, Disk, DiskFile};

use super::Random;

const PAGE: usize = 4096;

#[derive(Default, Clone)]
struct Inode {
    /// As programs read it.
    current: Vec<u8>,
    /// As a power loss leaves it.
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    size_dirty: bool,
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Unset(PathBuf),
    Move(PathBuf, PathBuf),
}

/// What a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Rename,
    Remove,
    SyncDirectory,
    Write,
    Sync,
    Allocate,
}

struct Inner {
    random: Random,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Since the last sync of the directory that they are in, in order.
    pending: Vec<NameChange>,
    /// Handles of an earlier generation are those of a machine that is gone.
    generation: u64,
    /// Operations that fail from now on, one in so many.
    failing: Vec<(Operation, u64)>,
    locked: bool,
}

/// See the module.
#[derive(Clone)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Inner>>,
    generation: u64,
}

impl SimulatedDisk {
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            random: Random::new(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            generation: 0,
            failing: Vec::new(),
            locked: false,
        };
        Self { inner: Arc::new(Mutex::new(inner)), generation: 0 }
    }

    /// From now on these operations fail, each once in so many times; the others do not.
    pub fn fail(&self, operations: &[(Operation, u64)]) {
        self.inner.lock().unwrap().failing = operations.to_vec();
    }

    /// Everything in use of the disk fails from now on; the disk given back has what was durable.
    #[must_use]
    pub fn lose_power(&self) -> Self {
        let mut inner = self.inner.lock().unwrap();
        let inner = &mut *inner;
        inner.generation += 1;
        inner.locked = false;
        inner.failing.clear();
        for inode in &mut inner.inodes {
            let dirty = std::mem::take(&mut inode.dirty);
            for page in dirty {
                if inner.random.once_in(2) {
                    inode.make_durable(page);
                }
            }
            if std::mem::take(&mut inode.size_dirty) && inner.random.once_in(2) {
                let size = inode.current.len();
                inode.durable.resize(size, 0);
            }
            inode.current.clone_from(&inode.durable);
        }
        // Each directory's changes happen in order, up to some point of its own.
        let mut kept: BTreeMap<PathBuf, bool> = BTreeMap::new();
        for change in std::mem::take(&mut inner.pending) {
            let directory = change.directory();
            let keeps = kept.entry(directory).or_insert(true);
            *keeps &= !inner.random.once_in(3);
            if *keeps {
                change.apply(&mut inner.durable_names);
            }
        }
        inner.names = inner.durable_names.clone();
        Self { inner: Arc::clone(&self.inner), generation: inner.generation }
    }

    fn lock(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.inner.lock().unwrap();
        if inner.generation == self.generation { Ok(inner) } else { Err(io::Error::other("the power is gone")) }
    }
}

impl Inode {
    fn make_durable(&mut self, page: usize) {
        let from = (page * PAGE).min(self.current.len());
        let to = (from + PAGE).min(self.current.len());
        if self.durable.len() < to {
            self.durable.resize(to, 0);
        }
        self.durable[from..to].copy_from_slice(&self.current[from..to]);
    }

    fn write(&mut self, bytes: &[u8], position: usize) {
        let end = position + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
            self.size_dirty = true;
        }
        self.current[position..end].copy_from_slice(bytes);
        self.dirty.extend(position / PAGE..end.div_ceil(PAGE));
    }
}

impl NameChange {
    fn directory(&self) -> PathBuf {
        let (Self::Set(path, _) | Self::Unset(path) | Self::Move(_, path)) = self;
        path.parent().unwrap().to_owned()
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, inode) => drop(names.insert(path, inode)),
            Self::Unset(path) => drop(names.remove(&path)),
            Self::Move(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

impl Inner {
    fn check(&mut self, operation: Operation) -> io::Result<()> {
        let times = self.failing.iter().find(|(failing, _)| *failing == operation).map(|(_, times)| *times);
        match times {
            Some(times) if self.random.once_in(times) => Err(io::Error::other("injected")),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.pending.push(change);
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock()?;
        inner.check(Operation::Create)?;
        // A file that is there already is emptied: as a new one, whose old content a crash may bring back.
        let inode = inner.inodes.len();
        inner.inodes.push(Inode::default());
        inner.change(NameChange::Set(path.to_owned(), inode));
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inode = *self.lock()?.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock()?;
        inner.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        assert_eq!(from.parent(), to.parent(), "the log renames within a directory only");
        // A failed rename may have happened.
        let failed = inner.check(Operation::Rename);
        if failed.is_ok() || inner.random.once_in(2) {
            inner.change(NameChange::Move(from.to_owned(), to.to_owned()));
        }
        failed
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock()?;
        inner.check(Operation::Remove)?;
        inner.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        inner.change(NameChange::Unset(path.to_owned()));
        Ok(())
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        self.lock().map(drop)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock()?;
        inner.check(Operation::SyncDirectory)?;
        let (synced, pending) =
            std::mem::take(&mut inner.pending).into_iter().partition(|change| change.directory() == path);
        inner.pending = pending;
        let synced: Vec<NameChange> = synced;
        for change in synced {
            change.apply(&mut inner.durable_names);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock()?;
        let mut names = BTreeSet::new();
        for name in inner.names.keys().filter_map(|name| name.strip_prefix(path).ok()) {
            names.insert(name.components().next().unwrap().as_os_str().to_str().unwrap().to_owned());
        }
        Ok(names.into_iter().collect())
    }

    fn lock(&self, _: &Path, _: &str) -> io::Result<Result<DirectoryLock, String>> {
        let mut inner = SimulatedDisk::lock(self)?;
        if std::mem::replace(&mut inner.locked, true) {
            return Ok(Err("somebody".to_owned()));
        }
        Ok(Ok(Box::new(Held(self.clone()))))
    }
}

struct Held(SimulatedDisk);

impl Drop for Held {
    fn drop(&mut self) {
        if let Ok(mut inner) = self.0.lock() {
            inner.locked = false;
        }
    }
}

impl DiskFile for SimulatedFile {
    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        let mut inner = self.disk.lock()?;
        let failed = inner.check(Operation::Write);
        let bytes = parts.concat();
        let written = if failed.is_ok() { bytes.len() } else { inner.random.below(bytes.len() as u64) as usize };
        inner.inodes[self.inode].write(&bytes[..written], position as usize);
        failed
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let inner = self.disk.lock()?;
        let position = position as usize;
        let found = inner.inodes[self.inode].current.get(position..position + into.len());
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock()?;
        let failed = inner.check(Operation::Sync);
        let inner = &mut *inner;
        let inode = &mut inner.inodes[self.inode];
        for page in std::mem::take(&mut inode.dirty) {
            if failed.is_ok() || inner.random.once_in(2) {
                inode.make_durable(page);
            }
        }
        if failed.is_ok() {
            inode.size_dirty = false;
            let size = inode.current.len();
            inode.durable.resize(size, 0);
        }
        failed
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.disk.lock()?;
        inner.check(Operation::Allocate)?;
        let inode = &mut inner.inodes[self.inode];
        let size = inode.current.len().max(bytes as usize);
        inode.current.resize(size, 0);
        inode.size_dirty = true;
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.disk.lock()?;
        let inode = &mut inner.inodes[self.inode];
        inode.current.truncate(bytes as usize);
        let pages = inode.current.len().div_ceil(PAGE);
        inode.dirty.retain(|page| *page < pages);
        inode.size_dirty = true;
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock()?.inodes[self.inode].current.len() as u64)
    }
}

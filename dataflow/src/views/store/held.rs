//! The store over the life of the process: open, or, after an error of its disk, being opened anew. fjall refuses every
//! write after such an error, for good; the rows are not the truth, so what the disk has of them is gone on with, and what
//! it lacks comes from the log again.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tidings_schemas::{limits::VIEW_STORE_ROOM_BYTES, views::ViewError};

use super::{
    OpenError, StoreConfig, generations,
    identity::{Folder, Rows},
    is_damage,
    opened::Opened,
    positions::Positions,
};

/// The store, and where it stands.
pub(super) struct Store {
    folder: Folder,
    /// Where its rows are.
    rows: PathBuf,
    config: StoreConfig,
    /// None while it is opened anew.
    opened: RwLock<Option<Arc<Opened>>>,
    pub(super) positions: Positions,
    /// Its rows were dropped while readers were there, and are not all back yet.
    is_filling: AtomicBool,
}

impl Store {
    /// Opens the rows in use.
    ///
    /// # Errors
    /// As [`super::FjallViews::open`].
    pub(super) fn open(folder: Folder, config: StoreConfig) -> Result<Self, OpenError> {
        folder.prepare()?;
        let rows = generations::current(folder.path())?;
        let store = Self::closed(folder, rows, config);
        // Who reads from a process that has just begun is told that it is not ready.
        let (opened, _) = store.open_rows()?;
        // Nobody else has the views: what an interrupted rebuild has left is nobody's.
        generations::remove_others(store.folder.path(), &store.rows)?;
        store.enter(opened)?;
        Ok(store)
    }

    /// Begins rows in a folder of their own, beside those in use.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn begin(folder: Folder, rows: PathBuf, config: StoreConfig) -> Result<Self, OpenError> {
        let store = Self::closed(folder, rows, config);
        let opened = Opened::open(&store.rows, &store.config).map_err(|error| store.folder.refused(&error))?;
        store.enter(opened)?;
        Ok(store)
    }

    fn closed(folder: Folder, rows: PathBuf, config: StoreConfig) -> Self {
        Self {
            folder,
            rows,
            config,
            opened: RwLock::default(),
            positions: Positions::default(),
            is_filling: AtomicBool::new(false),
        }
    }

    /// Where its rows are.
    pub(super) fn rows(&self) -> &Path {
        &self.rows
    }

    /// The open store, for who fills it.
    pub(super) fn opened(&self) -> Result<Arc<Opened>, ViewError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner).clone();
        opened.ok_or_else(|| {
            ViewError::Unavailable("their store has met an error of its disk and is being opened anew".to_owned())
        })
    }

    /// The open store, for readers: not while rows are missing that were there.
    pub(super) fn readable(&self) -> Result<Arc<Opened>, ViewError> {
        if self.is_filling.load(Ordering::Acquire) {
            return Err(ViewError::Unavailable("they are being filled again from the log".to_owned()));
        }
        self.opened()
    }

    /// All partitions have been applied up to the log's end.
    pub(super) fn filled(&self) {
        self.is_filling.store(false, Ordering::Release);
    }

    /// Whether it is open and takes writes.
    pub(super) fn is_whole(&self) -> bool {
        self.opened().is_ok_and(|opened| !opened.is_broken())
    }

    /// Opens it anew. Until there is room on the disk it stays as it is: it can still be read.
    ///
    /// # Errors
    /// It does not work yet. To be tried again; perhaps it is not open meanwhile.
    pub(super) fn open_anew(&self) -> Result<(), OpenError> {
        self.folder.io(self.check_room())?;
        self.close();
        let (opened, rows) = self.open_rows()?;
        if rows == Rows::Dropped {
            self.is_filling.store(true, Ordering::Release);
        }
        self.enter(opened)
    }

    /// Ends what is open, and comes back when nobody has it any more.
    pub(super) fn close(&self) {
        let opened = self.opened.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = opened {
            Opened::close(opened);
        }
    }

    fn enter(&self, opened: Opened) -> Result<(), OpenError> {
        self.positions.restore(&opened.rows).map_err(|error| self.folder.refused(&error))?;
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(opened));
        Ok(())
    }

    fn open_rows(&self) -> Result<(Opened, Rows), OpenError> {
        let mut rows = self.folder.prepare()?;
        let opened = match Opened::open(&self.rows, &self.config) {
            Err(error) if is_damage(&error) => {
                tracing::warn!(
                    folder = %self.folder.path().display(), %error,
                    "the views are damaged: they are dropped and rebuilt from the log"
                );
                self.folder.start_over()?;
                rows = Rows::Dropped;
                Opened::open(&self.rows, &self.config)
            }
            opened => opened,
        };
        let opened = opened.map_err(|error| self.folder.refused(&error))?;
        if rows == Rows::Dropped {
            // Which were in use is forgotten with them.
            self.folder.io(generations::put_in_use(self.folder.path(), &self.rows))?;
        }
        Ok((opened, rows))
    }

    fn check_room(&self) -> io::Result<()> {
        let path = self.folder.path().join("room");
        let written = fill(&path);
        let removed = fs::remove_file(&path);
        written.and(removed)
    }
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&vec![0; VIEW_STORE_ROOM_BYTES])?;
    file.sync_all()
}

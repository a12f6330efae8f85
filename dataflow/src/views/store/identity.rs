//! Which log, and which version of the rows, a folder of views is of. Positions mean nothing on another log, and rows
//! of another version cannot be read; both are dropped and rebuilt.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::generations;

/// Grows when the rows or their keys change: the views are rebuilt then.
const ROWS_VERSION: u32 = 1;
const IDENTITY_FILE: &str = "identity";

/// Why the views cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be read or written.
    #[error("the views in {folder} cannot be opened: {error}")]
    Io {
        /// Where they are.
        folder: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process holds them.
    #[error("the views in {folder} are open in another process (stop it, or choose another data folder)")]
    Locked {
        /// Where they are.
        folder: PathBuf,
    },
    /// The store refuses.
    #[error("the views in {folder} cannot be opened: {reason} (the folder can be removed: it is rebuilt from the log)")]
    Store {
        /// Where they are.
        folder: PathBuf,
        /// What the store says.
        reason: String,
    },
}

/// Where the views are, and of which log they must be.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    log_id: u128,
}

/// What is there of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// As they were left.
    Kept,
    /// They are gone, or there never were any.
    Dropped,
}

impl Folder {
    pub(super) fn new(path: &Path, log_id: u128) -> Self {
        Self { path: path.to_owned(), log_id }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the folder is of this log and version. A folder that is not there is of none.
    pub(super) fn is_of(&self) -> Result<bool, OpenError> {
        match fs::read_to_string(self.path.join(IDENTITY_FILE)) {
            Ok(found) => Ok(found == self.text()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => self.io(Err(error)),
        }
    }

    /// Makes the folder, or drops what is in it if that is of another log or version.
    pub(super) fn prepare(&self) -> Result<Rows, OpenError> {
        match fs::read_to_string(self.path.join(IDENTITY_FILE)) {
            Ok(found) if found == self.text() => return Ok(Rows::Kept),
            Ok(found) => tracing::warn!(
                folder = %self.path.display(), found = found.trim(), expected = self.text().trim(),
                "the views are of another log or version: they are dropped and rebuilt from the log"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return self.io(Err(error)),
        }
        self.start_over()?;
        Ok(Rows::Dropped)
    }

    /// Drops the rows, and names the folder as this log's.
    pub(super) fn start_over(&self) -> Result<(), OpenError> {
        self.io(self.write())
    }

    /// What the system says of the folder.
    pub(super) fn io<T>(&self, outcome: io::Result<T>) -> Result<T, OpenError> {
        outcome.map_err(|error| OpenError::Io { folder: self.path.clone(), error })
    }

    /// What the store says of the folder.
    pub(super) fn refused(&self, error: &fjall::Error) -> OpenError {
        let folder = self.path.clone();
        match error {
            fjall::Error::Locked => OpenError::Locked { folder },
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
                OpenError::Io { folder, error: io::Error::new(error.kind(), error.to_string()) }
            }
            error => OpenError::Store { folder, reason: error.to_string() },
        }
    }

    fn write(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        let identity = self.path.join(IDENTITY_FILE);
        // Without its identity a half-removed folder is removed again.
        remove_if_there(fs::remove_file(&identity))?;
        generations::remove_all(&self.path)?;
        let unfinished = self.path.join("identity.new");
        fs::write(&unfinished, self.text())?;
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &identity)?;
        fs::File::open(&self.path)?.sync_all()
    }

    fn text(&self) -> String {
        format!("tidings views\nversion {ROWS_VERSION}\nlog {:032x}\n", self.log_id)
    }
}

pub(super) fn remove_if_there(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

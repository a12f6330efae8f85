//! Which log, and which version of the rows, a folder of views is of. Positions mean nothing on another log, and rows
//! of another version cannot be read; both are dropped and rebuilt.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Grows when the rows or their keys change: the views are rebuilt then.
const ROWS_VERSION: u32 = 1;
const IDENTITY_FILE: &str = "identity";
const ROWS_FOLDER: &str = "rows";

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

impl OpenError {
    pub(super) fn from_fjall(folder: &Path, error: &fjall::Error) -> Self {
        let folder = folder.to_owned();
        match error {
            fjall::Error::Locked => Self::Locked { folder },
            fjall::Error::Io(error) => Self::Io { folder, error: io::Error::new(error.kind(), error.to_string()) },
            error => Self::Store { folder, reason: error.to_string() },
        }
    }
}

/// What the folder must be of.
pub(super) struct Identity {
    pub(super) log_id: u128,
}

/// Where the rows are.
pub(super) fn rows_folder(folder: &Path) -> PathBuf {
    folder.join(ROWS_FOLDER)
}

impl Identity {
    /// Makes the folder, or drops what is in it if that is of another log or version.
    pub(super) fn prepare(&self, folder: &Path) -> Result<(), OpenError> {
        match fs::read_to_string(folder.join(IDENTITY_FILE)) {
            Ok(found) if found == self.text() => Ok(()),
            Ok(found) => {
                tracing::warn!(
                    folder = %folder.display(), found = found.trim(), expected = self.text().trim(),
                    "the views are of another log or version: they are dropped and rebuilt from the log"
                );
                self.start_over(folder)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.start_over(folder),
            Err(error) => Err(OpenError::Io { folder: folder.to_owned(), error }),
        }
    }

    /// Drops the rows, and names the folder as this log's.
    pub(super) fn start_over(&self, folder: &Path) -> Result<(), OpenError> {
        self.write(folder).map_err(|error| OpenError::Io { folder: folder.to_owned(), error })
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let identity = folder.join(IDENTITY_FILE);
        // Without its identity a half-removed folder is removed again.
        remove_if_there(fs::remove_file(&identity))?;
        remove_if_there(fs::remove_dir_all(rows_folder(folder)))?;
        let unfinished = folder.join("identity.new");
        fs::write(&unfinished, self.text())?;
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &identity)?;
        fs::File::open(folder)?.sync_all()
    }

    fn text(&self) -> String {
        format!("tidings views\nversion {ROWS_VERSION}\nlog {:032x}\n", self.log_id)
    }
}

fn remove_if_there(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

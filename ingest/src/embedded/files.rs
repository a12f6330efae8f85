//! Small helpers over [`Disk`]: errors that name the file, and files that are there whole or not at all.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use crate::error::LogError;

/// Gives an I/O error the file and what was tried.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, file: &Path) -> Result<T, LogError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, action: &'static str, file: &Path) -> Result<T, LogError> {
        self.map_err(|error| LogError::Io { action, file: file.to_owned(), error: Arc::new(error) })
    }
}

/// Writes a small file and makes it and its name durable; a crash leaves the old file or the new one.
pub(crate) fn store_whole(disk: &dyn Disk, directory: &Path, name: &str, bytes: &[u8]) -> Result<(), LogError> {
    let temporary = directory.join(format!("{name}.new"));
    let path = directory.join(name);
    let file = disk.create(&temporary).at("create", &temporary)?;
    file.write_at(&[bytes], 0).at("write", &temporary)?;
    file.sync().at("sync", &temporary)?;
    disk.rename(&temporary, &path).at("put in place", &path)?;
    disk.sync_directory(directory).at("sync", directory)
}

/// Reads a small file; `None` if there is none.
pub(crate) fn load_whole(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at("open", path),
    };
    let mut bytes = vec![0; usize::try_from(file.size().at("measure", path)?).unwrap_or(0)];
    file.read_at(&mut bytes, 0).at("read", path)?;
    Ok(Some(bytes))
}

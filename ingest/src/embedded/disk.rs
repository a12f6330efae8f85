//! What the embedded log asks of a file system, so that a test can make any of it fail, or lose power.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The most parts that one vectored write takes (Linux: `UIO_MAXIOV`).
const WRITE_PARTS_MAX: usize = 1024;

/// Held for as long as a log is open; dropping it lets another process in.
pub type DirectoryLock = Box<dyn Send + Sync>;

/// A file system, as the embedded log uses it. [`RealDisk`] is the machine's.
pub trait Disk: Send + Sync + 'static {
    /// A new, empty file, in place of any that is there.
    ///
    /// # Errors
    /// As the operating system's.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// A file that exists.
    ///
    /// # Errors
    /// As the operating system's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Moves a file, in place of any that is there. Durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// As the operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// As the operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and those above it; none the worse if it is there.
    ///
    /// # Errors
    /// As the operating system's.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As the operating system's.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in any order; none if there is no such directory.
    ///
    /// # Errors
    /// As the operating system's.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Takes the directory for this process, through the lock file `path`, and writes `holder` into it. `Ok(Err(other))`
    /// when another has it, with what that one has written.
    ///
    /// # Errors
    /// As the operating system's.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<DirectoryLock, String>>;

    /// A file through which other processes are told things that need not survive a power loss; `None` where there are no
    /// other processes.
    ///
    /// # Errors
    /// As the operating system's.
    fn notice(&self, _path: &Path) -> io::Result<Option<File>> {
        Ok(None)
    }
}

/// One file.
pub trait DiskFile: Send + Sync {
    /// Writes all parts, one after the other, from byte `position` on.
    ///
    /// # Errors
    /// As the operating system's; some of it may be written then.
    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()>;

    /// Fills `into` from byte `position` on.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; else as the operating system's.
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()>;

    /// Makes all that was written to the file durable, and its length.
    ///
    /// # Errors
    /// As the operating system's. What was written since the last success may then be lost, whatever a later call says.
    fn sync(&self) -> io::Result<()>;

    /// Claims room for `bytes`, so that a write within it does not find the disk full.
    ///
    /// # Errors
    /// As the operating system's.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Cuts the file to `bytes`.
    ///
    /// # Errors
    /// As the operating system's.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// How long the file is, in bytes.
    ///
    /// # Errors
    /// As the operating system's.
    fn size(&self) -> io::Result<u64>;
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // A name that is not UTF-8 is none of ours.
        entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default())).collect()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<DirectoryLock, String>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(holder.as_bytes())?;
                Ok(Ok(Box::new(LockFile(file))))
            }
            Err(TryLockError::WouldBlock) => {
                let mut other = String::new();
                file.read_to_string(&mut other)?;
                Ok(Err(other))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn notice(&self, path: &Path) -> io::Result<Option<File>> {
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map(Some)
    }
}

/// The machine's file system, of which nothing is changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOnlyDisk;

impl ReadOnlyDisk {
    fn refused<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the log is open to be read only"))
    }
}

impl Disk for ReadOnlyDisk {
    fn create(&self, _path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Self::refused()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Self::refused()
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Self::refused()
    }

    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        Self::refused()
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        Self::refused()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn lock(&self, _path: &Path, _holder: &str) -> io::Result<Result<DirectoryLock, String>> {
        Self::refused()
    }
}

/// A lock that is held until this is dropped.
struct LockFile(File);

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is being started at this moment has a copy of it until its
        // own program runs. If it cannot be unlocked, it is unlocked then.
        let _ = self.0.unlock();
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn write_at(&self, parts: &[&[u8]], mut position: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let some = &left[..left.len().min(WRITE_PARTS_MAX)];
            match rustix::io::pwritev(&self.0, some, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.0.read_exact_at(into, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            // A file system without it (some network ones): the length at least, and a full disk shows at the write.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(bytes),
            result => Ok(result?),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_though_a_child_process_has_a_copy_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = File::create(&path).unwrap();
        file.try_lock().unwrap();
        // What a child has between its start and its own program.
        let _copy = file.try_clone().unwrap();
        assert!(RealDisk.lock(&path, "another").unwrap().is_err());
        drop(LockFile(file));
        assert!(RealDisk.lock(&path, "another").unwrap().is_ok());
    }
}

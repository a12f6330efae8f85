//! A small disk of the run's own, to be filled: a `tmpfs`.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// What fills it, at the end in the smallest pieces that a file system knows.
const PIECES: [usize; 2] = [1 << 20, 1];

/// A mounted disk.
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of so many MiB on a new folder.
    pub(crate) fn mount(path: PathBuf, mebibytes: u32) -> Result<Self> {
        fs::create_dir_all(&path).context("cannot make a folder")?;
        let size = format!("size={mebibytes}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "faults"]).arg(&path).output();
        let output = output.context("cannot run mount")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot mount a tmpfs: {}", said.trim());
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the space that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.ballast()).context("cannot make a file")?;
        for piece in PIECES {
            let piece = vec![0; piece];
            loop {
                match ballast.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("cannot fill the disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives it back.
    pub(crate) fn free(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("cannot free the disk")
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process may have it open still. It is gone with the run's mounts in any case.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

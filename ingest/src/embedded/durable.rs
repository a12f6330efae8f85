//! What the writer tells readers in other processes: how far the journal is durable.
//!
//! They see a frame in the kernel's memory before its sync has ended, and a sync of theirs would tell them nothing after
//! one of the writer's has failed. So the writer says it, after each commit, in a small file that is never synced: what
//! stands in it is true whenever it is read, and at worst of the past.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::bytesio::{Put, Take};
use super::disk::{Disk, DiskFile};

/// The file in the log's directory.
pub(crate) const FILE_NAME: &str = "durable";
const BYTES: usize = 20;

/// In the segment of this salt, all commits before `next_commit` are durable and acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) salt: u64,
    pub(crate) next_commit: u64,
}

impl Durable {
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.put_u64(self.salt);
        out.put_u64(self.next_commit);
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out
    }

    /// `None` when it says nothing: there is none, or it was just being written.
    pub(crate) fn read(file: &dyn DiskFile) -> Option<Self> {
        let mut bytes = [0; BYTES];
        file.read_at(&mut bytes, 0).ok()?;
        let mut take = Take(&bytes);
        let found = Self { salt: take.u64()?, next_commit: take.u64()? };
        (crc32c::crc32c(&bytes[..16]) == take.u32()?).then_some(found)
    }
}

/// The writer's end.
pub(crate) struct Notice(File);

impl Notice {
    /// `None` when nobody can be told: readers in other processes then see a commit when another stands behind it.
    pub(crate) fn open(disk: &dyn Disk, directory: &Path) -> Option<Self> {
        let path = directory.join(FILE_NAME);
        match disk.notice(&path) {
            Ok(file) => file.map(Self),
            Err(error) => {
                tracing::warn!(%error, file = %path.display(), "readers in other processes will be one commit behind");
                None
            }
        }
    }

    pub(crate) fn tell(&self, durable: Durable) -> io::Result<()> {
        self.0.write_all_at(&durable.encode(), 0)
    }
}

//! The journal: the files into which every commit goes first, one after the other, whatever its partitions.
//!
//! A segment is made whole (so that syncing a commit changes no metadata), filled, split into the partitions' files in
//! the background, and then used again under a new name, salt and number.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::disk::{Disk, DiskFile};
use super::files::IoContext;
use super::frame::{FrameHead, PAGE_BYTES, SegmentHeader, pages};
use crate::error::LogError;

/// The journal's folder in the log's directory.
pub(crate) const DIRECTORY: &str = "journal";
const SUFFIX: &str = ".journal";
const SPARE_SUFFIX: &str = ".spare";
/// Files kept ready. One is in use soon, one more hides the time that making it takes.
const SPARES_MAX: usize = 2;
/// How much of a new file is written at a time.
const FILL_BYTES: usize = 1024 * 1024;

/// A segment's file name.
pub(crate) fn file_name(segment: u64) -> String {
    format!("{segment:020}{SUFFIX}")
}

/// The segment of a file name.
pub(crate) fn segment_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// One segment of the journal.
pub(crate) struct JournalFile {
    pub(crate) header: SegmentHeader,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// As allocated.
    pub(crate) bytes: u64,
}

/// A frame as it was read, all of its checksums right.
pub(crate) struct Frame {
    pub(crate) head: FrameHead,
    /// Where the records begin, in the file.
    pub(crate) records_at: u64,
    /// All records, in the directory's order.
    pub(crate) records: Bytes,
    /// Where the next frame begins.
    pub(crate) next_at: u64,
}

impl JournalFile {
    /// Opens a segment and reads its header, which was durable before the file got its name: a damaged one is never
    /// the trace of a crash.
    pub(crate) fn open(disk: &dyn Disk, path: PathBuf, log_id: u128, segment: u64) -> Result<Self, LogError> {
        let file = disk.open(&path).at("open", &path)?;
        let bytes = file.size().at("measure", &path)?;
        let damaged = |what: &str| LogError::Corrupt {
            file: path.clone(),
            position: 0,
            what: what.to_owned(),
            hint: "put the log back from a backup: records of this file may be in no other",
        };
        let first = read(&*file, &path, 0, PAGE_BYTES.min(bytes))?;
        let slots = SegmentHeader::slots_in(&first).ok_or_else(|| damaged("it does not begin as a journal does"))?;
        let header_bytes = SegmentHeader::encoded_bytes(slots);
        if header_bytes > bytes {
            return Err(damaged("it is shorter than its header"));
        }
        let header = SegmentHeader::decode(&read(&*file, &path, 0, header_bytes)?)
            .ok_or_else(|| damaged("its header's checksum is wrong"))?;
        if header.log_id != log_id {
            return Err(damaged("it belongs to another log"));
        }
        if header.segment != segment {
            return Err(damaged("its name and its header disagree"));
        }
        Ok(Self { header, path, file, bytes })
    }

    /// Where the first frame begins.
    pub(crate) fn first_at(&self) -> u64 {
        SegmentHeader::encoded_bytes(self.header.next_offsets.len())
    }

    /// The frame that begins at `position`; `None` if no whole frame of this segment is there.
    pub(crate) fn frame_at(&self, position: u64) -> Result<Option<Frame>, LogError> {
        if position + PAGE_BYTES > self.bytes {
            return Ok(None);
        }
        let page = self.read(position, PAGE_BYTES)?;
        let Some((head_bytes, frame_bytes)) = FrameHead::lengths_in(&page, self.header.salt) else { return Ok(None) };
        if position + frame_bytes > self.bytes {
            return Ok(None);
        }
        let frame: Bytes =
            if frame_bytes <= PAGE_BYTES { page.into() } else { self.read(position, frame_bytes)?.into() };
        let Some(head) = FrameHead::decode(&frame) else { return Ok(None) };
        let end = usize::try_from(frame_bytes).unwrap_or(usize::MAX).min(frame.len());
        let records = frame.slice(head_bytes..end);
        let mut at = 0;
        for entry in &head.entries {
            let length = entry.length as usize;
            if crc32c::crc32c(&records[at..at + length]) != entry.checksum {
                return Ok(None);
            }
            at += length;
        }
        let records_at = position + head_bytes as u64;
        Ok(Some(Frame { head, records_at, records, next_at: position + pages(frame_bytes) }))
    }

    fn read(&self, position: u64, bytes: u64) -> Result<Vec<u8>, LogError> {
        read(&*self.file, &self.path, position, bytes)
    }
}

/// Bytes of a file.
pub(crate) fn read(file: &dyn DiskFile, path: &Path, position: u64, bytes: u64) -> Result<Vec<u8>, LogError> {
    let mut into = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    file.read_at(&mut into, position).at("read", path)?;
    Ok(into)
}

/// A file for the next segment: of full size, and its content of no meaning.
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u64,
}

/// The files that are ready to become segments.
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    segment_bytes: u64,
    ready: Mutex<Ready>,
}

#[derive(Default)]
struct Ready {
    files: Vec<Spare>,
    /// Numbers the names.
    named: u64,
}

impl Spares {
    /// Takes over what an earlier run has left in the journal's folder.
    pub(crate) fn adopt(disk: Arc<dyn Disk>, directory: PathBuf, segment_bytes: u64) -> Result<Self, LogError> {
        let spares = Self { disk, directory, segment_bytes, ready: Mutex::default() };
        for name in spares.disk.list(&spares.directory).at("list", &spares.directory)? {
            let Some(number) = name.strip_suffix(SPARE_SUFFIX).and_then(|stem| stem.parse::<u64>().ok()) else {
                continue;
            };
            let path = spares.directory.join(&name);
            let file = spares.disk.open(&path).at("open", &path)?;
            let bytes = file.size().at("measure", &path)?;
            let mut ready = spares.ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.named = ready.named.max(number + 1);
            if bytes == segment_bytes && ready.files.len() < SPARES_MAX {
                ready.files.push(Spare { path, file, bytes });
            } else {
                spares.disk.remove(&path).at("remove", &path)?;
            }
        }
        Ok(spares)
    }

    fn new_path(&self) -> PathBuf {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.named += 1;
        self.directory.join(format!("{:020}{SPARE_SUFFIX}", ready.named))
    }

    /// Makes a file of at least `bytes`: room claimed (so that a full disk shows here, where nothing is lost by it) and
    /// written once, since the first write to claimed room costs the file system a change of its metadata at each sync.
    fn make(&self, bytes: u64, fill: bool) -> Result<Spare, LogError> {
        let path = self.new_path();
        let made = self.disk.create(&path).at("create", &path).and_then(|file| {
            file.allocate(bytes).at("allocate", &path)?;
            let zeros = vec![0; if fill { FILL_BYTES } else { 0 }];
            let mut at = 0;
            while fill && at < bytes {
                let some = usize::try_from(bytes - at).unwrap_or(FILL_BYTES).min(FILL_BYTES);
                file.write_at(&[&zeros[..some]], at).at("write", &path)?;
                at += some as u64;
            }
            file.sync().at("sync", &path)?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Spare { path, file, bytes }),
            Err(error) => {
                // It holds nothing; if it stays, the next start removes it.
                let _ = self.disk.remove(&path);
                Err(error)
            }
        }
    }

    /// A file of at least `bytes`, ready or made now.
    fn take(&self, bytes: u64) -> Result<Spare, LogError> {
        if bytes <= self.segment_bytes {
            let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).files.pop();
            return ready.map_or_else(|| self.make(self.segment_bytes, false), Ok);
        }
        self.make(pages(bytes), false)
    }

    fn give_back(&self, spare: Spare) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.files.len() < SPARES_MAX && spare.bytes == self.segment_bytes {
            ready.files.push(spare);
        } else {
            drop(ready);
            // An error leaves a file that the next start removes.
            let _ = self.disk.remove(&spare.path);
        }
    }

    /// Makes one file ready if there is none (the background's work).
    pub(crate) fn refill(&self) -> Result<(), LogError> {
        if self.ready.lock().unwrap_or_else(PoisonError::into_inner).files.is_empty() {
            self.give_back(self.make(self.segment_bytes, true)?);
        }
        Ok(())
    }

    /// Takes the name of a segment whose records are all in the partitions' files off the journal, durably. `reuse`:
    /// nobody reads the file any more, and its disk is sound.
    pub(crate) fn retire(&self, segment: &JournalFile, reuse: bool) -> Result<(), LogError> {
        let wanted = self.ready.lock().unwrap_or_else(PoisonError::into_inner).files.len() < SPARES_MAX;
        if reuse && wanted && segment.bytes == self.segment_bytes {
            let path = self.new_path();
            self.disk.rename(&segment.path, &path).at("rename", &segment.path)?;
            self.disk.sync_directory(&self.directory).at("sync", &self.directory)?;
            self.give_back(Spare { path, file: Arc::clone(&segment.file), bytes: segment.bytes });
        } else {
            match self.disk.remove(&segment.path) {
                // Removed by an attempt that then failed to sync; or it never got its name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.at("remove", &segment.path)?,
            }
            self.disk.sync_directory(&self.directory).at("sync", &self.directory)?;
        }
        Ok(())
    }

    /// How many bytes the files that are ready take.
    pub(crate) fn bytes(&self) -> u64 {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).files.iter().map(|spare| spare.bytes).sum()
    }

    /// Writes the next segment, with room for at least one frame of `frame_bytes`, but for its name. After an error,
    /// none of it will be found at the next start.
    pub(crate) fn begin(&self, header: SegmentHeader, frame_bytes: u64) -> Result<Begun, LogError> {
        let encoded = header.encode();
        let spare = self.take(encoded.len() as u64 + pages(frame_bytes))?;
        let written = spare
            .file
            .write_at(&[&encoded], 0)
            .at("write", &spare.path)
            .and_then(|()| spare.file.sync().at("sync", &spare.path));
        if let Err(error) = written {
            // A file whose sync failed is not used again.
            let _ = self.disk.remove(&spare.path);
            return Err(error);
        }
        Ok(Begun { header, spare })
    }

    /// Gives it its name. After an error, it may or may not be found at the next start; try again.
    pub(crate) fn finish(&self, begun: Begun) -> Result<JournalFile, Box<(Begun, LogError)>> {
        let path = self.directory.join(file_name(begun.header.segment));
        let renamed = match self.disk.rename(&begun.spare.path, &path) {
            // By the attempt before, which then failed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.disk.open(&path).is_ok() => Ok(()),
            result => result.at("put in place", &path),
        };
        match renamed.and_then(|()| self.disk.sync_directory(&self.directory).at("sync", &self.directory)) {
            Ok(()) => {
                let Begun { header, spare } = begun;
                Ok(JournalFile { header, path, file: spare.file, bytes: spare.bytes })
            }
            Err(error) => Err(Box::new((begun, error))),
        }
    }
}

/// A segment that is durable but for its name.
pub(crate) struct Begun {
    header: SegmentHeader,
    spare: Spare,
}

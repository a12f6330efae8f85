//! Reads one partition: from memory while it keeps up, else from the partition's files or the journal.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tidings_schemas::topics::Topic;

use super::disk::{Disk, DiskFile};
use super::journal::{self, JournalFile};
use super::manifest::Slot;
use super::partition_file::{BLOCK_HEADER_BYTES, BlockHeader, Opened};
use super::records::Batch;
use super::state::{PartitionFile, Section, Visible, Watcher};
use crate::error::LogError;
use crate::log::{LogReader, StoredRecord, Wake};

/// What is read from a partition's file at a time.
const READ_AHEAD_BYTES: u64 = 256 * 1024;

/// What a reader needs of the log.
pub(crate) trait Readable: Send + Sync {
    /// Where the files are.
    fn disk(&self) -> &dyn Disk;
    /// What may be read.
    fn visible(&self) -> &Visible;
    /// Where the partition's files are.
    fn partition_directory(&self, slot: Slot) -> PathBuf;
    /// Something was found damaged.
    fn note_corruption(&self) {}
    /// What is visible may be of the past, where another process writes the log: brings it up to date.
    fn look_again(&self, _slot: Slot) -> Result<(), LogError> {
        Ok(())
    }
    /// Why nothing more becomes visible.
    fn failure(&self) -> Option<LogError> {
        None
    }
}

/// See the module.
pub(crate) struct EmbeddedReader {
    log: Arc<dyn Readable>,
    topic: Topic,
    partition: u32,
    slot: Slot,
    position: u64,
    batch: Option<Batch>,
    file: Option<FileCursor>,
    watcher: Option<Arc<Watcher>>,
}

/// Where a reader is in a partition's file.
struct FileCursor {
    base_offset: u64,
    file: Arc<dyn DiskFile>,
    /// Of the next block: its first record, and its place.
    next_offset: u64,
    position: u64,
    /// Bytes of the file, from `ahead_at` on.
    ahead: Bytes,
    ahead_at: u64,
}

/// Where the next records are.
enum Source {
    Memory(Batch),
    Journal(Arc<JournalFile>, Section),
    File(Arc<PartitionFile>),
}

/// A source, to tell it from another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Memory,
    /// Which segment.
    Journal(u64),
    /// The offset that it begins with.
    File(u64),
}

impl Source {
    fn place(&self) -> Place {
        match self {
            Self::Memory(_) => Place::Memory,
            Self::Journal(_, section) => Place::Journal(section.segment),
            Self::File(file) => Place::File(file.base_offset),
        }
    }
}

impl EmbeddedReader {
    pub(crate) fn new(log: Arc<dyn Readable>, topic: Topic, partition: u32, slot: Slot, from: u64) -> Self {
        Self { log, topic, partition, slot, position: from, batch: None, file: None, watcher: None }
    }

    /// The records from the position on; `None` at the end.
    fn fetch(&mut self) -> Result<Option<Batch>, LogError> {
        let mut failed_at = None;
        loop {
            let Some(source) = self.locate()? else { return Ok(None) };
            let place = source.place();
            let read = match source {
                Source::Memory(batch) => Ok(Some(batch)),
                Source::Journal(file, section) => read_section(&file, &section).map(Some),
                Source::File(file) => self.read_block(&file),
            };
            let mut batch = match read {
                Ok(Some(batch)) => batch,
                // Dropped by retention since we looked: look again.
                Ok(None) => continue,
                // Where it was is no longer where it is, perhaps: a journal file that was used again, or one that
                // retention dropped. If it is still there, it is damaged.
                Err(error) if failed_at == Some(place) => return Err(error),
                Err(_) => {
                    self.log.look_again(self.slot)?;
                    failed_at = Some(place);
                    continue;
                }
            };
            batch.skip_to(self.position).map_err(|_| self.malformed())?;
            return Ok(Some(batch));
        }
    }

    fn locate(&self) -> Result<Option<Source>, LogError> {
        let state = self.log.visible().read();
        let partition = &state.partitions[self.slot as usize];
        if self.position < partition.start {
            return Err(LogError::OutOfRange {
                topic: self.topic,
                partition: self.partition,
                asked: self.position,
                start: partition.start,
                end: partition.end,
            });
        }
        if self.position >= partition.end {
            return Ok(None);
        }
        let Some(section) = partition.section_of(self.position) else {
            return Ok(partition.file_of(self.position).cloned().map(Source::File));
        };
        if let Some(bytes) = &section.cached {
            let Section { base_offset, timestamp_ms, count, .. } = *section;
            return Ok(Some(Source::Memory(Batch::of_run(bytes.clone(), base_offset, timestamp_ms, count))));
        }
        let journal = state.journal.get(&section.segment);
        Ok(match journal {
            Some(file) => Some(Source::Journal(Arc::clone(file), section.clone())),
            // Split already, and not yet forgotten.
            None => partition.file_of(self.position).cloned().map(Source::File),
        })
    }

    /// The block that holds the position; `None` when the file is gone.
    fn read_block(&mut self, known: &PartitionFile) -> Result<Option<Batch>, LogError> {
        let at_hand = self
            .file
            .take()
            .filter(|cursor| cursor.base_offset == known.base_offset && cursor.next_offset == self.position);
        let mut cursor = match at_hand {
            Some(cursor) => cursor,
            None => match self.log.disk().open(&known.path) {
                Ok(file) => seek(file, known, self.position)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_dropped(known) => return Ok(None),
                Err(error) => {
                    let error = Arc::new(error);
                    return Err(LogError::Io { action: "open", file: known.path.clone(), error });
                }
            },
        };
        let batch = cursor.next_block(known)?;
        self.file = Some(cursor);
        Ok(Some(batch))
    }

    fn is_dropped(&self, known: &PartitionFile) -> bool {
        self.log.visible().read().partitions[self.slot as usize].start > known.base_offset
    }

    fn malformed(&self) -> LogError {
        LogError::Corrupt {
            file: self.log.partition_directory(self.slot),
            position: 0,
            what: format!("the records around offset {} are malformed, though their checksum is right", self.position),
            hint: "this is a defect of the program: keep the log and report it",
        }
    }

    fn noted(&self, error: LogError) -> LogError {
        if matches!(error, LogError::Corrupt { .. }) {
            self.log.note_corruption();
        }
        error
    }

    /// One record; `None` at the end.
    fn next(&mut self) -> Result<Option<StoredRecord>, LogError> {
        loop {
            if let Some(batch) = &mut self.batch {
                match batch.next() {
                    Ok(Some(record)) => {
                        self.position = record.offset + 1;
                        return Ok(Some(record));
                    }
                    Ok(None) => self.batch = None,
                    Err(_) => {
                        self.batch = None;
                        return Err(self.malformed());
                    }
                }
            }
            match self.fetch()? {
                Some(batch) if batch.next_offset() == self.position => self.batch = Some(batch),
                Some(_) => return Err(self.malformed()),
                None => return Ok(None),
            }
        }
    }
}

impl LogReader for EmbeddedReader {
    fn poll(&mut self, max_bytes: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        if let Some(watcher) = &self.watcher {
            watcher.arm();
        }
        if self.position == self.log.visible().end(self.slot) {
            return self.log.failure().map_or(Ok(0), Err);
        }
        let (mut count, mut bytes) = (0, 0);
        while count == 0 || bytes < max_bytes {
            match self.next() {
                Ok(Some(record)) => {
                    bytes += record.key.len() + record.value.len();
                    count += 1;
                    into.push(record);
                }
                Ok(None) => break,
                // What was read is handed out first; the next poll meets the error again.
                Err(_) if count > 0 => break,
                Err(error) => return Err(self.noted(error)),
            }
        }
        Ok(count)
    }

    fn wake_with(&mut self, wake: Wake) {
        if let Some(before) = self.watcher.take() {
            self.log.visible().unwatch(self.slot, &before);
        }
        let watcher = Watcher::new(Arc::clone(&wake));
        self.log.visible().watch(self.slot, Arc::clone(&watcher));
        self.watcher = Some(watcher);
        if self.position < self.log.visible().end(self.slot) {
            wake();
        }
    }

    fn position(&self) -> u64 {
        self.position
    }
}

impl Drop for EmbeddedReader {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            self.log.visible().unwatch(self.slot, &watcher);
        }
    }
}

fn read_section(file: &JournalFile, section: &Section) -> Result<Batch, LogError> {
    let bytes = journal::read(&*file.file, &file.path, section.position, u64::from(section.length))?;
    if crc32c::crc32c(&bytes) != section.checksum {
        return Err(LogError::Corrupt {
            file: file.path.clone(),
            position: section.position,
            what: format!("the records from offset {} on have a wrong checksum", section.base_offset),
            hint: "the disk or the memory of this machine is failing: restore the log from a backup",
        });
    }
    Ok(Batch::of_run(bytes.into(), section.base_offset, section.timestamp_ms, section.count))
}

/// Finds the block that holds `offset`: by the index of a closed file, from header to header in an open one.
fn seek(file: Arc<dyn DiskFile>, known: &PartitionFile, offset: u64) -> Result<FileCursor, LogError> {
    let opened = Opened { file: &*file, path: &known.path };
    let contents = match opened.index()?.filter(|_| known.closed) {
        Some(contents) => contents,
        None => opened.walk(known.base_offset, offset + 1, known.blocks_end)?,
    };
    let block = contents.block_of(offset);
    let block = block.ok_or_else(|| opened.damaged(contents.blocks_end, "the block that was written is not there"))?;
    Ok(FileCursor {
        base_offset: known.base_offset,
        next_offset: block.base_offset,
        position: block.position,
        ahead: Bytes::new(),
        ahead_at: 0,
        file,
    })
}

impl FileCursor {
    /// The file's bytes from `position` on, at least `bytes` of them; read ahead if they are not there yet.
    fn bytes_at(&mut self, position: u64, bytes: u64, known: &PartitionFile) -> Result<Bytes, LogError> {
        let ahead_end = self.ahead_at + self.ahead.len() as u64;
        if position < self.ahead_at || position + bytes > ahead_end {
            let wanted = bytes.max(READ_AHEAD_BYTES).min(known.blocks_end - position);
            self.ahead = journal::read(&*self.file, &known.path, position, wanted)?.into();
            self.ahead_at = position;
        }
        let from = usize::try_from(position - self.ahead_at).unwrap_or(usize::MAX);
        Ok(self.ahead.slice(from.min(self.ahead.len())..))
    }

    fn next_block(&mut self, known: &PartitionFile) -> Result<Batch, LogError> {
        let position = self.position;
        let damaged = |file: &dyn DiskFile, what: &str| Opened { file, path: &known.path }.damaged(position, what);
        let header_end = position + BLOCK_HEADER_BYTES as u64;
        if header_end > known.blocks_end {
            return Err(damaged(&*self.file, "a block that was written is not there"));
        }
        let header = BlockHeader::decode(&self.bytes_at(position, BLOCK_HEADER_BYTES as u64, known)?)
            .filter(|header| header.base_offset == self.next_offset)
            .filter(|header| header_end + u64::from(header.length) <= known.blocks_end)
            .ok_or_else(|| damaged(&*self.file, "the block's header is damaged"))?;
        let length = header.length as usize;
        let block = self.bytes_at(position, (BLOCK_HEADER_BYTES + length) as u64, known)?;
        let runs = block.slice(BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + length);
        if crc32c::crc32c(&runs) != header.checksum {
            return Err(damaged(&*self.file, "the block's checksum is wrong"));
        }
        self.position = header_end + u64::from(header.length);
        self.next_offset = header.end();
        Ok(Batch::of_runs(runs, 0, length, header.base_offset))
    }
}

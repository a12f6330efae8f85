//! Adds records to one partition's files, while a journal segment is split. Nothing of it is seen by readers before the
//! whole split is durable; an attempt that fails is begun anew from what they see.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytesio::Take;
use super::disk::{Disk, DiskFile};
use super::files::IoContext;
use super::manifest::Slot;
use super::partition_file::{
    BLOCK_HEADER_BYTES, BlockAt, BlockHeader, Contents, FILE_HEADER_BYTES, Opened, encode_file_header, file_name,
};
use super::records::{RECORD_HEADER_BYTES, RUN_HEADER_BYTES, encode_run_header};
use super::state::PartitionFile;
use crate::error::LogError;

/// What all partitions have in common.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) file_bytes: u64,
    pub(crate) block_bytes: usize,
}

/// The file being added to.
struct Target {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    base_offset: u64,
    opened_at_ms: i64,
    contents: Contents,
}

/// The block being filled: its header is put in front when it is done.
#[derive(Default)]
struct Block {
    runs: Vec<u8>,
    count: u32,
    max_timestamp_ms: i64,
}

/// See the module.
pub(crate) struct PartitionWriter {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    log_id: u128,
    slot: Slot,
    sizes: Sizes,
    now_ms: i64,
    target: Option<Target>,
    block: Block,
    next_offset: u64,
    /// Files that readers shall see: the one that was there, if it has grown, and new ones.
    written: Vec<PartitionFile>,
    made_names: bool,
}

/// What a partition has after a split.
pub(crate) struct Written {
    pub(crate) files: Vec<PartitionFile>,
    pub(crate) next_offset: u64,
    /// What the last file holds, if it is not closed.
    pub(crate) open: Option<Contents>,
}

impl PartitionWriter {
    /// `last`: the partition's last file, if it is not closed, and what it holds.
    #[allow(clippy::too_many_arguments, reason = "all of it is given once, by one caller")]
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        log_id: u128,
        slot: Slot,
        sizes: Sizes,
        now_ms: i64,
        next_offset: u64,
        last: Option<(&PartitionFile, Contents)>,
    ) -> Result<Self, LogError> {
        let target = match last {
            None => None,
            Some((known, contents)) => Some(Target {
                file: disk.open(&known.path).at("open", &known.path)?,
                path: known.path.clone(),
                base_offset: known.base_offset,
                opened_at_ms: known.opened_at_ms,
                contents,
            }),
        };
        let (block, written) = (Block::default(), Vec::new());
        Ok(Self {
            disk,
            directory,
            log_id,
            slot,
            sizes,
            now_ms,
            target,
            block,
            next_offset,
            written,
            made_names: false,
        })
    }

    /// Adds `count` well-formed records, of which the first is the partition's next.
    pub(crate) fn add(&mut self, timestamp_ms: i64, mut count: u32, mut records: &[u8]) -> Result<(), LogError> {
        while count > 0 {
            let room = self.sizes.block_bytes.saturating_sub(self.block.runs.len() + RUN_HEADER_BYTES);
            let (taken, bytes) = if records.len() <= room { (count, records.len()) } else { fitting(records, room) };
            if taken == 0 && self.block.count > 0 {
                self.flush()?;
                continue;
            }
            // A record larger than a block has one to itself.
            let (taken, bytes) = if taken == 0 { fitting(records, first_bytes(records)) } else { (taken, bytes) };
            let (some, rest) = records.split_at(bytes);
            encode_run_header(&mut self.block.runs, timestamp_ms, taken, u32::try_from(bytes).unwrap_or(u32::MAX));
            self.block.runs.extend_from_slice(some);
            self.block.max_timestamp_ms = match self.block.count {
                0 => timestamp_ms,
                _ => self.block.max_timestamp_ms.max(timestamp_ms),
            };
            self.block.count += taken;
            records = rest;
            count -= taken;
        }
        Ok(())
    }

    /// Writes the block; closes the file if that has reached its size.
    fn flush(&mut self) -> Result<(), LogError> {
        if self.block.count == 0 {
            return Ok(());
        }
        let mut target = match self.target.take() {
            Some(target) => target,
            None => self.new_target()?,
        };
        let header = BlockHeader {
            length: u32::try_from(self.block.runs.len()).unwrap_or(u32::MAX),
            base_offset: self.next_offset,
            count: self.block.count,
            max_timestamp_ms: self.block.max_timestamp_ms,
            checksum: crc32c::crc32c(&self.block.runs),
        };
        let position = target.contents.blocks_end;
        target.file.write_at(&[&header.encode(), &self.block.runs], position).at("write", &target.path)?;
        target.contents.blocks.push(BlockAt { base_offset: header.base_offset, position });
        target.contents.blocks_end += (BLOCK_HEADER_BYTES + self.block.runs.len()) as u64;
        target.contents.next_offset = header.end();
        target.contents.max_timestamp_ms = target.contents.max_timestamp_ms.max(header.max_timestamp_ms);
        self.next_offset = header.end();
        self.block.runs.clear();
        self.block.count = 0;
        if target.contents.blocks_end >= self.sizes.file_bytes {
            close(&*target.file, &target.path, &mut target.contents)?;
            self.written.push(target.seen());
        } else {
            self.target = Some(target);
        }
        Ok(())
    }

    fn new_target(&mut self) -> Result<Target, LogError> {
        if !self.made_names {
            self.disk.create_directory(&self.directory).at("create", &self.directory)?;
            self.made_names = true;
        }
        let base_offset = self.next_offset;
        let path = self.directory.join(file_name(base_offset));
        let file = self.disk.create(&path).at("create", &path)?;
        file.write_at(&[&encode_file_header(self.log_id, self.slot, base_offset)], 0).at("write", &path)?;
        let contents = Contents {
            blocks: Vec::new(),
            blocks_end: FILE_HEADER_BYTES as u64,
            next_offset: base_offset,
            max_timestamp_ms: i64::MIN,
            closed: false,
        };
        Ok(Target { file, path, base_offset, opened_at_ms: self.now_ms, contents })
    }

    /// The offset that the next record added would have, if the block being filled were written.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset + u64::from(self.block.count)
    }

    /// Whether the partition's directory may be new.
    pub(crate) fn made_names(&self) -> bool {
        self.made_names || (self.target.is_none() && self.block.count > 0)
    }

    /// Makes all of it durable, but for the name of the partition's directory.
    pub(crate) fn finish(mut self) -> Result<Written, LogError> {
        self.flush()?;
        let mut open = None;
        if let Some(target) = self.target.take() {
            target.file.sync().at("sync", &target.path)?;
            self.written.push(target.seen());
            open = Some(target.contents);
        }
        if self.made_names {
            self.disk.sync_directory(&self.directory).at("sync", &self.directory)?;
        }
        Ok(Written { files: self.written, next_offset: self.next_offset, open })
    }
}

impl Target {
    fn seen(&self) -> PartitionFile {
        PartitionFile {
            base_offset: self.base_offset,
            next_offset: self.contents.next_offset,
            blocks_end: self.contents.blocks_end,
            max_timestamp_ms: self.contents.max_timestamp_ms,
            opened_at_ms: self.opened_at_ms,
            closed: self.contents.closed,
            path: self.path.clone(),
        }
    }
}

/// Puts the index at the end of a file and makes it durable.
pub(crate) fn close(file: &dyn DiskFile, path: &Path, contents: &mut Contents) -> Result<(), LogError> {
    let index = contents.encode_index();
    file.write_at(&[&index], contents.blocks_end).at("write", path)?;
    // An attempt that failed may have left more behind than this one has written.
    file.truncate(contents.blocks_end + index.len() as u64).at("truncate", path)?;
    file.sync().at("sync", path)?;
    contents.closed = true;
    Ok(())
}

/// What is known of a file that is not closed, up to where readers see it.
pub(crate) fn contents_of(disk: &dyn Disk, known: &PartitionFile) -> Result<Contents, LogError> {
    let file = disk.open(&known.path).at("open", &known.path)?;
    let opened = Opened { file: &*file, path: &known.path };
    let contents = opened.walk(known.base_offset, known.next_offset, known.blocks_end)?;
    if contents.next_offset != known.next_offset || contents.blocks_end != known.blocks_end {
        return Err(opened.damaged(contents.blocks_end, "a block that was written is not there"));
    }
    Ok(contents)
}

fn first_bytes(records: &[u8]) -> usize {
    let mut header = Take(records);
    let key = header.u32().unwrap_or(0) as usize;
    RECORD_HEADER_BYTES + key + header.u32().unwrap_or(0) as usize
}

/// How many of the records, from the first on, fit into `room` bytes, and how many bytes these are.
fn fitting(records: &[u8], room: usize) -> (u32, usize) {
    let (mut count, mut bytes) = (0, 0);
    while bytes < records.len() {
        let next = bytes + first_bytes(&records[bytes..]);
        if next > room {
            break;
        }
        bytes = next;
        count += 1;
    }
    (count, bytes)
}

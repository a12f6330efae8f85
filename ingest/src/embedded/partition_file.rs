//! A partition's file: its header, then blocks of records, each with its checksum, then, once it is closed, an index of
//! the blocks. docs/LOG.md has the layout byte by byte.

use std::path::Path;

use super::bytesio::{Put, Take, set_u32};
use super::disk::DiskFile;
use super::files::IoContext;
use super::manifest::Slot;
use crate::error::LogError;

/// The folder of the partitions in the log's directory; each partition has its own in it.
pub(crate) const DIRECTORY: &str = "partitions";
const SUFFIX: &str = ".segment";
const FILE_MAGIC: u64 = u64::from_le_bytes(*b"TIDESEGM");
const FILE_VERSION: u32 = 1;
/// Where the first block begins.
pub(crate) const FILE_HEADER_BYTES: usize = 48;
const FILE_CHECKSUM_AT: usize = 44;
const BLOCK_MAGIC: u32 = u32::from_le_bytes(*b"TBLK");
/// What a block has in front of its runs.
pub(crate) const BLOCK_HEADER_BYTES: usize = 40;
const BLOCK_HEADER_CHECKSUM_AT: usize = 36;
const INDEX_MAGIC: u64 = u64::from_le_bytes(*b"TIDEINDX");
const INDEX_ENTRY_BYTES: usize = 16;
/// What a closed file ends with.
pub(crate) const TRAILER_BYTES: usize = 48;
const TRAILER_CHECKSUM_AT: usize = 44;

/// What to do about a damaged partition's file.
pub(crate) const HINT: &str = "put the file back from a backup, or remove the log and start again from the archive";

/// The name of the file whose first record is `base_offset`.
pub(crate) fn file_name(base_offset: u64) -> String {
    format!("{base_offset:020}{SUFFIX}")
}

/// The first record of the file of that name.
pub(crate) fn base_offset_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// What a file begins with.
pub(crate) fn encode_file_header(log_id: u128, slot: Slot, base_offset: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(FILE_HEADER_BYTES);
    out.put_u64(FILE_MAGIC);
    out.put_u32(FILE_VERSION);
    out.put_u32(slot);
    out.put_u128(log_id);
    out.put_u64(base_offset);
    out.put_u32(0);
    out.put_u32(0);
    let checksum = crc32c::crc32c(&out);
    set_u32(&mut out, FILE_CHECKSUM_AT, checksum);
    out
}

/// One block, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// Bytes of runs.
    pub(crate) length: u32,
    pub(crate) base_offset: u64,
    /// Records.
    pub(crate) count: u32,
    pub(crate) max_timestamp_ms: i64,
    /// CRC-32C of the runs.
    pub(crate) checksum: u32,
}

impl BlockHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_HEADER_BYTES);
        out.put_u32(BLOCK_MAGIC);
        out.put_u32(self.length);
        out.put_u64(self.base_offset);
        out.put_u32(self.count);
        out.put_u32(0);
        out.put_i64(self.max_timestamp_ms);
        out.put_u32(self.checksum);
        out.put_u32(0);
        let checksum = crc32c::crc32c(&out);
        set_u32(&mut out, BLOCK_HEADER_CHECKSUM_AT, checksum);
        out
    }

    /// `None` if it is none, or damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut covered = *bytes.first_chunk::<BLOCK_HEADER_BYTES>()?;
        let mut take = Take(bytes);
        let magic = take.u32()?;
        let (length, base_offset, count, _reserved) = (take.u32()?, take.u64()?, take.u32()?, take.u32()?);
        let (max_timestamp_ms, checksum, header_checksum) = (take.i64()?, take.u32()?, take.u32()?);
        set_u32(&mut covered, BLOCK_HEADER_CHECKSUM_AT, 0);
        let sound = magic == BLOCK_MAGIC && crc32c::crc32c(&covered) == header_checksum;
        sound.then_some(Self { length, base_offset, count, max_timestamp_ms, checksum })
    }

    /// The offset after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }
}

/// Where a block begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockAt {
    pub(crate) base_offset: u64,
    pub(crate) position: u64,
}

/// What a file is found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    /// In order.
    pub(crate) blocks: Vec<BlockAt>,
    pub(crate) blocks_end: u64,
    pub(crate) next_offset: u64,
    pub(crate) max_timestamp_ms: i64,
    /// It has its index.
    pub(crate) closed: bool,
}

impl Contents {
    /// The index and trailer that close the file.
    pub(crate) fn encode_index(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.blocks.len() * INDEX_ENTRY_BYTES + TRAILER_BYTES);
        for block in &self.blocks {
            out.put_u64(block.base_offset);
            out.put_u64(block.position);
        }
        let trailer_at = out.len();
        out.put_u64(INDEX_MAGIC);
        out.put_u64(self.blocks.len() as u64);
        out.put_u64(self.blocks_end);
        out.put_u64(self.next_offset);
        out.put_i64(self.max_timestamp_ms);
        out.put_u32(0);
        out.put_u32(0);
        let checksum = crc32c::crc32c(&out);
        set_u32(&mut out, trailer_at + TRAILER_CHECKSUM_AT, checksum);
        out
    }

    /// The last block that begins at or before `offset`.
    pub(crate) fn block_of(&self, offset: u64) -> Option<BlockAt> {
        let after = self.blocks.partition_point(|block| block.base_offset <= offset);
        self.blocks.get(after.checked_sub(1)?).copied()
    }
}

/// A partition's file and what it is.
pub(crate) struct Opened<'a> {
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) path: &'a Path,
}

impl Opened<'_> {
    pub(crate) fn damaged(&self, position: u64, what: impl Into<String>) -> LogError {
        LogError::Corrupt { file: self.path.to_owned(), position, what: what.into(), hint: HINT }
    }

    fn read(&self, position: u64, bytes: usize) -> Result<Vec<u8>, LogError> {
        super::journal::read(self.file, self.path, position, bytes as u64)
    }

    /// Refuses a file that is not this partition's.
    pub(crate) fn check_header(&self, log_id: u128, slot: Slot, base_offset: u64) -> Result<(), LogError> {
        if self.file.size().at("measure", self.path)? < FILE_HEADER_BYTES as u64 {
            return Err(self.damaged(0, "it is shorter than its header"));
        }
        if self.read(0, FILE_HEADER_BYTES)? != encode_file_header(log_id, slot, base_offset) {
            return Err(self.damaged(0, "its header is not that of this partition's file of that name"));
        }
        Ok(())
    }

    /// The index of a closed file; `None` if it is not closed, or its index is damaged.
    pub(crate) fn index(&self) -> Result<Option<Contents>, LogError> {
        let bytes = self.file.size().at("measure", self.path)?;
        let Some(trailer_at) = bytes.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let trailer = self.read(trailer_at, TRAILER_BYTES)?;
        let mut take = Take(&trailer);
        let found = || {
            let magic = take.u64()?;
            let (blocks, blocks_end, next_offset) = (take.u64()?, take.u64()?, take.u64()?);
            let (max_timestamp_ms, _reserved, checksum) = (take.i64()?, take.u32()?, take.u32()?);
            (magic == INDEX_MAGIC).then_some((blocks, blocks_end, next_offset, max_timestamp_ms, checksum))
        };
        let Some((count, blocks_end, next_offset, max_timestamp_ms, checksum)) = { found }() else { return Ok(None) };
        if count.checked_mul(INDEX_ENTRY_BYTES as u64).and_then(|index| index.checked_add(blocks_end))
            != Some(trailer_at)
        {
            return Ok(None);
        }
        let index_bytes = usize::try_from(bytes - blocks_end).unwrap_or(0);
        let mut covered = self.read(blocks_end, index_bytes)?;
        set_u32(&mut covered, index_bytes - TRAILER_BYTES + TRAILER_CHECKSUM_AT, 0);
        if crc32c::crc32c(&covered) != checksum {
            return Ok(None);
        }
        let mut take = Take(&covered);
        let blocks =
            (0..count).map_while(|_| Some(BlockAt { base_offset: take.u64()?, position: take.u64()? })).collect();
        Ok(Some(Contents { blocks, blocks_end, next_offset, max_timestamp_ms, closed: true }))
    }

    /// The header of the block at `position`, if one stands there that ends within `end`.
    pub(crate) fn block_at(&self, position: u64, end: u64) -> Result<Option<BlockHeader>, LogError> {
        if position + BLOCK_HEADER_BYTES as u64 > end {
            return Ok(None);
        }
        let header = BlockHeader::decode(&self.read(position, BLOCK_HEADER_BYTES)?);
        Ok(header.filter(|header| position + BLOCK_HEADER_BYTES as u64 + u64::from(header.length) <= end))
    }

    /// What the blocks hold, from one header to the next, up to the record before `offset_end` or the byte `end`,
    /// whichever comes first, or to where there is no block that follows on. Their records are not looked at.
    pub(crate) fn walk(&self, base_offset: u64, offset_end: u64, end: u64) -> Result<Contents, LogError> {
        let mut contents = Contents {
            blocks: Vec::new(),
            blocks_end: FILE_HEADER_BYTES as u64,
            next_offset: base_offset,
            max_timestamp_ms: i64::MIN,
            closed: false,
        };
        while contents.next_offset < offset_end {
            let position = contents.blocks_end;
            let Some(block) = self.block_at(position, end)? else { break };
            if block.base_offset != contents.next_offset {
                break;
            }
            contents.blocks.push(BlockAt { base_offset: block.base_offset, position });
            contents.blocks_end += BLOCK_HEADER_BYTES as u64 + u64::from(block.length);
            contents.next_offset = block.end();
            contents.max_timestamp_ms = contents.max_timestamp_ms.max(block.max_timestamp_ms);
        }
        Ok(contents)
    }
}

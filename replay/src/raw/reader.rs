//! Reads raw dumps, a block at a time.

use std::io::Read;

use bytes::{Buf, Bytes};
use tidings_ingest::StoredRecord;

use super::{
    BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, BLOCK_MAGIC, END_BYTES, END_MAGIC, HEADER_BYTES_MAX, Header, MAGIC, RawError,
    VERSION,
};

/// Reads a dump from something.
pub struct RawReader<R> {
    input: R,
    header: Header,
    position: u64,
    blocks: u64,
    records: u64,
    is_done: bool,
}

/// Records of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The partition's number: [`Header::partition`] says which that is.
    pub slot: u32,
    /// In ascending offsets.
    pub records: Vec<StoredRecord>,
}

impl<R: Read> RawReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is no dump, or one that this program cannot read.
    pub fn new(input: R) -> Result<Self, RawError> {
        let header =
            Header { log_id: String::new(), made_at_ms: 0, topics: Vec::new(), ranges: Vec::new(), is_complete: false };
        let mut reader = Self { input, header, position: 0, blocks: 0, records: 0, is_done: false };
        let mut head = match reader.take(20) {
            Err(RawError::Truncated { .. }) => return Err(RawError::NotADump),
            head => head?,
        };
        if head.split_to(8)[..] != MAGIC {
            return Err(RawError::NotADump);
        }
        let (version, length, checksum) = (head.get_u32_le(), head.get_u32_le() as usize, head.get_u32_le());
        if version != VERSION {
            return Err(RawError::Newer { found: version });
        }
        let damaged = |what: String| RawError::Damaged { position: 0, what };
        if length > HEADER_BYTES_MAX {
            return Err(damaged(format!("a header of {length} bytes")));
        }
        let json = reader.take(length)?;
        if crc32c::crc32c(&json) != checksum {
            return Err(damaged("the header's checksum is wrong".to_owned()));
        }
        reader.header = serde_json::from_slice(&json)
            .map_err(|error| damaged(format!("the header is not understood ({error})")))?;
        Ok(reader)
    }

    /// What the dump says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next block; `None` at the end, which has been checked, too.
    ///
    /// # Errors
    /// It is damaged, or ends too early. What comes after an error means nothing.
    pub fn next_block(&mut self) -> Result<Option<Block>, RawError> {
        if self.is_done {
            return Ok(None);
        }
        let begins_at = self.position;
        let damaged = |what: &str| RawError::Damaged { position: begins_at, what: what.to_owned() };
        let end = self.take(END_BYTES)?;
        if end[..4] == END_MAGIC {
            self.check_end(&end, begins_at)?;
            self.is_done = true;
            return Ok(None);
        }
        let mut head = end.to_vec();
        head.extend_from_slice(&self.take(BLOCK_HEADER_BYTES - END_BYTES)?);
        let head = Bytes::from(head);
        let mut fields = head.clone();
        if fields.split_to(4)[..] != BLOCK_MAGIC {
            return Err(damaged("no block begins here"));
        }
        let (length, slot, count) = (fields.get_u32_le() as usize, fields.get_u32_le(), fields.get_u32_le());
        let (first, checksum) = (fields.get_u64_le(), fields.get_u32_le());
        if crc32c::crc32c(&head[..BLOCK_HEADER_BYTES - 4]) != fields.get_u32_le() || length > BLOCK_BYTES_MAX {
            return Err(damaged("the block's header is damaged"));
        }
        if self.header.partition(slot).is_none() {
            return Err(damaged("the block's partition is not in the header"));
        }
        let payload = self.take(length)?;
        if crc32c::crc32c(&payload) != checksum {
            return Err(damaged("the block's checksum is wrong"));
        }
        let records = records(payload, count).ok_or_else(|| damaged("the block's records are malformed"))?;
        if records.first().map(|record| record.offset) != Some(first) {
            return Err(damaged("the block's first record is not the one that its header names"));
        }
        self.blocks += 1;
        self.records += records.len() as u64;
        Ok(Some(Block { slot, records }))
    }

    fn check_end(&mut self, end: &Bytes, begins_at: u64) -> Result<(), RawError> {
        let damaged = |what: String| RawError::Damaged { position: begins_at, what };
        let mut fields = end.slice(8..);
        let (blocks, records, checksum) = (fields.get_u64_le(), fields.get_u64_le(), fields.get_u32_le());
        if crc32c::crc32c(&end[..END_BYTES - 4]) != checksum {
            return Err(damaged("the end mark's checksum is wrong".to_owned()));
        }
        if (blocks, records) != (self.blocks, self.records) {
            let what = format!("it has {} records, and should have {records}", self.records);
            return Err(damaged(what));
        }
        let mut more = [0];
        match self.input.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(damaged("something follows the end mark".to_owned())),
            Err(error) => Err(RawError::Io { error }),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, RawError> {
        let mut into = Vec::with_capacity(bytes);
        let read = (&mut self.input).take(bytes as u64).read_to_end(&mut into);
        self.position += read.map_err(|error| RawError::Io { error })? as u64;
        if into.len() < bytes { Err(RawError::Truncated { position: self.position }) } else { Ok(into.into()) }
    }
}

/// The records of a block; `None` if its bytes do not hold what their lengths say.
fn records(mut payload: Bytes, count: u32) -> Option<Vec<StoredRecord>> {
    let mut records: Vec<StoredRecord> = Vec::new();
    for _ in 0..count {
        let (offset, timestamp_ms) = (payload.try_get_u64_le().ok()?, payload.try_get_i64_le().ok()?);
        let key = payload.try_get_u32_le().ok()? as usize;
        let value = payload.try_get_u32_le().ok()? as usize;
        if payload.len() < key.checked_add(value)? || records.last().is_some_and(|last| last.offset >= offset) {
            return None;
        }
        records.push(StoredRecord { offset, timestamp_ms, key: payload.split_to(key), value: payload.split_to(value) });
    }
    payload.is_empty().then_some(records)
}

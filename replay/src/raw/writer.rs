//! Makes raw dumps.

use std::io::{self, Write};

use tidings_ingest::StoredRecord;
use tidings_schemas::topics::Topic;

use super::{BLOCK_BYTES, BLOCK_HEADER_BYTES, BLOCK_MAGIC, END_BYTES, END_MAGIC, Header, MAGIC, VERSION};

/// Writes a dump onto something.
pub struct RawWriter<W> {
    out: W,
    header: Header,
    block: Block,
    blocks: u64,
    records: u64,
}

#[derive(Default)]
struct Block {
    slot: u32,
    topic: Option<(Topic, u32)>,
    count: u32,
    first: u64,
    payload: Vec<u8>,
}

impl<W: Write> RawWriter<W> {
    /// Begins with the header.
    ///
    /// # Errors
    /// The output's.
    pub fn new(mut out: W, header: Header) -> io::Result<Self> {
        let json = serde_json::to_vec(&header)?;
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        out.write_all(&crc32c::crc32c(&json).to_le_bytes())?;
        out.write_all(&json)?;
        Ok(Self { out, header, block: Block::default(), blocks: 0, records: 0 })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// The output's.
    #[allow(clippy::cast_possible_truncation, reason = "bounded by RECORD_BYTES_MAX")]
    pub fn write(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> io::Result<()> {
        if self.block.topic != Some((topic, partition)) || self.block.payload.len() >= BLOCK_BYTES {
            self.end_block()?;
            let unknown = || io::Error::other(format!("{} partition {partition} is not in the header", topic.name()));
            self.block.slot = self.header.slot(topic.name(), partition).ok_or_else(unknown)?;
            self.block.topic = Some((topic, partition));
            self.block.first = record.offset;
        }
        let payload = &mut self.block.payload;
        payload.extend_from_slice(&record.offset.to_le_bytes());
        payload.extend_from_slice(&record.timestamp_ms.to_le_bytes());
        payload.extend_from_slice(&(record.key.len() as u32).to_le_bytes());
        payload.extend_from_slice(&(record.value.len() as u32).to_le_bytes());
        payload.extend_from_slice(&record.key);
        payload.extend_from_slice(&record.value);
        self.block.count += 1;
        self.records += 1;
        Ok(())
    }

    #[allow(clippy::cast_possible_truncation, reason = "bounded by BLOCK_BYTES_MAX")]
    fn end_block(&mut self) -> io::Result<()> {
        let Block { slot, count, first, payload, topic } = &mut self.block;
        *topic = None;
        if *count == 0 {
            return Ok(());
        }
        let mut head = Vec::with_capacity(BLOCK_HEADER_BYTES);
        head.extend_from_slice(&BLOCK_MAGIC);
        head.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        head.extend_from_slice(&slot.to_le_bytes());
        head.extend_from_slice(&count.to_le_bytes());
        head.extend_from_slice(&first.to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
        self.out.write_all(&head)?;
        self.out.write_all(payload)?;
        payload.clear();
        *count = 0;
        self.blocks += 1;
        Ok(())
    }

    /// Puts the mark at the end without which a dump is not whole.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_block()?;
        let mut end = Vec::with_capacity(END_BYTES);
        end.extend_from_slice(&END_MAGIC);
        end.extend_from_slice(&[0; 4]);
        end.extend_from_slice(&self.blocks.to_le_bytes());
        end.extend_from_slice(&self.records.to_le_bytes());
        end.extend_from_slice(&crc32c::crc32c(&end).to_le_bytes());
        self.out.write_all(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

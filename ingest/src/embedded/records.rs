//! Records as bytes: `key length u32, value length u32, key, value`, one after the other. The journal keeps one such run
//! for each partition and commit; a partition's file keeps the same runs, each with its time and length in front.

use bytes::Bytes;

use super::bytesio::{Put, Take};
use crate::log::StoredRecord;

/// What a record takes besides its key and value.
pub(crate) const RECORD_HEADER_BYTES: usize = 8;
/// What stands in front of a run in a partition's file: `timestamp i64, count u32, length u32`.
pub(crate) const RUN_HEADER_BYTES: usize = 16;

/// Adds one record to a run. Lengths are bounded far below 4 GiB by `limits::RECORD_BYTES_MAX`.
#[allow(clippy::cast_possible_truncation, reason = "checked against RECORD_BYTES_MAX when it was queued")]
pub(crate) fn encode_record(run: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    run.put_u32(key.len() as u32);
    run.put_u32(value.len() as u32);
    run.extend_from_slice(key);
    run.extend_from_slice(value);
}

/// Adds a run's header, as a partition's file has it.
pub(crate) fn encode_run_header(block: &mut Vec<u8>, timestamp_ms: i64, count: u32, length: u32) {
    block.put_i64(timestamp_ms);
    block.put_u32(count);
    block.put_u32(length);
}

/// The bytes do not hold what their lengths say, though their checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Checked bytes of consecutive records, being read.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Bytes,
    at: usize,
    /// Where the records end.
    end: usize,
    /// Of the run at `at`.
    timestamp_ms: i64,
    /// Records left in the run at `at`.
    run_left: u32,
    next_offset: u64,
}

impl Batch {
    /// One run, whose time and count are known from elsewhere (the journal).
    pub(crate) fn of_run(bytes: Bytes, base_offset: u64, timestamp_ms: i64, count: u32) -> Self {
        let end = bytes.len();
        Self { bytes, at: 0, end, timestamp_ms, run_left: count, next_offset: base_offset }
    }

    /// Runs with their headers (a partition's file), in `bytes[at..end]`.
    pub(crate) fn of_runs(bytes: Bytes, at: usize, end: usize, base_offset: u64) -> Self {
        Self { bytes, at, end, timestamp_ms: 0, run_left: 0, next_offset: base_offset }
    }

    /// The lengths of the next record's key and value, past any run header; `None` at the end.
    fn peek(&mut self) -> Result<Option<(usize, usize)>, Malformed> {
        while self.run_left == 0 {
            if self.at == self.end {
                return Ok(None);
            }
            let mut header = Take(self.bytes.get(self.at..self.end).ok_or(Malformed)?);
            self.timestamp_ms = header.i64().ok_or(Malformed)?;
            self.run_left = header.u32().ok_or(Malformed)?;
            self.at += RUN_HEADER_BYTES;
        }
        let mut header = Take(self.bytes.get(self.at..self.end).ok_or(Malformed)?);
        let key = header.u32().ok_or(Malformed)? as usize;
        let value = header.u32().ok_or(Malformed)? as usize;
        if self.end - self.at < RECORD_HEADER_BYTES + key + value {
            return Err(Malformed);
        }
        Ok(Some((key, value)))
    }

    fn advance(&mut self, key: usize, value: usize) {
        self.at += RECORD_HEADER_BYTES + key + value;
        self.run_left -= 1;
        self.next_offset += 1;
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<StoredRecord>, Malformed> {
        let Some((key, value)) = self.peek()? else { return Ok(None) };
        let key_at = self.at + RECORD_HEADER_BYTES;
        // An empty slice is made without touching the shared buffer's count.
        let slice = |at: usize, len: usize| if len == 0 { Bytes::new() } else { self.bytes.slice(at..at + len) };
        let record = StoredRecord {
            offset: self.next_offset,
            timestamp_ms: self.timestamp_ms,
            key: slice(key_at, key),
            value: slice(key_at + key, value),
        };
        self.advance(key, value);
        Ok(Some(record))
    }

    /// Goes to `offset`; to the end, if that comes first.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<(), Malformed> {
        while self.next_offset < offset {
            let Some((key, value)) = self.peek()? else { return Ok(()) };
            self.advance(key, value);
        }
        Ok(())
    }

    /// The offset of the next record.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// What is left of the run being read, as bytes and a count.
    pub(crate) fn rest_of_run(&self) -> (&[u8], u32) {
        (&self.bytes[self.at..self.end], self.run_left)
    }

    /// Reads to the end without giving anything, so as to know that the records are well formed.
    pub(crate) fn check(mut self, next_offset: u64) -> Result<(), Malformed> {
        self.skip_to(u64::MAX)?;
        if self.next_offset == next_offset && self.at == self.end { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_and_a_short_one_is_malformed() {
        let mut run = Vec::new();
        encode_record(&mut run, b"k", b"value");
        encode_record(&mut run, b"", b"");
        let mut block = Vec::new();
        for time in [5, 6] {
            encode_run_header(&mut block, time, 2, u32::try_from(run.len()).unwrap());
            block.extend_from_slice(&run);
        }
        let bytes = Bytes::from(block);
        let mut batch = Batch::of_runs(bytes.clone(), 0, bytes.len(), 10);
        let mut seen = Vec::new();
        while let Some(record) = batch.next().unwrap() {
            seen.push((record.offset, record.timestamp_ms, record.key.len(), record.value.len()));
        }
        assert_eq!(seen, [(10, 5, 1, 5), (11, 5, 0, 0), (12, 6, 1, 5), (13, 6, 0, 0)]);

        let mut batch = Batch::of_runs(bytes.clone(), 0, bytes.len(), 10);
        batch.skip_to(12).unwrap();
        assert_eq!(batch.next().unwrap().unwrap().timestamp_ms, 6);
        assert_eq!(Batch::of_runs(bytes.clone(), 0, bytes.len(), 10).check(14), Ok(()));
        assert_eq!(Batch::of_runs(bytes.clone(), 0, bytes.len() - 1, 10).check(14), Err(Malformed));
        assert_eq!(Batch::of_run(Bytes::from(run), 0, 0, 3).check(3), Err(Malformed));
    }
}

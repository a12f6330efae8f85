//! The journal's bytes: a header for each segment, a frame for each commit. docs/LOG.md has the layout byte by byte.
//!
//! Everything begins at a multiple of [`PAGE_BYTES`], so that a page whose records were acknowledged is never written
//! again: neither a torn write nor a failed sync of a later commit can reach it.

use super::bytesio::{Put, Take, set_u32};
use super::manifest::Slot;

/// What a commit is aligned to.
pub(crate) const PAGE_BYTES: u64 = 4096;
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"TIDEJRNL");
const SEGMENT_VERSION: u32 = 1;
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"TFRM");
/// The fixed part of a segment's header.
const SEGMENT_HEADER_BYTES: usize = 64;
const SEGMENT_CHECKSUM_AT: usize = 60;
/// The fixed part of a frame.
pub(crate) const FRAME_HEADER_BYTES: usize = 40;
const FRAME_CHECKSUM_AT: usize = 36;
/// One entry of a frame's directory.
pub(crate) const ENTRY_BYTES: usize = 24;

/// Rounds up to whole pages.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// What a segment of the journal begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: u128,
    /// 0, 1, 2 …: also the file's name.
    pub(crate) segment: u64,
    /// Random; stands in each frame, so that bytes of an earlier use of the file are never taken for frames.
    pub(crate) salt: u64,
    /// The number of the first commit in this segment. The segment before holds those below, and whatever else is in
    /// it was never acknowledged.
    pub(crate) first_commit: u64,
    /// For each slot, the offset of the next record, as the first commit finds it.
    pub(crate) next_offsets: Vec<u64>,
}

impl SegmentHeader {
    /// Whole pages.
    #[allow(clippy::cast_possible_truncation, reason = "at most PARTITIONS_MAX slots")]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes = SEGMENT_HEADER_BYTES + 8 * self.next_offsets.len();
        let mut out = Vec::with_capacity(pages(bytes as u64) as usize);
        out.put_u64(SEGMENT_MAGIC);
        out.put_u32(SEGMENT_VERSION);
        out.put_u32(self.next_offsets.len() as u32);
        out.put_u128(self.log_id);
        out.put_u64(self.segment);
        out.put_u64(self.salt);
        out.put_u64(self.first_commit);
        out.put_u32(0);
        out.put_u32(0);
        for offset in &self.next_offsets {
            out.put_u64(*offset);
        }
        let checksum = crc32c::crc32c(&out);
        set_u32(&mut out, SEGMENT_CHECKSUM_AT, checksum);
        out.resize(pages(bytes as u64) as usize, 0);
        out
    }

    /// How many slots the header at the front of `page` is for; `None` if it is no header.
    pub(crate) fn slots_in(page: &[u8]) -> Option<usize> {
        let mut take = Take(page);
        let known = take.u64()? == SEGMENT_MAGIC && take.u32()? == SEGMENT_VERSION;
        let slots = take.u32()?;
        known.then_some(slots as usize)
    }

    /// How long a header is, in whole pages.
    pub(crate) fn encoded_bytes(slots: usize) -> u64 {
        pages((SEGMENT_HEADER_BYTES + 8 * slots) as u64)
    }

    /// From at least [`SegmentHeader::encoded_bytes`]; `None` if it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let slots = Self::slots_in(bytes)?;
        let mut covered = bytes.get(..SEGMENT_HEADER_BYTES + 8 * slots)?.to_vec();
        let mut take = Take(&covered[16..]);
        let (log_id, segment, salt, first_commit) = (take.u128()?, take.u64()?, take.u64()?, take.u64()?);
        let (_reserved, checksum) = (take.u32()?, take.u32()?);
        let next_offsets = (0..slots).map(|_| take.u64()).collect::<Option<_>>()?;
        set_u32(&mut covered, SEGMENT_CHECKSUM_AT, 0);
        (crc32c::crc32c(&covered) == checksum).then_some(Self { log_id, segment, salt, first_commit, next_offsets })
    }
}

/// One partition's part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: Slot,
    /// Records.
    pub(crate) count: u32,
    /// The first record's.
    pub(crate) base_offset: u64,
    /// Bytes of records.
    pub(crate) length: u32,
    /// CRC-32C of these bytes.
    pub(crate) checksum: u32,
}

/// What a frame begins with: all of it but the records, which follow in the directory's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) salt: u64,
    pub(crate) commit: u64,
    pub(crate) timestamp_ms: i64,
    pub(crate) entries: Vec<Entry>,
}

impl FrameHead {
    /// Bytes of the head itself.
    pub(crate) fn head_bytes(entries: usize) -> usize {
        FRAME_HEADER_BYTES + ENTRY_BYTES * entries
    }

    /// Bytes of the whole frame, without the padding to a page.
    pub(crate) fn frame_bytes(&self) -> u64 {
        let records: u64 = self.entries.iter().map(|entry| u64::from(entry.length)).sum();
        Self::head_bytes(self.entries.len()) as u64 + records
    }

    /// Replaces what is in `out`.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "bounded by COMMIT_BYTES_MAX, APPEND_CALL_BYTES_MAX and PARTITIONS_MAX"
    )]
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.clear();
        out.put_u32(FRAME_MAGIC);
        out.put_u32(self.frame_bytes() as u32);
        out.put_u64(self.salt);
        out.put_u64(self.commit);
        out.put_i64(self.timestamp_ms);
        out.put_u32(self.entries.len() as u32);
        out.put_u32(0);
        for entry in &self.entries {
            out.put_u32(entry.slot);
            out.put_u32(entry.count);
            out.put_u64(entry.base_offset);
            out.put_u32(entry.length);
            out.put_u32(entry.checksum);
        }
        let checksum = crc32c::crc32c(out);
        set_u32(out, FRAME_CHECKSUM_AT, checksum);
    }

    /// How many bytes of head the frame at the front of `page` has, and how many of frame, if it is a frame of the
    /// segment with this salt; nothing is checked yet but that.
    pub(crate) fn lengths_in(page: &[u8], salt: u64) -> Option<(usize, u64)> {
        let mut take = Take(page);
        let (magic, frame_bytes, found_salt) = (take.u32()?, take.u32()?, take.u64()?);
        let (_commit, _timestamp, entries) = (take.u64()?, take.i64()?, take.u32()?);
        let head = Self::head_bytes(entries as usize);
        (magic == FRAME_MAGIC && found_salt == salt && head as u64 <= u64::from(frame_bytes))
            .then_some((head, u64::from(frame_bytes)))
    }

    /// From at least the head's bytes; `None` if it is damaged. The records are still to be checked.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let (magic, frame_bytes) = (take.u32()?, take.u32()?);
        let (salt, commit, timestamp_ms) = (take.u64()?, take.u64()?, take.i64()?);
        let (count, checksum) = (take.u32()?, take.u32()?);
        let mut covered = bytes.get(..Self::head_bytes(count as usize))?.to_vec();
        set_u32(&mut covered, FRAME_CHECKSUM_AT, 0);
        if magic != FRAME_MAGIC || crc32c::crc32c(&covered) != checksum {
            return None;
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (slot, count) = (take.u32()?, take.u32()?);
            let (base_offset, length, checksum) = (take.u64()?, take.u32()?, take.u32()?);
            entries.push(Entry { slot, count, base_offset, length, checksum });
        }
        let head = Self { salt, commit, timestamp_ms, entries };
        (head.frame_bytes() == u64::from(frame_bytes)).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> FrameHead {
        let entry = Entry { slot: 3, count: 2, base_offset: 77, length: 100, checksum: 9 };
        FrameHead { salt: 42, commit: 7, timestamp_ms: -5, entries: vec![entry, Entry { slot: 4, ..entry }] }
    }

    #[test]
    fn heads_come_back_and_any_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        head().encode_into(&mut bytes);
        assert_eq!(FrameHead::decode(&bytes), Some(head()));
        assert_eq!(FrameHead::lengths_in(&bytes, 42), Some((88, 288)));
        assert_eq!(FrameHead::lengths_in(&bytes, 43), None);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHead::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(FrameHead::decode(&bytes[..50]), None);
    }

    #[test]
    fn segment_headers_come_back_and_any_flipped_bit_is_noticed() {
        let header =
            SegmentHeader { log_id: 1, segment: 2, salt: 3, first_commit: 4, next_offsets: (0..600).collect() };
        let mut bytes = header.encode();
        assert_eq!(bytes.len() as u64, SegmentHeader::encoded_bytes(600));
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        for bit in 0..(SEGMENT_HEADER_BYTES + 600 * 8) * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

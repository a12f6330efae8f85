//! A range of one partition, every record in order. A gap is an error: a replay that skips is no replay.

use std::{collections::VecDeque, ops::Range};

use tidings_ingest::{Log, LogError, StoredRecord, WaitingReader};
use tidings_schemas::{
    limits::{POLL_BYTES_MAX, SCAN_PATIENCE},
    topics::Topic,
};

/// Why a scan ended early.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The log cannot be read there.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Records are missing.
    #[error("{} partition {partition}: offset {found} follows {expected} (records are missing: the log is damaged)", topic.name())]
    Gap {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// The offset that was due.
        expected: u64,
        /// The offset that came.
        found: u64,
    },
}

/// The records of a range of offsets, as an iterator.
pub struct Scan {
    topic: Topic,
    partition: u32,
    reader: WaitingReader,
    buffer: VecDeque<StoredRecord>,
    next: u64,
    end: u64,
}

impl Scan {
    /// From the range's start, or the oldest record that is kept if that is later, to the range's end, or the log's as
    /// it is now if that is earlier.
    ///
    /// # Errors
    /// When the log does not have the partition or cannot be read.
    pub fn new(log: &dyn Log, topic: Topic, partition: u32, offsets: Range<u64>) -> Result<Self, ScanError> {
        let kept = log.range(topic, partition)?;
        let next = offsets.start.max(kept.start);
        let end = offsets.end.min(kept.end);
        let reader = WaitingReader::new(log.reader(topic, partition, next.min(kept.end))?);
        Ok(Self { topic, partition, reader, buffer: VecDeque::new(), next, end })
    }

    fn take(&mut self) -> Result<Option<StoredRecord>, ScanError> {
        if self.next >= self.end {
            return Ok(None);
        }
        if self.buffer.is_empty() {
            let mut records = Vec::new();
            self.reader.poll(POLL_BYTES_MAX, &mut records, SCAN_PATIENCE)?;
            self.buffer.extend(records);
        }
        // Everything below the end is there: it was when the scan began.
        let Some(record) = self.buffer.pop_front() else {
            let reason = format!("nothing has come for {} s, and there is more", SCAN_PATIENCE.as_secs()).into();
            return Err(LogError::Unavailable { reason }.into());
        };
        if record.offset != self.next {
            let (topic, partition, expected) = (self.topic, self.partition, self.next);
            return Err(ScanError::Gap { topic, partition, expected, found: record.offset });
        }
        self.next += 1;
        Ok(Some(record))
    }
}

impl Iterator for Scan {
    type Item = Result<StoredRecord, ScanError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.take().transpose();
        if matches!(item, Some(Err(_))) {
            // What follows an error means nothing.
            self.end = self.next;
        }
        item
    }
}

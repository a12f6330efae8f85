//! A range of one partition, every record in order. A gap is an error: a replay that skips is no replay.

use std::{collections::VecDeque, ops::Range};

use tidings_ingest::{Log, LogError, StoredRecord, WaitingReader};
use tidings_schemas::{
    limits::{POLL_BYTES_MAX, SCAN_PATIENCE, SCAN_REOPEN_AFTER},
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
pub struct Scan<'a> {
    log: &'a dyn Log,
    topic: Topic,
    partition: u32,
    /// None before the first record, and when a new one is to be opened.
    reader: Option<WaitingReader>,
    buffer: VecDeque<StoredRecord>,
    next: u64,
    end: u64,
}

impl<'a> Scan<'a> {
    /// From the range's start, or the oldest record that is kept if that is later, to the range's end, or the log's as
    /// it is now if that is earlier.
    ///
    /// # Errors
    /// When the log does not have the partition or cannot be read.
    pub fn new(log: &'a dyn Log, topic: Topic, partition: u32, offsets: Range<u64>) -> Result<Self, ScanError> {
        let kept = log.range(topic, partition)?;
        let next = offsets.start.max(kept.start);
        let end = offsets.end.min(kept.end);
        Ok(Self { log, topic, partition, reader: None, buffer: VecDeque::new(), next, end })
    }

    /// The offsets that are still to come.
    pub(crate) fn rest(&self) -> Range<u64> {
        self.next..self.end
    }

    fn take(&mut self) -> Result<Option<StoredRecord>, ScanError> {
        if self.next >= self.end {
            return Ok(None);
        }
        if self.buffer.is_empty() {
            self.fill()?;
        }
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

    /// Everything below the end is there: it was when the scan began. A reader that gives nothing of it for a while is given
    /// up for a new one.
    fn fill(&mut self) -> Result<(), ScanError> {
        for _ in 0..SCAN_PATIENCE.as_secs().div_ceil(SCAN_REOPEN_AFTER.as_secs()) {
            let mut reader = match self.reader.take() {
                Some(reader) => reader,
                None => WaitingReader::new(self.log.reader(self.topic, self.partition, self.next)?),
            };
            let mut records = Vec::new();
            if reader.poll(POLL_BYTES_MAX, &mut records, SCAN_REOPEN_AFTER)? > 0 {
                self.buffer.extend(records);
                self.reader = Some(reader);
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Iterator for Scan<'_> {
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

//! What was recorded, as every consumer reads it: records whose source was reached before are dropped.

use bytes::Bytes;
use tidings_ingest::StoredRecord;
use tidings_schemas::{topics::Topic, wire::Source};

use super::shared::Reading;
use crate::{derived, scan::ScanError};

/// The source that a record of a derived topic names; `None` for what is no such record.
pub(crate) fn source(value: &Bytes) -> Option<Source> {
    derived::source(value, derived::SOURCE)
}

/// A record that stands in the log.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) source: u64,
    pub(super) record: StoredRecord,
}

/// What reading came upon.
pub(super) enum Read {
    /// A record of a source that is new.
    New(Found),
    /// One that every consumer drops: its source, or a later one, was there before.
    Repeat(Found),
    /// One that names no source, or one that does not write here.
    Stray(StoredRecord),
    /// Nothing more.
    End,
}

/// The records of one partition that follow from one source partition.
pub(super) struct Recorded<'a> {
    reading: Reading<'a>,
    source_partition: u32,
    /// Whether records of other source partitions stand here, too.
    is_shared: bool,
    /// What comes from below is none of the comparison's.
    from: u64,
    /// One past the newest source.
    next_source: u64,
    held: Option<Found>,
    has_ended: bool,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(reading: Reading<'a>, topic: Topic, source_partition: u32, from: u64) -> Self {
        let is_shared = topic == Topic::Fanout;
        Self { reading, source_partition, is_shared, from, next_source: 0, held: None, has_ended: false }
    }

    /// The next record of a source below `below`.
    pub(super) fn next(&mut self, below: u64) -> Result<Option<Read>, ScanError> {
        if let Some(held) = self.held.take() {
            if held.source >= below {
                self.held = Some(held);
                return Ok(None);
            }
            return Ok(Some(Read::New(held)));
        }
        loop {
            if self.has_ended {
                return Ok(Some(Read::End));
            }
            let Some(record) = self.reading.next(self.source_partition)? else {
                self.has_ended = true;
                return Ok(Some(Read::End));
            };
            let source = match source(&record.value) {
                Some(source) if source.partition == self.source_partition => source.offset,
                _ if self.is_shared => continue,
                _ => return Ok(Some(Read::Stray(record))),
            };
            if source < self.from {
                continue;
            }
            let found = Found { source, record };
            if source < self.next_source {
                return Ok(Some(Read::Repeat(found)));
            }
            self.next_source = source.saturating_add(1);
            if source >= below {
                self.held = Some(found);
                return Ok(None);
            }
            return Ok(Some(Read::New(found)));
        }
    }

    /// One past the newest source that was read.
    pub(super) fn next_source(&self) -> u64 {
        self.next_source
    }

    /// Whether all was read and given out.
    pub(super) fn is_at_end(&self) -> bool {
        self.has_ended && self.held.is_none()
    }
}

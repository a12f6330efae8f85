//! One partition of the log on its way into the archive.

use std::collections::VecDeque;

use prost::Message as _;
use tidings_ingest::{Log, LogError, LogReader, Pace, StoredRecord, Wake};
use tidings_schemas::{limits, topics::Topic, wire};

use super::Metrics;
use crate::archive::{
    rows::RowSet,
    store::{Progress, SourceOffsets, SourceRange},
};

/// A partition being read, from where the archive stands.
pub(super) struct Feed {
    pub(super) topic: Topic,
    pub(super) partition: u32,
    reader: Box<dyn LogReader>,
    wake: Wake,
    /// Polled and not yet taken: at most what one poll gives.
    polled: VecDeque<StoredRecord>,
    /// Everything below is in the archive.
    archived: Offsets,
    /// Everything below is in the archive or in the batch at hand.
    taken: Offsets,
    /// Where the archive's own progress stands: behind `archived` where only records without rows came.
    written: u64,
    /// Whether there are rows of what was taken since the last insert.
    has_rows: bool,
}

/// An offset of the partition, and the offset of its source that goes with it.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    record: u64,
    source: u64,
}

/// Why records are no longer taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// There are no more.
    All,
    /// The batch is full, or the range ends.
    UpToTheLimit,
}

impl Feed {
    /// Reads a partition from where the archive stands in it. What retention has dropped meanwhile is counted and left
    /// out; an archive that is ahead of the log is an error, because it is the archive of another log.
    pub(super) fn open(
        log: &dyn Log,
        topic: Topic,
        partition: u32,
        progress: Option<&Progress>,
        wake: Wake,
        metrics: &Metrics,
    ) -> Result<Self, LogError> {
        let at = progress.map_or(Offsets { record: 0, source: 0 }, |progress| Offsets {
            record: progress.next_offset,
            source: progress.next_source_offset,
        });
        let mut reader = reader(log, topic, partition, at.record, metrics)?;
        reader.wake_with(wake.clone());
        Ok(Self {
            topic,
            partition,
            reader,
            wake,
            polled: VecDeque::new(),
            archived: at,
            taken: at,
            written: at.record,
            has_rows: false,
        })
    }

    /// Adds the rows of the next records to `rows`, until there are no more, or there are rows enough for a batch, or
    /// everything below `end` is taken.
    pub(super) fn take(
        &mut self,
        log: &dyn Log,
        rows: &mut RowSet,
        end: u64,
        metrics: &Metrics,
    ) -> Result<Taken, LogError> {
        let mut count = 0;
        let taken = loop {
            if self.taken.record >= end || is_full(rows) {
                break Taken::UpToTheLimit;
            }
            match self.polled.front().map(|record| record.offset) {
                None if self.poll(log, metrics)? == 0 => break Taken::All,
                None => {}
                // Retention has dropped the end of a range that was planned before: what is left of it is taken.
                Some(offset) if offset >= end => {
                    self.taken.record = end;
                    break Taken::UpToTheLimit;
                }
                Some(_) => {
                    if let Some(record) = self.polled.pop_front() {
                        self.push(&record, rows, metrics);
                        count += 1;
                    }
                }
            }
        };
        metrics.taken(self.topic, count);
        Ok(taken)
    }

    /// What was taken since the last insert.
    pub(super) fn range(&self) -> Option<SourceRange> {
        (self.taken.record > self.archived.record).then_some(SourceRange {
            topic: self.topic,
            partition: self.partition,
            first_offset: self.archived.record,
            end_offset: self.taken.record,
            source: SourceOffsets { from: self.archived.source, to: self.taken.source },
        })
    }

    /// What was taken since the last insert, when that is to be inserted.
    ///
    /// Nearly every record of `signals` has no rows: an edge writes one each second. To write down each time how far those
    /// are would be an insert a second into an archive to which nothing happens. They are read again after a restart,
    /// instead, at most so many of them.
    pub(super) fn due_range(&self) -> Option<SourceRange> {
        let waits = self.topic == Topic::Signals
            && !self.has_rows
            && self.taken.record.saturating_sub(self.written) < limits::ARCHIVE_ROWLESS_RECORDS_MAX;
        if waits { None } else { self.range() }
    }

    /// What was to be inserted is in the archive. Returns where that stands now.
    pub(super) fn inserted(&mut self) -> u64 {
        if self.due_range().is_some() {
            self.written = self.taken.record;
        }
        self.archived = self.taken;
        self.has_rows = false;
        self.archived.record
    }

    /// Everything below is in the archive.
    pub(super) fn archived(&self) -> u64 {
        self.archived.record
    }

    /// Everything below is in the archive, or has no rows.
    pub(super) fn reached(&self) -> u64 {
        if self.due_range().is_some() { self.archived.record } else { self.taken.record }
    }

    fn poll(&mut self, log: &dyn Log, metrics: &Metrics) -> Result<usize, LogError> {
        let mut records = Vec::new();
        let polled = match self.reader.poll(limits::POLL_BYTES_MAX, &mut records) {
            Err(LogError::OutOfRange { .. }) => {
                // Retention was faster than the archive.
                self.reader = reader(log, self.topic, self.partition, self.reader.position(), metrics)?;
                self.reader.wake_with(self.wake.clone());
                self.reader.poll(limits::POLL_BYTES_MAX, &mut records)?
            }
            polled => polled?,
        };
        self.polled.extend(records);
        Ok(polled)
    }

    fn push(&mut self, record: &StoredRecord, rows: &mut RowSet, metrics: &Metrics) {
        self.taken.record = record.offset.saturating_add(1);
        let rows_before = rows.rows();
        let pushed = match self.topic {
            Topic::Timeline => wire::TimelineRecord::decode(record.value.clone()).map(|decoded| {
                let fresh = self.is_fresh(decoded.source);
                if fresh {
                    rows.push_timeline(&decoded);
                }
                fresh
            }),
            // Written by edges, not derived: there are no repeats.
            Topic::Signals => wire::SignalRecord::decode(record.value.clone()).map(|decoded| {
                rows.push_signals(&decoded, self.partition, record.offset);
                true
            }),
            _ => wire::InboxRecord::decode(record.value.clone()).map(|decoded| {
                let fresh = self.is_fresh(decoded.source);
                if fresh {
                    rows.push_inbox(&decoded);
                }
                fresh
            }),
        };
        self.has_rows |= rows.rows() > rows_before;
        match pushed {
            Ok(true) => {}
            Ok(false) => metrics.skipped(self.topic, "repeat", 1),
            Err(error) => {
                // The record stays in the log. The same bytes will never decode, so trying again would be for ever.
                let (topic, partition, offset) = (self.topic.name(), self.partition, record.offset);
                tracing::error!(topic, partition, offset, %error, "a record cannot be read and is not archived");
                metrics.skipped(self.topic, "undecodable", 1);
            }
        }
    }

    /// Whether a record from there is new; if so the watermark moves past it. (The source of a partition is the same
    /// partition of the topic before; a record that says otherwise is taken, and its rows replace themselves.)
    fn is_fresh(&mut self, source: Option<wire::Source>) -> bool {
        match source {
            Some(source) if source.partition == self.partition => {
                let fresh = source.offset >= self.taken.source;
                self.taken.source = self.taken.source.max(source.offset.saturating_add(1));
                fresh
            }
            _ => true,
        }
    }
}

fn is_full(rows: &RowSet) -> bool {
    rows.rows() >= limits::ARCHIVE_BATCH_ROWS_MAX || rows.bytes() >= limits::ARCHIVE_BATCH_BYTES_MAX
}

/// A reader from `from`, or from the oldest record that is kept.
fn reader(
    log: &dyn Log,
    topic: Topic,
    partition: u32,
    from: u64,
    metrics: &Metrics,
) -> Result<Box<dyn LogReader>, LogError> {
    match log.paced_reader(Pace::Patient, topic, partition, from) {
        Err(LogError::OutOfRange { start, .. }) if from < start => {
            let lost = start - from;
            let name = topic.name();
            tracing::error!(topic = name, partition, lost, "retention has dropped records before they were archived");
            metrics.skipped(topic, "dropped_by_retention", lost);
            log.paced_reader(Pace::Patient, topic, partition, start)
        }
        reader => reader,
    }
}

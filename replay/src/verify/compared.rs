//! What should have been recorded, held against what was.

use std::collections::{HashMap, HashSet};

use tidings_ingest::{Log, NewRecord, StoredRecord};
use tidings_schemas::{limits::VERIFY_REMEMBERED_MAX, topics::Topic};

use super::{
    Difference, Kind, StreamReport,
    recorded::{Found, Read, Recorded, source},
    shared::Reading,
};
use crate::scan::ScanError;

/// The records of one partition that follow from one source partition, on their way through the comparison.
pub(super) struct Compared<'a> {
    recorded: Recorded<'a>,
    pub(super) report: StreamReport,
    pub(super) differences: Vec<Difference>,
    /// How many differences are kept.
    kept_max: usize,
    /// Retention has dropped the first: what should stand before the first that is kept is not missed.
    has_lost_start: bool,
    /// New ones below the last limit, in the order of their sources.
    found: Vec<Found>,
    /// Those that were dropped since the last comparison, by source.
    dropped: HashMap<u64, StoredRecord>,
    /// Sources whose record was missed, in case it comes later.
    missed: HashSet<u64>,
}

impl<'a> Compared<'a> {
    /// What comes from the source's offset `from` on. Where retention has dropped the first records of the partition, the
    /// comparison begins with the first kept.
    pub(super) fn open(
        log: &dyn Log,
        reading: Reading<'a>,
        (topic, partition): (Topic, u32),
        source: (Topic, u32),
        from: u64,
        kept_max: usize,
    ) -> Result<Self, ScanError> {
        let has_lost_start = log.range(topic, partition)?.start > 0;
        Ok(Self {
            recorded: Recorded::new(reading, topic, source.1, from),
            report: StreamReport { verified_from: from, ..StreamReport::new(topic, partition, Some(source)) },
            differences: Vec::new(),
            kept_max,
            has_lost_start,
            found: Vec::new(),
            dropped: HashMap::new(),
            missed: HashSet::new(),
        })
    }

    /// Reads what was recorded of sources below `below`.
    pub(super) fn pull(&mut self, below: u64) -> Result<(), ScanError> {
        while let Some(read) = self.recorded.next(below)? {
            match read {
                Read::New(found) => self.found.push(found),
                Read::Repeat(found) => self.repeat(found),
                Read::Stray(record) => self.differ(Kind::Stray, None, None, Some(record)),
                Read::End => break,
            }
        }
        Ok(())
    }

    /// Whether nothing more was recorded.
    pub(super) fn is_at_end(&self) -> bool {
        self.recorded.is_at_end()
    }

    /// One past the newest source that was recorded.
    pub(super) fn next_source(&self) -> u64 {
        self.recorded.next_source()
    }

    fn repeat(&mut self, found: Found) {
        self.report.repeats += 1;
        if self.missed.remove(&found.source) {
            self.report.missing -= 1;
            self.report.out_of_order += 1;
            let missed =
                self.differences.iter_mut().find(|known| known.source == Some(found.source) && known.found.is_none());
            if let Some(missed) = missed {
                missed.kind = Kind::OutOfOrder;
                missed.found = Some(found.record);
            }
        } else if self.dropped.len() < VERIFY_REMEMBERED_MAX {
            self.dropped.insert(found.source, found.record);
        }
    }

    /// Holds what was pulled against what should be there, both in the order of their sources.
    pub(super) fn compare(&mut self, expected: Vec<NewRecord>) {
        let mut found = std::mem::take(&mut self.found).into_iter().peekable();
        for expected in expected {
            // What the stages make names its source.
            let Some(at) = source(&expected.value).map(|source| source.offset) else { continue };
            while let Some(extra) = found.next_if(|found| found.source < at) {
                self.has_lost_start = false;
                self.differ(Kind::Extra, Some(extra.source), None, Some(extra.record));
            }
            match found.next_if(|found| found.source == at) {
                Some(found) => {
                    self.has_lost_start = false;
                    if found.record.value == expected.value && found.record.key == expected.key {
                        self.report.agreeing += 1;
                    } else {
                        self.differ(Kind::Differing, Some(at), Some(expected), Some(found.record));
                    }
                }
                None if self.has_lost_start => self.report.not_kept += 1,
                None => match self.dropped.remove(&at) {
                    Some(late) => self.differ(Kind::OutOfOrder, Some(at), Some(expected), Some(late)),
                    None => {
                        if self.missed.len() < VERIFY_REMEMBERED_MAX {
                            self.missed.insert(at);
                        }
                        self.differ(Kind::Missing, Some(at), Some(expected), None);
                    }
                },
            }
        }
        for extra in found {
            self.differ(Kind::Extra, Some(extra.source), None, Some(extra.record));
        }
        self.dropped.clear();
    }

    /// Reads the rest, behind what is compared. Whatever names a source that is not there is too much.
    pub(super) fn finish(&mut self, source_end: u64) -> Result<(), ScanError> {
        self.pull(u64::MAX)?;
        for extra in std::mem::take(&mut self.found) {
            if extra.source >= source_end {
                self.differ(Kind::Extra, Some(extra.source), None, Some(extra.record));
            } else {
                self.report.ahead += 1;
            }
        }
        Ok(())
    }

    /// Counts a difference, and keeps it if it is one of the first.
    pub(super) fn differ(
        &mut self,
        kind: Kind,
        source: Option<u64>,
        expected: Option<NewRecord>,
        found: Option<StoredRecord>,
    ) {
        let StreamReport { topic, partition, source: of, .. } = self.report;
        self.report.count(kind);
        if self.differences.len() < self.kept_max {
            self.differences.push(Difference { kind, topic, partition, of, source, expected, found });
        }
    }
}

//! What several comparisons read of one partition, read once.
//!
//! Every `fanout` partition holds records of all `events` partitions. Shards that are taken through side by side share one
//! reading of it: whoever comes upon another's record puts it by for that one. What is put by is bounded. Whoever would have
//! to put by more leaves, and reads on alone from there: of a partition with few events, the next record may be far off.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use tidings_ingest::{Log, StoredRecord};
use tidings_schemas::topics::Topic;

use super::recorded::source;
use crate::scan::{Scan, ScanError};

/// One reading of a partition, shared by the shards of several source partitions.
pub(super) struct Shared<'a> {
    log: &'a dyn Log,
    topic: Topic,
    partition: u32,
    scan: Scan<'a>,
    /// By source partition; those that left are not in it.
    put_by: BTreeMap<u32, PutBy>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct PutBy {
    records: VecDeque<StoredRecord>,
    bytes: usize,
}

enum Turn<'a> {
    Record(StoredRecord),
    End,
    Leave(Scan<'a>),
}

impl<'a> Shared<'a> {
    /// To the partition's end as it is now, for these source partitions.
    pub(super) fn open(
        log: &'a dyn Log,
        topic: Topic,
        partition: u32,
        sources: impl Iterator<Item = u32>,
        bytes_max: usize,
    ) -> Result<Rc<RefCell<Self>>, ScanError> {
        let scan = Scan::new(log, topic, partition, 0..u64::MAX)?;
        let put_by = sources.map(|source| (source, PutBy::default())).collect();
        Ok(Rc::new(RefCell::new(Self { log, topic, partition, scan, put_by, bytes: 0, bytes_max })))
    }

    /// Bytes that are put by for a source partition.
    pub(super) fn waiting(&self, source_partition: u32) -> usize {
        self.put_by.get(&source_partition).map_or(0, |put_by| put_by.bytes)
    }

    /// Whether half of what may be put by is.
    pub(super) fn is_half_full(&self) -> bool {
        self.bytes > self.bytes_max / 2
    }

    fn next(&mut self, reader: u32) -> Result<Turn<'a>, ScanError> {
        if let Some(own) = self.put_by.get_mut(&reader)
            && let Some(record) = own.records.pop_front()
        {
            own.bytes -= size(&record);
            self.bytes -= size(&record);
            return Ok(Turn::Record(record));
        }
        loop {
            if self.bytes >= self.bytes_max {
                self.put_by.remove(&reader);
                return Ok(Turn::Leave(self.rest()?));
            }
            let Some(record) = self.scan.next().transpose()? else { return Ok(Turn::End) };
            let Some(of) = source(&record.value).map(|source| source.partition) else { continue };
            if of == reader {
                return Ok(Turn::Record(record));
            }
            if let Some(other) = self.put_by.get_mut(&of) {
                other.bytes += size(&record);
                self.bytes += size(&record);
                other.records.push_back(record);
            }
        }
    }

    /// What is not read yet, to the same end.
    fn rest(&self) -> Result<Scan<'a>, ScanError> {
        let rest = self.scan.rest();
        let scan = Scan::new(self.log, self.topic, self.partition, rest.clone())?;
        let found = scan.rest().start;
        if found != rest.start {
            // Retention was quicker.
            let (topic, partition, expected) = (self.topic, self.partition, rest.start);
            return Err(ScanError::Gap { topic, partition, expected, found });
        }
        Ok(scan)
    }
}

/// What a record takes in memory, about.
fn size(record: &StoredRecord) -> usize {
    size_of::<StoredRecord>() + record.key.len() + record.value.len()
}

/// How the records of a partition are read.
pub(super) enum Reading<'a> {
    /// Alone: all of them come.
    Own(Scan<'a>),
    /// With others: only those of the reader's source partition come.
    Shared(Rc<RefCell<Shared<'a>>>),
}

impl Reading<'_> {
    /// The next one, for this source partition.
    pub(super) fn next(&mut self, reader: u32) -> Result<Option<StoredRecord>, ScanError> {
        if let Self::Shared(shared) = self {
            let turn = shared.borrow_mut().next(reader)?;
            match turn {
                Turn::Record(record) => return Ok(Some(record)),
                Turn::End => return Ok(None),
                Turn::Leave(scan) => *self = Self::Own(scan),
            }
        }
        match self {
            Self::Own(scan) => scan.next().transpose(),
            Self::Shared(_) => Ok(None),
        }
    }
}

//! A raw dump into an empty log.

use std::io::Read;

use tidings_ingest::{Bulk, BulkPlan, LogError, StoredRecord};
use tidings_schemas::topics::Topic;

use crate::raw::{Header, RawError, RawReader};

/// Why an import ended.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The dump cannot be read.
    #[error("the dump cannot be imported: {0}")]
    Raw(RawError),
    /// The log cannot be written, or is not one to import into.
    #[error(transparent)]
    Log(LogError),
    /// It is not all of a range.
    #[error(
        "the dump is a selection (by key, conversation, user, time or --max), so its partitions have gaps (dump the whole range)"
    )]
    Selection,
    /// Its numbers of partitions are none that a log can have.
    #[error(
        "the dump's numbers of partitions are none that a log of this program can have (use the program that made it)"
    )]
    Partitions,
    /// A record is missing.
    #[error("the dump has offset {found} of {topic} partition {partition} where {expected} should be (make it again)")]
    Gap {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset that was due.
        expected: u64,
        /// The one that came.
        found: u64,
    },
}

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Records in the dump.
    pub records: u64,
    /// Of these, records that an interrupted attempt had written already.
    pub kept: u64,
    /// It had been finished before.
    pub was_done: bool,
}

/// Checks that a dump with this header can become a log, and says with which plan. A dump of everything keeps the log's
/// identity; else `new_id` is the new log's.
///
/// # Errors
/// It cannot.
pub fn plan(header: &Header, new_id: u128) -> Result<BulkPlan, ImportError> {
    if !header.is_complete {
        return Err(ImportError::Selection);
    }
    let partitions = header.partition_counts().ok_or(ImportError::Partitions)?;
    let log_id = header.log_id().filter(|_| header.is_whole()).unwrap_or(new_id);
    let starts = header
        .ranges
        .iter()
        .filter(|range| range.start > 0)
        .map(|range| (range.topic.clone(), range.partition, range.start))
        .collect();
    let origin = format!("raw dump of {} made at {}", header.log_id, header.made_at_ms);
    Ok(BulkPlan { log_id, partitions, starts, origin })
}

/// Makes the log, opened by the dump's [`plan`]; none: it was finished before. `each` is told of every record.
///
/// # Errors
/// The dump is damaged or a selection; the log cannot be written. It can be gone on with, then.
pub fn into_log<R: Read, B: Bulk>(
    mut dump: RawReader<R>,
    log: Option<B>,
    mut each: impl FnMut(&StoredRecord),
) -> Result<Imported, ImportError> {
    let Some(mut log) = log else { return Ok(Imported { was_done: true, ..Imported::default() }) };
    let mut imported = Imported { kept: log.kept(), ..Imported::default() };
    while let Some(block) = dump.next_block().map_err(ImportError::Raw)? {
        let (name, partition) = dump.header().partition(block.slot).unwrap_or_default();
        let Some(topic) = Topic::from_name(name) else { return Err(ImportError::Partitions) };
        for record in &block.records {
            let expected = log.next_offset(topic, partition).unwrap_or(0);
            if record.offset != expected {
                let topic = name.to_owned();
                return Err(ImportError::Gap { topic, partition, expected, found: record.offset });
            }
            log.append(topic, partition, record).map_err(ImportError::Log)?;
            imported.records += 1;
            each(record);
        }
    }
    // What the header promises is there.
    for range in &dump.header().ranges {
        let Some(topic) = Topic::from_name(&range.topic) else { continue };
        let end = log.next_offset(topic, range.partition).unwrap_or(0);
        if end != range.end {
            let (topic, partition) = (range.topic.clone(), range.partition);
            return Err(ImportError::Gap { topic, partition, expected: range.end, found: end });
        }
    }
    log.finish().map_err(ImportError::Log)?;
    Ok(imported)
}

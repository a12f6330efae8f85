//! Raw dumps: records byte for byte, with where they stood, in one file or stream. docs/REPLAY.md has the layout.
//!
//! [`writer`] makes them, [`reader`] reads them: nothing in one is believed before its checksum.

pub mod reader;
pub mod writer;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tidings_ingest::{Log, PartitionCounts};
use tidings_schemas::limits::RECORD_BYTES_MAX;
use tidings_schemas::topics::Topic;

use crate::select::Span;

pub use reader::{Block, RawReader};
pub use writer::RawWriter;

/// What a dump begins with.
pub const MAGIC: [u8; 8] = *b"TIDEDUMP";
/// The version that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;
const BLOCK_MAGIC: [u8; 4] = *b"TDBK";
const END_MAGIC: [u8; 4] = *b"TEND";
const BLOCK_HEADER_BYTES: usize = 32;
const END_BYTES: usize = 28;
const RECORD_HEADER_BYTES: usize = 24;
/// A block is written when it has this much, or sooner.
const BLOCK_BYTES: usize = 256 * 1024;
/// The most that a block's records take: one that is as large as a record may be comes on top.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + RECORD_BYTES_MAX + RECORD_HEADER_BYTES;
/// The most that the header takes.
const HEADER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a dump says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The log that it was made from, 32 hexadecimal digits.
    pub log_id: String,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub made_at_ms: i64,
    /// All topics of the log, and how many partitions each has. All partitions of all of them, in this order, are numbered
    /// from 0: the blocks name partitions by that number.
    pub topics: Vec<TopicHeader>,
    /// What was asked for.
    pub ranges: Vec<RangeHeader>,
    /// Every record of these ranges is in it.
    pub is_complete: bool,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicHeader {
    /// Its name, with its version.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// A range of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeHeader {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// It was all that the partition held.
    pub is_all: bool,
}

impl Header {
    /// Of a dump of these spans. `is_complete`: nothing in them is left out.
    pub fn new(log: &dyn Log, spans: &[Span], made_at_ms: i64, is_complete: bool) -> Self {
        let topic = |topic: Topic| TopicHeader { name: topic.name().to_owned(), partitions: log.partitions(topic) };
        let range = |span: &Span| RangeHeader {
            topic: span.topic.name().to_owned(),
            partition: span.partition,
            start: span.offsets.start,
            end: span.offsets.end,
            is_all: span.offsets == span.kept,
        };
        Self {
            log_id: format!("{:032x}", log.log_id()),
            made_at_ms,
            topics: Topic::ALL.map(topic).into(),
            ranges: spans.iter().map(range).collect(),
            is_complete,
        }
    }

    /// The log's identity.
    pub fn log_id(&self) -> Option<u128> {
        u128::from_str_radix(&self.log_id, 16).ok()
    }

    /// Whether it holds all that the log held.
    pub fn is_whole(&self) -> bool {
        let all: usize = self.topics.iter().map(|topic| topic.partitions as usize).sum();
        self.is_complete && self.ranges.len() == all && self.ranges.iter().all(|range| range.is_all)
    }

    /// The number of a partition.
    fn slot(&self, topic: &str, partition: u32) -> Option<u32> {
        let mut first = 0;
        for entry in &self.topics {
            if entry.name == topic {
                return (partition < entry.partitions).then_some(first + partition);
            }
            first += entry.partitions;
        }
        None
    }

    /// The partition of a number: the topic's name, and which.
    pub fn partition(&self, slot: u32) -> Option<(&str, u32)> {
        let mut first = 0;
        for entry in &self.topics {
            if slot < first + entry.partitions {
                return Some((&entry.name, slot - first));
            }
            first += entry.partitions;
        }
        None
    }

    /// The settings of a log with these numbers of partitions; `None` if none can have them.
    pub fn partition_counts(&self) -> Option<PartitionCounts> {
        let of =
            |topic: Topic| self.topics.iter().find(|entry| entry.name == topic.name()).map(|entry| entry.partitions);
        let counts = PartitionCounts {
            conversations: of(Topic::Events)?,
            recipients: of(Topic::Inbox)?,
            edges: of(Topic::Deliveries)?,
            directory: of(Topic::Directory)?,
        };
        let partitions = tidings_schemas::topics::Partitions::from(counts);
        Topic::ALL
            .into_iter()
            .all(|topic| of(topic).is_none_or(|count| count == partitions.of(topic)))
            .then_some(counts)
    }

    /// The range of a partition, if it was asked for.
    pub fn range(&self, topic: Topic, partition: u32) -> Option<Range<u64>> {
        let found = self.ranges.iter().find(|range| range.topic == topic.name() && range.partition == partition);
        found.map(|range| range.start..range.end)
    }
}

/// Why a dump cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// It is something else.
    #[error("it is no raw dump (it does not begin with TIDEDUMP)")]
    NotADump,
    /// A newer program made it.
    #[error("it has version {found}, and this program knows {VERSION} at most (use the newer program that made it)")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It ends before its end.
    #[error("it ends at byte {position}, before its end mark: it was cut off, or never finished (make it again)")]
    Truncated {
        /// Where.
        position: u64,
    },
    /// What is in it is not what was written.
    #[error("it is damaged at byte {position}: {what} (make it again, or copy it again)")]
    Damaged {
        /// Where.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// The operating system refused.
    #[error("it cannot be read: {error}")]
    Io {
        /// What it said.
        error: std::io::Error,
    },
}

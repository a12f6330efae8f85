//! The embedded log's settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings_schemas::limits;
use tidings_schemas::topics::Topic;

use super::queue::QueueLimits;
pub use crate::settings::{PartitionCounts, Retention};

/// The embedded log's settings, as an operator writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// The folder that holds the log and nothing else.
    pub directory: PathBuf,
    /// How many partitions the topics have. Fixed when the log is made; left out: what the log was made with.
    pub partitions: Option<PartitionCounts>,
    /// How long records are kept, by topic name (`events.v1`); a topic that is not named has its default.
    pub retention: BTreeMap<String, Retention>,
    /// Size of a file of the journal, in bytes. Two or three of them exist at most times.
    pub journal_segment_bytes: u64,
    /// Size of a file of a partition, in bytes: what retention drops at a time.
    pub partition_segment_bytes: u64,
    /// A partition's file is closed at this age, in seconds, so that retention by time can drop it.
    pub partition_segment_age_max_seconds: u64,
    /// Recent records of a partition that are kept in memory for live readers, in bytes.
    pub tail_cache_bytes_max: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("data/log"),
            partitions: None,
            retention: BTreeMap::new(),
            journal_segment_bytes: limits::JOURNAL_SEGMENT_BYTES,
            partition_segment_bytes: limits::PARTITION_SEGMENT_BYTES,
            partition_segment_age_max_seconds: limits::PARTITION_SEGMENT_AGE_MAX.as_secs(),
            tail_cache_bytes_max: limits::TAIL_CACHE_BYTES_MAX,
        }
    }
}

/// The settings as the log uses them.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) journal_segment_bytes: u64,
    pub(crate) journal_segments_sealed_max: usize,
    pub(crate) partition_segment_bytes: u64,
    pub(crate) partition_segment_age_max: Duration,
    pub(crate) partition_block_bytes: usize,
    pub(crate) tail_cache_bytes_max: usize,
    pub(crate) commit_bytes_max: usize,
    pub(crate) queue: QueueLimits,
    /// By [`Topic::index`].
    pub(crate) retention: [Retention; Topic::ALL.len()],
}

impl Settings {
    pub(crate) fn of(config: &EmbeddedConfig) -> Self {
        Self {
            journal_segment_bytes: config.journal_segment_bytes,
            journal_segments_sealed_max: limits::JOURNAL_SEGMENTS_SEALED_MAX,
            partition_segment_bytes: config.partition_segment_bytes,
            partition_segment_age_max: Duration::from_secs(config.partition_segment_age_max_seconds),
            partition_block_bytes: limits::PARTITION_BLOCK_BYTES,
            tail_cache_bytes_max: config.tail_cache_bytes_max,
            commit_bytes_max: limits::COMMIT_BYTES_MAX,
            queue: QueueLimits::default(),
            retention: Retention::of_all(&config.retention),
        }
    }
}

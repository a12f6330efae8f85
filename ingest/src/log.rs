//! The port to the log. Two implementations stand behind it, and `conformance` is what both must pass.

use std::sync::Arc;

use bytes::Bytes;
use tidings_schemas::topics::{Partitions, Topic};

use crate::error::{AppendError, LogError};

/// One record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Where to.
    pub topic: Topic,
    /// Which partition of it: always chosen by the caller (`tidings_schemas::topics`).
    pub partition: u32,
    /// What the record is about; may be empty. Not used to choose a partition.
    pub key: Bytes,
    /// The record, passed through as it is. Key and value together: at most `limits::RECORD_BYTES_MAX`.
    pub value: Bytes,
}

/// One record as it stands in the log. Its bytes are a view of a shared buffer: a holder that keeps a record for long
/// copies what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in its partition: 0, 1, 2 … without a gap.
    pub offset: u64,
    /// When it was appended, by the log's clock, in milliseconds since the Unix epoch. The clock may step back.
    pub timestamp_ms: i64,
    /// As appended.
    pub key: Bytes,
    /// As appended.
    pub value: Bytes,
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The oldest record kept.
    pub start: u64,
    /// The next to be written.
    pub end: u64,
}

/// Told the offsets, one for each record in order, once the records are durable; or why they are not in the log.
pub type OnAppended = Box<dyn FnOnce(Result<Vec<u64>, AppendError>) + Send>;

/// Told what a partition holds.
pub type OnRange = Box<dyn FnOnce(Result<OffsetRange, LogError>) + Send>;

/// Called when a reader may have something to read. Must be quick, must not panic.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// An ordered, durable, replayable sequence of records for each partition of each topic.
pub trait Log: Send + Sync + 'static {
    /// Random identity of this log, made when it was created. A client's `epoch` comes from it.
    fn log_id(&self) -> u128;

    /// The number of partitions of a topic. Fixed when the log was created.
    fn partitions(&self, topic: Topic) -> u32;

    /// The same of all topics, by what they are partitioned by.
    fn partition_counts(&self) -> Partitions {
        Partitions {
            conversations: self.partitions(Topic::Events),
            recipients: self.partitions(Topic::Fanout),
            edges: self.partitions(Topic::Deliveries),
            directory: self.partitions(Topic::Directory),
        }
    }

    /// Appends all of `records`; never blocks.
    ///
    /// The records of one call are in each partition in the order of the call, and calls become visible in each
    /// partition in the order in which they were made. A reader of `deliveries` that sees a record of a call finds all
    /// that the call has for other topics durable and readable. (Embedded: a call is one atomic batch, and calls become
    /// visible in order over all partitions. Kafka: when a call fails, some of its partitions may hold their part of it;
    /// within a partition, never a later record of the call without the earlier ones.) `on_appended` runs exactly once:
    /// on the log's own thread after durability or failure, or at once on the caller's thread when the call is refused.
    /// It must be quick. An empty call appends nothing and is answered after all calls before it.
    ///
    /// # Errors (given to `on_appended`)
    /// [`AppendError::Full`] when the queue is full; [`AppendError::TooLarge`] past `limits::RECORD_BYTES_MAX` or
    /// `limits::APPEND_CALL_BYTES_MAX`; [`AppendError::UnknownPartition`]; [`AppendError::Unavailable`] when the records
    /// are not in the log and never will be by this call; [`AppendError::Unknown`] when that cannot be known.
    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended);

    /// What a partition holds now: every append that was answered before the call is below the end. May ask over a
    /// network, and then blocks until it has the answer or a time limit has passed: async callers use
    /// `LogExt::range_now`.
    ///
    /// # Errors
    /// [`LogError::UnknownPartition`], [`LogError::Unavailable`].
    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError>;

    /// As [`Log::range`], but never blocks: `on_range` runs exactly once, here or on a thread of the log. It must be
    /// quick.
    fn range_with(&self, topic: Topic, partition: u32, on_range: OnRange) {
        on_range(self.range(topic, partition));
    }

    /// The end of a partition as far as this process has seen it by reading: for what is measured, not for what is
    /// decided. Never blocks. `None`: it has not seen any.
    fn end_seen(&self, topic: Topic, partition: u32) -> Option<u64> {
        self.range(topic, partition).ok().map(|range| range.end)
    }

    /// A reader whose first record is `from`. `from` may be the end: it then gives what is appended from now on.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] when `from` is below the start or past the end; [`LogError::UnknownPartition`];
    /// [`LogError::Unavailable`].
    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError>;

    /// As [`Log::reader`], for one who would rather read much at a time than soon.
    ///
    /// # Errors
    /// As [`Log::reader`].
    fn paced_reader(
        &self,
        _pace: Pace,
        topic: Topic,
        partition: u32,
        from: u64,
    ) -> Result<Box<dyn LogReader>, LogError> {
        self.reader(topic, partition, from)
    }
}

/// How soon a reader wants what is appended. A log may ignore it; on Kafka each answer of a broker to a fetch is work for
/// both, so there are the fewer the more a reader waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Prompt,
    /// Within a moment that nobody notices who looks at it: on Kafka `limits::KAFKA_STEADY_FETCH_WAIT`.
    Steady,
    /// Much at a time: on Kafka within `limits::KAFKA_PATIENT_FETCH_WAIT`.
    Patient,
}

impl Pace {
    /// All, in the order of their numbers (`pace as usize`).
    pub const ALL: [Self; 3] = [Self::Prompt, Self::Steady, Self::Patient];
}

/// Reads one partition in order.
pub trait LogReader: Send {
    /// Adds the next durable records to `into`, up to `max_bytes` of keys and values, but at least one if there is
    /// one at hand; returns how many. Never waits for an append, nor for a network; may read from disk. So 0 means that
    /// there is nothing more, or that it is still on its way: a wake-up tells when it has come. Who must have what is
    /// below a known end compares `position` with it.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] when retention has overtaken the reader; [`LogError::Corrupt`]; [`LogError::Io`];
    /// [`LogError::Missing`]; [`LogError::Unavailable`]. The position is then unchanged.
    fn poll(&mut self, max_bytes: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError>;

    /// From now on `wake` is called whenever records may be there that the last `poll` did not give: from any thread,
    /// possibly without need, at most once between two polls. Called at once if records are there already. A caller
    /// therefore polls until it gets 0, then waits.
    fn wake_with(&mut self, wake: Wake);

    /// The offset of the next record that `poll` gives.
    fn position(&self) -> u64;
}

//! Lets partitions begin beyond offset 0, where the log that is copied has dropped what was before. A broker numbers what it is
//! given from 0 on and cannot be told otherwise: so it is given empty records up to there, many in a batch, compressed, and
//! they are then deleted.

use rdkafka::config::ClientConfig;

use super::sender::{Sender, Sent};
use super::slots::Slot;
use super::topics::Topics;
use crate::error::LogError;

/// Records of one batch: about 2 MiB before they are compressed.
const BATCH_RECORDS: u64 = 200_000;
/// Records that wait to be sent: each takes some 150 bytes of memory meanwhile.
const QUEUE_RECORDS_MAX: u64 = 3 * BATCH_RECORDS;
/// Records of all partitions after which those that are there are deleted, for the room that they take on the brokers.
const ROUND_RECORDS: u64 = 50_000_000;
/// Their time: long ago, so that the first real record begins a segment, and these go.
const TIMESTAMP_MS: i64 = 1;

/// A partition that is to begin at an offset and is shorter, or begins before.
#[derive(Debug, Clone)]
pub(crate) struct Short<'a> {
    pub(crate) name: &'a str,
    pub(crate) partition: u32,
    pub(crate) slot: Slot,
    /// Where it ends.
    pub(crate) end: u64,
    /// Where it is to begin.
    pub(crate) start: u64,
}

/// What the producer needs for it beside what a copy's has.
pub(crate) fn configure(mut client: ClientConfig) -> ClientConfig {
    let mut set = |key: &str, value: u64| {
        client.set(key, value.to_string());
    };
    set("batch.num.messages", BATCH_RECORDS);
    set("batch.size", 16 * 1024 * 1024);
    set("message.max.bytes", 16 * 1024 * 1024);
    set("queue.buffering.max.messages", QUEUE_RECORDS_MAX);
    set("linger.ms", 100);
    client.set("compression.type", "lz4");
    client
}

/// Fills and deletes. `each` is told how many records were filled in.
pub(crate) fn fill(
    topics: &Topics<'_>,
    sender: &mut Sender,
    mut shorts: Vec<Short<'_>>,
    mut each: impl FnMut(u64),
) -> Result<(), LogError> {
    while !shorts.is_empty() {
        let mut round = ROUND_RECORDS;
        while round > 0 && shorts.iter().any(|short| short.end < short.start) {
            for short in &mut shorts {
                let count = (short.start.saturating_sub(short.end)).min(BATCH_RECORDS).min(round);
                let (topic, partition, slot) = (short.name, short.partition, short.slot);
                let empty = Sent { topic, partition, slot, timestamp_ms: TIMESTAMP_MS, key: &[], value: &[] };
                for _ in 0..count {
                    sender.send(&empty)?;
                }
                short.end += count;
                round -= count;
                each(count);
            }
        }
        sender.drain()?;
        let until: Vec<_> =
            shorts.iter().map(|short| (short.name, short.partition, short.end.min(short.start))).collect();
        topics.delete_records(&until)?;
        shorts.retain(|short| short.end < short.start);
    }
    Ok(())
}

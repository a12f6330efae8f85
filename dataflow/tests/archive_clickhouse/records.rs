//! A log, and records such as the stages write.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tidings_dataflow::archive::conformance::{at_ms, conversation, entry, text};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, NewRecord, embedded::config::PartitionCounts};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    ids::{UserId, pack_user_ids},
    topics::Topic,
    wire,
};

pub(crate) fn open_log(directory: &std::path::Path) -> Arc<dyn Log> {
    let config = EmbeddedConfig {
        directory: directory.join("log"),
        partitions: Some(PartitionCounts::default()),
        ..EmbeddedConfig::default()
    };
    Arc::new(EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap())
}

/// The records that follow from event `offset`: an entry of a text, and an update of three recipients.
pub(crate) fn records(partition: u32, offset: u64) -> [NewRecord; 2] {
    let mut entry = entry(conversation(u128::from(partition)), offset + 1, &text("said"));
    // In two months, so that an insert is two parts.
    entry.sent_at_ms += i64::try_from(offset % 2).unwrap() * 40 * 86_400_000;
    let source = Some(wire::Source { partition, offset });
    let timeline = wire::TimelineRecord { source, at_ms: at_ms(offset), entries: vec![entry], ..Default::default() };
    let recipients = (0..3).map(|number| UserId::random(u128::from(partition) * 10 + number));
    let item = wire::InboxItem { user_ids: pack_user_ids(recipients), offsets: vec![offset + 1; 3], reference: None };
    let inbox = wire::InboxRecord { source, at_ms: at_ms(offset), items: vec![item], ..Default::default() };
    let record = |topic, value: Vec<u8>| NewRecord { topic, partition, key: Bytes::new(), value: value.into() };
    [record(Topic::Timeline, timeline.encode_to_vec()), record(Topic::Inbox, inbox.encode_to_vec())]
}

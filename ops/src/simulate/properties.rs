//! What must hold at the end of a history besides what the checker of the clients' observations demands: the log is what
//! the stages' models say of its events, every stream is whole, the views are what a rebuild gives, and acknowledged
//! receipts are in them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use tidings_dataflow::{
    checkpoints::CheckpointStore,
    conversations::{ConversationsConfig, model::Model},
    shard::ShardId,
    views::{memory::MemoryViews, projection},
};
use tidings_ingest::{Log, NewRecord, OffsetRange, StoredRecord, memory::MemoryLog};
use tidings_schemas::{
    ids::{ConversationId, UserId, unpack_user_ids},
    topics::{Partitions, Topic},
    views::{Key, ViewStore},
    wire,
};

use super::world::World;

/// What the events come to by the model: timelines by partition, and what every user's stream must hold.
pub(super) struct Modelled {
    timelines: Vec<Vec<Bytes>>,
    fanouts: BTreeMap<u32, BTreeMap<(u32, u64), Bytes>>,
    /// User → how many updates.
    pub(super) streams: BTreeMap<UserId, u64>,
}

/// All records of a partition.
pub(super) fn read_all(log: &MemoryLog, topic: Topic, partition: u32) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    if let Ok(mut reader) = log.reader(topic, partition, 0) {
        while reader.poll(usize::MAX, &mut records).is_ok_and(|count| count > 0) {}
    }
    records
}

/// How many events there are.
pub(super) fn events(log: &MemoryLog, partitions: Partitions) -> u64 {
    let end = |partition| log.range(Topic::Events, partition).map_or(0, |range| range.end);
    (0..partitions.conversations).map(end).sum()
}

/// Runs the model over all events.
pub(super) fn model(log: &MemoryLog, partitions: Partitions) -> Modelled {
    let group_members_max = ConversationsConfig::default().group_members_max;
    let mut modelled = Modelled { timelines: Vec::new(), fanouts: BTreeMap::new(), streams: BTreeMap::new() };
    for partition in 0..partitions.conversations {
        let mut model = Model::new(partitions, partition, group_members_max);
        let mut timeline = Vec::new();
        for event in read_all(log, Topic::Events, partition) {
            for NewRecord { topic, partition, value, .. } in model.apply(&event) {
                match topic {
                    Topic::Timeline => timeline.push(value),
                    Topic::Fanout => {
                        let Ok(record) = wire::FanoutRecord::decode(value.clone()) else { continue };
                        for user in record.items.iter().flat_map(|item| unpack_user_ids(&item.user_ids)) {
                            *modelled.streams.entry(user).or_default() += 1;
                        }
                        let source = record.source.unwrap_or_default();
                        let fanout = modelled.fanouts.entry(partition).or_default();
                        fanout.insert((source.partition, source.offset), value);
                    }
                    _ => {}
                }
            }
        }
        modelled.timelines.push(timeline);
    }
    modelled
}

/// What a consumer keeps that drops what is at or below its watermark of each source.
fn without_repeats(
    records: Vec<StoredRecord>,
    source: impl Fn(&Bytes) -> Option<wire::Source>,
) -> Vec<(wire::Source, Bytes)> {
    let mut watermarks = BTreeMap::<u32, u64>::new();
    let mut kept = Vec::new();
    for record in records {
        let source = source(&record.value).unwrap_or_default();
        if watermarks.get(&source.partition).is_none_or(|watermark| source.offset > *watermark) {
            watermarks.insert(source.partition, source.offset);
            kept.push((source, record.value));
        }
    }
    kept
}

/// Holds the derived topics against the model.
pub(super) fn check_log(world: &World, partitions: Partitions, modelled: &Modelled) {
    for (partition, expected) in (0..).zip(&modelled.timelines) {
        let records = read_all(&world.log, Topic::Timeline, partition);
        let found = without_repeats(records, |value| wire::TimelineRecord::decode(value.clone()).ok()?.source);
        let differs = expected.iter().zip(&found).position(|(expected, (_, found))| expected != found);
        if let Some(place) = differs {
            world.find("stage", format!("timeline {partition} differs from the model at its record {place}"));
        } else if expected.len() != found.len() {
            let (expected, found) = (expected.len(), found.len());
            world.find("stage", format!("timeline {partition} has {found} records, and the model {expected}"));
        }
    }
    let mut streams = BTreeMap::<UserId, u64>::new();
    for partition in 0..partitions.recipients {
        let records = read_all(&world.log, Topic::Fanout, partition);
        let found = without_repeats(records, |value| wire::FanoutRecord::decode(value.clone()).ok()?.source);
        let found: BTreeMap<_, _> =
            found.into_iter().map(|(source, value)| ((source.partition, source.offset), value)).collect();
        if &found != modelled.fanouts.get(&partition).unwrap_or(&BTreeMap::new()) {
            world.find("stage", format!("fanout {partition} differs from the model"));
        }
        let records = read_all(&world.log, Topic::Inbox, partition);
        let inbox = without_repeats(records, |value| wire::InboxRecord::decode(value.clone()).ok()?.source);
        for (_, value) in inbox {
            let Ok(record) = wire::InboxRecord::decode(value) else { continue };
            for item in &record.items {
                for (user, offset) in unpack_user_ids(&item.user_ids).zip(&item.offsets) {
                    let length = streams.entry(user).or_default();
                    *length += 1;
                    if *offset != *length {
                        world.find("stage", format!("{user} has offset {offset} where {length} is due"));
                    }
                }
            }
        }
    }
    if streams != modelled.streams {
        world.find("stage", "the inbox does not hold what the model fans out".to_owned());
    }
}

/// Rebuilds the views from the log and compares.
pub(super) async fn check_views(world: &World) {
    let rebuilt = MemoryViews::default();
    let (log, views) = (std::sync::Arc::clone(&world.log), std::sync::Arc::new(rebuilt.clone()));
    let config = projection::ProjectionConfig::default();
    let task = projection::task(&config, log, views, &mut prometheus_client::registry::Registry::default());
    let task = tokio::task::spawn_local(task);
    let mut patience = 10_000;
    while !are_views_current(&world.log, &rebuilt).await && patience > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        patience -= 1;
    }
    task.abort();
    let (found, expected) = (world.views.rows(), rebuilt.rows());
    if found == expected {
        return;
    }
    let keys: BTreeSet<&Key> = found.keys().chain(expected.keys()).collect();
    let differing: Vec<_> = keys.into_iter().filter(|key| found.get(key) != expected.get(key)).collect();
    let first = differing.first().map(|key| format!("{:?} of {:032x}", key.table, key.owner)).unwrap_or_default();
    world.find("views", format!("{} rows differ from a rebuild, the first in {first}", differing.len()));
}

/// Every shard's newest checkpoint can be used, whoever wrote it, but for those that were damaged on purpose.
pub(super) async fn check_checkpoints(world: &World, shards: &BTreeSet<ShardId>) {
    let objects = std::sync::Arc::clone(&world.objects);
    let store = CheckpointStore::new(objects, world.log.log_id());
    for shard in shards.iter().filter(|shard| !world.is_spoiled(**shard)) {
        let held = |topic| world.log.range(topic, shard.partition).unwrap_or(OffsetRange { start: 0, end: 0 });
        let Some(newest) = store.sequences(*shard).await.unwrap_or_default().first().copied() else {
            world.find("checkpoint", format!("{shard} has none"));
            continue;
        };
        if let Err(error) = store.load(*shard, newest, held).await {
            world.find("checkpoint", format!("{shard}: the newest cannot be used: {error}"));
        }
    }
}

/// Whether the views hold all of the log.
pub(super) async fn are_views_current(log: &MemoryLog, views: &MemoryViews) -> bool {
    for topic in [Topic::Directory, Topic::Timeline, Topic::Inbox] {
        for partition in 0..log.partitions(topic) {
            let end = log.range(topic, partition).map_or(0, |range| range.end);
            if views.position(topic, partition).await.unwrap_or(0) < end {
                return false;
            }
        }
    }
    true
}

/// Whether every event has its timeline record.
pub(super) fn is_timeline_whole(log: &MemoryLog, partitions: Partitions) -> bool {
    (0..partitions.conversations).all(|partition| {
        let events = log.range(Topic::Events, partition).map_or(0, |range| range.end);
        let timeline = read_all(log, Topic::Timeline, partition);
        let reached = timeline
            .iter()
            .filter_map(|record| Some(wire::TimelineRecord::decode(record.value.clone()).ok()?.source?.offset + 1));
        events == 0 || reached.into_iter().any(|reached| reached >= events)
    })
}

/// Whether every record of the fan-out has its inbox record: a client may have its push before.
pub(super) fn is_inbox_whole(log: &MemoryLog, partitions: Partitions) -> bool {
    let source = |value: &Bytes| wire::FanoutRecord::decode(value.clone()).ok()?.source;
    let from = |record: &StoredRecord| Some(wire::InboxRecord::decode(record.value.clone()).ok()?.source?.offset);
    (0..partitions.recipients).all(|partition| {
        let fanout = without_repeats(read_all(log, Topic::Fanout, partition), source).len();
        let inbox: BTreeSet<_> = read_all(log, Topic::Inbox, partition).iter().filter_map(from).collect();
        inbox.len() >= fanout
    })
}

/// Receipts that were answered with `ok` are in the views.
pub(super) async fn check_receipts(
    world: &World,
    user: &str,
    receipted: &BTreeMap<String, (u64, u64)>,
    rooms: &BTreeSet<String>,
) {
    let Ok(user) = user.parse::<UserId>() else { return };
    for (room, (delivered, seen)) in receipted.iter().filter(|(room, _)| rooms.contains(*room)) {
        let Ok(conversation) = room.parse::<ConversationId>() else { continue };
        let rows = world.views.get(&[Key::member(conversation, user)]).await.unwrap_or_default();
        let row = rows.into_iter().flatten().next().and_then(|row| wire::MemberRow::decode(row).ok());
        let row = row.unwrap_or_default();
        if row.delivered_seq < *delivered || row.seen_seq < *seen {
            let found = (row.delivered_seq, row.seen_seq);
            world.find(
                "receipt",
                format!("{user} in {room}: {delivered}, {seen} was acknowledged, the views have {found:?}"),
            );
        }
    }
}

//! A field that this version does not know survives the whole way: from the edge's append through both stages into what
//! is pushed, the views and the archive. Nothing on the way decodes an event and writes it anew.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod archive;

use std::{ops::Bound, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use prost::Message;
use tidings_dataflow::{
    archive::{self as archives, Archive as _, store::EntriesQuery},
    host::{self, HostConfig},
    views::{
        projection::{self, ProjectionConfig},
        store::{FjallViews, StoreConfig},
    },
};
use tidings_ingest::{
    AsyncReader, EmbeddedConfig, EmbeddedLog, Log, LogExt, NewRecord, embedded::config::PartitionCounts,
};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    ids::{ConversationId, UserId},
    topics::{Topic, conversation_partition, user_partition},
    views::{Key, Scan, Table, ViewStore},
    wire::{self, ConversationKind, delivery_record, entry, event::Body, push_item, verdict},
};

const COUNTS: PartitionCounts = PartitionCounts { conversations: 1, recipients: 1, edges: 1, directory: 1 };
const WAIT: Duration = Duration::from_secs(60);
const EDGE: u32 = 0;

/// Field 2047 of every kind that a field can have on the wire.
fn unknown_fields() -> Vec<u8> {
    let tag = |wire_type: u32| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(u64::from(2_047 << 3 | wire_type), &mut bytes);
        bytes
    };
    [
        tag(0),
        vec![0x96, 0x01],
        tag(1),
        8_u64.to_le_bytes().to_vec(),
        tag(2),
        vec![5],
        b"newer".to_vec(),
        tag(5),
        4_u32.to_le_bytes().to_vec(),
    ]
    .concat()
}

/// A message with unknown fields in the event, in the send and in an attachment, as a newer edge would write it.
fn newer_event(conversation: ConversationId, actor: UserId) -> Bytes {
    let length_delimited = |field: u32, body: &[u8]| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(u64::from(field << 3 | 2), &mut bytes);
        prost::encoding::encode_varint(body.len() as u64, &mut bytes);
        bytes.extend_from_slice(body);
        bytes
    };
    let attachment =
        [wire::Attachment { media_id: "m".into(), ..Default::default() }.encode_to_vec(), unknown_fields()];
    let send = [
        wire::Send { client_message_id: "c-1".into(), text: "hello".into(), ..Default::default() }.encode_to_vec(),
        length_delimited(3, &attachment.concat()),
        unknown_fields(),
    ];
    let event = wire::Event {
        conversation_id: Some(conversation.into()),
        actor_id: Some(actor.into()),
        stamped_at_ms: 1_800_000_000_000,
        origin: Some(wire::Origin { edge_id: EDGE, request_id: 77 }),
        body: None,
    };
    let bytes = [event.encode_to_vec(), length_delimited(10, &send.concat()), unknown_fields()].concat();
    let known = wire::Event::decode(bytes.as_slice()).unwrap();
    assert!(matches!(&known.body, Some(Body::Send(send)) if send.attachments.len() == 1));
    assert_ne!(known.encode_to_vec(), bytes, "decoding and encoding loses what is not known: that is what is tested");
    bytes.into()
}

fn open_log(folder: &Path) -> Arc<dyn Log> {
    let config =
        EmbeddedConfig { directory: folder.join("log"), partitions: Some(COUNTS), ..EmbeddedConfig::default() };
    Arc::new(EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap())
}

async fn append(log: &dyn Log, topic: Topic, value: Bytes) {
    log.append(vec![NewRecord { topic, partition: 0, key: Bytes::new(), value }]).await.unwrap();
}

/// The first record of a partition in which something is found.
async fn find<T>(log: &dyn Log, topic: Topic, found_in: impl Fn(Bytes) -> Option<T>) -> T {
    let mut reader = AsyncReader::new(log.reader(topic, 0, 0).unwrap());
    let search = async {
        loop {
            let records = reader.next_batch(1 << 20).await.unwrap();
            if let Some(found) = records.into_iter().find_map(|record| found_in(record.value)) {
                return found;
            }
        }
    };
    tokio::time::timeout(WAIT, search).await.unwrap()
}

/// The event in an entry, if it is a message's.
fn event_of(entry: wire::Entry) -> Option<Bytes> {
    match entry.content {
        Some(entry::Content::Event(event)) => Some(event),
        _ => None,
    }
}

fn delivery(value: Bytes) -> Option<delivery_record::Body> {
    wire::DeliveryRecord::decode(value).unwrap().body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_field_survives_the_log_the_stages_the_views_and_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let views = FjallViews::open(&folder.path().join("views"), log.log_id(), &StoreConfig::default()).unwrap();
    let stored: Arc<dyn ViewStore> = Arc::new(views.clone());
    let archive = Arc::new(archive::open("tidings_unknown_fields").await);
    let registry = &mut Registry::default();
    let clock = Arc::new(SystemClock::new());
    let host = host::start(HostConfig::default(), &host::all_shards(&*log), Arc::clone(&log), clock, registry).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let viewed = projection::start(
        &ProjectionConfig::default(),
        projection::all_partitions(&*log),
        Arc::clone(&log),
        stored,
        runtime,
        registry,
    )
    .unwrap();
    let archived = archives::projection::start(
        archives::projection::all_partitions(&*log),
        archives::projection::Owners::One,
        Arc::clone(&log),
        archive.clone(),
        &mut Registry::default(),
    )
    .unwrap();

    let (ann, bob) = (UserId::random(1), UserId::random(2));
    let chat = ConversationId::direct(ann, bob);
    assert_eq!((conversation_partition(chat, 1), user_partition(bob, 1)), (0, 0));
    let opened = wire::SessionOpened { user_id: Some(bob.into()), session_id: 5, device_id: "phone".into() };
    let signals = wire::SignalRecord {
        edge_id: EDGE,
        edge_run: 1,
        stamped_at_ms: 1_800_000_000_000,
        signals: vec![wire::Signal { body: Some(wire::signal::Body::SessionOpened(opened)) }],
    };
    append(&*log, Topic::Signals, signals.encode_to_vec().into()).await;
    // From here on Bob is pushed what comes.
    find(&*log, Topic::Deliveries, |value| {
        matches!(delivery(value), Some(delivery_record::Body::Attached(_))).then_some(())
    })
    .await;
    let create = wire::CreateConversation {
        kind: ConversationKind::Direct.into(),
        title: String::new(),
        member_ids: vec![bob.into()],
    };
    let create = wire::Event {
        conversation_id: Some(chat.into()),
        actor_id: Some(ann.into()),
        stamped_at_ms: 1_800_000_000_000,
        origin: None,
        body: Some(Body::CreateConversation(create)),
    };
    append(&*log, Topic::Events, create.encode_to_vec().into()).await;
    let event = newer_event(chat, ann);
    append(&*log, Topic::Events, event.clone()).await;

    let timeline = find(&*log, Topic::Timeline, |value| {
        wire::TimelineRecord::decode(value).unwrap().entries.into_iter().find_map(event_of)
    });
    assert_eq!(timeline.await, event, "in the timeline");
    let told = find(&*log, Topic::Deliveries, |value| match delivery(value) {
        Some(delivery_record::Body::Verdict(wire::Verdict {
            outcome: Some(verdict::Outcome::Entry(entry)), ..
        })) => event_of(entry),
        _ => None,
    });
    assert_eq!(told.await, event, "in the verdict");
    let pushed = find(&*log, Topic::Deliveries, |value| match delivery(value) {
        Some(delivery_record::Body::Push(push)) => push.items.into_iter().find_map(|item| match item.content {
            Some(push_item::Content::Entry(entry)) => event_of(entry),
            _ => None,
        }),
        _ => None,
    });
    assert_eq!(pushed.await, event, "in what is pushed");

    views.wait_past(Topic::Events, 0, 1, WAIT).await.unwrap();
    let row = views.get(&[Key::entry(chat, 2)]).await.unwrap().pop().unwrap().unwrap();
    let row = wire::EntryRow::decode(row).unwrap();
    assert_eq!(event_of(row.entry.unwrap()).unwrap(), event, "in the views");
    let updates = Scan {
        table: Table::Inbox,
        owner: bob.0,
        from: Bound::Unbounded,
        to: Bound::Unbounded,
        reverse: false,
        limit: 10,
    };
    views.wait_past(Topic::Fanout, 0, 1, WAIT).await.unwrap();
    assert!(!views.scan(updates).await.unwrap().is_empty());

    archived.caught_up().await;
    let query = EntriesQuery { conversation: chat, seqs: 2..=2, newest_first: false, limit: 1 };
    let entry = archive.entries(query).await.unwrap().pop().unwrap();
    assert_eq!(event_of(entry).unwrap(), event, "out of the archive");

    host.shutdown().await;
    viewed.shutdown().await;
    archived.shutdown().await;
}

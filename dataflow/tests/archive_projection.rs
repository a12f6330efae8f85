//! The projection that writes the archive, from a real log into the real engine: nothing missing and nothing twice,
//! whatever is repeated, cannot be read, fails or is stopped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod archive;

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use archive::{open, sql};
use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use prost::Message as _;
use tidings_dataflow::archive::{
    Archive, ArchiveError, Batch, EmbeddedArchive,
    conformance::{at_ms, conversation, entry, text},
    erasure::ErasedTable,
    projection,
    store::{EntriesQuery, Progress},
};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, LogExt as _, NewRecord, embedded::config::PartitionCounts};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    ids::{ConversationId, MessageId, UserId, pack_user_ids},
    topics::Topic,
    wire,
};

fn open_log(directory: &std::path::Path) -> Arc<dyn Log> {
    let config = EmbeddedConfig {
        directory: directory.join("log"),
        partitions: Some(PartitionCounts::default()),
        ..EmbeddedConfig::default()
    };
    Arc::new(EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap())
}

fn record(topic: Topic, partition: u32, value: impl Into<Bytes>) -> NewRecord {
    NewRecord { topic, partition, key: Bytes::new(), value: value.into() }
}

/// The record of `timeline` that follows from event `offset`: one entry of a text.
fn timeline(partition: u32, offset: u64) -> NewRecord {
    let entry = entry(conversation(u128::from(partition)), offset + 1, &text("said"));
    let source = Some(wire::Source { partition, offset });
    let record_ = wire::TimelineRecord { source, at_ms: at_ms(offset), entries: vec![entry], ..Default::default() };
    record(Topic::Timeline, partition, record_.encode_to_vec())
}

/// The record of `inbox` that follows from record `offset` of `fanout`: an update of three recipients.
fn inbox(partition: u32, offset: u64) -> NewRecord {
    let recipients = (0..3).map(|number| UserId::random(u128::from(partition) * 10 + number));
    let item = wire::InboxItem { user_ids: pack_user_ids(recipients), offsets: vec![offset + 1; 3], reference: None };
    let source = Some(wire::Source { partition, offset });
    let record_ = wire::InboxRecord { source, at_ms: at_ms(offset), items: vec![item], ..Default::default() };
    record(Topic::Inbox, partition, record_.encode_to_vec())
}

#[tokio::test]
async fn everything_is_archived_once_over_restarts_and_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let mut next = 0;
    for round in 0..3 {
        let archive = Arc::new(open("tidings_restarts").await);
        let handle = projection::start(
            projection::all_partitions(&*log),
            projection::Owners::One,
            Arc::clone(&log),
            archive,
            &mut Registry::default(),
        )
        .unwrap();
        let mut records = Vec::new();
        for partition in [0, 1] {
            // A shard that was restarted writes its last outputs again.
            let repeated = next - next.min(20);
            records.extend((repeated..next + 100).map(|offset| timeline(partition, offset)));
            records.extend((repeated..next + 100).map(|offset| inbox(partition, offset)));
        }
        // A record that is none: it is left out and does not stop the others.
        records.insert(7, record(Topic::Timeline, 0, &b"\xff\xff\xff"[..]));
        log.append(records).await.unwrap();
        next += 100;
        handle.caught_up().await;
        assert_eq!(handle.lag_records(), 0, "round {round}");
        handle.shutdown().await;
    }
    assert_eq!(
        sql("tidings_restarts", "SELECT count(), uniqExact(conversation_id, seq) FROM timeline_entries"),
        "600\t600\n"
    );
    assert_eq!(
        sql("tidings_restarts", "SELECT count(), uniqExact(recipient_id, offset) FROM inbox_entries"),
        "1800\t1800\n"
    );
    assert_eq!(sql("tidings_restarts", "SELECT count(), max(seq) FROM messages"), "600\t300\n");
}

/// A record of `signals`: a heartbeat, and whether a session was opened or closed.
fn signal(at: i64, body: Option<wire::signal::Body>) -> NewRecord {
    let heartbeat = wire::signal::Body::Heartbeats(vec![0; 24].into());
    let signals = [Some(heartbeat), body].into_iter().flatten().map(|body| wire::Signal { body: Some(body) }).collect();
    let record_ = wire::SignalRecord { edge_id: 3, edge_run: 9, stamped_at_ms: at, signals };
    record(Topic::Signals, 1, record_.encode_to_vec())
}

#[tokio::test]
async fn sessions_are_archived_once_and_heartbeats_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let user_id = Some(UserId::random(5).into());
    let opened = |session_id| {
        let device_id = "phone".to_owned();
        wire::signal::Body::SessionOpened(wire::SessionOpened { user_id, session_id, device_id })
    };
    let closed =
        |session_id| wire::signal::Body::SessionClosed(wire::SessionClosed { user_id, session_id, clean: true });
    for round in 0..3_u64 {
        let archive = Arc::new(open("tidings_sessions").await);
        let (partitions, registry) = (projection::all_partitions(&*log), &mut Registry::default());
        let handle =
            projection::start(partitions, projection::Owners::One, Arc::clone(&log), archive, registry).unwrap();
        let written = || sql("tidings_sessions", "SELECT count() FROM source_positions WHERE topic = 'signals.v1'");
        let before = written();
        log.append((0..50).map(|second| signal(at_ms(round * 100 + second), None)).collect()).await.unwrap();
        handle.caught_up().await;
        assert_eq!(written(), before, "an insert for heartbeats");
        let at = round * 100 + 50;
        let bodies = [opened(round), closed(round)];
        let records = bodies.into_iter().zip(at..).map(|(body, second)| signal(at_ms(second), Some(body)));
        log.append(records.collect()).await.unwrap();
        handle.caught_up().await;
        handle.shutdown().await;
    }
    let sessions = "SELECT session_id, device_id, edge_id, dateDiff('second', opened_at, closed_at), closed_by \
                    FROM presence_sessions ORDER BY session_id";
    let expected: String = (0..3).map(|session| format!("{session}\tphone\t3\t1\tclient\n")).collect();
    assert_eq!(sql("tidings_sessions", sessions), expected);
    assert_eq!(sql("tidings_sessions", "SELECT count() FROM session_events"), "6\n");
}

#[tokio::test]
async fn partitions_that_move_between_two_owners_are_archived_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let archive: Arc<dyn Archive> = Arc::new(open("tidings_moves").await);
    let none = BTreeSet::new();
    let owners = [0, 1].map(|_| {
        let (log, archive) = (Arc::clone(&log), Arc::clone(&archive));
        projection::start(none.clone(), projection::Owners::Many, log, archive, &mut Registry::default()).unwrap()
    });
    assert_eq!(owners[0].lag_records(), 0, "nothing is its own");
    let all: Vec<(Topic, u32)> = projection::all_partitions(&*log).into_iter().collect();
    for round in 0..12 {
        let records = [0, 1].into_iter().flat_map(|partition| {
            (round * 20..(round + 1) * 20)
                .flat_map(move |offset| [timeline(partition, offset), inbox(partition, offset)])
        });
        log.append(records.collect()).await.unwrap();
        let mut shares = [none.clone(), none.clone()];
        for (place, partition) in all.iter().enumerate() {
            shares[(place + usize::try_from(round).unwrap() * (place + 1)) % 2].insert(*partition);
        }
        for owner in &owners {
            owner.assignment().own(none.clone()).await;
        }
        for (owner, share) in owners.iter().zip(shares) {
            owner.assignment().own(share).await;
        }
    }
    for owner in owners {
        owner.caught_up().await;
        assert_eq!(owner.lag_records(), 0);
        owner.shutdown().await;
    }
    let counts = "SELECT count(), uniqExact(conversation_id, seq) FROM timeline_entries";
    assert_eq!(sql("tidings_moves", counts), "480\t480\n");
    let counts = "SELECT count(), uniqExact(recipient_id, offset) FROM inbox_entries";
    assert_eq!(sql("tidings_moves", counts), "1440\t1440\n");
}

/// The real archive, reached over a bad line: calls fail before they arrive, or after their work is done.
struct BadLine {
    archive: EmbeddedArchive,
    calls: AtomicUsize,
}

impl BadLine {
    fn fails(&self, when: &str) -> Result<(), ArchiveError> {
        // Two calls of five, without a pattern that a retry could fall in step with.
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20) % 5 < 2 {
            return Err(ArchiveError::Unavailable(format!("the line broke {when}")));
        }
        Ok(())
    }
}

#[async_trait]
impl Archive for BadLine {
    async fn migrate(&self) -> Result<(), ArchiveError> {
        self.fails("before it arrived")?;
        self.archive.migrate().await
    }

    async fn progress(&self) -> Result<Vec<Progress>, ArchiveError> {
        self.fails("before it arrived")?;
        self.archive.progress().await
    }

    fn next_source_offset(&self, topic: Topic, partition: u32) -> u64 {
        self.archive.next_source_offset(topic, partition)
    }

    async fn erase(&self, users: &[UserId]) -> Result<Vec<ErasedTable>, ArchiveError> {
        self.archive.erase(users).await
    }

    async fn summarize(&self) -> Result<u64, ArchiveError> {
        self.archive.summarize().await
    }

    async fn insert(&self, batch: Arc<Batch>) -> Result<(), ArchiveError> {
        self.fails("before it arrived")?;
        self.archive.insert(batch).await?;
        self.fails("after it was done")
    }

    async fn entries(&self, query: EntriesQuery) -> Result<Vec<wire::Entry>, ArchiveError> {
        self.archive.entries(query).await
    }

    async fn entry_by_message_id(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<Option<wire::Entry>, ArchiveError> {
        self.archive.entry_by_message_id(conversation, message).await
    }

    async fn changes_for(&self, conversation: ConversationId, seqs: &[u64]) -> Result<Vec<wire::Change>, ArchiveError> {
        self.archive.changes_for(conversation, seqs).await
    }

    async fn inbox(
        &self,
        recipient: UserId,
        offsets: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, wire::InboxRow)>, ArchiveError> {
        self.archive.inbox(recipient, offsets, limit).await
    }
}

#[tokio::test]
async fn an_archive_that_fails_catches_up_and_holds_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let archive = BadLine { archive: open("tidings_bad_line").await, calls: AtomicUsize::new(0) };
    let handle = projection::start(
        projection::all_partitions(&*log),
        projection::Owners::One,
        Arc::clone(&log),
        Arc::new(archive),
        &mut Registry::default(),
    )
    .unwrap();
    for round in 0..3_u64 {
        let offsets = round * 50..round * 50 + 50;
        let records = offsets.flat_map(|offset| [timeline(0, offset), inbox(0, offset)]).collect();
        log.append(records).await.unwrap();
        handle.caught_up().await;
    }
    assert_eq!(sql("tidings_bad_line", "SELECT count(), uniqExact(seq) FROM timeline_entries"), "150\t150\n");
    assert_eq!(
        sql("tidings_bad_line", "SELECT count(), uniqExact(recipient_id, offset) FROM inbox_entries"),
        "450\t450\n"
    );
    handle.shutdown().await;
}

#[tokio::test]
async fn more_than_a_batch_holds_is_cut_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    // 180,000 rows: three batches, each cut between two records.
    let recipients: Vec<_> = (0..1_000).map(UserId::random).collect();
    for offset in 0..180_u64 {
        let item = wire::InboxItem {
            user_ids: pack_user_ids(recipients.iter().copied()),
            offsets: vec![offset + 1; 1_000],
            reference: None,
        };
        let source = Some(wire::Source { partition: 1, offset });
        let value = wire::InboxRecord { source, at_ms: at_ms(offset), items: vec![item], ..Default::default() };
        log.append(vec![record(Topic::Inbox, 1, value.encode_to_vec())]).await.unwrap();
    }
    let archive = Arc::new(open("tidings_cut").await);
    let mut registry = Registry::default();
    let handle = projection::start(
        projection::all_partitions(&*log),
        projection::Owners::One,
        Arc::clone(&log),
        archive,
        &mut registry,
    )
    .unwrap();
    handle.caught_up().await;
    assert_eq!(
        sql("tidings_cut", "SELECT count(), uniqExact(recipient_id, offset) FROM inbox_entries"),
        "180000\t180000\n"
    );
    handle.shutdown().await;
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
    assert!(metrics.contains("tidings_dataflow_archive_rows_total{table=\"inbox_entries\"} 180000"), "{metrics}");
    assert!(metrics.contains("tidings_dataflow_archive_insert_duration_seconds_count 3"), "{metrics}");
}

//! The archive's rows against the log: sums agree where nothing is wrong, whenever that was, and what is wrong is found by
//! its key, among much and among little. (It needs libchdb: `./ops/fetch-libchdb`.)

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use prometheus_client::registry::Registry;
use prost::Message;
use tidings_dataflow::archive::{
    Archive, ArchiveSettings, EmbeddedArchive,
    libchdb::configuration::EngineConfiguration,
    projection::{self, Owners},
    rebuild::Rebuilding,
};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, LogExt, NewRecord, PartitionCounts};
use tidings_replay::verify::{
    Kind,
    archive::{TableReport, VerifyArchive},
};
use tidings_schemas::{
    clock::{Clock, SystemClock, SystemEntropy},
    ids::ConversationId,
    topics::Topic,
    wire,
};

const ENTRIES: u64 = 3_000;
const CHATS: u64 = 7;

fn id(high: u64, low: u64) -> Option<wire::Id> {
    Some(wire::Id { high, low })
}

/// An entry for each event, and a receipt for every tenth.
fn timeline(now_ms: i64) -> impl Iterator<Item = NewRecord> {
    (0..ENTRIES).map(move |number| {
        let (partition, offset) = (u32::try_from(number % 2).unwrap(), number / 2);
        let conversation_id = id(1, number % CHATS);
        let entry = wire::Entry {
            conversation_id,
            seq: number,
            message_id: id(2, number),
            sender_id: id(3, number % 5),
            sent_at_ms: now_ms,
            ..Default::default()
        };
        let cursor = wire::CursorMove { conversation_id, user_id: id(3, 1), seen_seq: number, ..Default::default() };
        let record = wire::TimelineRecord {
            source: Some(wire::Source { partition, offset }),
            at_ms: now_ms,
            entries: vec![entry],
            cursor_moves: if number % 10 == 0 { vec![cursor] } else { Vec::new() },
            ..Default::default()
        };
        let value = record.encode_to_vec().into();
        NewRecord { topic: Topic::Timeline, partition, key: vec![0; 16].into(), value }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_in_the_archive_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        directory: folder.path().join("log"),
        partitions: Some(PartitionCounts { conversations: 2, recipients: 1, edges: 1, directory: 1 }),
        ..Default::default()
    };
    let clock = SystemClock::new();
    let log: Arc<dyn Log> =
        Arc::new(EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap());
    log.append(timeline(clock.now_ms()).collect()).await.unwrap();
    let engine = EngineConfiguration::in_folder(folder.path().join("archive"));
    let archive = Arc::new(EmbeddedArchive::open(&engine, ArchiveSettings::default()).unwrap());
    let writing: Arc<dyn Archive> = Arc::clone(&archive) as _;
    let partitions = projection::all_partitions(&*log);
    let projection =
        projection::start(partitions, Owners::One, Arc::clone(&log), writing, &mut Registry::default()).unwrap();
    projection.caught_up().await;
    projection.shutdown().await;

    // Minutes later the sums alone say it; at once every row is looked at.
    let verified = async |minutes: i64| -> Vec<TableReport> {
        let now_ms = clock.now_ms() + minutes * 60_000;
        let (log, archive) = (&*log, &*archive);
        let verify = VerifyArchive { log, archive, now_ms, retention_days: 365, kept_max: 5, progress: &|_| {} };
        verify.run().await.unwrap()
    };
    for minutes in [0, 30] {
        let reports = verified(minutes).await;
        assert_eq!((reports[0].table, reports[0].agreeing), ("timeline_entries", ENTRIES));
        assert_eq!((reports[2].table, reports[2].agreeing), ("receipts", ENTRIES / 10));
        assert!(reports.iter().all(|report| report.differences() == 0 && report.behind == 0), "{reports:#?}");
    }
    // Kept for less time than it is old: nothing is missed.
    let year_later = verified(366 * 24 * 60).await;
    assert!(year_later.iter().all(|report| report.agreeing + report.differences() == 0), "{year_later:#?}");

    let copy = |what: &str| {
        format!(
            "INSERT INTO timeline_entries SELECT * REPLACE ({what}) FROM (SELECT * FROM timeline_entries WHERE seq = 8)"
        )
    };
    for statement in
        ["DELETE FROM timeline_entries WHERE seq = 70".to_owned(), copy("99999 AS seq"), copy("'else' AS text")]
    {
        archive.ask(statement).await.unwrap();
    }
    for minutes in [0, 30] {
        let reports = verified(minutes).await;
        let found = &reports[0];
        assert_eq!([found.agreeing, found.missing, found.extra, found.differing], [ENTRIES - 2, 1, 1, 1], "{found:#?}");
        let key = |kind| found.first.iter().find(|difference| difference.kind == kind).unwrap();
        let chat = |number: u64| ConversationId::from(id(1, number % CHATS).unwrap());
        assert_eq!(key(Kind::Missing).key, format!("{} 70", chat(70)));
        assert_eq!((key(Kind::Missing).partition, key(Kind::Missing).offset), (Some(0), Some(35)));
        assert_eq!(key(Kind::Differing).key, format!("{} 8", chat(8)));
        assert_eq!(key(Kind::Extra).key, format!("{} 99999", chat(8)));
        assert!(reports[1..].iter().all(|report| report.differences() == 0), "{reports:#?}");
    }
}

//! The embedded archive: the port's conformance suite, and what is its own: SQL, migrations, retention.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod archive;

use std::{fs, time::Duration};

use archive::{engine, open, sql};
use tidings_dataflow::archive::{
    Archive, ArchiveError, ArchiveSettings, EmbeddedArchive,
    conformance::{self, change, conversation, entry, text, timeline_batch},
    libchdb::configuration::EngineConfiguration,
    store::EntriesQuery,
};
use tidings_schemas::{ids::UserId, wire};

macro_rules! conforms {
    ($($name:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                let archive = open(concat!("tidings_", stringify!($name))).await;
                conformance::$name(&archive).await;
            }
        )+
    };
}

conforms!(
    migrating_again_changes_nothing,
    entries_come_back_as_they_were,
    reads_keep_to_their_range,
    the_change_that_stands_is_read,
    updates_come_back_in_order,
    progress_follows_the_inserts,
    repeats_show_once,
    erased_content_is_gone,
);

#[tokio::test]
async fn messages_are_counted_once_and_shown_as_they_now_are() {
    let archive = open("tidings_messages").await;
    let conversation = conversation(1);
    let entries: Vec<_> = (1..=5).map(|seq| entry(conversation, seq, &text("first"))).collect();
    let created = wire::Entry {
        content: Some(wire::entry::Content::Membership(wire::Membership {
            action: wire::MembershipAction::Created.into(),
            ..Default::default()
        })),
        ..entry(conversation, 6, &wire::Send::default())
    };
    let mut records: Vec<_> = entries
        .iter()
        .chain([&created])
        .map(|entry| wire::TimelineRecord { entries: vec![entry.clone()], ..Default::default() })
        .collect();
    for (seq, text) in [(2, Some("second")), (2, Some("third")), (3, Some("second")), (3, None)] {
        let change = change(&entries[seq - 1], text, 1_800_000_000_000);
        records.push(wire::TimelineRecord { change: Some(change), ..Default::default() });
    }
    // The second time as another batch: the rows are in the tables twice until they are merged.
    archive.insert(timeline_batch(0, 0, &records)).await.unwrap();
    archive.insert(timeline_batch(0, 100, &records)).await.unwrap();

    assert_eq!(sql("tidings_messages", "SELECT count() FROM messages"), "5\n");
    assert_eq!(sql("tidings_messages", "SELECT count() FROM membership_changes"), "1\n");
    let shown = sql(
        "tidings_messages",
        "SELECT seq, text, edited_at, deleted_at, client_message_id FROM messages ORDER BY seq",
    );
    let expected = "1\tfirst\t\\N\t\\N\tclient first\n\
                    2\tthird\t2027-01-15 08:00:00.000\t\\N\tclient first\n\
                    3\t\t\\N\t2027-01-15 08:00:00.000\tclient first\n\
                    4\tfirst\t\\N\t\\N\tclient first\n\
                    5\tfirst\t\\N\t\\N\tclient first\n";
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn an_insert_that_was_begun_adds_only_what_is_missing() {
    let archive = open("tidings_begun").await;
    let entries = (1..=10).map(|seq| entry(conversation(1), seq, &text("once")));
    let records: Vec<_> =
        entries.map(|entry| wire::TimelineRecord { entries: vec![entry], ..Default::default() }).collect();
    let (some, all) = (timeline_batch(0, 0, &records[..4]), timeline_batch(0, 0, &records));
    archive.insert(some).await.unwrap();
    // As after a crash in mid-insert: the plan is there, and some of the rows.
    let plan = format!(
        "INSERT INTO source_positions (topic, partition, next_offset, planned_end, batch, version) \
         VALUES ('timeline.v1', 0, 0, 10, '{}', 1000)",
        all.id()
    );
    sql("tidings_begun", &plan);
    drop(archive);
    let archive = open("tidings_begun").await;
    let planned = archive.progress().await.unwrap().remove(0).planned.unwrap();
    assert_eq!((planned.end_offset, planned.batch), (10, all.id()));
    archive.insert(all).await.unwrap();
    assert_eq!(sql("tidings_begun", "SELECT count(), uniqExact(seq) FROM timeline_entries"), "10\t10\n");
    assert_eq!(sql("tidings_begun", "SHOW TABLES LIKE '%_again_%'"), "");
}

#[tokio::test]
async fn alone_the_old_parts_are_gone_within_seconds_and_settings_are_as_they_were() {
    let archive = open("tidings_alone").await;
    let entries = (1..=3).map(|seq| entry(conversation(1), seq, &text("to be erased")));
    let records: Vec<_> =
        entries.map(|entry| wire::TimelineRecord { entries: vec![entry], ..Default::default() }).collect();
    for (offset, record) in records.iter().enumerate() {
        archive.insert(timeline_batch(0, offset as u64, std::slice::from_ref(record))).await.unwrap();
    }
    let made = |table: &str| sql("tidings_alone", &format!("SHOW CREATE TABLE {table}"));
    let (before, sender) = (made("timeline_entries"), UserId::from(records[0].entries[0].sender_id.unwrap()));
    // By itself the engine's cleaning takes half a minute and more.
    let erased = tokio::time::timeout(Duration::from_secs(20), archive.erase_alone(&[sender])).await.unwrap().unwrap();
    assert_eq!(erased[0].rows, 3, "{erased:?}");
    let parts = "SELECT countIf(active) > 0, countIf(NOT active) FROM system.parts WHERE database = 'tidings_alone' \
                 AND table = 'timeline_entries'";
    assert_eq!(sql("tidings_alone", parts), "1\t0\n");
    assert_eq!(sql("tidings_alone", "SELECT count(), countIf(text = '') FROM timeline_entries"), "3\t3\n");
    assert_eq!(made("timeline_entries"), before);
    assert_eq!(archive.erase_alone(&[sender]).await.unwrap()[0].rows, 0);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let archive = open("tidings_newer").await;
    sql("tidings_newer", "INSERT INTO migrations (version, name, checksum) VALUES (1000, 'future', '')");
    let error = archive.migrate().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Schema(_)), "{error}");
    assert!(error.to_string().contains("1000"), "{error}");
}

#[tokio::test]
async fn another_retention_changes_the_tables() {
    let archive = open("tidings_retention").await;
    let definition =
        "SELECT create_table_query FROM system.tables WHERE database = 'tidings_retention' AND name = 'receipts'";
    assert!(sql("tidings_retention", definition).contains("toIntervalDay(365)"));
    drop(archive);
    let settings = ArchiveSettings { database: "tidings_retention".to_owned(), retention_days: 30 };
    let configuration = EngineConfiguration::in_folder(engine().folder());
    let archive = EmbeddedArchive::open(&configuration, settings).unwrap();
    archive.migrate().await.unwrap();
    assert!(sql("tidings_retention", definition).contains("toIntervalDay(30)"));
}

#[tokio::test]
async fn a_database_without_the_prefix_is_refused() {
    let configuration = EngineConfiguration::in_folder(engine().folder());
    let settings = ArchiveSettings { database: "elsewhere".to_owned(), ..ArchiveSettings::default() };
    let error = EmbeddedArchive::open(&configuration, settings).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("ACCESS_DENIED"), "{error}");
}

/// As after a merge that a full disk has cut off.
#[tokio::test]
async fn a_damaged_part_is_put_aside_and_those_it_was_merged_from_come_back() {
    let database = "tidings_damaged";
    let archive = open(database).await;
    let conversation = conversation(1);
    let records = |seqs: std::ops::RangeInclusive<u64>| -> Vec<_> {
        let entries = seqs.map(|seq| entry(conversation, seq, &text("kept")));
        entries.map(|entry| wire::TimelineRecord { entries: vec![entry], ..Default::default() }).collect()
    };
    for batch in 0..4 {
        let records = records(batch * 5 + 1..=batch * 5 + 5);
        archive.insert(timeline_batch(0, batch * 5, &records)).await.unwrap();
    }
    sql(database, "OPTIMIZE TABLE timeline_entries FINAL");
    let active =
        "SELECT path FROM system.parts WHERE database = currentDatabase() AND table = 'timeline_entries' AND active";
    let merged = sql(database, active);
    assert_eq!(merged.lines().count(), 1, "{merged}");
    let files = fs::read_dir(merged.trim()).unwrap().map(|file| file.unwrap().path());
    let marks =
        files.filter(|file| file.extension().is_some_and(|extension| extension.to_string_lossy().contains("mrk")));
    assert!(marks.map(|file| fs::write(file, b"").unwrap()).count() > 0);

    let all = || EntriesQuery { conversation, seqs: 1..=100, newest_first: false, limit: 100 };
    let refused = archive.entries(all()).await.unwrap_err();
    assert!(matches!(refused, ArchiveError::Refused(_)), "{refused}");
    assert_eq!(archive.entries(all()).await.unwrap().len(), 20);
    archive.insert(timeline_batch(0, 20, &records(21..=25))).await.unwrap();
    assert_eq!(archive.entries(all()).await.unwrap().len(), 25);
}

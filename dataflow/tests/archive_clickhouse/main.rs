//! The archive over HTTP, by the `clickhouse` crate, on the real engine in a process of its own: the port's conformance
//! suite, and what goes wrong between two processes. Servers are killed, answers are lost, two write the same.
//!
//! `TIDINGS_CRASH_ROUNDS` sets how often the server is killed (default 10), `TIDINGS_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says its seed")]

mod records;
mod server;

use std::{env, sync::Arc};

use prometheus_client::registry::Registry;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use records::{open_log, records};
use server::{BadLine, Server, archive};
use tidings_dataflow::archive::{
    Archive, ArchiveError, ClickHouseArchive, ClickHouseConfig, conformance,
    projection::{self, Owners},
};
use tidings_ingest::{Log, LogExt as _};
use tidings_schemas::topics::Topic;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

macro_rules! conforms {
    ($($check:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $check() {
            let server = Server::start();
            let archive = server.archive();
            archive.migrate().await.unwrap();
            conformance::$check(&archive).await;
        }
    )+};
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

fn seed() -> u64 {
    let seed = env::var("TIDINGS_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("TIDINGS_SEED={seed}");
    seed
}

fn start(log: &Arc<dyn Log>, archive: ClickHouseArchive, owners: Owners) -> projection::Handle {
    let partitions = projection::all_partitions(&**log);
    projection::start(partitions, owners, Arc::clone(log), Arc::new(archive), &mut Registry::default()).unwrap()
}

/// Appends the records of so many more events in both partitions.
async fn append(log: &dyn Log, next: &mut u64, count: u64) {
    let offsets = *next..*next + count;
    let all = offsets.flat_map(|offset| [0, 1].into_iter().flat_map(move |partition| records(partition, offset)));
    log.append(all.collect()).await.unwrap();
    *next += count;
}

/// That everything of so many events in two partitions is there, and seen once.
async fn assert_seen_once(server: &Server, events: u64) {
    let (entries, updates) = (2 * events, 6 * events);
    let count = "SELECT count(), uniqExact(conversation_id, seq), max(seq) FROM";
    let expected = format!("{entries}\t{entries}\t{events}\n");
    assert_eq!(server.sql(&format!("{count} timeline_entries")).await, expected);
    assert_eq!(server.sql(&format!("{count} messages")).await, expected);
    let count = "SELECT count(), uniqExact(recipient_id, offset), max(offset) FROM inbox_entries";
    assert_eq!(server.sql(count).await, format!("{updates}\t{updates}\t{events}\n"));
}

/// That each row is stored once, also before anything is merged.
async fn assert_stored_once(server: &Server, events: u64) {
    for (table, rows) in [("timeline_entries", 2 * events), ("inbox_entries", 6 * events)] {
        let count = format!("SELECT count() FROM {table} SETTINGS final = 0");
        assert_eq!(server.sql(&count).await, format!("{rows}\n"), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_mid_insert_has_every_row_once() {
    let mut random = StdRng::seed_from_u64(seed());
    let rounds = env::var("TIDINGS_CRASH_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let mut server = Server::start();
    let mut next = 0;
    let handle = start(&log, server.archive(), Owners::One);
    append(&*log, &mut next, 100).await;
    handle.caught_up().await;
    for _ in 0..rounds {
        append(&*log, &mut next, random.random_range(1..2_000)).await;
        // The insert begins about a second after that; the kill comes somewhere in it, or beside it.
        let delay = std::time::Duration::from_micros(random.random_range(950_000..1_150_000));
        tokio::time::sleep(delay).await;
        server.kill();
        server.run();
        if random.random_bool(0.3) {
            handle.caught_up().await;
        }
    }
    handle.caught_up().await;
    assert_seen_once(&server, next).await;
    assert_stored_once(&server, next).await;
    assert_eq!(server.sql("SHOW TABLES LIKE '%_again_%' SETTINGS final = 0").await.lines().count(), 0);
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_lost_leave_no_repeat_to_be_seen() {
    let seed = seed();
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let server = Server::start();
    let line = BadLine::to(server.address(), seed).await;
    let config = ClickHouseConfig { url: format!("http://{}", line.address), ..server.config() };
    let handle = start(&log, archive(&config), Owners::One);
    let mut next = 0;
    while next < 2_000 || line.cuts() < 10 {
        append(&*log, &mut next, 500).await;
        handle.caught_up().await;
    }
    assert_seen_once(&server, next).await;
    handle.shutdown().await;
}

/// One was taken for dead and was not: both insert what follows from the same records, in batches of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_write_the_same_partitions_leave_no_repeat_to_be_seen() {
    let mut random = StdRng::seed_from_u64(seed());
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let server = Server::start();
    let mut next = 0;
    append(&*log, &mut next, 300).await;
    let owners = [(); 2].map(|()| start(&log, server.archive(), Owners::Many));
    let watcher = server.archive();
    let mut reached = 0;
    for _ in 0..4 {
        append(&*log, &mut next, random.random_range(1..1_500)).await;
        for owner in &owners {
            owner.caught_up().await;
        }
        let progress = watcher.progress().await.unwrap();
        let least = progress.iter().map(|progress| progress.next_offset).min().unwrap();
        assert!(least >= reached, "the progress went back from {reached} to {least}");
        reached = least;
    }
    assert_eq!(reached, next);
    assert_seen_once(&server, next).await;
    // One that begins now knows where to go on, and that nothing is left to be done.
    let progress = server.archive().progress().await.unwrap();
    assert!(progress.iter().all(|progress| progress.next_offset == next && progress.planned.is_none()), "{progress:?}");
    for owner in owners {
        owner.shutdown().await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_is_caught_up_with() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let mut server = Server::start();
    let archive = server.archive();
    archive.migrate().await.unwrap();
    server.kill();
    let error = archive.progress().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Unavailable(_)), "{error}");
    // The projection starts while there is no server, and the log is its buffer.
    let mut next = 0;
    let handle = start(&log, archive, Owners::One);
    append(&*log, &mut next, 3_000).await;
    server.run();
    handle.caught_up().await;
    assert_seen_once(&server, next).await;
    assert_stored_once(&server, next).await;
    handle.shutdown().await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_never_shown() {
    let server = Server::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong-one").unwrap();
    let config = ClickHouseConfig { password_file: Some(file.path().to_owned()), ..server.config() };
    let none = ClickHouseConfig { username: None, password_file: None, ..server.config() };
    for config in [config, none] {
        let error = archive(&config).migrate().await.unwrap_err();
        assert!(matches!(error, ArchiveError::Refused(_)), "{error}");
        let text = format!("{error} {error:?} {config:?}");
        assert!(text.contains("AUTHENTICATION_FAILED") && !text.contains("wrong-one"), "{text}");
    }
}

/// What a server sends that fails when it has sent a part already, and what comes of a connection that breaks: never a
/// part of the rows for all of them.
#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let row = |bytes: &[u8]| format!("{:x}\r\n{}\r\n", bytes.len(), String::from_utf8_lossy(bytes));
    let exception = "Code: 241. DB::Exception: Memory limit exceeded: would use more. (MEMORY_LIMIT_EXCEEDED) (version 26.7.3.1 (official build))\n";
    let tagged = "\r\n__exception__\r\nabcdefghijklmnop\r\nCode: 395. DB::Exception: Value passed to 'throwIf'. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)\n90 abcdefghijklmnop\r\n__exception__\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n";
    let tag = "x-clickhouse-exception-tag: abcdefghijklmnop\r\n";
    let answers = [
        format!("{chunked}\r\n{}{}0\r\n\r\n", row(b"some rows"), row(exception.as_bytes())),
        format!("{chunked}{tag}\r\n{}{}", row(b"some rows"), row(tagged.as_bytes())),
        format!("{chunked}\r\n{}", row(b"some rows")),
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome rows".to_owned(),
        format!(
            "HTTP/1.1 200 OK\r\nx-clickhouse-exception-code: 241\r\ncontent-length: {}\r\n\r\n{exception}",
            exception.len()
        ),
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nrow".to_owned(),
        String::new(),
    ];
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = ClickHouseConfig {
            url: format!("http://{}", listener.local_addr().unwrap()),
            ..ClickHouseConfig::default()
        };
        let archive: ClickHouseArchive = archive(&config);
        let sent = answer.clone();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
        });
        let error = archive.inbox(tidings_schemas::ids::UserId(1), 0..=9, 10).await.map(|rows| rows.len()).unwrap_err();
        serving.await.unwrap();
        let expected = matches!(error, ArchiveError::Unavailable(_) | ArchiveError::Unreadable(_))
            || error.to_string().contains("Code: 395");
        assert!(expected, "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn next_source_offsets_of_another_s_inserts_are_known_once_asked_for() {
    let server = Server::start();
    let (writer, reader) = (server.archive(), server.archive());
    writer.migrate().await.unwrap();
    let entry = conformance::entry(conformance::conversation(1), 1, &conformance::text("said"));
    let record = tidings_schemas::wire::TimelineRecord { entries: vec![entry], ..Default::default() };
    writer.insert(conformance::timeline_batch(3, 0, &[record])).await.unwrap();
    assert_eq!(writer.next_source_offset(Topic::Timeline, 3), 1);
    assert_eq!(reader.next_source_offset(Topic::Timeline, 3), 0);
    reader.progress().await.unwrap();
    assert_eq!(reader.next_source_offset(Topic::Timeline, 3), 1);
}

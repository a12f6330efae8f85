//! The archive is killed in mid-insert, again and again on the same folder, and in the end holds every row exactly once:
//! in the views, and also in the tables themselves.
//!
//! `TIDINGS_CRASH_ROUNDS` sets how often (default 12).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and the child reports on its output")]

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tidings_dataflow::archive::{
    Archive as _, ArchiveSettings, Batch, EmbeddedArchive,
    conformance::{at_ms, conversation, entry, range, text},
    libchdb::{Connection, configuration::EngineConfiguration},
    rows::RowSet,
};
use tidings_schemas::{topics::Topic, wire};

const FOLDER: &str = "TIDINGS_TEST_ARCHIVE_FOLDER";
const SEED: &str = "TIDINGS_TEST_SEED";
/// Set for the last child, which looks at what is there: the offset that was acknowledged.
const ACKNOWLEDGED: &str = "TIDINGS_TEST_ACKNOWLEDGED";

#[test]
fn killed_at_any_moment_every_row_is_there_once() {
    if let Ok(folder) = env::var(FOLDER) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match env::var(ACKNOWLEDGED) {
            Ok(acknowledged) => return runtime.block_on(verify(&folder, acknowledged.parse().unwrap())),
            Err(_) => runtime.block_on(insert_for_ever(&folder, env::var(SEED).unwrap().parse().unwrap())),
        }
    }
    let rounds: u64 = env::var("TIDINGS_CRASH_ROUNDS").map_or(12, |rounds| rounds.parse().unwrap());
    let seed: u64 = env::var("TIDINGS_CRASH_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("TIDINGS_CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0_u64;
    let mut redone = 0;
    for round in 0..rounds {
        let mut child =
            child(folder.path()).env(SEED, (seed ^ round).to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The kill comes a random number of inserts and a random part of one after the first acknowledgement.
        let inserts = random.random_range(1..12);
        let mut seen = 0;
        for line in &mut lines {
            let line = line.unwrap();
            if line == "redo" {
                redone += 1;
            }
            let Some(end) = line.strip_prefix("acknowledged ") else { continue };
            acknowledged = acknowledged.max(end.parse().unwrap());
            seen += 1;
            if seen == inserts {
                break;
            }
        }
        assert!(seen > 0, "the child inserts");
        // Spin, not sleep: a few hundred microseconds are what matters.
        for _ in 0..random.random_range(0..3_000_000_u64) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(end) = line.strip_prefix("acknowledged ") {
                acknowledged = acknowledged.max(end.parse().unwrap());
            }
        }
    }

    println!("{redone} of {rounds} inserts were redone");
    let verified = child(folder.path()).env(ACKNOWLEDGED, acknowledged.to_string()).status().unwrap();
    assert!(verified.success(), "see above");
}

/// This very test, in a process of its own.
fn child(folder: &Path) -> Command {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "killed_at_any_moment_every_row_is_there_once", "--nocapture"]).env(FOLDER, folder);
    child
}

/// The last child: everything that was acknowledged is there, and everything that is there is there once.
async fn verify(folder: &str, acknowledged: u64) {
    let archive = open(folder);
    finish(&archive).await;
    let end = archive.progress().await.unwrap().iter().map(|progress| progress.next_offset).min().unwrap();
    println!("{end} records, {acknowledged} acknowledged");
    assert!(end >= acknowledged, "an acknowledged batch is lost: {end} < {acknowledged}");
    let mut session = Connection::open(archive.engine(), vec!["USE tidings".to_owned()]).unwrap();
    let mut ask = |sql: &str| {
        let answer = session.query(sql, "TSV", &[]).unwrap().bytes;
        String::from_utf8(answer).unwrap().trim().to_owned()
    };
    assert_eq!(ask("SELECT count() FROM messages"), end.to_string());
    let once = format!("{end}\t{end}\t1\t{end}");
    assert_eq!(ask("SELECT count(), uniqExact(seq), min(seq), max(seq) FROM timeline_entries"), once);
    assert_eq!(ask("SELECT count(), uniqExact(offset), min(offset), max(offset) FROM inbox_entries"), once);
}

fn open(folder: &str) -> EmbeddedArchive {
    EmbeddedArchive::open(&EngineConfiguration::in_folder(folder), ArchiveSettings::default()).unwrap()
}

/// The rows of records `first..end` of both topics: one entry and one update each, in two tables and two partitions by
/// time.
fn batch(first: u64, end: u64) -> Arc<Batch> {
    let mut rows = RowSet::default();
    for offset in first..end {
        let mut entry = entry(conversation(1), offset + 1, &text("once"));
        entry.sent_at_ms += i64::try_from(offset % 2).unwrap() * 40 * 86_400_000;
        let source = Some(wire::Source { partition: 0, offset });
        rows.push_timeline(&wire::TimelineRecord { source, entries: vec![entry], ..Default::default() });
        let item = wire::InboxItem { user_ids: vec![7; 16].into(), offsets: vec![offset + 1], reference: None };
        rows.push_inbox(&wire::InboxRecord { source, at_ms: at_ms(offset), items: vec![item], ..Default::default() });
    }
    let ranges = [Topic::Timeline, Topic::Inbox].map(|topic| range(topic, 0, first, end));
    Arc::new(Batch { ranges: ranges.to_vec(), rows: rows.take() })
}

/// Inserts again what was begun and not finished, and returns where to go on.
async fn finish(archive: &EmbeddedArchive) -> u64 {
    archive.migrate().await.unwrap();
    for progress in archive.progress().await.unwrap() {
        let Some(planned) = progress.planned else { continue };
        let batch = batch(progress.next_offset, planned.end_offset);
        assert_eq!(batch.id(), planned.batch);
        println!("redo");
        archive.insert(batch).await.unwrap();
        break;
    }
    archive.progress().await.unwrap().first().map_or(0, |progress| progress.next_offset)
}

/// The child: inserts batches of random sizes until it is killed.
async fn insert_for_ever(folder: &str, seed: u64) -> ! {
    let mut random = StdRng::seed_from_u64(seed);
    let archive = open(folder);
    let mut first = finish(&archive).await;
    loop {
        let end = first + random.random_range(1..400);
        archive.insert(batch(first, end)).await.unwrap();
        println!("acknowledged {end}");
        first = end;
    }
}

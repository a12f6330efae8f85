//! The archive, measured: rows inserted, history read, messages counted, and what the projection costs at the rate of
//! the busiest target (40,000 updates a second).
//!
//! `cargo bench -p tidings-dataflow --bench archive`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures time, prints, and may panic"
)]

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;
use prost::Message as _;
use tidings_dataflow::archive::{
    Archive, ArchiveSettings, Batch, EmbeddedArchive,
    libchdb::{Connection, configuration::EngineConfiguration},
    projection,
    rows::RowSet,
    store::{EntriesQuery, SourceOffsets, SourceRange},
};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, LogExt as _, NewRecord, embedded::config::PartitionCounts};
use tidings_schemas::{
    clock::{Entropy as _, SystemClock, SystemEntropy},
    ids::{ConversationId, MessageId, UserId, pack_user_ids},
    limits,
    topics::Topic,
    wire,
};

const CONVERSATIONS: u64 = 2_000;
const NOW_MS: i64 = 3_786_912_000_000;

fn main() {
    // The engine runs, and may merge, until the process ends: the folder is emptied by the next run.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("archive-bench");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let started = Instant::now();
        let archive =
            EmbeddedArchive::open(&EngineConfiguration::in_folder(folder.join("archive")), ArchiveSettings::default());
        let archive = Arc::new(archive.unwrap_or_else(|error| panic!("{error}")));
        archive.migrate().await.unwrap();
        println!("open and migrate            {:>10.0} ms", started.elapsed().as_secs_f64() * 1e3);
        println!("resident                    {:>10} MiB", status_kib("VmRSS:") / 1024);
        let end = inserts(archive.as_ref()).await;
        reads(archive.as_ref()).await;
        counts(&archive);
        println!("resident                    {:>10} MiB", status_kib("VmRSS:") / 1024);
        follow(archive, &folder, end).await;
        println!("resident                    {:>10} MiB", status_kib("VmRSS:") / 1024);
    });
}

/// A million entries in batches as large as they may be.
async fn inserts(archive: &dyn Archive) -> u64 {
    let batch = limits::ARCHIVE_BATCH_ROWS_MAX as u64;
    let (mut next, mut took, mut encoding) = (0, Duration::ZERO, Duration::ZERO);
    while next < 16 * batch {
        let encode = Instant::now();
        let mut rows = RowSet::default();
        for offset in next..next + batch {
            rows.push_timeline(&timeline(offset));
        }
        let range = SourceRange {
            topic: Topic::Timeline,
            partition: 0,
            first_offset: next,
            end_offset: next + batch,
            source: SourceOffsets { from: next, to: next + batch },
        };
        let batch_ = Arc::new(Batch { ranges: vec![range], rows: rows.take() });
        encoding += encode.elapsed();
        let insert = Instant::now();
        archive.insert(batch_).await.unwrap();
        took += insert.elapsed();
        next += batch;
    }
    println!("insert entries              {:>10.0} rows/s ({next} rows)", next as f64 / took.as_secs_f64());
    println!("make rows of entries        {:>10.0} rows/s", next as f64 / encoding.as_secs_f64());
    next
}

async fn reads(archive: &dyn Archive) {
    let mut times = Vec::new();
    for number in 0..400 {
        let query = EntriesQuery {
            conversation: conversation(number * 7 % CONVERSATIONS),
            seqs: 1..=400,
            newest_first: true,
            limit: 50,
        };
        let started = Instant::now();
        let found = archive.entries(query).await.unwrap();
        times.push(started.elapsed());
        assert_eq!(found.len(), 50);
    }
    times.sort();
    println!("read 50 entries             {:>10.1} ms p50, {:.1} ms p99", ms(times[200]), ms(times[396]));
}

fn counts(archive: &EmbeddedArchive) {
    let mut session = Connection::open(archive.engine(), vec!["USE tidings".to_owned()]).unwrap();
    let mut times = Vec::new();
    for _ in 0..11 {
        let started = Instant::now();
        session.query("SELECT count() FROM messages", "TSV", &[]).unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    println!("SELECT count() FROM messages{:>10.1} ms p50", ms(times[5]));
}

/// 400 messages a second in groups of 100, for 20 seconds, followed by the projection.
async fn follow(archive: Arc<EmbeddedArchive>, folder: &Path, end: u64) {
    let config = EmbeddedConfig {
        directory: folder.join("log"),
        partitions: Some(PartitionCounts { conversations: 1, recipients: 1, ..PartitionCounts::default() }),
        ..EmbeddedConfig::default()
    };
    let log = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    let log: Arc<dyn Log> = Arc::new(log);
    // The log must reach to where the archive already is; these records are not read again.
    for first in (0..end).step_by(8_192) {
        let empty =
            NewRecord { topic: Topic::Timeline, partition: 0, key: bytes::Bytes::new(), value: bytes::Bytes::new() };
        log.append(vec![empty; 8_192]).await.unwrap();
        assert!(first < end);
    }
    let mut registry = Registry::default();
    let handle = projection::start(
        projection::all_partitions(&*log),
        projection::Owners::One,
        Arc::clone(&log),
        archive,
        &mut registry,
    )
    .unwrap();
    let users: Vec<UserId> = (0..10_000).map(|_| UserId::random(SystemEntropy.next_u128())).collect();
    // The records are made before, so that only the projection is measured (and the log's append, which is small).
    let seconds = 20_u64;
    let made: Vec<Vec<NewRecord>> = (0..seconds * 10)
        .map(|tick| {
            (0..40)
                .flat_map(|number| {
                    let at = tick * 40 + number;
                    let members = users.iter().cycle().skip(usize::try_from(at % 100).unwrap() * 100).take(100);
                    let about = wire::EntryReference {
                        conversation_id: Some(conversation(at % 100).into()),
                        seq: at,
                        message_id: Some(MessageId::from_position(NOW_MS, 0, at).into()),
                    };
                    let item = wire::InboxItem {
                        user_ids: pack_user_ids(members.copied()),
                        offsets: vec![at + 1; 100],
                        reference: Some(wire::inbox_item::Reference::Entry(about)),
                    };
                    let source = Some(wire::Source { partition: 0, offset: at });
                    let inbox = wire::InboxRecord { source, at_ms: NOW_MS, items: vec![item], events_source: source };
                    let record = |topic, value: Vec<u8>| NewRecord {
                        topic,
                        partition: 0,
                        key: bytes::Bytes::new(),
                        value: value.into(),
                    };
                    [
                        record(Topic::Timeline, timeline(end + at).encode_to_vec()),
                        record(Topic::Inbox, inbox.encode_to_vec()),
                    ]
                })
                .collect()
        })
        .collect();
    // Each append, and when it can be asked for in SQL: an insert was acknowledged then.
    let handle = Arc::new(handle);
    let (appended, mut asked_for) = tokio::sync::mpsc::unbounded_channel::<(u64, Instant)>();
    let ages = tokio::spawn({
        let handle = Arc::clone(&handle);
        async move {
            let mut ages = Vec::new();
            while let Some((end, since)) = asked_for.recv().await {
                while handle.position(Topic::Inbox, 0) < end {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                ages.push(since.elapsed());
            }
            ages
        }
    });
    let (cpu, started) = (cpu_seconds(), Instant::now());
    for (tick, records) in (0_u32..).zip(made) {
        let since = Instant::now();
        let offsets = log.append(records).await.unwrap();
        appended.send((offsets.last().unwrap() + 1, since)).unwrap();
        let due = Duration::from_millis(100) * (tick + 1);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
    }
    let cores = (cpu_seconds() - cpu) / started.elapsed().as_secs_f64();
    let lag = handle.lag_records();
    handle.caught_up().await;
    drop(appended);
    let mut ages = ages.await.unwrap();
    ages.sort();
    println!(
        "follow 40,000 updates/s     {:>10.1} % of a core (with the log's append), {lag} records behind at the end",
        cores * 100.0
    );
    let at = |percent: usize| ms(ages[(ages.len() - 1) * percent / 100]);
    println!("append to SQL, meanwhile    {:>10.0} ms p50, {:.0} ms p99, {:.0} ms max", at(50), at(99), at(100));
    Arc::into_inner(handle).unwrap().shutdown().await;
}

fn timeline(offset: u64) -> wire::TimelineRecord {
    let (conversation, seq) = (conversation(offset % CONVERSATIONS), offset / CONVERSATIONS + 1);
    let sender = UserId(u128::from(offset % 997) << 64 | 5);
    let send = wire::Send {
        client_message_id: format!("0190163d-8694-739b-aea5-{offset:012x}"),
        text: format!("message {seq} of a conversation that goes on for long, as they do"),
        ..Default::default()
    };
    let event = wire::Event {
        conversation_id: Some(conversation.into()),
        actor_id: Some(sender.into()),
        stamped_at_ms: NOW_MS,
        body: Some(wire::event::Body::Send(send)),
        ..Default::default()
    };
    let at_ms = NOW_MS + i64::try_from(offset / 100).unwrap();
    let entry = wire::Entry {
        conversation_id: Some(conversation.into()),
        seq,
        message_id: Some(MessageId::from_position(at_ms, 0, offset).into()),
        sender_id: Some(sender.into()),
        sent_at_ms: at_ms,
        content: Some(wire::entry::Content::Event(event.encode_to_vec().into())),
    };
    wire::TimelineRecord {
        source: Some(wire::Source { partition: 0, offset }),
        at_ms,
        entries: vec![entry],
        ..Default::default()
    }
}

fn conversation(number: u64) -> ConversationId {
    ConversationId::direct(UserId(u128::from(number)), UserId(1 << 100))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn status_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

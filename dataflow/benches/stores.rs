//! The stores side by side, in one run: the views embedded and in Redis, the archive embedded and over HTTP.
//!
//! `cargo bench -p tidings-dataflow --bench stores -- [REDIS_HOST:PORT]`; without an address only what is embedded. Redis
//! is emptied (`FLUSHALL`): give it one of its own (`./ops/redis start 6399 DIR`).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures time, prints, and may panic"
)]

use std::{
    env, fs,
    net::SocketAddr,
    ops::Bound,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;
use tidings_dataflow::{
    archive::{
        Archive, ArchiveSettings, Batch, ClickHouseArchive, ClickHouseConfig, EmbeddedArchive,
        http::{HttpConfig, serve},
        libchdb::configuration::EngineConfiguration,
        rows::RowSet,
        store::{EntriesQuery, SourceOffsets, SourceRange},
    },
    views::{
        redis::{RedisConfig, RedisViews},
        store::{FjallViews, StoreConfig},
    },
};
use tidings_schemas::{
    ids::{ConversationId, UserId},
    topics::Topic,
    views::{Key, Move, Scan, Table, ViewStore, Write},
    wire,
};

const BATCHES: u64 = 200;
const BATCH_ROWS: u64 = 1_000;
const USERS: u64 = 500;
const READS: u64 = 3_000;
const ARCHIVE_BATCHES: u64 = 10;
const ARCHIVE_ROWS: u64 = 40_000;

fn user(number: u64) -> UserId {
    UserId(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number))
}

/// An update such as most are: of about 60 bytes.
fn update(offset: u64) -> Bytes {
    let about = wire::EntryReference {
        conversation_id: Some(ConversationId(u128::from(offset) << 64 | 7).into()),
        seq: offset,
        message_id: Some(tidings_schemas::ids::MessageId(u128::from(offset) << 64 | 9).into()),
    };
    let row = wire::InboxRow {
        at_ms: 1_700_000_000_000,
        events_source: Some(wire::Source { partition: 1, offset }),
        reference: Some(wire::inbox_row::Reference::Entry(about)),
    };
    row.encode_to_vec().into()
}

fn step(from: u64) -> Vec<Move> {
    vec![Move { topic: Topic::Inbox, partition: 0, from, to: from + 1 }]
}

fn tell(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("  {name:<34} p50 {:>8.0} us   p99 {:>8.0} us", at(0.5), at(0.99));
}

async fn timed<F: Future>(mut call: impl FnMut(u64) -> F) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..READS {
        let started = Instant::now();
        call(number).await;
        times.push(started.elapsed());
    }
    times
}

async fn views(name: &str, store: Arc<dyn ViewStore>) {
    println!("views, {name}");
    assert_eq!(store.position(Topic::Inbox, 0).await.unwrap(), 0);
    let started = Instant::now();
    for batch in 0..BATCHES {
        let rows = (0..BATCH_ROWS).map(|row| {
            let number = batch * BATCH_ROWS + row;
            Write::Put(Key::inbox(user(number % USERS), number / USERS + 1), update(number))
        });
        store.apply(rows.collect(), step(batch)).await.unwrap();
    }
    println!(
        "  rows applied, 1,000 in a batch     {:>12.0}/s",
        (BATCHES * BATCH_ROWS) as f64 / started.elapsed().as_secs_f64()
    );
    let rows_of_user = BATCHES * BATCH_ROWS / USERS;
    tell(
        "get, 1 row",
        timed(|n| {
            let store = &store;
            async move {
                let key = Key::inbox(user(n % USERS), n % rows_of_user + 1);
                assert!(store.get(&[key]).await.unwrap()[0].is_some());
            }
        })
        .await,
    );
    tell(
        "get, 50 rows of 50 owners",
        timed(|n| {
            let store = &store;
            async move {
                let keys: Vec<Key> =
                    (0..50).map(|of| Key::inbox(user((n + of) % USERS), n % rows_of_user + 1)).collect();
                assert!(store.get(&keys).await.unwrap().iter().all(Option::is_some));
            }
        })
        .await,
    );
    tell(
        "scan, newest 50 rows",
        timed(|n| {
            let store = &store;
            async move {
                let scan = Scan {
                    table: Table::Inbox,
                    owner: user(n % USERS).0,
                    from: Bound::Unbounded,
                    to: Bound::Unbounded,
                    reverse: true,
                    limit: 50,
                };
                assert_eq!(store.scan(scan).await.unwrap().len(), 50);
            }
        })
        .await,
    );
    tell(
        "wait_past, passed already",
        timed(|_| {
            let store = &store;
            async move {
                store.wait_past(Topic::Inbox, 0, 0, Duration::from_secs(5)).await.unwrap();
            }
        })
        .await,
    );
    // From the call that applies to the waiter's return: what a reconnect sees.
    let mut times = Vec::new();
    for batch in BATCHES..BATCHES + 1_000 {
        let waiting = {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store.wait_past(Topic::Inbox, 0, batch, Duration::from_secs(5)).await.unwrap();
                Instant::now()
            })
        };
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let started = Instant::now();
        store.apply(vec![Write::Put(Key::inbox(user(batch), 1 << 40), update(batch))], step(batch)).await.unwrap();
        times.push(waiting.await.unwrap().saturating_duration_since(started));
    }
    tell("wait_past, from apply to woken", times);
}

fn redis_memory(connection: &mut redis::Connection) -> u64 {
    let info: String = redis::cmd("INFO").arg("memory").query(connection).unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    used.trim().parse().unwrap()
}

async fn views_in_redis(address: &str) {
    let mut connection = redis::Client::open(format!("redis://{address}")).unwrap().get_connection().unwrap();
    for packed in ["512", "64"] {
        redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
        redis::cmd("CONFIG").arg(&["SET", "zset-max-listpack-value", packed]).exec(&mut connection).unwrap();
        let config = RedisConfig { address: address.to_owned(), ..RedisConfig::default() };
        let before = redis_memory(&mut connection);
        if packed == "512" {
            views("in Redis", Arc::new(RedisViews::new(&config, 1, 1).unwrap())).await;
            let rows = BATCHES * BATCH_ROWS + 1_000;
            let bytes = (redis_memory(&mut connection) - before) as f64 / rows as f64;
            println!(
                "  memory of an update, 400 a user    {bytes:>12.0} bytes ({} of them its own)",
                update(9).len() + 9
            );
            redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
        }
        let before = redis_memory(&mut connection);
        let store = RedisViews::new(&config, 1, 1).unwrap();
        store.position(Topic::Inbox, 0).await.unwrap();
        // Conversations of two: a row, two members, three entries.
        for batch in 0..20 {
            let writes = (0..1_000).flat_map(|n| {
                let id = ConversationId((batch * 1_000 + n) << 64 | 5);
                let row = |bytes: usize| Bytes::from(vec![b'x'; bytes]);
                let members = (0..2).map(move |m| Write::Put(Key::member(id, UserId(m)), row(45)));
                let entries = (1..4).map(move |seq| Write::Put(Key::entry(id, seq), row(250)));
                std::iter::once(Write::Put(Key::conversation(id), row(120))).chain(members).chain(entries)
            });
            store.apply(writes.collect(), step(u64::try_from(batch).unwrap())).await.unwrap();
        }
        let bytes = (redis_memory(&mut connection) - before) as f64 / 20_000.0;
        println!(
            "  memory of a chat of two with 3 messages, 960 bytes of rows, zset-max-listpack-value {packed}: {bytes:.0} bytes"
        );
    }
    redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
}

fn archive_batch(number: u64) -> Arc<Batch> {
    let mut rows = RowSet::default();
    let first = number * ARCHIVE_ROWS;
    for offset in first..first + ARCHIVE_ROWS {
        let event = wire::Event {
            body: Some(wire::event::Body::Send(wire::Send {
                text: format!("message {offset} of some length, as people write them"),
                ..Default::default()
            })),
            ..Default::default()
        };
        let entry = wire::Entry {
            conversation_id: Some(ConversationId(u128::from(offset % 2_000) << 64 | 3).into()),
            seq: offset / 2_000 + 1,
            sent_at_ms: 3_786_912_000_000 + i64::try_from(offset).unwrap(),
            content: Some(wire::entry::Content::Event(event.encode_to_vec().into())),
            ..Default::default()
        };
        let source = Some(wire::Source { partition: 0, offset });
        rows.push_timeline(&wire::TimelineRecord { source, entries: vec![entry], ..Default::default() });
    }
    let range = SourceRange {
        topic: Topic::Timeline,
        partition: 0,
        first_offset: first,
        end_offset: first + ARCHIVE_ROWS,
        source: SourceOffsets { from: first, to: first + ARCHIVE_ROWS },
    };
    Arc::new(Batch { ranges: vec![range], rows: rows.take() })
}

async fn archive(name: &str, archive: &dyn Archive) {
    archive.migrate().await.unwrap();
    let batches: Vec<_> = (0..ARCHIVE_BATCHES).map(archive_batch).collect();
    let started = Instant::now();
    for batch in &batches {
        archive.insert(Arc::clone(batch)).await.unwrap();
    }
    println!("archive, {name}");
    let rows = (ARCHIVE_BATCHES * ARCHIVE_ROWS) as f64;
    println!("  rows inserted, 40,000 in a batch   {:>12.0}/s", rows / started.elapsed().as_secs_f64());
    let mut times = Vec::new();
    for number in 0..200 {
        let conversation = ConversationId((number % 2_000) << 64 | 3);
        let query = EntriesQuery { conversation, seqs: 1..=u64::MAX, newest_first: true, limit: 50 };
        let started = Instant::now();
        assert_eq!(archive.entries(query).await.unwrap().len(), 50);
        times.push(started.elapsed());
    }
    tell("a page of 50 entries", times);
}

fn main() {
    let address = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let fjall = FjallViews::open(folder.path(), 1, &StoreConfig::default()).unwrap();
        views("embedded", Arc::new(fjall)).await;
        match &address {
            Some(address) => views_in_redis(address).await,
            None => println!("views in Redis: no address given"),
        }
        // The engine runs until the process ends: its folder is emptied by the next run.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stores-bench");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        let engine = EngineConfiguration::in_folder(&folder);
        let database = |name: &str| ArchiveSettings { database: name.to_owned(), ..ArchiveSettings::default() };
        let embedded = EmbeddedArchive::open(&engine, database("tidings")).unwrap_or_else(|error| panic!("{error}"));
        archive("embedded", &embedded).await;
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let port = serve(&HttpConfig { listen, writable: true, ..HttpConfig::default() }, &embedded).await.unwrap();
        let url = format!("http://{}", port.address());
        let config = ClickHouseConfig { url, database: "tidings_http".to_owned(), ..ClickHouseConfig::default() };
        archive("the same engine over HTTP", &ClickHouseArchive::new(&config, 365, 1).unwrap()).await;
        port.shutdown().await;
    });
}

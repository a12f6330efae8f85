//! The store of the views in Redis, on a real server: it passes the conformance suite, is bound to its log, is refused to
//! readers while it is not whole, and keeps whole batches through kills.
//!
//! They need `redis-server`: `./ops/test redis` installs it and runs them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says its seed")]

mod redis;

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use redis::{Durability, LOG, Redis};
use tidings_dataflow::views::{
    conformance::{self, Factory},
    redis::{RedisConfig, RedisViews},
};
use tidings_schemas::{
    ids::UserId,
    topics::Topic,
    views::{Key, Move, Position, Scan, Table, ViewError, ViewStore, Write},
};

/// One server for a check; each store in it is emptied before.
struct Server(Redis);

#[async_trait]
impl Factory for Server {
    async fn create(&self) -> Arc<dyn ViewStore> {
        self.0.command::<()>(&["FLUSHALL"]);
        self.reopen(Arc::new(self.0.views())).await
    }

    async fn reopen(&self, store: Arc<dyn ViewStore>) -> Arc<dyn ViewStore> {
        drop(store);
        let views = self.0.views();
        // As a projection begins.
        views.position(Topic::Timeline, 0).await.unwrap();
        Arc::new(views)
    }
}

macro_rules! conforms {
    ($($check:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs redis-server: ./ops/test redis"]
        async fn $check() {
            conformance::$check(&Server(Redis::start(Durability::None))).await;
        }
    )+};
}

conforms!(
    gets_what_was_put,
    applies_writes_in_order,
    keeps_owners_and_tables_apart,
    scans_between_bounds,
    takes_any_sort_bytes,
    keeps_values_of_any_size,
    deletes_below,
    keeps_positions,
    refuses_a_batch_from_elsewhere,
    lets_one_of_many_apply,
    shows_batches_whole,
    wakes_who_waits,
    reads_many,
);

fn step(from: u64, to: u64) -> Move {
    Move { topic: Topic::Inbox, partition: 0, from, to }
}

fn stands(next_offset: u64) -> Vec<Position> {
    vec![Position { topic: Topic::Inbox, partition: 0, next_offset }]
}

fn row() -> Key {
    Key::user(UserId(1))
}

async fn put_one(views: &RedisViews) {
    assert_eq!(views.position(Topic::Inbox, 0).await.unwrap(), 0);
    views.apply(vec![Write::Put(row(), Bytes::from_static(b"x"))], vec![step(0, 1)]).await.unwrap();
}

fn unavailable<T: std::fmt::Debug>(outcome: Result<T, ViewError>, words: &str) {
    match outcome {
        Err(ViewError::Unavailable(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn views_of_another_log_are_dropped_at_a_start_and_never_later() {
    let redis = Redis::start(Durability::None);
    let views = redis.views();
    put_one(&views).await;
    redis.command::<()>(&["SET", "somebody-else", "x"]);
    redis.command::<()>(&["SET", "tidings-other:user:{x}", "x"]);
    assert_eq!(redis.views().get(&[row()]).await.unwrap().len(), 1);

    let other = redis.views_of(LOG + 1);
    unavailable(other.for_readers(1).get(&[row()]).await, "two Tidings use one redis.prefix");
    assert_eq!(other.position(Topic::Inbox, 0).await.unwrap(), 0);
    assert_eq!(other.get(&[row()]).await.unwrap(), [None]);
    let mut left: Vec<String> = redis.command(&["KEYS", "*"]);
    left.sort();
    assert_eq!(left, ["somebody-else", "tidings-other:user:{x}", "tidings:views"]);

    // The first one goes on running: it does not take them back.
    let refused = views.apply(vec![Write::Put(row(), Bytes::from_static(b"y"))], vec![step(1, 2)]).await;
    unavailable(refused, "two Tidings use one redis.prefix");
    unavailable(views.confirm(stands(1), true).await, "two Tidings use one redis.prefix");
    assert_eq!(other.get(&[row()]).await.unwrap(), [None]);
    assert_eq!(other.position(Topic::Inbox, 0).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn many_that_begin_at_once_drop_what_was_there_and_nothing_else() {
    let redis = Redis::start(Durability::None);
    let other = redis.views_of(LOG + 1);
    assert_eq!(other.position(Topic::Inbox, 0).await.unwrap(), 0);
    for batch in 0..20_u64 {
        let rows = (0..500).map(|n| Write::Put(Key::user(UserId(u128::from(batch * 500 + n + 2))), Bytes::new()));
        other.apply(rows.collect(), vec![step(batch, batch + 1)]).await.unwrap();
    }
    let owners: Vec<_> = (0..4).map(|_| redis.views()).collect();
    let begins = owners.iter().cloned().map(|views| {
        tokio::spawn(async move {
            let position = views.position(Topic::Inbox, 0).await.unwrap();
            let write = vec![Write::Put(row(), Bytes::from_static(b"x"))];
            (position, views.apply(write, vec![step(0, 1)]).await.is_ok())
        })
    });
    let mut applied = 0;
    for begin in begins.collect::<Vec<_>>() {
        let (_, has_applied) = begin.await.unwrap();
        applied += usize::from(has_applied);
    }
    assert_eq!(applied, 1);
    let mut left: Vec<String> = redis.command(&["KEYS", "*"]);
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(owners[0].get(&[row()]).await.unwrap(), [Some(Bytes::from_static(b"x"))]);
}

#[tokio::test]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn readers_are_refused_what_is_not_whole() {
    let redis = Redis::start(Durability::None);
    let views = redis.views();
    let readers = redis.views().for_readers(2);
    let scan = || Scan {
        table: Table::Users,
        owner: 1,
        from: Bound::Unbounded,
        to: Bound::Unbounded,
        reverse: false,
        limit: 10,
    };
    unavailable(readers.get(&[row()]).await, "empty");
    put_one(&views).await;
    unavailable(readers.get(&[row()]).await, "0 of 2 partitions");
    views.confirm(stands(1), false).await.unwrap();
    unavailable(readers.scan(scan()).await, "0 of 2 partitions");
    // The same partition again and again is one partition, and that of a source is none.
    for _ in 0..3 {
        let source = Position { topic: Topic::Fanout, partition: 0, next_offset: 0 };
        views.confirm([stands(1), vec![source]].concat(), true).await.unwrap();
    }
    unavailable(readers.get(&[row()]).await, "1 of 2 partitions");
    let other = Position { topic: Topic::Timeline, partition: 0, next_offset: 0 };
    views.confirm(vec![other], true).await.unwrap();
    assert_eq!(readers.get(&[row()]).await.unwrap(), [Some(Bytes::from_static(b"x"))]);
    assert_eq!(readers.scan(scan()).await.unwrap().len(), 1);

    // Emptied at any moment: a partition in which nothing happens notices it, too, and nobody reads nothing for all.
    redis.command::<()>(&["FLUSHALL"]);
    unavailable(readers.get(&[row()]).await, "empty");
    unavailable(readers.wait_past(Topic::Inbox, 0, 0, Duration::from_millis(20)).await, "was not applied past");
    let lost = views.confirm(stands(1), true).await;
    assert!(matches!(lost, Err(ViewError::Overtaken { expected: 1, found: 0, .. })), "{lost:?}");
    unavailable(readers.get(&[row()]).await, "0 of 2 partitions");
    redis.command::<()>(&["FLUSHALL"]);
    let lost = views.apply(vec![Write::Put(row(), Bytes::from_static(b"y"))], vec![step(1, 2)]).await;
    assert!(matches!(lost, Err(ViewError::Overtaken { expected: 1, found: 0, .. })), "{lost:?}");
    put_one(&views).await;
    views.confirm([stands(1), vec![other]].concat(), true).await.unwrap();
    assert_eq!(readers.get(&[row()]).await.unwrap(), [Some(Bytes::from_static(b"x"))]);
}

/// One who waits is woken at once, also on a connection that was cut, and when the script cache is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn it_goes_on_after_its_connections_and_scripts_are_gone() {
    let redis = Redis::start(Durability::None);
    let (views, readers) = (redis.views(), redis.views());
    assert_eq!(views.position(Topic::Inbox, 0).await.unwrap(), 0);
    for round in 0..30 {
        let waiting = readers.wait_past(Topic::Inbox, 0, round, Duration::from_secs(60));
        let applying = async {
            match round % 3 {
                0 => redis.command::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]),
                1 => redis.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]),
                _ => redis.command::<()>(&["SCRIPT", "FLUSH"]),
            }
            // A batch whose answer was lost has been applied, or not: either is seen.
            loop {
                match views.apply(Vec::new(), vec![step(round, round + 1)]).await {
                    Ok(()) => break,
                    Err(ViewError::Overtaken { found, .. }) if found == round + 1 => break,
                    Err(ViewError::Unavailable(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let (waited, ()) = tokio::join!(waiting, applying);
        waited.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[tokio::test]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn a_redis_that_is_away_is_unavailable_and_comes_back() {
    let mut redis = Redis::start(Durability::EverySecond);
    let config = RedisConfig { timeout_ms: 300, ..redis.config() };
    let views = RedisViews::new(&config, LOG, 1).unwrap();
    put_one(&views).await;
    redis.command::<()>(&["BGREWRITEAOF"]);
    redis.kill();
    assert!(matches!(views.get(&[row()]).await, Err(ViewError::Unavailable(_))));
    let waited = views.wait_past(Topic::Inbox, 0, 0, Duration::from_millis(50)).await;
    assert!(matches!(waited, Err(ViewError::Unavailable(_))), "{waited:?}");
    assert!(matches!(views.apply(Vec::new(), vec![step(1, 2)]).await, Err(ViewError::Unavailable(_))));
    assert!(matches!(views.position(Topic::Inbox, 0).await, Err(ViewError::Unavailable(_))));
    redis.run();
    let position = loop {
        match views.position(Topic::Inbox, 0).await {
            Ok(position) => break position,
            Err(ViewError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let expected = if position == 1 { Some(Bytes::from_static(b"x")) } else { None };
    assert_eq!(views.get(&[row()]).await.unwrap(), [expected]);
}

#[tokio::test]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn a_redis_that_would_throw_rows_away_is_refused() {
    let redis = Redis::start(Durability::None);
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"]);
    unavailable(redis.views().position(Topic::Inbox, 0).await, "noeviction");
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    put_one(&redis.views()).await;
    // Full, it refuses a batch whole, and takes it again when there is room.
    let views = redis.views();
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let two = || vec![Write::Delete(row()), Write::Put(Key::user(UserId(2)), Bytes::from_static(b"y"))];
    unavailable(views.apply(two(), vec![step(1, 2)]).await, "OOM");
    assert_eq!(views.get(&[row()]).await.unwrap(), [Some(Bytes::from_static(b"x"))]);
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    views.apply(two(), vec![step(1, 2)]).await.unwrap();
}

#[tokio::test]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn a_wrong_password_is_said_and_never_shown() {
    let redis = Redis::start(Durability::None);
    redis.command::<()>(&["ACL", "SETUSER", "views", "on", ">right-one", "~tidings:*", "&tidings:*", "+@all"]);
    let open = |password: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), password).unwrap();
        let config = RedisConfig {
            username: Some("views".to_owned()),
            password_file: Some(file.path().to_owned()),
            ..redis.config()
        };
        (RedisViews::new(&config, LOG, 1).unwrap(), format!("{config:?}"))
    };
    let (views, shown) = open("right-one\n");
    put_one(&views).await;
    views.wait_past(Topic::Inbox, 0, 0, Duration::from_secs(5)).await.unwrap();
    let (views_shown, error) = {
        let (views, _) = open("wrong-one");
        (format!("{views:?}"), views.position(Topic::Inbox, 0).await.unwrap_err().to_string())
    };
    for text in [&shown, &views_shown, &error, &format!("{views:?}")] {
        assert!(!text.contains("right-one") && !text.contains("wrong-one"), "{text}");
    }
}

type Rows = BTreeMap<(u128, Vec<u8>), Vec<u8>>;

fn batch(number: u64) -> Vec<Write> {
    let mut random = StdRng::seed_from_u64(number);
    let writes = (0..random.random_range(1..60)).map(|_| {
        let owner = u128::from(random.random_range(0..5_u8));
        let key = |sort: u64| Key { table: Table::Inbox, owner, sort: Bytes::copy_from_slice(&sort.to_be_bytes()) };
        let sort = number.saturating_sub(random.random_range(0..30)) * 100 + random.random_range(0..20);
        match random.random_range(0..20) {
            0 => Write::DeleteBelow(key(sort)),
            1..3 => Write::Delete(key(sort)),
            _ => Write::Put(
                key(number * 100 + sort % 20),
                (0..random.random_range(0..200)).map(|_| random.random()).collect(),
            ),
        }
    });
    writes.collect()
}

fn model(batches: u64) -> Rows {
    let mut rows = Rows::new();
    for write in (0..batches).flat_map(batch) {
        match write {
            Write::Put(key, value) => drop(rows.insert((key.owner, key.sort.to_vec()), value.to_vec())),
            Write::Delete(key) => drop(rows.remove(&(key.owner, key.sort.to_vec()))),
            Write::DeleteBelow(key) => {
                rows.retain(|(owner, sort), _| *owner != key.owner || sort.as_slice() >= key.sort.as_ref());
            }
        }
    }
    rows
}

/// Killed with SIGKILL in mid-batch and started again with what it kept: rows and positions are always those of some whole
/// number of batches, and whoever applies goes on from there.
async fn killed_again_and_again(durability: Durability) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut redis = Redis::start(durability);
    let (mut most, mut went_back) = (0, 0);
    for round in 0..12 {
        let views = redis.views();
        let mut next = views.position(Topic::Inbox, 0).await.unwrap();
        let found: Rows = {
            let mut rows = Rows::new();
            for owner in 0..5 {
                let scan = Scan {
                    table: Table::Inbox,
                    owner,
                    from: Bound::Unbounded,
                    to: Bound::Unbounded,
                    reverse: false,
                    limit: 10_000,
                };
                let found = views.scan(scan).await.unwrap();
                rows.extend(found.into_iter().map(|(sort, value)| ((owner, sort.to_vec()), value.to_vec())));
            }
            rows
        };
        assert!(found == model(next), "seed {seed}, round {round}: at {next} there are {} rows", found.len());
        went_back += u64::from(next < most);
        let batches = random.random_range(20..200);
        for count in 0..batches {
            views.apply(batch(next), vec![step(next, next + 1)]).await.unwrap();
            next += 1;
            if durability == Durability::Snapshots && count == batches / 2 {
                redis.command::<()>(&["SAVE"]);
            }
        }
        most = next;
        // One is under way when it dies.
        let last = tokio::spawn(async move { views.apply(batch(next), vec![step(next, next + 1)]).await });
        for _ in 0..random.random_range(0..200) {
            tokio::task::yield_now().await;
        }
        redis.kill();
        // What became of that one is seen after the start.
        let _ = last.await.unwrap();
        redis.run();
    }
    if durability == Durability::Snapshots {
        assert!(went_back > 0, "nothing was ever lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn killed_with_an_append_only_file_it_keeps_whole_batches() {
    killed_again_and_again(Durability::EverySecond).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn killed_with_snapshots_it_goes_back_to_whole_batches() {
    killed_again_and_again(Durability::Snapshots).await;
}

/// The rows are where the documentation says, for those who look with `redis-cli`.
#[tokio::test]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn keys_are_named_as_documented() {
    let redis = Redis::start(Durability::None);
    put_one(&redis.views()).await;
    let mut keys: Vec<String> = redis.command(&["KEYS", "*"]);
    keys.sort();
    assert_eq!(keys, ["tidings:user:{00000000-0000-0000-0000-000000000001}", "tidings:views"]);
    let fields: BTreeMap<String, String> = redis.command(&["HGETALL", "tidings:views"]);
    assert_eq!(fields["inbox.v1/0"], "1");
}

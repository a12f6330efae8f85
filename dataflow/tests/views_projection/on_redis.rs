//! The projection on Redis, on a real server that is emptied, killed and put back while it is written: `./ops/test redis`.

use std::sync::Arc;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tidings_dataflow::views::projection::ProjectionConfig;
use tidings_ingest::LogExt as _;
use tidings_schemas::{
    ids::UserId,
    topics::Topic,
    views::{Key, ViewError, ViewStore},
};

use crate::{
    Bench, PARTITIONS, TOPICS,
    histories::Histories,
    overtaken::Overtaken,
    redis_server::{Durability, Redis},
    seeds,
};

const FAST: ProjectionConfig = ProjectionConfig { apply_interval_ms: 0, rows_cached_max: 1_024 };

/// What an edge is given.
fn readers(bench: &Bench, views: &tidings_dataflow::views::redis::RedisViews) -> Arc<dyn ViewStore> {
    Arc::new(views.for_readers(TOPICS.iter().map(|topic| bench.log.partitions(*topic)).sum()))
}

/// Waits until the views are whole, and compares them.
async fn check(bench: &Bench, readers: &dyn ViewStore, context: &str) {
    bench.wait_until_applied(readers).await;
    wait_until_whole(readers).await;
    bench.check(readers, context).await;
}

async fn wait_until_whole(readers: &dyn ViewStore) {
    loop {
        match readers.get(&[Key::user(UserId(0))]).await {
            Ok(_) => return,
            Err(ViewError::Unavailable(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn two_owners_of_the_same_partitions_write_what_one_would() {
    for seed in seeds(2) {
        println!("TIDINGS_SEED={seed}");
        let redis = Redis::start(Durability::None);
        let bench = Bench::new();
        let mut histories = Histories::new(StdRng::seed_from_u64(seed), PARTITIONS);
        let overtaken = Overtaken::default();
        // Each with connections of its own, as in two processes.
        let owners = [(); 2].map(|()| {
            let views = redis.views_of(bench.log.log_id());
            bench.start(Arc::new(overtaken.count(Arc::new(views))), &FAST)
        });
        let views = redis.views_of(bench.log.log_id());
        let readers = readers(&bench, &views);
        let mut rounds = 0;
        while rounds < 60 || overtaken.times() < 20 {
            rounds += 1;
            bench.log.append(histories.next(40)).await.unwrap();
            if rounds % 4 == 0 {
                bench.wait_until_applied(&*readers).await;
            }
        }
        check(&bench, &*readers, &format!("TIDINGS_SEED={seed}, {rounds} rounds")).await;
        for owner in owners {
            owner.shutdown().await;
        }
    }
}

/// Emptied at any moment, put back to an older snapshot, killed and started: the views come to be those of the model, and
/// no reader ever sees a part of them for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn emptied_and_put_back_at_any_moment_it_is_filled_again() {
    for seed in seeds(2) {
        println!("TIDINGS_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut redis = Redis::start(Durability::Snapshots);
        let bench = Bench::new();
        let mut histories = Histories::new(StdRng::seed_from_u64(seed ^ 1), PARTITIONS);
        let views = redis.views_of(bench.log.log_id());
        let readers = readers(&bench, &views);
        let handle = bench.start(Arc::new(views), &FAST);
        for round in 0..40 {
            for _ in 0..random.random_range(1..12) {
                bench.log.append(histories.next(40)).await.unwrap();
            }
            match random.random_range(0..8) {
                0 | 1 => redis.command::<()>(&["FLUSHALL"]),
                2 => {
                    redis.command::<()>(&["SAVE"]);
                }
                3 => {
                    // What was applied since the last snapshot is gone; since the beginning, when there is none.
                    redis.kill();
                    redis.run();
                }
                4 => redis.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]),
                _ => {}
            }
            // Whatever happened: when a read succeeds after the wait, it shows everything.
            if round % 4 == 3 {
                check(&bench, &*readers, &format!("TIDINGS_SEED={seed}, round {round}")).await;
            }
        }
        handle.shutdown().await;
    }
}

/// Nothing happens on the log, and the projection notices by itself that the views are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: ./ops/test redis"]
async fn an_idle_projection_notices_an_emptied_redis() {
    let redis = Redis::start(Durability::None);
    let bench = Bench::new();
    let mut histories = Histories::new(StdRng::seed_from_u64(3), PARTITIONS);
    for _ in 0..30 {
        bench.log.append(histories.next(40)).await.unwrap();
    }
    let views = redis.views_of(bench.log.log_id());
    let readers = readers(&bench, &views);
    let handle = bench.start(Arc::new(views), &ProjectionConfig::default());
    check(&bench, &*readers, "before").await;
    for _ in 0..2 {
        redis.command::<()>(&["FLUSHALL"]);
        assert!(readers.get(&[Key::user(UserId(0))]).await.is_err());
        assert!(readers.position(Topic::Timeline, 0).await.is_err());
        check(&bench, &*readers, "after").await;
    }
    handle.shutdown().await;
}

//! The views' projection against a plain model: random histories with repeats at the seams and records that are none,
//! cut into batches anyhow, stopped and started at any moment, with a store that loses what was not synced and one that
//! fails before or after it has applied a batch.
//!
//! `TIDINGS_SEED` runs one seed again.

#![allow(clippy::unwrap_used, reason = "a test")]

mod flaky;
mod histories;
#[path = "../conversations/history.rs"]
mod history;
mod model;
mod on_redis;
mod overtaken;
#[path = "../redis/mod.rs"]
mod redis_server;
mod rows;
mod stages;

use std::{collections::BTreeSet, env, fs, path::Path, sync::Arc, time::Duration};

use histories::Histories;
use model::Model;
use overtaken::Overtaken;
use prometheus_client::registry::Registry;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tidings_dataflow::{
    conversations::ConversationsConfig,
    views::{
        projection::{self, Handle, ProjectionConfig},
        store::{FjallViews, StoreConfig},
    },
};
use tidings_ingest::{
    Log, LogExt,
    embedded::{
        EmbeddedLog,
        config::{EmbeddedConfig, PartitionCounts},
    },
};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    limits::REVOKED_TOKENS_MAX,
    topics::{Partitions, Topic},
    views::ViewStore,
};
use tokio::time::timeout;

const TOPICS: [Topic; 3] = [Topic::Timeline, Topic::Inbox, Topic::Directory];
const PARTITIONS: Partitions = Partitions { conversations: 2, recipients: 2, edges: 4, directory: 1 };
const WAIT: Duration = Duration::from_secs(60);

fn config() -> ConversationsConfig {
    ConversationsConfig { group_members_max: 25, ..ConversationsConfig::default() }
}

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    folder: TempDir,
    log: Arc<dyn Log>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let Partitions { conversations, recipients, edges, directory } = PARTITIONS;
        let partitions = PartitionCounts { conversations, recipients, edges, directory };
        let config = EmbeddedConfig {
            directory: folder.path().join("log"),
            partitions: Some(partitions),
            ..EmbeddedConfig::default()
        };
        let log = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
        Self { folder, log: Arc::new(log) }
    }

    fn open_views(&self) -> FjallViews {
        // So small that rows leave memory, but with a journal of its own for what was not synced.
        let config = StoreConfig { memtable_bytes: 256 * 1024, ..StoreConfig::default() };
        FjallViews::open(&self.folder.path().join("views"), self.log.log_id(), &config).unwrap()
    }

    fn start(&self, views: Arc<dyn ViewStore>, config: &ProjectionConfig) -> Handle {
        let runtime = tokio::runtime::Handle::current();
        projection::start(
            config,
            projection::all_partitions(&*self.log),
            Arc::clone(&self.log),
            views,
            runtime,
            &mut Registry::default(),
        )
        .unwrap()
    }

    /// Every partition of the topics, with its end.
    fn ends(&self) -> Vec<(Topic, u32, u64)> {
        let all = TOPICS.iter().flat_map(|topic| (0..self.log.partitions(*topic)).map(|partition| (*topic, partition)));
        all.map(|(topic, partition)| (topic, partition, self.log.range(topic, partition).unwrap().end)).collect()
    }

    async fn wait_until_applied(&self, views: &dyn ViewStore) {
        for (topic, partition, end) in self.ends() {
            if end > 0 {
                views.wait_past(topic, partition, end - 1, WAIT).await.unwrap();
            }
        }
    }

    fn model(&self) -> Model {
        let mut model = Model::default();
        for (topic, partition, _) in self.ends() {
            let mut reader = self.log.reader(topic, partition, 0).unwrap();
            let mut records = Vec::new();
            while reader.poll(1 << 20, &mut records).unwrap() > 0 {}
            for record in &records {
                model.apply(topic, partition, record);
            }
        }
        model
    }

    async fn check(&self, views: &dyn ViewStore, context: &str) {
        self.wait_until_applied(views).await;
        let expected = self.model();
        let found = rows::read(views, &expected).await;
        rows::assert_same(&found, &expected, context);
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match env::var("TIDINGS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).map(|_| rand::random()).collect(),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_folder(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_in_any_batches_with_any_restarts_gives_the_model_s_rows() {
    let seeds = seeds(3);
    let (mut trimmed, mut revoked_max) = ((0, 0), 0);
    for seed in &seeds {
        println!("TIDINGS_SEED={seed}");
        let bench = Bench::new();
        let mut random = StdRng::seed_from_u64(*seed);
        let mut histories = Histories::new(StdRng::seed_from_u64(seed ^ 1), PARTITIONS);
        let folder = bench.folder.path().join("views");
        let saved = bench.folder.path().join("saved");
        let mut views = bench.open_views();
        let config = ProjectionConfig {
            apply_interval_ms: random.random_range(0..4),
            // So few that rows leave the cache and come back.
            rows_cached_max: *[2, 16, 4_096].get(random.random_range(0..3)).unwrap(),
        };
        let mut handle = Some(bench.start(Arc::new(views.clone()), &config));
        for _ in 0..500 {
            let records_max = if random.random_bool(0.1) { 200 } else { 20 };
            bench.log.append(histories.next(records_max)).await.unwrap();
            if random.random_bool(0.05) {
                handle.take().unwrap().shutdown().await;
                drop(views);
                // What a power cut takes away: everything since some moment, rows and positions.
                if saved.exists() && random.random_bool(0.5) {
                    fs::remove_dir_all(&folder).unwrap();
                    fs::rename(&saved, &folder).unwrap();
                } else if !saved.exists() {
                    copy_folder(&folder, &saved);
                }
                views = bench.open_views();
                handle = Some(bench.start(Arc::new(views.clone()), &config));
            }
        }
        bench.check(&views, &format!("TIDINGS_SEED={seed}")).await;
        handle.take().unwrap().shutdown().await;
        let model = bench.model();
        let revoked = model.users.values().map(|row| row.revoked_tokens.len()).max();
        revoked_max = revoked_max.max(revoked.unwrap_or(0));
        trimmed.0 += u32::from(model.entries.first_key_value().is_some_and(|((_, seq), _)| *seq > 1));
        trimmed.1 += u32::from(
            model.inbox.keys().any(|(user, offset)| *offset > 1 && !model.inbox.contains_key(&(*user, offset - 1))),
        );
    }
    assert!(seeds.len() == 1 || (trimmed.0 > 0 && trimmed.1 > 0), "no tail was trimmed: {trimmed:?}");
    assert!(seeds.len() == 1 || revoked_max >= REVOKED_TOKENS_MAX / 2, "too few tokens ended: {revoked_max}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_before_or_after_it_has_applied_loses_nothing() {
    for seed in seeds(2) {
        println!("TIDINGS_SEED={seed}");
        let bench = Bench::new();
        let mut histories = Histories::new(StdRng::seed_from_u64(seed), PARTITIONS);
        let views = Arc::new(bench.open_views());
        let flaky = Arc::new(flaky::Flaky::new(Arc::clone(&views) as _, StdRng::seed_from_u64(seed ^ 2)));
        let handle = bench.start(Arc::clone(&flaky) as Arc<dyn ViewStore>, &ProjectionConfig::default());
        let mut rounds = 0;
        while rounds < 120 || flaky.failures() < 5 {
            rounds += 1;
            bench.log.append(histories.next(20)).await.unwrap();
            // So that there are many batches, and not one.
            bench.wait_until_applied(&*views).await;
        }
        bench.check(&*views, &format!("TIDINGS_SEED={seed}")).await;
        handle.shutdown().await;
    }
}

/// Two projections on the same partitions, as when one was taken for dead and was not. Each finds again and again that
/// the other has applied what it was about to, and the views are those of one alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_of_the_same_partitions_write_what_one_would() {
    for seed in seeds(2) {
        println!("TIDINGS_SEED={seed}");
        let bench = Bench::new();
        let mut histories = Histories::new(StdRng::seed_from_u64(seed), PARTITIONS);
        let views = Arc::new(bench.open_views());
        let config = ProjectionConfig { apply_interval_ms: 0, ..ProjectionConfig::default() };
        let overtaken = Overtaken::default();
        let owners = [(); 2].map(|()| bench.start(Arc::new(overtaken.count(Arc::clone(&views) as _)), &config));
        let mut rounds = 0;
        while rounds < 100 || overtaken.times() < 20 {
            rounds += 1;
            bench.log.append(histories.next(40)).await.unwrap();
            // Now and then both have caught up, and begin at the same record.
            if rounds % 4 == 0 {
                bench.wait_until_applied(&*views).await;
            }
        }
        bench.check(&*views, &format!("TIDINGS_SEED={seed}, {rounds} rounds")).await;
        for owner in owners {
            owner.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_move_between_two_owners_are_written_as_by_one() {
    for seed in seeds(4) {
        println!("TIDINGS_SEED={seed}");
        let bench = Bench::new();
        let mut random = StdRng::seed_from_u64(seed);
        let mut histories = Histories::new(StdRng::seed_from_u64(seed), PARTITIONS);
        let views = Arc::new(bench.open_views());
        let owners = [0, 1].map(|_| bench.start(Arc::clone(&views) as _, &ProjectionConfig::default()));
        for round in 0..40 {
            bench.log.append(histories.next(30)).await.unwrap();
            let (ones, others): (Vec<_>, Vec<_>) =
                projection::all_partitions(&*bench.log).into_iter().partition(|_| random.random_bool(0.5));
            let [first, second] = owners.each_ref().map(|owner| owner.assignment());
            let given_up = first.own(BTreeSet::new());
            if round % 2 == 0 {
                // In order: nobody has them for a moment. Else both have some of them for a while.
                timeout(PATIENCE, given_up).await.unwrap();
            }
            timeout(PATIENCE, second.own(others.into_iter().collect())).await.unwrap();
            timeout(PATIENCE, first.own(ones.into_iter().collect())).await.unwrap();
        }
        bench.wait_until_applied(&*views).await;
        bench.check(&*views, &format!("TIDINGS_SEED={seed}")).await;
        for owner in owners {
            owner.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_views_are_rebuilt_the_same() {
    let seed = seeds(1)[0];
    println!("TIDINGS_SEED={seed}");
    let bench = Bench::new();
    let mut histories = Histories::new(StdRng::seed_from_u64(seed), PARTITIONS);
    let views = bench.open_views();
    let handle = bench.start(Arc::new(views.clone()), &ProjectionConfig::default());
    for _ in 0..100 {
        bench.log.append(histories.next(40)).await.unwrap();
    }
    bench.wait_until_applied(&views).await;
    let expected = bench.model();
    let before = rows::read(&views, &expected).await;
    let positions_before = positions(&bench, &views).await;
    handle.shutdown().await;
    drop(views);

    fs::remove_dir_all(bench.folder.path().join("views")).unwrap();
    let views = bench.open_views();
    assert_eq!(views.position(Topic::Timeline, 0).await.unwrap(), 0);
    let handle = bench.start(Arc::new(views.clone()), &ProjectionConfig::default());
    bench.wait_until_applied(&views).await;
    let after = rows::read(&views, &expected).await;
    rows::assert_same(&after, &before, &format!("TIDINGS_SEED={seed}, rebuilt"));
    rows::assert_same(&after, &expected, &format!("TIDINGS_SEED={seed}"));
    assert_eq!(positions(&bench, &views).await, positions_before);
    handle.shutdown().await;
}

async fn positions(bench: &Bench, views: &FjallViews) -> Vec<u64> {
    let mut positions = Vec::new();
    for (topic, partition, _) in bench.ends() {
        positions.push(views.position(topic, partition).await.unwrap());
    }
    for topic in [Topic::Events, Topic::Fanout] {
        for partition in 0..2 {
            positions.push(views.position(topic, partition).await.unwrap());
        }
    }
    positions
}

/// A record that arrives when nothing else does is applied at once, again and again: no wake-up is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_record_after_a_pause_is_applied() {
    let bench = Bench::new();
    let mut histories = Histories::new(StdRng::seed_from_u64(1), PARTITIONS);
    let views = bench.open_views();
    let handle = bench.start(Arc::new(views.clone()), &ProjectionConfig::default());
    for _ in 0..500 {
        bench.log.append(histories.next(1)).await.unwrap();
        bench.wait_until_applied(&views).await;
    }
    assert!(tokio::time::timeout(WAIT, handle.shutdown()).await.is_ok());
}

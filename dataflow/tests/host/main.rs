//! The host runs the stages on the embedded log: what it writes is what the models say, through failed appends, kills at
//! any moment, restarts from checkpoints, and checkpoints that are damaged.

#![allow(clippy::unwrap_used, reason = "a test")]

mod damage;
mod full_store;
#[path = "../conversations/history.rs"]
mod history;
mod ownership;
mod support;
mod taking_over;
mod unavailable;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use history::History;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use support::{
    FlakyLog, Killable, append_events, config as host_config, deduped, expected_streams, fanout_source, inbox_source,
    open_log, read_all, source, start, streams, timeline_source, wait_for_inbox, wait_for_timeline,
};
use tidings_dataflow::conversations::{ConversationsConfig, model::Model};
use tidings_ingest::{Log, NewRecord};
use tidings_schemas::{
    topics::{Partitions, Topic},
    wire,
};

const PARTITIONS: Partitions = Partitions { conversations: 2, recipients: 2, edges: 4, directory: 1 };

fn config() -> ConversationsConfig {
    ConversationsConfig { group_members_max: 25, ..Default::default() }
}

/// What the models say about everything in `events`.
async fn modelled(log: &dyn Log) -> Vec<Vec<NewRecord>> {
    let mut outputs = Vec::new();
    for partition in 0..PARTITIONS.conversations {
        let mut model = Model::new(PARTITIONS, partition, config().group_members_max);
        let events = read_all(log, Topic::Events, partition).await;
        outputs.push(events.iter().flat_map(|event| model.apply(event)).collect());
    }
    outputs
}

/// Waits until the host has taken in everything, and holds what it wrote against the models.
async fn assert_as_modelled(log: &dyn Log) {
    for partition in 0..PARTITIONS.conversations {
        wait_for_timeline(log, partition, log.range(Topic::Events, partition).unwrap().end).await;
    }
    let modelled = modelled(log).await;
    for partition in 0..PARTITIONS.conversations {
        let timeline = deduped(read_all(log, Topic::Timeline, partition).await, timeline_source);
        let expected = modelled[partition as usize].iter().filter(|record| record.topic == Topic::Timeline);
        assert!(timeline.iter().map(|record| &record.value).eq(expected.map(|record| &record.value)));
    }
    for partition in 0..PARTITIONS.recipients {
        assert_fanout_as_modelled(log, partition, modelled.iter().flatten()).await;
    }
    let mut expected = expected_streams(modelled.into_iter().flatten());
    let mut found = BTreeMap::new();
    for partition in 0..PARTITIONS.recipients {
        wait_for_inbox(log, partition).await;
        found.append(&mut streams(&deduped(read_all(log, Topic::Inbox, partition).await, inbox_source)));
    }
    // Between the partitions of `events` any order is right; within each only one.
    found.values_mut().chain(expected.values_mut()).for_each(|stream| stream.sort_by_key(|(partition, _)| *partition));
    assert_eq!(found, expected);
}

/// Holds one `fanout` partition against the models: between the partitions of `events` any order is right.
async fn assert_fanout_as_modelled(log: &dyn Log, partition: u32, modelled: impl Iterator<Item = &NewRecord>) {
    let by_source = |mut records: Vec<((u32, u64), bytes::Bytes)>| {
        records.sort_by_key(|(source, _)| *source);
        records
    };
    let found = deduped(read_all(log, Topic::Fanout, partition).await, fanout_source);
    let found = found.iter().map(|record| (fanout_source(record), record.value.clone())).collect();
    let is_here = |record: &&NewRecord| record.topic == Topic::Fanout && record.partition == partition;
    let source_of = |value: &bytes::Bytes| source(wire::FanoutRecord::decode(value.clone()).unwrap().source);
    let expected = modelled.filter(is_here).map(|record| (source_of(&record.value), record.value.clone())).collect();
    assert_eq!(by_source(found), by_source(expected), "fanout {partition}");
}

/// One lot of random events for each partition.
async fn append_lots(log: &dyn Log, histories: &mut [History], count: usize) {
    for (partition, history) in (0..).zip(histories) {
        append_events(log, partition, &history.take(count)).await;
    }
}

fn histories(seed: u64) -> Vec<History> {
    (0..u64::from(PARTITIONS.conversations)).map(|partition| History::new(seed * 100 + partition)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_host_writes_is_what_the_models_say() {
    for worker_threads in [1, 2, 3] {
        let folder = tempfile::tempdir().unwrap();
        let log = open_log(folder.path(), PARTITIONS);
        let mut histories = histories(worker_threads as u64);
        // Half is there before, half comes while it runs.
        append_lots(&*log, &mut histories, 500).await;
        let host = start(host_config(folder.path(), worker_threads, 20), Arc::clone(&log));
        for _ in 0..50 {
            append_lots(&*log, &mut histories, 10).await;
        }
        assert_as_modelled(&*log).await;
        host.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    // No checkpoint comes due, whose clock would hide a hang.
    let host = start(host_config(folder.path(), 1, 3_600_000), Arc::clone(&log));
    let mut history = History::new(5);
    // One event at a time, each awaited: a wake-up that is lost is a hang.
    let mut random = StdRng::seed_from_u64(5);
    for events in 1..=2_000 {
        append_events(&*log, 0, &history.take(1)).await;
        if random.random_bool(0.5) {
            wait_for_timeline(&*log, 0, events).await;
        }
    }
    wait_for_timeline(&*log, 0, 2_000).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_appends_are_tried_again_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    let host = start(host_config(folder.path(), 1, 20), Arc::new(Killable(FlakyLog::new(Arc::clone(&log), 7, true))));
    let mut histories = histories(7);
    for _ in 0..60 {
        append_lots(&*log, &mut histories, 15).await;
    }
    assert_as_modelled(&*log).await;
    host.shutdown().await;
    // Nothing passed what failed: no repeat, so nothing was dropped as one.
    let timeline = read_all(&*log, Topic::Timeline, 0).await;
    assert!(timeline.iter().map(timeline_source).is_sorted());
    assert_eq!(timeline.len(), 900);
}

/// Kills the host at random moments, starts it again, and at the end compares with what the models say.
async fn killed_again_and_again(seed: u64, folder: &Path) {
    let mut random = StdRng::seed_from_u64(seed);
    let log = open_log(folder, PARTITIONS);
    let mut histories = histories(seed);
    for _ in 0..random.random_range(4..12) {
        let flaky = FlakyLog::new(Arc::clone(&log), seed, random.random_bool(0.3));
        let interval_ms = random.random_range(1..30);
        let host =
            start(host_config(folder, random.random_range(1..=2), interval_ms), Arc::new(Killable(flaky.clone())));
        for _ in 0..random.random_range(0..20) {
            append_lots(&*log, &mut histories, random.random_range(0..20)).await;
            for _ in 0..random.random_range(0..50) {
                tokio::task::yield_now().await;
            }
        }
        if random.random_bool(0.7) {
            flaky.kill();
        }
        host.shutdown().await;
    }
    let host = start(host_config(folder, 1, 10), Arc::clone(&log));
    assert_as_modelled(&*log).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_killed_at_any_moment_goes_on_without_a_gap() {
    let rounds = std::env::var("TIDINGS_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for seed in 1..=rounds {
        println!("seed {seed}");
        let folder = tempfile::tempdir().unwrap();
        killed_again_and_again(seed, folder.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_reads_only_the_tail() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    let mut histories = histories(11);
    let host = start(host_config(folder.path(), 1, 10), Arc::clone(&log));
    append_lots(&*log, &mut histories, 300).await;
    assert_as_modelled(&*log).await;
    host.shutdown().await;
    let before = log.range(Topic::Timeline, 0).unwrap().end;
    let host = start(host_config(folder.path(), 1, 10), Arc::clone(&log));
    append_lots(&*log, &mut histories, 1).await;
    assert_as_modelled(&*log).await;
    host.shutdown().await;
    // The shutdown wrote a last checkpoint, so nothing was done twice.
    assert_eq!(log.range(Topic::Timeline, 0).unwrap().end, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_worker_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    let flaky = FlakyLog::new(Arc::clone(&log), 1, false);
    let mut host = start(host_config(folder.path(), 1, 10), Arc::new(Killable(Arc::clone(&flaky))));
    flaky.kill();
    append_lots(&*log, &mut histories(1), 1).await;
    let failure = tokio::time::timeout(Duration::from_secs(30), host.failure()).await.unwrap();
    assert!(failure.contains("killed on purpose"), "{failure}");
    host.shutdown().await;
}

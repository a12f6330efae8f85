//! Shards that come and go, and shards with two owners: nothing is lost, and after dropping repeats nothing is twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prometheus_client::registry::Registry;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings_dataflow::{
    host::{self, Handle},
    recipients::{RecipientsConfig, RecipientsShard},
    shard::{Intake, SavedState, Shard, ShardId},
};
use tidings_ingest::{Log, StoredRecord};
use tidings_schemas::topics::Topic;

use crate::{
    PARTITIONS, append_lots, assert_as_modelled, histories, host_config,
    support::{deduped, inbox_source, open_log, read_all, start, start_owning, timeline_source, until},
};

/// What one shard of the recipients stage, alone and without interruption, makes of a `fanout` partition.
fn inbox_of(partition: u32, fanout: Vec<StoredRecord>) -> Vec<bytes::Bytes> {
    timely::execute_directly(move |worker| {
        let config = RecipientsConfig::default();
        let state = SavedState::default();
        let mut shard = RecipientsShard::build(worker, partition, PARTITIONS.edges, &config, &state).unwrap();
        let mut out = Vec::new();
        let intake = vec![Intake { topic: Topic::Fanout, records: fanout }];
        shard.run(worker, intake, &mut out).unwrap();
        Box::new(shard).close(worker);
        out.into_iter().filter(|record| record.topic == Topic::Inbox).map(|record| record.value).collect()
    })
}

/// Holds the inbox, without repeats, against an owner that was alone, byte for byte; `timeline` and `fanout` against
/// the models.
async fn assert_as_of_one_owner(log: &dyn Log) {
    assert_as_modelled(log).await;
    for partition in 0..PARTITIONS.recipients {
        let inbox = deduped(read_all(log, Topic::Inbox, partition).await, inbox_source);
        let found: Vec<_> = inbox.into_iter().map(|record| record.value).collect();
        let fanout = read_all(log, Topic::Fanout, partition).await;
        assert!(found == inbox_of(partition, fanout), "inbox {partition} differs from that of one owner");
    }
}

/// How many records of a partition are repeats.
async fn repeats(log: &dyn Log) -> usize {
    let timeline = read_all(log, Topic::Timeline, 0).await;
    timeline.len() - deduped(timeline, timeline_source).len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_of_all_shards_do_no_harm() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let folder = tempfile::tempdir().unwrap();
        let log = open_log(folder.path(), PARTITIONS);
        let mut histories = histories(seed);
        // One folder of checkpoints, written by both all the time.
        let one = start(host_config(folder.path(), 1, 3), Arc::clone(&log));
        append_lots(&*log, &mut histories, 50).await;
        let other = start(host_config(folder.path(), 2, 3), Arc::clone(&log));
        for _ in 0..60 {
            append_lots(&*log, &mut histories, 10).await;
        }
        assert_as_of_one_owner(&*log).await;
        one.shutdown().await;
        for _ in 0..20 {
            append_lots(&*log, &mut histories, 10).await;
        }
        assert_as_of_one_owner(&*log).await;
        // Who comes now reads whatever checkpoint the two have left.
        other.shutdown().await;
        let third = start(host_config(folder.path(), 1, 3), Arc::clone(&log));
        append_lots(&*log, &mut histories, 20).await;
        assert_as_of_one_owner(&*log).await;
        third.shutdown().await;
        assert!(repeats(&*log).await > 0, "there never were two owners");
    }
}

/// Gives each shard to none, one or both of the hosts, and takes it away with or without a last word.
async fn deal(hosts: &[Handle; 2], all: &BTreeSet<ShardId>, random: &mut StdRng) {
    let mut dealt = [BTreeSet::new(), BTreeSet::new()];
    for shard in all {
        // Both seldom; none sometimes.
        match random.random_range(0..10) {
            0 => dealt.iter_mut().for_each(|owned| owned.extend([*shard])),
            1 => {}
            2..=5 => dealt[0].extend([*shard]),
            _ => dealt[1].extend([*shard]),
        }
    }
    for (host, owned) in hosts.iter().zip(&dealt) {
        let ownership = host.ownership();
        if random.random_bool(0.5) {
            let released = ownership.release(ownership.owned().difference(owned).copied().collect());
            if random.random_bool(0.7) {
                released.await;
            }
        }
        ownership.own(owned);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_moved_to_and_fro_lose_nothing_and_repeat_nothing() {
    for seed in 1..=5 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let log = open_log(folder.path(), PARTITIONS);
        let all = host::all_shards(&*log);
        let mut histories = histories(seed);
        let hosts = [1, 2].map(|threads| {
            let config = host_config(folder.path(), threads, 5);
            start_owning(config, &BTreeSet::new(), Arc::clone(&log), &mut Registry::default())
        });
        for _ in 0..40 {
            deal(&hosts, &all, &mut random).await;
            for _ in 0..random.random_range(0..4) {
                append_lots(&*log, &mut histories, random.random_range(0..15)).await;
            }
        }
        // In the end each shard has an owner.
        let (some, others) = all.iter().partition(|shard| shard.partition == 0);
        hosts[0].ownership().own(&some);
        hosts[1].ownership().own(&others);
        assert_as_of_one_owner(&*log).await;
        for host in hosts {
            host.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_released_in_order_goes_on_elsewhere_without_a_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    let all = host::all_shards(&*log);
    let mut histories = histories(31);
    // No checkpoint comes due: the one that counts is the last.
    let config = || host_config(folder.path(), 1, 3_600_000);
    let one = start(config(), Arc::clone(&log));
    let other = start_owning(config(), &BTreeSet::new(), Arc::clone(&log), &mut Registry::default());
    let mut hosts = [&one, &other];
    for round in 1..=6 {
        append_lots(&*log, &mut histories, 30).await;
        assert_as_modelled(&*log).await;
        let ownership = hosts[0].ownership();
        assert_eq!(ownership.owned(), all);
        ownership.release(all.clone()).await;
        assert!(ownership.owned().is_empty());
        hosts[1].ownership().own(&all);
        assert_eq!(log.range(Topic::Timeline, 0).unwrap().end, round * 30);
        hosts.reverse();
    }
    append_lots(&*log, &mut histories, 1).await;
    assert_as_modelled(&*log).await;
    assert_eq!(log.range(Topic::Timeline, 0).unwrap().end, 6 * 30 + 1);
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_taken_away_writes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    let mut histories = histories(32);
    let mut registry = Registry::default();
    let config = host_config(folder.path(), 1, 3_600_000);
    let host = start_owning(config, &host::all_shards(&*log), Arc::clone(&log), &mut registry);
    append_lots(&*log, &mut histories, 10).await;
    assert_as_modelled(&*log).await;
    host.ownership().own(&BTreeSet::new());
    until("no shard runs", || gauges(&registry, "tidings_dataflow_shards").values().all(|count| *count == 0)).await;
    append_lots(&*log, &mut histories, 10).await;
    // It was not even told: one that runs again has all to do.
    assert_eq!(log.range(Topic::Timeline, 0).unwrap().end, 10);
    host.ownership().own(&host::all_shards(&*log));
    assert_as_modelled(&*log).await;
    host.shutdown().await;
}

/// The values of a gauge, by what stands in its braces.
pub(crate) fn gauges(registry: &Registry, name: &str) -> BTreeMap<String, i64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    lines.map(|(labels, value)| (labels.to_owned(), value.parse().unwrap())).collect()
}

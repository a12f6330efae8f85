//! A log that cannot be read for a while: the shards wait and go on. One that is damaged: the host says so.

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tidings_dataflow::host;

use crate::{
    PARTITIONS, append_lots, assert_as_modelled, histories, host_config,
    ownership::gauges,
    support::{FlakyLog, Killable, Unreadable, open_log, start, start_owning, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_reached_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    let mut histories = histories(41);
    append_lots(&*log, &mut histories, 20).await;
    // The second time there are checkpoints.
    for _ in 0..2 {
        let flaky = FlakyLog::new(Arc::clone(&log), 1, false);
        flaky.set_unreadable(Unreadable::Partitions);
        let host = start(host_config(folder.path(), 1, 10), Arc::new(Killable(Arc::clone(&flaky))));
        // Four shards, each at least twice.
        flaky.refused(9).await;
        flaky.set_unreadable(Unreadable::Nothing);
        assert_as_modelled(&*log).await;
        append_lots(&*log, &mut histories, 20).await;
        assert_as_modelled(&*log).await;
        host.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_are_read_later_and_counted_as_lag() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    let flaky = FlakyLog::new(Arc::clone(&log), 1, false);
    let mut registry = Registry::default();
    let all = host::all_shards(&*log);
    let killable = Arc::new(Killable(Arc::clone(&flaky)));
    let host = start_owning(host_config(folder.path(), 2, 3_600_000), &all, killable, &mut registry);
    let mut histories = histories(42);
    append_lots(&*log, &mut histories, 20).await;
    assert_as_modelled(&*log).await;
    flaky.set_unreadable(Unreadable::Records);
    append_lots(&*log, &mut histories, 7).await;
    let lag = || gauges(&registry, "tidings_dataflow_offset_lag")["stage=\"conversations\""];
    until("the lag shows", || lag() == 14).await;
    flaky.refused(2).await;
    flaky.set_unreadable(Unreadable::Nothing);
    assert_as_modelled(&*log).await;
    until("the lag is gone", || lag() == 0).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_ends_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path(), PARTITIONS);
    let flaky = FlakyLog::new(Arc::clone(&log), 1, false);
    let mut host = start(host_config(folder.path(), 1, 10), Arc::new(Killable(Arc::clone(&flaky))));
    flaky.set_unreadable(Unreadable::Damaged);
    append_lots(&*log, &mut histories(43), 1).await;
    let failure = tokio::time::timeout(Duration::from_secs(30), host.failure()).await.unwrap();
    assert!(failure.contains("damaged on purpose"), "{failure}");
    host.shutdown().await;
}

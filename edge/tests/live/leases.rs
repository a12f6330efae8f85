//! The numbers of edges, leased on the log.

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tidings_edge::{Config, leases::EdgeLease};
use tidings_ingest::{
    Log,
    embedded::{
        EmbeddedLog,
        config::{EmbeddedConfig, PartitionCounts},
    },
};
use tidings_schemas::clock::{Clock, SystemClock, SystemEntropy};
use tokio::time::timeout;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A log with room for so many edges.
fn log(folder: &Path, edges: u32) -> Arc<dyn Log> {
    let config = EmbeddedConfig {
        directory: folder.join("log"),
        partitions: Some(PartitionCounts { edges, ..PartitionCounts::default() }),
        ..EmbeddedConfig::default()
    };
    Arc::new(EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap())
}

async fn acquire(log: &Arc<dyn Log>, lease_duration_ms: u32, lease_renew_interval_ms: u32) -> EdgeLease {
    let config = Config { lease_duration_ms, lease_renew_interval_ms, ..Config::default() };
    let clock = Arc::new(SystemClock::new());
    let acquired = EdgeLease::acquire(Arc::clone(log), &config, clock.clone(), &SystemEntropy);
    timeout(PATIENCE, acquired).await.unwrap().unwrap()
}

#[tokio::test]
async fn edges_that_start_together_get_numbers_of_their_own() {
    let folder = TempDir::new().unwrap();
    let log = log(folder.path(), 8);
    let all = futures_util::future::join_all((0..8).map(|_| acquire(&log, 10_000, 3_000))).await;
    let mut numbers: Vec<u32> = all.iter().map(|lease| lease.identity().edge_id).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_number_that_is_given_back_is_free_at_once_and_its_next_run_is_later() {
    let folder = TempDir::new().unwrap();
    let log = log(folder.path(), 1);
    // Far longer than the test waits.
    let first = acquire(&log, 3_600_000, 3_000).await;
    let before = first.identity();
    first.release().await;
    let after = acquire(&log, 3_600_000, 3_000).await.identity();
    assert_eq!(after.edge_id, before.edge_id);
    assert!(after.run > before.run, "{after:?} {before:?}");
}

#[tokio::test]
async fn an_edge_whose_lease_has_run_out_says_so() {
    let folder = TempDir::new().unwrap();
    let log = log(folder.path(), 2);
    let kept = acquire(&log, 60_000, 1_000).await;
    let silent = acquire(&log, 1, 3_600_000).await;
    let is_unwell = silent.probe();
    let noticed = async {
        while is_unwell().is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, noticed).await.expect("it does not notice");
    assert_eq!(kept.probe()(), None);
}

#[tokio::test]
async fn an_edge_that_was_away_for_too_long_learns_that_its_number_is_anothers() {
    let folder = TempDir::new().unwrap();
    let log = log(folder.path(), 1);
    // It gives no sign of life after its claim.
    let mut first = acquire(&log, 1, 3_600_000).await;
    let second = acquire(&log, 10_000, 3_000).await;
    timeout(PATIENCE, first.lost()).await.unwrap();
    assert!(second.identity().run > first.identity().run);
    // Giving back what is lost takes nothing from the other.
    first.release().await;
    let third = acquire_within(&log, Duration::from_millis(300)).await;
    assert!(third.is_none(), "{:?}", third.map(|lease| lease.identity()));
}

#[tokio::test]
async fn a_lease_that_is_renewed_outlives_its_duration() {
    let folder = TempDir::new().unwrap();
    let log = log(folder.path(), 1);
    let clock = Arc::new(SystemClock::new());
    let mut held = acquire(&log, 500, 20).await;
    let started = clock.monotonic();
    assert!(acquire_within(&log, Duration::from_millis(1_500)).await.is_none());
    assert!(clock.monotonic() - started >= Duration::from_millis(1_500));
    assert!(timeout(Duration::ZERO, held.lost()).await.is_err());
}

/// A lease, if there is one to be had in that time.
async fn acquire_within(log: &Arc<dyn Log>, within: Duration) -> Option<EdgeLease> {
    let clock = Arc::new(SystemClock::new());
    let config = Config::default();
    let acquired = EdgeLease::acquire(Arc::clone(log), &config, clock.clone(), &SystemEntropy);
    timeout(within, acquired).await.ok().map(Result::unwrap)
}

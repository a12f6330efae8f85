//! The embedded store of the views on a real, small file system that is full: it takes no batch, can still be read, and
//! goes on by itself when there is room, with every batch that it took. Skipped where no file system can be mounted.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod views_batches;

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tidings_dataflow::views::store::{FjallViews, StoreConfig};
use tidings_schemas::{
    topics::Topic,
    views::{Position, ViewError, ViewStore},
};
use tokio::time::timeout;

use views_batches::{Model, TOPIC, apply, check, rows};

const LOG: u128 = 5;
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Small, so that it is now the journal and now a table that meets the full disk.
const SMALL: StoreConfig = StoreConfig { cache_bytes: 1024 * 1024, memtable_bytes: 64 * 1024 };

/// A small disk of the test's own.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: a tmpfs cannot be mounted here (needs root)");
        None
    }

    fn open(&self, config: &StoreConfig) -> FjallViews {
        FjallViews::open(&self.views(), LOG, config).unwrap()
    }

    fn views(&self) -> PathBuf {
        self.0.path().join("views")
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Takes all the space, but for so many bytes.
    fn fill(&self, but: u64) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let error = loop {
            if let Err(error) = ballast.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(but)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Applies batches until the store refuses one.
async fn apply_until_refused(store: &FjallViews) -> ViewError {
    for number in store.position(TOPIC, 1).await.unwrap()..20_000 {
        if let Err(error) = apply(store, number).await {
            return error;
        }
    }
    panic!("32 MiB hold no such amount");
}

/// Tries to apply the next batch until the store takes it.
async fn apply_when_open(store: &FjallViews) {
    let taken = async {
        loop {
            match apply(store, store.position(TOPIC, 1).await.unwrap()).await {
                Ok(()) => break,
                Err(ViewError::Unavailable(_) | ViewError::Overtaken { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(PATIENCE, taken).await.expect("the store takes batches again once there is room");
}

/// Waits until there are so many threads of fjall's. (A thread begins without its name.)
async fn workers_become(count: usize) {
    let become_so = async {
        while workers() != count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, become_so).await.unwrap_or_else(|_| panic!("{} threads of fjall's, not {count}", workers()));
}

/// Threads of fjall's in this process.
fn workers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "fjall:worker").count()
}

/// Files below a folder that this process has open.
fn open_files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir("/proc/self/fd").unwrap();
    files.filter_map(|file| fs::read_link(file.unwrap().path()).ok()).filter(|file| file.starts_with(folder)).collect()
}

/// One test for both: they look at what the process as a whole has open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_views_until_there_is_room() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for config in [StoreConfig::default(), SMALL] {
        it_goes_on_with_every_batch(&config, &mut random).await;
    }
    damaged_meanwhile_it_keeps_readers_away_until_it_is_filled().await;
}

async fn it_goes_on_with_every_batch(config: &StoreConfig, random: &mut StdRng) {
    let Some(disk) = Disk::mount() else { return };
    let (mut model, mut modelled) = (Model::new(), 0);
    let store = disk.open(config);
    for round in 0..ROUNDS {
        let context = format!("round {round} with {config:?}");
        for _ in 0..20 {
            apply_when_open(&store).await;
        }
        disk.fill(random.random_range(0..200_000));
        let error = apply_until_refused(&store).await;
        assert!(matches!(error, ViewError::Unavailable(_)), "{context}: {error}");
        let position = check(&store, &mut model, &mut modelled, &context).await;
        assert!(matches!(apply(&store, position).await, Err(ViewError::Unavailable(_))), "{context}: the disk is full");
        disk.free();
        apply_when_open(&store).await;
        assert!(check(&store, &mut model, &mut modelled, &context).await > position, "{context}");
    }
    // Those of the store that is open; none of those that were closed.
    workers_become(2).await;
    drop(store);
    workers_become(0).await;
    assert_eq!(open_files(&disk.views()), Vec::<PathBuf>::new());
    check(&disk.open(config), &mut model, &mut modelled, "opened at last").await;
}

async fn damaged_meanwhile_it_keeps_readers_away_until_it_is_filled() {
    let Some(disk) = Disk::mount() else { return };
    let store = disk.open(&SMALL);
    let readers = store.for_readers();
    for number in 0..20 {
        apply(&store, number).await.unwrap();
    }
    disk.fill(0);
    apply_until_refused(&store).await;
    let before = rows(&readers).await;
    assert!(!before.is_empty());
    fs::write(disk.views().join("rows").join("version"), b"none").unwrap();
    disk.free();
    apply_when_open(&store).await;
    assert_eq!(store.position(TOPIC, 1).await.unwrap(), 1, "it begins anew");
    let key = tidings_schemas::views::Key::user(tidings_schemas::ids::UserId(1));
    let refused = readers.get(std::slice::from_ref(&key)).await.unwrap_err();
    assert!(refused.to_string().contains("filled again from the log"), "{refused}");
    let positions = [TOPIC, Topic::Events].map(|topic| Position { topic, partition: 1, next_offset: 1 });
    store.confirm(positions.to_vec(), false).await.unwrap();
    assert!(readers.get(std::slice::from_ref(&key)).await.is_err(), "not all is applied");
    store.confirm(positions.to_vec(), true).await.unwrap();
    assert_eq!(readers.get(&[key]).await.unwrap(), [None]);
}

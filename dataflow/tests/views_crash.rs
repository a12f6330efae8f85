//! The embedded store of the views is killed with SIGKILL in mid-batch, again and again on the same folder, and its
//! journal is torn at any byte: rows and positions are always those of some whole number of batches, and after a kill
//! of those at least that were acknowledged.
//!
//! `TIDINGS_CRASH_ROUNDS` sets the number of kills.

#![allow(clippy::unwrap_used, reason = "a test")]

mod views_batches;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings_dataflow::views::store::{FjallViews, StoreConfig};
use tidings_schemas::views::ViewStore;

use views_batches::{Model, TOPIC, apply, check};

const CHILD_FOLDER: &str = "TIDINGS_VIEWS_CRASH_FOLDER";
const LOG: u128 = 99;
const ROUNDS_DEFAULT: u64 = 40;

/// Small, so that kills hit the writing and merging of tables.
const SMALL: StoreConfig = StoreConfig { cache_bytes: 1024 * 1024, memtable_bytes: 128 * 1024 };

/// Not a test of its own: what the killed process does.
#[tokio::test]
async fn child() {
    let Ok(folder) = env::var(CHILD_FOLDER) else { return };
    let store = FjallViews::open(Path::new(&folder), LOG, &SMALL).unwrap();
    let mut output = std::io::stdout().lock();
    for number in store.position(TOPIC, 1).await.unwrap().. {
        apply(&store, number).await.unwrap();
        writeln!(output, "applied {number}").unwrap();
        output.flush().unwrap();
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_keeps_every_acknowledged_batch_whole() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let rounds = env::var("TIDINGS_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS_DEFAULT);
    let folder = tempfile::tempdir().unwrap();
    let (mut model, mut modelled) = (Model::new(), 0);
    for round in 0..rounds {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = None;
        let batches = random.random_range(0..60);
        let mut note = |line: String| {
            if let Some(number) = line.rsplit_once("applied ").and_then(|(_, number)| number.parse::<u64>().ok()) {
                acknowledged = Some(number);
            }
        };
        // The child runs ahead of the reading, so the kill falls anywhere in a batch.
        lines.by_ref().take(batches).for_each(|line| note(line.unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(note);

        let store = FjallViews::open(folder.path(), LOG, &SMALL).unwrap();
        let position = check(&store, &mut model, &mut modelled, &format!("seed {seed}, round {round}")).await;
        let least = acknowledged.map_or(0, |number| number + 1);
        assert!(
            position >= least,
            "seed {seed}, round {round}: {least} batches were acknowledged, {position} are there"
        );
    }
    assert!(modelled > rounds, "only {modelled} batches in {rounds} rounds: the child did not run");
}

#[tokio::test]
async fn a_journal_torn_at_any_byte_gives_back_whole_batches() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let whole = tempfile::tempdir().unwrap();
    let batches = 30;
    {
        let store = FjallViews::open(whole.path(), LOG, &StoreConfig::default()).unwrap();
        for number in 0..batches {
            apply(&store, number).await.unwrap();
        }
    }
    let journal = "rows/0.jnl";
    let bytes = fs::read(whole.path().join(journal)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let (mut model, mut modelled) = (Model::new(), 0);
    let mut shortest = batches;
    for _ in 0..25 {
        let cut = random.random_range(end / 2..=end);
        let torn = tempfile::tempdir().unwrap();
        copy_folder(whole.path(), torn.path());
        fs::write(torn.path().join(journal), &bytes[..cut]).unwrap();
        let store = FjallViews::open(torn.path(), LOG, &StoreConfig::default()).unwrap();
        let position = check(&store, &mut model, &mut modelled, &format!("seed {seed}, cut at {cut} of {end}")).await;
        assert!(position > 0, "seed {seed}: nothing is left after a cut at {cut} of {end}");
        shortest = shortest.min(position);
    }
    assert!(shortest < batches);
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

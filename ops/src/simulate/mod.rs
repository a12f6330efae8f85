//! `tidings simulate`: the whole in one thread on a virtual clock, through everything that goes wrong, again and again
//! from seeds. The code is the production's: edges from the WebSocket's bytes on, both stages and their host, checkpoints,
//! the views' projection. What is simulated is what lies between them, and the clients.
//!
//! - [`history`]: one history from its beginning to its verdict; [`properties`]: what must hold at its end.
//! - [`faults`]: what goes wrong. [`world`]: the nodes. [`device`]: the clients.
//! - [`gate`], [`node_log`], [`node_stores`], [`pipe`]: what stands between the nodes, and breaks.
//! - [`clock`], [`random`], [`trace`]: time, chance, and what happened.

mod clock;
mod device;
mod faults;
mod gate;
mod history;
mod node_log;
mod node_stores;
mod pipe;
mod properties;
mod random;
mod trace;
mod world;

use std::{
    io::Write as _,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tidings_schemas::clock::{Entropy, SystemEntropy};

pub use faults::Fault;
use history::{Outcome, Settings};

/// A history takes a second or two; one that takes this long on a busy machine is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// What to simulate, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulateArgs {
    /// The first seed; histories have this and the following. Left out: a random one, which is printed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many histories.
    #[arg(long, default_value_t = 1_000)]
    pub histories: u64,
    /// Stop after so many seconds, even if not all histories are done.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Messages that are sent in each history.
    #[arg(long, default_value_t = 40)]
    pub steps: u64,
    /// What may go wrong; all of it if left out.
    #[arg(long, value_delimiter = ',', value_name = "FAULT,...")]
    pub faults: Vec<Fault>,
    /// Histories at a time, each on a thread of its own. 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Go on after a failure, up to this many.
    #[arg(long, default_value_t = 1)]
    pub failures: u64,
    /// Run each history twice, and compare what happened.
    #[arg(long)]
    pub twice: bool,
    /// Print what happens in each history, and what the nodes log: for one seed.
    #[arg(long)]
    pub trace: bool,
}

/// Simulates; fails if a history does, and says with which seed.
pub fn run(args: &SimulateArgs) -> Result<()> {
    let first = args.seed.unwrap_or_else(|| SystemEntropy.next_u64() >> 24);
    if args.trace {
        let level = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
        tracing_subscriber::fmt().with_env_filter(level).without_time().with_writer(std::io::stderr).init();
    }
    history::catch_panics();
    let keys = Folder::new()?;
    let simulation = Simulation {
        args,
        first,
        keys: keys.path(),
        next: AtomicU64::new(0),
        totals: Mutex::default(),
        running: Mutex::default(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if args.threads == 0 { cores } else { args.threads };
    say(&format!("seeds from {first}"));
    let started = now();
    std::thread::scope(|scope| {
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        let watched = &simulation;
        scope.spawn(move || watched.watch(&wait));
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| simulation.work(started))).collect();
        let mut result = Ok(());
        for thread in running {
            let worked = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a history's thread panicked")));
            result = result.and(worked);
        }
        drop(ended);
        result
    })?;
    simulation.report(started.elapsed())
}

/// A line of the answer. Who has seen enough (`| head`) may close it.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[allow(clippy::disallowed_methods, reason = "measures how quick the simulation is; decides nothing in it")]
fn now() -> Instant {
    Instant::now()
}

/// The folder with the keys that all edges of all histories share.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let name = format!("tidings-simulate-{}-{:x}", std::process::id(), SystemEntropy.next_u64());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(folder.join("keys")).with_context(|| format!("cannot make {}", folder.display()))?;
        // The same in every run, as everything else.
        let clock = tidings_schemas::clock::SystemClock::new();
        let entropy = random::SeededEntropy::new(random::Random::new(1));
        tidings_edge::auth::keys::SigningKeys::open(&folder.join("keys/tokens.json"), &clock, &entropy)
            .context("cannot make the tokens' keys")?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind, it harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Simulation<'a> {
    args: &'a SimulateArgs,
    first: u64,
    keys: &'a Path,
    next: AtomicU64,
    totals: Mutex<Totals>,
    /// The seeds that are being run, and since when.
    running: Mutex<Vec<(u64, Instant)>>,
}

#[derive(Default)]
struct Totals {
    histories: u64,
    messages: u64,
    records: u64,
    lasted: Duration,
    failed: Vec<u64>,
}

impl Simulation<'_> {
    fn settings(&self, seed: u64, keep_trace: bool) -> Settings {
        let faults =
            if self.args.faults.is_empty() { Fault::value_variants().to_vec() } else { self.args.faults.clone() };
        Settings { seed, steps: self.args.steps, faults, keep_trace }
    }

    /// One history after the other, until there are no more.
    fn work(&self, started: Instant) -> Result<()> {
        let seconds = self.args.seconds.map(Duration::from_secs);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let is_late = seconds.is_some_and(|seconds| started.elapsed() >= seconds);
            if number >= self.args.histories || is_late || self.has_failed_enough() {
                return Ok(());
            }
            let seed = self.first.wrapping_add(number);
            let outcome = self.simulate(&self.settings(seed, self.args.trace))?;
            if self.args.twice {
                let again = self.simulate(&self.settings(seed, false))?;
                if again.hash != outcome.hash {
                    bail!("seed {seed}: two runs differ ({:016x} and {:016x})", outcome.hash, again.hash);
                }
            }
            self.take(seed, outcome)?;
        }
    }

    fn simulate(&self, settings: &Settings) -> Result<Outcome> {
        let running = || self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running().push((settings.seed, now()));
        let outcome = history::run(settings, self.keys).context("cannot start a history");
        running().retain(|(seed, _)| *seed != settings.seed);
        outcome
    }

    /// A history whose time stands still, because somebody goes round and round, ends the program: its thread cannot be
    /// stopped.
    fn watch(&self, ended: &std::sync::mpsc::Receiver<()>) {
        while ended.recv_timeout(Duration::from_secs(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((seed, _)) = running.iter().find(|(_, since)| since.elapsed() > STUCK_AFTER) {
                eprintln!("error: seed {seed} is stuck: it has run for {STUCK_AFTER:?}");
                std::process::exit(1);
            }
        }
    }

    fn has_failed_enough(&self) -> bool {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).failed.len() as u64 >= self.args.failures
    }

    fn take(&self, seed: u64, outcome: Outcome) -> Result<()> {
        let has_failed = !outcome.verdict.findings.is_empty();
        if self.args.trace {
            outcome.trace.iter().for_each(|line| say(line));
        } else if has_failed {
            self.show(seed)?;
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.histories += 1;
        totals.messages += outcome.verdict.messages as u64;
        totals.records += outcome.records;
        totals.lasted += outcome.lasted;
        if has_failed {
            totals.failed.push(seed);
        }
        Ok(())
    }

    /// Runs a failed history again and tells it: it is the same again.
    fn show(&self, seed: u64) -> Result<()> {
        let outcome = self.simulate(&self.settings(seed, true))?;
        // Not among the lines of another thread's.
        let _totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        say(&format!("\nseed {seed} fails. What happened:"));
        outcome.trace.iter().for_each(|line| say(line));
        Ok(())
    }

    fn report(&self, took: Duration) -> Result<()> {
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let Totals { histories, messages, records, lasted, failed } = &*totals;
        let minutes = took.as_secs_f64() / 60.0;
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = *histories as f64 / minutes;
        say(&format!(
            "{histories} histories in {:.1} s ({rate:.0} a minute): {messages} messages, {records} records, {:.1} h of virtual time",
            took.as_secs_f64(),
            lasted.as_secs_f64() / 3_600.0
        ));
        if failed.is_empty() {
            say("nothing lost, nothing repeated, nothing out of order");
            return Ok(());
        }
        let seeds: Vec<String> = failed.iter().map(u64::to_string).collect();
        bail!(
            "failed: {} (see one again: tidings simulate --seed {} --histories 1 --trace)",
            seeds.join(", "),
            seeds[0]
        )
    }
}

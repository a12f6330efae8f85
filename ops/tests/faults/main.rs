//! The fault run: a fleet of real processes on real Kafka, Redis and ClickHouse's engine; load from clients that know
//! nothing of it; one fault in the middle; and then what every client saw is held against the contract.
//!
//! Run it with `./ops/faults` (`--help` says how). The exit status is 0 only if everything held.
//!
//! - [`fleet`]: the processes. [`faults`]: what is done to them. [`run`]: load, fault, check. [`report`]: the table.
//! - [`machine`]: what can be done here. [`network`], [`disk`]: what is between processes and below them, to be broken.

#![allow(clippy::print_stdout, reason = "a program of its own")]

mod disk;
mod faults;
mod fleet;
mod machine;
mod network;
mod process;
mod report;
mod run;

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::{Result, bail};
use clap::Parser;
use rand::{SeedableRng, rngs::StdRng};

use faults::{FAULTS, Fault};
use fleet::{Fleet, Setup};
use machine::Machine;

/// Breaks a fleet on purpose and checks that nothing is lost, repeated or reordered.
#[derive(Debug, Parser)]
struct Args {
    /// Only these faults (`--list`); may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Names all faults.
    #[arg(long)]
    list: bool,
    /// Every fault, several times, with more load.
    #[arg(long)]
    long: bool,
    /// What the moments of the faults follow from. Left out: the time.
    #[arg(long)]
    seed: Option<u64>,
    /// The program.
    #[arg(long, value_name = "FILE", env = "TIDINGS_BIN", default_value = "target/release/tidings")]
    program: PathBuf,
    /// Messages may take so many times longer: for a machine that is busy with something else.
    #[arg(long, value_name = "FACTOR", default_value_t = 1)]
    patience: u32,
    /// The first of the ports that are used.
    #[arg(long, default_value_t = 19_600)]
    port: u16,
    /// Keeps the logs of all processes, and the records of the clients.
    #[arg(long)]
    keep: bool,
}

#[allow(clippy::disallowed_methods, reason = "a seed that is printed")]
fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs())
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        FAULTS.iter().for_each(|fault| println!("{:<26} {}", fault.name, fault.what));
        return ExitCode::SUCCESS;
    }
    // The scripts and the program are named from the checkout's root.
    if let Err(error) = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")) {
        eprintln!("error: there is no checkout: {error}");
        return ExitCode::FAILURE;
    }
    match all(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            // The scripts of the services say 77 when one cannot be had here.
            if error.downcast_ref::<process::NotToBeHad>().is_some() { ExitCode::from(77) } else { ExitCode::FAILURE }
        }
    }
}

fn all(args: &Args) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(seed_of_now);
    let unknown: Vec<_> = args.only.iter().filter(|name| FAULTS.iter().all(|fault| fault.name != **name)).collect();
    if !unknown.is_empty() {
        bail!("there is no fault {unknown:?} (hint: --list)");
    }
    let chosen: Vec<&'static Fault> = FAULTS
        .iter()
        .filter(|fault| {
            if args.only.is_empty() { args.long || fault.is_short } else { args.only.contains(&fault.name.to_owned()) }
        })
        .collect();
    println!("seed {seed}: {} faults", chosen.len());
    let machine = Machine::new(seed);
    let lacks = |fault: &&Fault| fault.needs.and_then(|need| machine.lacks(need));
    let skipped: Vec<_> = chosen.iter().filter_map(|fault| Some((*fault, lacks(fault)?))).collect();
    let chosen: Vec<_> = chosen.iter().copied().filter(|fault| lacks(fault).is_none()).collect();
    skipped.iter().for_each(|(fault, reason)| println!("SKIPPED {}: {reason}", fault.name));
    let mut random = StdRng::seed_from_u64(seed);
    let rounds = if args.long { 3 } else { 1 };
    let mut outcomes = Vec::new();
    for setup in [Setup::OneBroker, Setup::ThreeBrokers, Setup::Alone] {
        let here: Vec<_> = chosen.iter().filter(|fault| fault.setup == setup).collect();
        if here.is_empty() {
            continue;
        }
        let mut fleet = Fleet::start(args, setup, &machine)?;
        for _ in 0..rounds {
            for fault in &here {
                let mut outcome = run::fault(&mut fleet, fault, args, &mut random);
                if outcome.as_ref().is_err_and(|error| error.is::<run::TooLate>()) {
                    // The machine may have been busy with something else: what is late twice is late.
                    println!("again   {}", report::line(fault, &outcome));
                    outcome = run::fault(&mut fleet, fault, args, &mut random);
                }
                println!("{}", report::line(fault, &outcome));
                let is_broken = outcome.as_ref().is_err_and(|error| !error.is::<run::TooLate>());
                outcomes.push((***fault, outcome));
                if is_broken {
                    // What is left of the fleet says nothing about the next fault.
                    fleet.keep();
                    drop(fleet);
                    fleet = Fleet::start(args, setup, &machine)?;
                }
            }
        }
        if args.keep {
            fleet.keep();
        }
    }
    report::table(seed, &outcomes, &skipped);
    // Where everything is to be had, nothing may be missing.
    let may_skip = std::env::var("CI").as_deref() != Ok("true");
    Ok(outcomes.iter().all(|(_, outcome)| outcome.is_ok()) && (skipped.is_empty() || may_skip))
}

//! The simulation itself: a seed is a history, and a few seeds hold.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use tidings_ops::simulate::{self, Fault, SimulateArgs};

fn args(seed: u64, histories: u64) -> SimulateArgs {
    SimulateArgs {
        seed: Some(seed),
        histories,
        seconds: None,
        steps: 20,
        faults: Vec::new(),
        threads: 1,
        failures: 1,
        twice: false,
        trace: false,
    }
}

/// Two runs of one seed have the same records at the same moments, and their clients see the same.
#[test]
fn a_seed_is_a_history() {
    simulate::run(&SimulateArgs { twice: true, ..args(1, 4) }).unwrap();
}

#[test]
fn nothing_goes_wrong_where_nothing_fails() {
    let faults = vec![Fault::Moves];
    simulate::run(&SimulateArgs { faults, ..args(50, 2) }).unwrap();
}

/// Seeds that once found a defect.
#[test]
fn what_was_found_stays_found() {
    for seed in [1075, 1143, 1262, 2342] {
        simulate::run(&SimulateArgs { steps: 40, ..args(seed, 1) }).unwrap();
    }
}

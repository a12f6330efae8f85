//! The table.

use anyhow::Result;

use crate::{faults::Fault, run::Outcome};

/// One fault's line.
pub(crate) fn line(fault: &Fault, outcome: &Result<Outcome>) -> String {
    let within = fault.resumes_within.as_secs_f64();
    match outcome {
        Ok(Outcome { sent, reconnects, longest }) => format!(
            "held    {:<26} {sent:>6} sent, all there once and in order; {reconnects:>4} reconnects; longest delivery {:>5.2} s (at most {within} s)",
            fault.name,
            longest.as_secs_f64(),
        ),
        Err(error) => format!("BROKEN  {:<26} {error:#}", fault.name),
    }
}

/// All of them, as in docs/FAULTS.md.
pub(crate) fn table(seed: u64, outcomes: &[(Fault, Result<Outcome>)], skipped: &[(&Fault, &str)]) {
    println!("\n| fault | what | messages | reconnects | longest delivery | at most | |");
    println!("|---|---|---|---|---|---|---|");
    for (fault, outcome) in outcomes {
        let within = fault.resumes_within.as_secs();
        match outcome {
            Ok(Outcome { sent, reconnects, longest }) => println!(
                "| {} | {} | {sent} | {reconnects} | {:.2} s | {within} s | held |",
                fault.name,
                fault.what,
                longest.as_secs_f64()
            ),
            Err(_) => println!("| {} | {} | | | | {within} s | **broken** |", fault.name, fault.what),
        }
    }
    for (fault, reason) in skipped {
        println!("| {} | {} | | | | | **skipped**: {reason} |", fault.name, fault.what);
    }
    let broken = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count();
    println!("\nseed {seed}: {} held, {broken} broken, {} skipped", outcomes.len() - broken, skipped.len());
}

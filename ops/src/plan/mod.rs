//! `tidings plan`: what it takes to run a service of a given size, computed from how the program works and what it was
//! measured to do. docs/CAPACITY.md explains the formulas and holds the tables that this prints.
//!
//! - [`inputs`]: the service. [`capacity`]: what one of each does. [`records`]: how large records are.
//! - [`model`]: the formulas. [`table`]: how a plan is shown.

pub mod capacity;
pub mod inputs;
pub mod model;
pub mod records;
pub mod table;

use anyhow::{Context, Result};
use clap::{ArgMatches, FromArgMatches, parser::ValueSource};

use self::{
    capacity::Capacity,
    inputs::{Inputs, Preset},
    model::Plan,
};
use crate::print;

/// What to plan, from the command line.
#[derive(Debug, Clone, clap::Args)]
struct Options {
    /// A service of this size; without it and without --dau, all three.
    #[arg(long, value_name = "SIZE", conflicts_with = "dau")]
    preset: Option<Preset>,
    /// As JSON: an array of plans, rates in units a second, sizes in bytes.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    capacity: Capacity,
}

/// What to plan, and whether its size was named.
#[derive(Debug, Clone)]
pub struct PlanArgs {
    options: Options,
    has_dau: bool,
}

impl clap::Args for PlanArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        Options::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Options::augment_args_for_update(command)
    }
}

impl FromArgMatches for PlanArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let has_dau = matches.value_source("dau") == Some(ValueSource::CommandLine);
        Ok(Self { options: Options::from_arg_matches(matches)?, has_dau })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Prints the plans.
pub fn run(args: &PlanArgs) -> Result<()> {
    let PlanArgs { options, has_dau } = args;
    let plans = plans(&options.inputs, &options.capacity, options.preset, *has_dau)?;
    let text = if options.json {
        let plans: Vec<&Plan> = plans.iter().map(|(_, plan)| plan).collect();
        serde_json::to_string_pretty(&plans).context("cannot encode the plan")? + "\n"
    } else {
        table::text(&plans)
    };
    print::text(format_args!("{text}"));
    Ok(())
}

/// The plans that are asked for, each under its heading.
///
/// # Errors
/// An input makes no service.
pub fn plans(
    inputs: &Inputs,
    capacity: &Capacity,
    preset: Option<Preset>,
    has_dau: bool,
) -> Result<Vec<(String, Plan)>> {
    inputs.check()?;
    capacity.check()?;
    if has_dau {
        return Ok(vec![(table::short(inputs.dau), model::plan(inputs, capacity))]);
    }
    let presets = preset.map_or(Preset::ALL.to_vec(), |preset| vec![preset]);
    let of = |preset: Preset| {
        let inputs = Inputs { dau: preset.dau(), ..*inputs };
        (preset.name().to_owned(), model::plan(&inputs, capacity))
    };
    Ok(presets.into_iter().map(of).collect())
}

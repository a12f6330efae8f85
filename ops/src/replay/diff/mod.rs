//! `tidings replay diff`: the same history under other rules, and what would come out differently.
//!
//! - [`other`]: another build of the program as one side. [`show`]: how it is written.

mod other;
mod show;

use std::{path::PathBuf, sync::Arc, thread};

use tidings_dataflow::host::HostConfig;
use tidings_ingest::Log;
use tidings_replay::{
    diff::{Comparison, Derivation, DiffError, Report, Side},
    state::{AsOf, Moment},
};
use tidings_schemas::topics::Topic;

use super::{
    exit::{Code, Failure, Outcome, WithCode},
    progress,
    ranges::as_of,
    source::{Source, SourceArgs},
};
use crate::config::{Settings, SettingsArgs};

/// What to compare, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct DiffArgs {
    /// Which log. Of --set, those of the stages (dataflow.*) are what is changed; others say where the log is. What the
    /// stages are set to before the change is in --config.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Another build of this program, whose stages are the changed side.
    #[arg(long, value_name = "BINARY")]
    pub with: Option<PathBuf>,
    /// Only what had happened at this moment: RFC 3339, before now (-2h), or just behind a record (events:0:1234).
    #[arg(long, value_name = "MOMENT", value_parser = as_of, allow_hyphen_values = true, default_value = "now")]
    pub as_of: Moment,
    /// Show the first events of each kind of difference, at most this many.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub show: usize,
    /// Only say what would be read.
    #[arg(long)]
    pub dry_run: bool,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Compares.
pub fn run(args: &DiffArgs) -> Outcome {
    let (changed, place): (Vec<String>, Vec<String>) =
        args.source.set.iter().cloned().partition(|setting| setting.trim_start().starts_with("dataflow."));
    if changed.is_empty() && args.with.is_none() {
        let message = "nothing is changed (hint: --set dataflow.conversations.group_members_max=…, or --with BINARY)";
        return Err(Failure::new(Code::Usage, message));
    }
    let all = SettingsArgs { config: args.source.config.clone(), set: args.source.set.clone(), check: false };
    let changed_config = Settings::read(&all).code(Code::Usage)?.dataflow;
    let source = SourceArgs { set: place, ..args.source.clone() }.open()?;
    let log = &*source.log;
    let moment = AsOf::find(log, args.as_of)?;
    let mut ends = Vec::new();
    for partition in 0..log.partitions(Topic::Events) {
        ends.push(moment.end(log, Topic::Events, partition)?);
    }
    if args.dry_run {
        return show::plan(&source, &ends, args.json);
    }
    let report = compare(args, &source, &changed_config, &ends)?;
    show::report(args, &source, &changed, &report)?;
    match report.differing {
        0 => Ok(()),
        differing => {
            let (events, numbers) = (report.events, report.only_numbers);
            let message = format!(
                "{} of {events} events would come out differently, and {numbers} more only under other numbers",
                differing - numbers
            );
            Err(Failure::new(Code::Found, message))
        }
    }
}

fn compare(args: &DiffArgs, source: &Source, changed: &HostConfig, ends: &[u64]) -> Result<Report, Failure> {
    let bar = progress::Shown(progress::bar("events", ends.iter().sum()));
    let compare = Comparison { kept_max: args.show, progress: &|count| bar.0.inc(count) };
    // The other program is started before anything is derived here: whether it can be is seen at once.
    let other = args.with.as_ref().map(|binary| other::Other::start(binary, args, source, ends)).transpose()?;
    let log: &Arc<dyn Log> = &source.log;
    let report = thread::scope(|scope| {
        let before = Side::on_thread(scope, |give| derive(&**log, &source.settings.dataflow, ends, give));
        let after = match other {
            Some(other) => Side::on_thread(scope, move |give| other.give(give)),
            None => Side::on_thread(scope, |give| derive(&**log, changed, ends, give)),
        };
        compare.run(before, after)
    })?;
    Ok(report)
}

/// Derives here.
fn derive(
    log: &dyn Log,
    config: &HostConfig,
    ends: &[u64],
    give: &mut dyn FnMut(Vec<tidings_replay::diff::Derived>) -> bool,
) -> Result<(), DiffError> {
    let mut derivation = Derivation::new(log, config, ends)?;
    loop {
        let turn = derivation.turn()?;
        if turn.is_empty() || !give(turn) {
            return Ok(());
        }
    }
}

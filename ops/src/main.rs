//! The `tidings` program: every role in one binary, and the tools to run, load and check it.

use std::process::ExitCode;

use clap::Parser;
use tidings_ops::{chat, check, clickhouse, config, erase, load, node, plan, print, replay, sql};

/// Tidings: a messaging backend in which everything is an event on a log.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run everything in one process.
    Up(node::NodeArgs),
    /// Run an edge of a fleet: it serves clients.
    Edge(node::NodeArgs),
    /// Run stages of a fleet: they decide, number and route.
    Dataflow(node::NodeArgs),
    /// Run projections of a fleet: they write the views and the archive.
    Project(node::NodeArgs),
    /// Run the archive's engine as a ClickHouse server of its own.
    #[command(name = "clickhouse")]
    ClickHouse(clickhouse::ClickHouseArgs),
    /// Ask the archive in SQL: one statement, a file, or a prompt.
    Sql(sql::SqlArgs),
    /// Chat from the terminal.
    Chat(chat::ChatArgs),
    /// Load a server over real sockets and measure it.
    Load(load::LoadArgs),
    /// Check what a load's clients saw: nothing lost, repeated or out of order.
    Check(check::CheckArgs),
    /// Read the log back: dump, copy and play it again.
    Replay(replay::ReplayArgs),
    /// Erase users, and what was deleted, from log, views and archive for good.
    Erase(erase::EraseArgs),
    /// Compute what a service of a given size takes: rates, storage, partitions, machines.
    Plan(plan::PlanArgs),
    /// Simulate the whole from seeds, through everything that goes wrong, and check what the clients saw.
    #[cfg(feature = "simulation")]
    Simulate(tidings_ops::simulate::SimulateArgs),
    /// Print every setting with its meaning and default; or, with --check, say whether one's own can be used.
    Config(config::SettingsArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        // Any role's command line can be tried without starting it.
        Command::Up(node::NodeArgs { settings, .. })
        | Command::Edge(node::NodeArgs { settings, .. })
        | Command::Dataflow(node::NodeArgs { settings, .. })
        | Command::Project(node::NodeArgs { settings, .. })
        | Command::Config(settings)
            if settings.check =>
        {
            config::Settings::check(settings)
        }
        Command::Up(args) => node::run(args, node::Roles::ALL),
        Command::Edge(args) => node::run(args, node::Roles::EDGE),
        Command::Dataflow(args) => node::run(args, node::Roles::DATAFLOW),
        Command::Project(args) => node::run(args, node::Roles::PROJECT),
        Command::ClickHouse(args) => clickhouse::run(args),
        Command::Sql(args) => {
            return sql::run(args).unwrap_or_else(|error| failed(&error));
        }
        Command::Chat(args) => chat::run(args),
        Command::Load(args) => load::run(args),
        // These have exit codes of their own.
        Command::Check(args) => return replay::exit::code(check::run(args)),
        Command::Replay(args) => return replay::run(args),
        Command::Erase(args) => return erase::run(args),
        Command::Plan(args) => plan::run(args),
        #[cfg(feature = "simulation")]
        Command::Simulate(args) => tidings_ops::simulate::run(args),
        Command::Config(_) => print_config(),
    };
    match result {
        Ok(()) if print::has_failed() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn print_config() -> anyhow::Result<()> {
    print::text(format_args!("{}", config::reference::text()?));
    Ok(())
}

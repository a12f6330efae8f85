//! `tidings erase`: users and deleted messages leave the log, the views and the archive for good. docs/ERASURE.md is its
//! guide.
//!
//! - [`announce`]: what is said on the log, so that everything derived from it knows. [`folder`]: what is then taken out of a
//!   data folder, or of a fleet. [`logs`], [`stores`]: of which log, views and archive. [`drop_prefix`]: old topics go.
//! - [`running`]: the program that runs on the folder steps aside meanwhile.
//! - [`search`]: looking whether anything is left. [`report`]: what was found before and after.

mod announce;
mod drop_prefix;
mod folder;
mod logs;
mod report;
mod running;
mod search;
mod stores;

use std::{
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use tidings_replay::erasure::{Erasing, erasing};
use tidings_schemas::limits::ERASURE_USERS_MAX;

use self::{
    folder::{Before, Folder},
    logs::Logs,
    report::Report,
    running::{Back, Turn},
};
use crate::{
    config::{ArchiveKind, LogKind, Settings, SettingsArgs, ViewsKind},
    replay::exit::{self, Code, Failure, Outcome, WithCode},
};

/// Whom to erase, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct EraseArgs {
    /// Users: names, or ids. Their accounts end, their names are free again, what they wrote is deleted.
    #[arg(value_name = "USER", required_unless_present_any = ["deleted", "drop_prefix", "back"])]
    pub users: Vec<String>,
    /// Erase the content of messages that were deleted, and finish what was interrupted. (Every run does that, too.)
    #[arg(long)]
    pub deleted: bool,
    /// The data folder. A `tidings up` that runs on it steps aside meanwhile, and comes back by itself.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// With the log on Kafka and the fleet stopped: rewrite it into topics with this prefix, which the fleet then uses.
    #[arg(long, value_name = "PREFIX")]
    pub into_prefix: Option<String>,
    /// Delete the topics of a log that is no longer used, or of a copy that was not finished, for good.
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["users", "deleted", "into_prefix", "data"])]
    pub drop_prefix: Option<String>,
    /// A TOML file with settings, as for `tidings up`.
    #[arg(long, value_name = "FILE", env = "TIDINGS_CONFIG")]
    pub config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Do not ask whether it is meant.
    #[arg(long)]
    pub yes: bool,
    /// Only say what would be erased.
    #[arg(long)]
    pub dry_run: bool,
    /// The report as JSON.
    #[arg(long)]
    pub json: bool,
    /// The end of an erasure: wait for the program that has stepped aside.
    #[arg(long, hide = true, requires = "data")]
    pub back: Option<Back>,
}

/// Erases. The exit code is 0 only when nothing of what was erased is found any more; 1: something is found, or damage; 2:
/// the command line asks for what cannot be; 3 and 4: the folder cannot be read, or written.
pub fn run(args: &EraseArgs) -> ExitCode {
    if let (Some(back), Some(data)) = (args.back, &args.data) {
        return back.wait(data);
    }
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(failure) => return exit::code(Err(failure)),
    };
    let data = settings.node.data.clone();
    let mut turn = None;
    let code = exit::code(erase(args, &settings, &data, &mut turn));
    match turn {
        Some(turn) => turn.give_back(code),
        None => code,
    }
}

fn settings(args: &EraseArgs) -> Result<Settings, Failure> {
    let settings = SettingsArgs { config: args.config.clone(), set: args.set.clone(), check: false };
    let mut settings = Settings::read(&settings).code(Code::Usage)?;
    if let Some(data) = &args.data {
        settings.node.data.clone_from(data);
        settings.node.log = LogKind::Embedded;
    }
    if args.drop_prefix.is_some() {
        return Ok(settings);
    }
    if settings.node.log == LogKind::Kafka {
        if args.into_prefix.is_none() && !args.dry_run {
            return Err(logs::no_prefix());
        }
    } else if settings.node.views != ViewsKind::Embedded || settings.node.archive == ArchiveKind::ClickHouse {
        let what = "the log is in a data folder, and views or archive are on a server: that is not known here";
        return Err(Failure::new(Code::Usage, format!("{what} (for a data folder: --data DIR)")));
    } else if args.into_prefix.is_some() {
        return Err(Failure::new(
            Code::Usage,
            "--into-prefix is for a log on Kafka (a data folder is rewritten in place)",
        ));
    }
    if args.users.len() > ERASURE_USERS_MAX {
        let what = format!("{} users are more than the {ERASURE_USERS_MAX} of one run", args.users.len());
        return Err(Failure::new(Code::Usage, what + " (erase them in several)"));
    }
    Ok(settings)
}

/// Erases from a data folder, or a fleet. `turn`: the folder's lock, once it is taken.
fn erase<'a>(args: &EraseArgs, settings: &Settings, data: &'a Path, turn: &mut Option<Turn<'a>>) -> Outcome {
    if let Some(prefix) = &args.drop_prefix {
        return drop_prefix::run(settings, prefix, args);
    }
    let logs = Logs::of(settings, args.into_prefix.as_deref())?;
    let log = logs.read()?;
    let named = named(&erasing(&*log, &args.users)?, &args.users)?;
    let mut is_meant = args.yes;
    if settings.node.log == LogKind::Embedded {
        if running::is_running(data) && (args.dry_run || !args.yes) {
            // It stays where it is until the answer is yes.
            let before = Before::of_log(&*log, &named)?;
            if args.dry_run {
                return Report::planned(logs.place(), &named, before).show(args.json);
            }
            confirm(&args.users, &before)?;
            is_meant = true;
        }
        let turn = turn.insert(Turn::take(data)?);
        if is_meant && !args.dry_run {
            turn.step_aside()?;
        }
    }
    drop(log);
    let folder = Folder::open(settings, logs)?;
    let before = folder.look(&named)?;
    if args.dry_run {
        return Report::planned(folder.place(), &named, before).show(args.json);
    }
    folder.check_stopped()?;
    if !is_meant {
        confirm(&args.users, &before)?;
    }
    let report = folder.erase(&named, before)?;
    report.show(args.json)?;
    match report.is_clean() {
        true => Ok(()),
        false => {
            Err(Failure::new(Code::Found, "something is left of what was to be erased (run it again; see the report)"))
        }
    }
}

fn named(found: &[Option<Erasing>], asked: &[String]) -> Result<Vec<Erasing>, Failure> {
    let mut named: Vec<Erasing> = Vec::new();
    for (found, asked) in found.iter().zip(asked) {
        let Some(found) = found else {
            let what = format!("there is no user {asked:?} in this log");
            return Err(Failure::new(Code::Usage, what + " (give the name as it is signed in with, or the user's id)"));
        };
        if named.iter().all(|other| other.user != found.user) {
            named.push(found.clone());
        }
    }
    Ok(named)
}

/// What cannot be undone is asked for twice.
fn confirm(users: &[String], before: &Before) -> Outcome {
    let (whom, expected) = match users {
        [] => ("the content of deleted messages".to_owned(), "erase"),
        [user] => (user.clone(), user.as_str()),
        users => (format!("{} users", users.len()), "erase"),
    };
    let records = before.log_records();
    let what = if before.is_of_log_alone {
        format!(
            "{records} records of the log, and what views and archive have of them, which are counted when the program \
             that runs on the folder has stepped aside. It comes back by itself"
        )
    } else {
        let (rows, archived) = (before.view_rows, before.archive_rows());
        format!("{records} records of the log, {rows} rows of the views, {archived} rows of the archive")
    };
    ask(&format!("This erases {whom}: {what}."), expected)
}

/// Goes on only if the answer is what is expected.
fn ask(what: &str, expected: &str) -> Outcome {
    let refused =
        |what: &str| Err(Failure::new(Code::Usage, format!("{what} (say --yes to go on without being asked)")));
    if !std::io::stdin().is_terminal() {
        return refused("an erasure cannot be undone, and nobody can be asked here");
    }
    let mut stderr = std::io::stderr();
    let question = format!("{what} It cannot be undone.\nType {expected:?} to go on: ");
    // A terminal that is gone gives no answer either.
    let _ = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == expected { Ok(()) } else { refused("nothing was erased") }
}

//! `tidings replay trace`: one message's whole life.
//!
//! - [`archive`]: its row there. [`show`]: how it is written.

mod archive;
mod show;

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context, anyhow};
use tidings_replay::{
    state::names::names_of,
    trace::{Asked, TraceError, trace},
};
use tidings_schemas::ids::{ConversationId, MessageId};

use super::{
    exit::{Code, Failure, Outcome},
    progress,
    source::SourceArgs,
    state::tell,
    table,
};

/// What to trace, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct TraceArgs {
    /// A message's id; or an event's place in the log, events:PARTITION:OFFSET, also of one that was refused.
    #[arg(value_name = "MESSAGE_ID", value_parser = what)]
    pub what: What,
    /// Which log.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The message's conversation. Needed only to find a message quickly that came from another log with its id.
    #[arg(long, value_name = "ID")]
    pub conversation: Option<ConversationId>,
    /// Where SQL is answered. Left out: the port of the program that runs on the data folder, or the ClickHouse of the
    /// settings.
    #[arg(long, value_name = "URL")]
    pub archive_url: Option<String>,
    /// The database of the archive.
    #[arg(long, value_name = "NAME", default_value = "tidings")]
    pub archive_database: String,
    /// The user there. The password is in --archive-password-file or the environment's TIDINGS_CLICKHOUSE_PASSWORD.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub archive_user: String,
    /// A file with the password.
    #[arg(long, value_name = "FILE")]
    pub archive_password_file: Option<PathBuf>,
    /// For https: trust the certificates that this authority vouches for.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Do not ask the archive.
    #[arg(long, conflicts_with = "archive_url")]
    pub no_archive: bool,
    /// Do not look the users' names up, for which all of the directory is read.
    #[arg(long)]
    pub no_names: bool,
    /// The answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A message.
    Message(MessageId),
    /// An event.
    Event {
        /// The partition of `events`.
        partition: u32,
        /// The offset there.
        offset: u64,
    },
}

fn what(text: &str) -> anyhow::Result<What> {
    let hint = "hint: a message's id, or events:PARTITION:OFFSET";
    let Some((topic, place)) = text.split_once(':') else {
        return text.parse().map(What::Message).map_err(|error| anyhow!("{error} ({hint})"));
    };
    let place = place.split_once(':').filter(|_| topic == "events" || topic == "events.v1");
    let (partition, offset) = place.with_context(|| format!("{text:?} is no event ({hint})"))?;
    let event = partition.parse().ok().zip(offset.parse().ok());
    let (partition, offset) = event.with_context(|| format!("{text:?} is no event ({hint})"))?;
    Ok(What::Event { partition, offset })
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Select(error) => error.into(),
            TraceError::Unknown { .. } => Self { code: Code::Usage, error: error.into() },
        }
    }
}

/// Traces.
pub fn run(args: &TraceArgs) -> Outcome {
    let source = args.source.open()?;
    let bar = progress::Shown(progress::bar("records", 0));
    let told = |what| tell(&bar.0, &what);
    let asked = match args.what {
        What::Message(id) => Asked::Message { id, conversation: args.conversation },
        What::Event { partition, offset } => Asked::Event { partition, offset },
    };
    let log = &*source.log;
    let found = trace(log, asked, &told)?;
    let names = if args.no_names { HashMap::new() } else { names_of(log, &show::people(&found), &told)? };
    bar.0.finish_and_clear();
    let row = if args.no_archive { archive::Answer::NotAsked } else { archive::ask(args, &source, &found) };
    if args.json {
        table::print(&table::pretty(&show::json(&source, &found, &names, &row))?)
    } else {
        table::print(&show::text(&found, &names, &row).trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_or_an_event_is_named() {
        let id = MessageId::from_position(1_767_225_600_000, 1, 17);
        assert_eq!(what(&id.to_string()).unwrap(), What::Message(id));
        assert_eq!(what("events:1:17").unwrap(), What::Event { partition: 1, offset: 17 });
        for text in ["", "17", "events:1", "events:x:1", "timeline:0:1", "events:0:-1"] {
            let error = what(text).unwrap_err().to_string();
            assert!(error.contains("hint"), "{text}: {error}");
        }
    }
}

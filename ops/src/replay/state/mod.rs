//! `tidings replay state`: what was so at a moment of the past.
//!
//! - [`show`]: how it is written; [`presence`]: who was online.

mod presence;
mod show;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use indicatif::ProgressBar;
use serde_json::json;
use tidings_dataflow::{
    checkpoints::{self, CheckpointStore},
    conversations::saved::{self, SavedConversation},
};
use tidings_replay::state::{
    AsOf, Checkpoints, Moment, Past, Standing, Start, StateError, Told,
    last::{Last, last_entries},
    names::names_of,
};
use tidings_schemas::{
    clock::{Clock, SystemClock},
    ids::{ConversationId, UserId},
    topics::{Topic, conversation_partition},
};

use super::{
    exit::{Code, Failure, Outcome, WithCode},
    people, progress,
    ranges::as_of,
    source::{Source, SourceArgs},
    table,
    work::WorkArgs,
};

/// What of the past to say, from the command line.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("what").multiple(false)))]
pub struct StateArgs {
    /// Which log. Its settings of the stages (dataflow.*) must be those that it was made with.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The moment: RFC 3339 (2026-01-31T12:00:00Z), before now (-2h, -30m, -7d), now, or just behind a record
    /// (events:0:1234).
    #[arg(long, value_name = "MOMENT", value_parser = as_of, allow_hyphen_values = true, default_value = "now")]
    pub as_of: Moment,
    /// Who was in this conversation: roles, cursors, unread, title, what was said last.
    #[arg(long, value_name = "ID", group = "what")]
    pub conversation: Option<ConversationId>,
    /// This user's conversations, with what was unread and said last, and whether the user was online.
    #[arg(long, value_name = "ID|NAME", group = "what")]
    pub user: Option<String>,
    /// Who was online, as far back as signals are kept.
    #[arg(long, group = "what")]
    pub online: bool,
    /// Begin with the nearest checkpoint in this folder. Left out: where the settings say, which is the data folder.
    #[arg(long, value_name = "DIR", conflicts_with = "no_checkpoints")]
    pub checkpoints: Option<PathBuf>,
    /// Begin with the log's beginning.
    #[arg(long)]
    pub no_checkpoints: bool,
    /// Do not look the users' names up, for which all of the directory is read.
    #[arg(long)]
    pub no_names: bool,
    /// How it is gone about.
    #[command(flatten)]
    pub work: WorkArgs,
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Select(error) => error.into(),
            StateError::NotKept { .. } => Self { code: Code::Usage, error: error.into() },
            StateError::Stage(_) | StateError::Row(_) => Self { code: Code::Found, error: error.into() },
        }
    }
}

/// Says it.
pub fn run(args: &StateArgs) -> Outcome {
    let now_ms = SystemClock::new().now_ms();
    let source = args.source.open()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.code(Code::Source)?;
    let checkpoints = checkpoints(args, &source, &runtime)?;
    let bar = progress::Shown(progress::bar("records", 0));
    let told = |what: Told| tell(&bar.0, &what);
    let as_of = AsOf::find(&*source.log, args.as_of)?;
    if as_of.at_ms.is_some_and(|at_ms| at_ms > now_ms) && !matches!(args.as_of, Moment::Record { .. }) {
        progress::say(&"note: that moment is yet to come; this is what is so until now");
    }
    let config = &source.settings.dataflow;
    let past = Past { log: &*source.log, config, checkpoints: checkpoints.as_ref(), as_of, told: &told };
    let asking = Asking { args, past: &past, source: &source, moment_ms: as_of.at_ms.unwrap_or(now_ms) };
    let answer = match (&args.conversation, &args.user) {
        _ if args.work.dry_run => asking.plan()?,
        (Some(id), _) => asking.conversation(*id)?,
        (_, Some(user)) => asking.user(user)?,
        _ if args.online => asking.online()?,
        _ => asking.summary()?,
    };
    bar.0.finish_and_clear();
    asking.print(&answer)
}

/// On the bar, or as a line on standard error.
pub(super) fn tell(bar: &ProgressBar, what: &Told) {
    match what {
        Told::Expect(records) => bar.inc_length(*records),
        Told::Took(records) => bar.inc(*records),
        Told::Unusable { shard, error } => {
            bar.suspend(|| progress::say(&format!("note: a checkpoint of {shard} is not used: {error}")));
        }
    }
}

/// Where checkpoints are read from. Nothing is made there.
fn checkpoints(
    args: &StateArgs,
    source: &Source,
    runtime: &tokio::runtime::Runtime,
) -> Result<Option<Checkpoints>, Failure> {
    if args.no_checkpoints {
        return Ok(None);
    }
    let mut config = source.settings.dataflow.checkpoints.clone();
    if let Some(folder) = &args.checkpoints {
        if !folder.is_dir() {
            let message = format!("there is no folder {} (hint: the checkpoints' own folder)", folder.display());
            return Err(Failure::new(Code::Usage, message));
        }
        (config.directory, config.s3) = (Some(folder.clone()), None);
    }
    let folder = config.directory.get_or_insert_with(|| source.settings.node.data.join("checkpoints"));
    if config.s3.is_none() && !folder.is_dir() {
        return Ok(None);
    }
    let objects = runtime.block_on(async { checkpoints::open(&config) }).code(Code::Source)?;
    let log_id = source.log.log_id();
    Ok(objects.map(|objects| Checkpoints::new(CheckpointStore::new(objects, log_id), runtime.handle().clone())))
}

/// A conversation and where it stands.
struct Found {
    conversation: SavedConversation,
    last: Option<Last>,
}

struct Asking<'a> {
    args: &'a StateArgs,
    past: &'a Past<'a>,
    source: &'a Source,
    /// The moment, in milliseconds since the Unix epoch.
    moment_ms: i64,
}

impl Asking<'_> {
    fn names(&self, users: impl IntoIterator<Item = UserId>) -> Result<HashMap<UserId, String>, Failure> {
        let users: HashSet<UserId> = users.into_iter().collect();
        if self.args.no_names || users.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(names_of(self.past.log, &users, self.past.told)?)
    }

    fn conversation(&self, id: ConversationId) -> Result<show::Answer, Failure> {
        let partition = conversation_partition(id, self.past.partitions().conversations);
        let standing = self.past.standing(partition)?;
        let Some(conversation) = saved::conversation(&standing.state, id).map_err(StateError::from)? else {
            let moment = show::time(self.moment_ms);
            return Err(Failure::new(
                Code::Usage,
                format!("there was no conversation {id} at {moment} (hint: it came later, or is of another log)"),
            ));
        };
        let wanted = HashMap::from([(id, conversation.last_seq)]);
        let last = last_entries(self.past.log, partition, standing.end, &wanted, self.past.told)?.remove(&id);
        let found = Found { conversation, last };
        let names = self.names(show::people(&found))?;
        Ok(show::conversation(&standing, &found, &names))
    }

    fn user(&self, asked: &str) -> Result<show::Answer, Failure> {
        let user = people::user(self.past.log, asked, self.past.told)?;
        let found: Mutex<Vec<(u32, u64, SavedConversation)>> = Mutex::default();
        let standings: Mutex<Vec<serde_json::Value>> = Mutex::default();
        self.past.all(self.args.work.threads(), &|standing: Standing| {
            for conversation in saved::conversations(&standing.state) {
                let conversation = conversation?;
                if conversation.member(user).is_some() {
                    let found = &mut *found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.push((standing.partition, standing.end, conversation));
                }
            }
            standings.lock().unwrap_or_else(PoisonError::into_inner).push(show::standing(&standing));
            Ok(())
        })?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut by_partition: HashMap<(u32, u64), HashMap<ConversationId, u64>> = HashMap::new();
        for (partition, end, conversation) in &found {
            by_partition.entry((*partition, *end)).or_default().insert(conversation.id, conversation.last_seq);
        }
        let mut last = HashMap::new();
        for ((partition, end), wanted) in by_partition {
            last.extend(last_entries(self.past.log, partition, end, &wanted, self.past.told)?);
        }
        let with_last = |(_, _, conversation): (u32, u64, SavedConversation)| {
            let last = last.remove(&conversation.id);
            Found { conversation, last }
        };
        let mut found: Vec<Found> = found.into_iter().map(with_last).collect();
        // The newest first, as people see them.
        found.sort_by_key(|found| {
            let said_at_ms = found.last.as_ref().map_or(found.conversation.created_at_ms, |last| last.entry.sent_at_ms);
            (std::cmp::Reverse(said_at_ms), found.conversation.id)
        });
        let partition = tidings_schemas::topics::user_partition(user, self.past.partitions().recipients);
        let present = self.past.present(partition)?;
        let known = present.user(user)?;
        let timeout_ms = self.past.config.recipients.timeout_ms();
        let presence = presence::of_user(self.moment_ms, timeout_ms, &present, known.as_ref());
        // The other one gives a direct chat its name.
        let others = found.iter().flat_map(|found| show::people_of_line(found, user));
        let names = self.names(others.chain([user]))?;
        if found.is_empty() && known.is_none() && !self.args.no_names && !names.contains_key(&user) {
            let error = format!("there is no user {user} in the log (hint: a user's name or id)");
            return Err(Failure::new(Code::Usage, error));
        }
        let mut standings = standings.into_inner().unwrap_or_else(PoisonError::into_inner);
        standings.sort_by_key(|standing| standing["partition"].as_u64());
        Ok(show::user(user, &found, &presence, &names, standings))
    }

    fn online(&self) -> Result<show::Answer, Failure> {
        let mut online = Vec::new();
        let mut partitions = Vec::new();
        for partition in 0..self.past.partitions().recipients {
            let present = self.past.present(partition)?;
            for user in present.online() {
                online.push(user?);
            }
            let timeout_ms = self.past.config.recipients.timeout_ms();
            partitions.push(presence::present(self.moment_ms, timeout_ms, &present));
        }
        online.sort_by_key(|user| user.id);
        let names = self.names(online.iter().map(|user| user.id))?;
        Ok(presence::online(&online, partitions, &names))
    }

    /// How much there was.
    fn summary(&self) -> Result<show::Answer, Failure> {
        let rows: Mutex<Vec<show::Counted>> = Mutex::default();
        self.past.all(self.args.work.threads(), &|standing: Standing| {
            let mut counted = show::Counted::new(&standing);
            for conversation in saved::conversations(&standing.state) {
                counted.count(&conversation?);
            }
            rows.lock().unwrap_or_else(PoisonError::into_inner).push(counted);
            Ok(())
        })?;
        let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        rows.sort_by_key(|counted| counted.partition);
        Ok(show::summary(&rows))
    }

    /// What would be read.
    fn plan(&self) -> Result<show::Answer, Failure> {
        let log = self.past.log;
        let mut ranges = Vec::new();
        let partitions = match self.args.conversation {
            Some(id) => {
                let partition = conversation_partition(id, self.past.partitions().conversations);
                partition..partition + 1
            }
            None if self.args.online => 0..0,
            None => 0..self.past.partitions().conversations,
        };
        for partition in partitions {
            let planned = self.past.plan(partition)?;
            let (start, from) = match planned.start {
                Start::Beginning => (0, "beginning".to_owned()),
                Start::Checkpoint { sequence, offset, .. } => (offset, format!("checkpoint {sequence}")),
            };
            ranges.push((Topic::Events, partition, start..start + planned.events, from));
        }
        if self.args.online {
            for partition in 0..self.past.partitions().recipients {
                let start = log.range(Topic::Signals, partition)?.start;
                let end = self.past.as_of.end(log, Topic::Signals, partition)?.max(start);
                ranges.push((Topic::Signals, partition, start..end, "oldest kept, or a checkpoint".to_owned()));
            }
        }
        Ok(show::plan(&ranges))
    }

    fn print(&self, answer: &show::Answer) -> Outcome {
        if !self.args.work.json {
            let (place, moment) = (&self.source.place, show::time(self.moment_ms));
            return table::print(&format!("{place} as of {moment}\n{}", answer.text.trim_end()));
        }
        let mut report = json!({
            "source": self.source.place,
            "log_id": format!("{:032x}", self.source.log.log_id()),
            "as_of": show::time(self.moment_ms),
        });
        if let (Some(report), Some(fields)) = (report.as_object_mut(), answer.json.as_object()) {
            report.extend(fields.clone());
        }
        table::print(&table::pretty(&report)?)
    }
}

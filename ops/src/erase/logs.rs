//! Which log something is erased from. One in a data folder is rewritten where it is. Records on Kafka cannot be: the log is
//! rewritten on its way into topics under another prefix, which are the same log afterwards, and the old topics are dropped.

use std::{sync::Arc, thread};

use tidings_ingest::{
    Bulk as _, BulkPlan, EmbeddedConfig, KafkaBulkLog, KafkaConfig, KafkaLog, Log, OffsetRange, PartitionCounts,
    ReadOnlyLog, Rewritten, StoredRecord, rewrite,
};
use tidings_replay::{Scan, erasure::Rules};
use tidings_schemas::{
    clock::{Clock, SystemClock, SystemEntropy},
    limits::EDGE_LEASE_DURATION,
    topics::Topic,
};

use crate::{
    config::{LogKind, Settings},
    replay::{
        exit::{Code, Failure, WithCode},
        target::Target,
    },
};

/// See the module.
pub(super) enum Logs {
    Folder(EmbeddedConfig),
    Kafka {
        old: Box<KafkaConfig>,
        /// The same, under the new prefix; none: it is only looked at.
        new: Option<Box<KafkaConfig>>,
    },
}

impl Logs {
    /// The log that the settings name, and the prefix that it is rewritten into.
    pub(super) fn of(settings: &Settings, into_prefix: Option<&str>) -> Result<Self, Failure> {
        if settings.node.log == LogKind::Embedded {
            let config = EmbeddedConfig { directory: settings.node.data.join("log"), ..settings.log.clone() };
            return Ok(Self::Folder(config));
        }
        let old = Box::new(settings.kafka.clone());
        let new = into_prefix.map(|prefix| Box::new(KafkaConfig { topic_prefix: prefix.to_owned(), ..(*old).clone() }));
        if new.as_ref().is_some_and(|new| new.topic_prefix == old.topic_prefix) {
            let what = "--into-prefix is the prefix that the log has (name another, such as tidings2.)";
            return Err(Failure::new(Code::Usage, what));
        }
        Ok(Self::Kafka { old, new })
    }

    /// The log as it is.
    pub(super) fn read(&self) -> Result<Arc<dyn Log>, Failure> {
        Ok(match self {
            Self::Folder(config) => Arc::new(ReadOnlyLog::open(&config.directory)?),
            Self::Kafka { old, .. } => Arc::new(KafkaLog::open_to_read(old)?),
        })
    }

    /// The log, to say something on it. One in a folder is then nobody else's.
    pub(super) fn write(&self, settings: &Settings) -> Result<Target, Failure> {
        // It is there: nothing is made.
        drop(self.read()?);
        match self {
            Self::Folder(_) => Target::folder(settings, &settings.node.data),
            Self::Kafka { .. } => Target::kafka(settings, None),
        }
    }

    /// Refuses while somebody is at work on it.
    pub(super) fn check_stopped(&self, log: &dyn Log) -> Result<(), Failure> {
        // That in a folder is open, so nobody else has it.
        let Self::Kafka { old, .. } = self else { return Ok(()) };
        let refused = |what: String| {
            Err(Failure::new(
                Code::Target,
                what + " (stop every process of the fleet: tidings up, edge, dataflow, project)",
            ))
        };
        let before = ranges(log)?;
        // An edge is in no group, but says that it is there.
        thread::park_timeout(EDGE_LEASE_DURATION);
        for ((topic, partition, before), (_, _, after)) in before.iter().zip(ranges(log)?) {
            if after.end != before.end {
                return refused(format!("something is still written to {} partition {partition}", topic.name()));
            }
        }
        match KafkaLog::members(old)?.first() {
            Some((group, members)) => refused(format!("{members} processes are still in the group {group}")),
            None => Ok(()),
        }
    }

    /// Rewrites it. `each` is told of every record.
    pub(super) fn rewrite(&self, rules: &Rules, mut each: impl FnMut()) -> Result<Rewritten, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        match self {
            Self::Folder(config) => {
                rewrite(config, &clock, &(Arc::new(SystemEntropy) as _), |topic, partition, record| {
                    each();
                    rules.replace(topic, partition, record)
                })
                .code(Code::Target)
            }
            Self::Kafka { old, new: Some(new) } => copy(old, new, clock, rules, each),
            Self::Kafka { new: None, .. } => Err(no_prefix()),
        }
    }

    /// The log as it is afterwards.
    pub(super) fn rewritten(&self) -> Result<Arc<dyn Log>, Failure> {
        match self {
            Self::Kafka { new: Some(new), .. } => Ok(Arc::new(KafkaLog::open_to_read(new)?)),
            _ => self.read(),
        }
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Folder(config) => config.directory.parent().unwrap_or(&config.directory).display().to_string(),
            Self::Kafka { old, new } => {
                let into = new.as_ref().map(|new| format!(", rewritten into {}*", new.topic_prefix));
                format!("Kafka {} ({}*{})", old.brokers, old.topic_prefix, into.unwrap_or_default())
            }
        }
    }

    /// The prefix whose topics hold what was erased, and the one that is to take its place.
    pub(super) fn prefixes(&self) -> Option<(&str, &str)> {
        match self {
            Self::Kafka { old, new: Some(new) } => Some((&old.topic_prefix, &new.topic_prefix)),
            _ => None,
        }
    }
}

/// What is said where no prefix is given.
pub(super) fn no_prefix() -> Failure {
    let what = "records on Kafka cannot be rewritten in place: the log is rewritten into topics under another prefix, with the \
                fleet stopped (say --into-prefix PREFIX; see docs/ERASURE.md; for a data folder: --data DIR)";
    Failure::new(Code::Usage, what)
}

type Ranges = Vec<(Topic, u32, OffsetRange)>;

fn ranges(log: &dyn Log) -> Result<Ranges, Failure> {
    let all = Topic::ALL.into_iter().flat_map(|topic| (0..log.partitions(topic)).map(move |number| (topic, number)));
    all.map(|(topic, partition)| Ok((topic, partition, log.range(topic, partition)?))).collect()
}

/// Copies the log, each record as the rules leave it.
fn copy(
    old: &KafkaConfig,
    new: &KafkaConfig,
    clock: Arc<dyn Clock>,
    rules: &Rules,
    mut each: impl FnMut(),
) -> Result<Rewritten, Failure> {
    let source = KafkaLog::open_to_read(old)?;
    let ranges = ranges(&source)?;
    let plan = plan(&source, rules, &ranges);
    let unfinished = KafkaBulkLog::unfinished(new).code(Code::Target)?;
    if unfinished.is_none()
        && let Ok(there) = KafkaLog::open_to_read(new)
    {
        let is_same = there.log_id() == source.log_id() && ends(&ranges) == ends(&self::ranges(&there)?);
        return if is_same {
            // By an attempt before.
            Ok(Rewritten::default())
        } else {
            Err(taken(new, "there is a log already, and it is not this one's copy"))
        };
    }
    // Where it began counts, also if retention has dropped more since.
    let plan = unfinished.filter(|before| before.origin == plan.origin).unwrap_or(plan);
    let mut done = Rewritten::default();
    let Some(mut log) = KafkaBulkLog::open(new, plan, clock, |_| {}).code(Code::Target)? else { return Ok(done) };
    for (topic, partition, range) in &ranges {
        let (topic, partition) = (*topic, *partition);
        let from = log.next_offset(topic, partition).unwrap_or(0);
        if from < range.start {
            let what = format!("retention has dropped records of {} that were to be copied", topic.name());
            return Err(taken(new, &what));
        }
        for record in Scan::new(&source, topic, partition, from..range.end)? {
            let record = record?;
            let replaced = rules.replace(topic, partition, &record);
            done.records += 1;
            done.changed += u64::from(replaced.is_some());
            let (key, value) = replaced.unwrap_or((record.key, record.value));
            log.append(topic, partition, &StoredRecord { key, value, ..record }).code(Code::Target)?;
            each();
        }
    }
    if ends(&self::ranges(&source)?) != ends(&ranges) {
        return Err(taken(new, "something was written to the log meanwhile"));
    }
    log.finish().code(Code::Target)?;
    Ok(done)
}

fn taken(new: &KafkaConfig, what: &str) -> Failure {
    let prefix = &new.topic_prefix;
    let hint = format!(
        "(stop all that writes, and run `tidings erase --drop-prefix {prefix}` and this again, or name another prefix)"
    );
    Failure::new(Code::Target, format!("topics under {prefix:?}: {what} {hint}"))
}

fn ends(ranges: &Ranges) -> Vec<u64> {
    ranges.iter().map(|(_, _, range)| range.end).collect()
}

/// An attempt goes on with what another has left only if the log ends where it ended, and the same is erased.
fn plan(source: &KafkaLog, rules: &Rules, ranges: &Ranges) -> BulkPlan {
    let starts = ranges.iter().filter(|(_, _, range)| range.start > 0);
    let starts = starts.map(|(topic, partition, range)| (topic.name().to_owned(), *partition, range.start)).collect();
    let mut users: Vec<String> = rules.users.iter().map(ToString::to_string).collect();
    users.sort_unstable();
    let ends: Vec<String> = ends(ranges).iter().map(ToString::to_string).collect();
    let (ends, users) = (ends.join(","), users.join(","));
    let origin = format!("log {:032x} up to {ends} without {users}", source.log_id());
    BulkPlan { log_id: source.log_id(), partitions: counts(source), starts, origin }
}

fn counts(log: &dyn Log) -> PartitionCounts {
    PartitionCounts {
        conversations: log.partitions(Topic::Events),
        recipients: log.partitions(Topic::Fanout),
        edges: log.partitions(Topic::Deliveries),
        directory: log.partitions(Topic::Directory),
    }
}

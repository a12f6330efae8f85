//! Makes the topics that are missing, and refuses those that do not fit.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tidings_schemas::clock::{Clock, Entropy};
use tidings_schemas::limits;
use tidings_schemas::topics::{Partitions, Topic};

use super::client::Context;
use super::config::KafkaConfig;
use super::identity::{self, Identity};
use super::producer::BATCH_OVERHEAD_BYTES_MAX;
use super::ranges;
use super::stats::Counters;
use crate::error::LogError;
use crate::settings::{PartitionCounts, Retention};

/// Between two looks at whether topics are there.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const REPLICAS_DEFAULT: usize = 3;
/// With three copies or more, an acknowledged record is on two.
pub(crate) const IN_SYNC: (&str, &str) = ("min.insync.replicas", "2");
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A topic as it should be.
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// Makes the log's topics.
pub(crate) struct Topics<'a> {
    pub(crate) config: &'a KafkaConfig,
    pub(crate) client: &'a ClientConfig,
    counters: &'a Arc<Counters>,
    /// Asks the brokers.
    pub(crate) asking: &'a BaseConsumer<Context>,
    pub(crate) admin: AdminClient<Context>,
}

impl<'a> Topics<'a> {
    pub(crate) fn new(
        config: &'a KafkaConfig,
        client: &'a ClientConfig,
        asking: &'a BaseConsumer<Context>,
        counters: &'a Arc<Counters>,
    ) -> Result<Self, LogError> {
        let context = Context::new("admin", Arc::clone(counters));
        let admin = AdminClient::from_config_and_context(client, context)
            .map_err(|error| LogError::Unavailable { reason: error.to_string().into() })?;
        Ok(Self { config, client, counters, asking, admin })
    }

    /// Opens the log that is there, or makes it; its topics are there afterwards, each with a leader.
    pub(crate) fn open(&self, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Identity, LogError> {
        let metadata = self.metadata()?;
        self.refuse_unfinished(&metadata)?;
        let asked = self.config.partitions;
        let identity = self.agree(&metadata, || {
            let partitions = asked.unwrap_or_default();
            self.check(&partitions)?;
            Ok(Identity::new(clock, entropy, partitions))
        })?;
        if let Some(asked) = asked.filter(|asked| *asked != identity.partitions) {
            let what = format!("it was made with {:?}, and {asked:?} are set", identity.partitions);
            return Err(self.refusal(what, "the numbers are fixed when a log is made: leave kafka.partitions out"));
        }
        let wanted = self.wanted(identity.partitions);
        self.make(&wanted, &metadata)?;
        self.check_settings(&wanted)?;
        Ok(identity)
    }

    /// The identity that is there, or else this one. Makes the topic for it.
    pub(crate) fn agree(
        &self,
        metadata: &Metadata,
        candidate: impl FnOnce() -> Result<Identity, LogError>,
    ) -> Result<Identity, LogError> {
        self.make(&[self.kept_for_good(identity::TOPIC)], metadata)?;
        let range = self.range_of(identity::TOPIC)?;
        identity::agree(self.config, self.client, || self.context("identity"), range, candidate)
    }

    /// A topic of one partition that keeps all it has.
    pub(crate) fn kept_for_good(&self, name: &str) -> Wanted {
        let name = format!("{}{name}", self.config.topic_prefix);
        Wanted { name, partitions: 1, settings: topic_settings(&Retention::default()) }
    }

    /// The topics of a log with so many partitions.
    pub(crate) fn wanted(&self, partitions: PartitionCounts) -> Vec<Wanted> {
        let partitions = Partitions::from(partitions);
        let retention = Retention::of_all(&self.config.retention);
        let of = |topic: Topic| Wanted {
            name: self.config.topic_name(topic),
            partitions: partitions.of(topic),
            settings: topic_settings(&retention[topic.index()]),
        };
        Topic::ALL.into_iter().map(of).collect()
    }

    pub(crate) fn context(&self, what: &'static str) -> Context {
        Context::new(what, Arc::clone(self.counters))
    }

    /// The log that is there; makes nothing.
    pub(crate) fn find(&self) -> Result<Identity, LogError> {
        let absent = || LogError::Absent {
            place: self.config.place(),
            hint: "kafka.brokers and kafka.topic_prefix say which log; `tidings up` makes one",
        };
        let metadata = self.metadata()?;
        self.refuse_unfinished(&metadata)?;
        let names = Topic::ALL.map(|topic| self.config.topic_name(topic));
        let meta = format!("{}{}", self.config.topic_prefix, identity::TOPIC);
        if !std::iter::once(&meta).chain(&names).all(|name| exists(&metadata, name)) {
            return Err(absent());
        }
        let range = self.range_of(identity::TOPIC)?;
        // An empty topic names no log, and nothing is made here.
        identity::agree(self.config, self.client, || self.context("identity"), range, || Err(absent()))
    }

    pub(crate) fn refusal(&self, what: String, hint: &'static str) -> LogError {
        LogError::Mismatch { place: self.config.place(), what, hint }
    }

    pub(crate) fn check(&self, counts: &PartitionCounts) -> Result<(), LogError> {
        let partitions = Partitions::from(*counts);
        if Topic::ALL.iter().any(|topic| partitions.of(*topic) == 0) {
            return Err(self.refusal("a topic would have no partition".to_owned(), "set kafka.partitions above 0"));
        }
        let all: usize = Topic::ALL.iter().map(|topic| partitions.of(*topic) as usize).sum();
        if all > limits::PARTITIONS_MAX {
            let what = format!("{all} partitions are more than the {} that a log can have", limits::PARTITIONS_MAX);
            return Err(self.refusal(what, "set other numbers of partitions"));
        }
        Ok(())
    }

    pub(crate) fn metadata(&self) -> Result<Metadata, LogError> {
        let mut left = self.config.request_timeout();
        loop {
            let piece = left.min(Duration::from_secs(1));
            match self.asking.fetch_metadata(None, piece) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => {
                    // What the connection says of itself comes only to who looks.
                    while self.asking.poll(LOOK_INTERVAL).is_some() {}
                    left = left.saturating_sub(piece + LOOK_INTERVAL);
                    if left.is_zero() {
                        return Err(self.asking.context().unavailable(&error));
                    }
                }
            }
        }
    }

    pub(crate) fn replicas(&self, metadata: &Metadata) -> i32 {
        match self.config.replication_factor {
            Some(replicas) => i32::from(replicas),
            None => i32::try_from(metadata.brokers().len().clamp(1, REPLICAS_DEFAULT)).unwrap_or(1),
        }
    }

    /// Makes those that are missing, and waits until all have their partitions and leaders.
    pub(crate) fn make(&self, wanted: &[Wanted], metadata: &Metadata) -> Result<(), LogError> {
        let replicas = self.replicas(metadata);
        let missing: Vec<NewTopic<'_>> = wanted
            .iter()
            .filter(|wanted| !exists(metadata, &wanted.name))
            .map(|wanted| {
                let partitions = i32::try_from(wanted.partitions).unwrap_or(i32::MAX);
                let topic = NewTopic::new(&wanted.name, partitions, TopicReplication::Fixed(replicas));
                let topic = wanted.settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
                if replicas >= 3 { topic.set(IN_SYNC.0, IN_SYNC.1) } else { topic }
            })
            .collect();
        let mut left = self.config.request_timeout();
        while !missing.is_empty() {
            let timeout = self.config.request_timeout();
            let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
            let made = wait(self.admin.create_topics(&missing, &options));
            let mut is_early = false;
            for result in made.map_err(|error| self.asking.context().unavailable(&error))? {
                match result {
                    Ok(topic) => tracing::info!(topic, replicas, "topic made"),
                    // By another process, in between; or at the look before.
                    Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    // A broker that is too busy to be heard of in time does not count for a moment.
                    Err((_, RDKafkaErrorCode::InvalidReplicationFactor)) if !left.is_zero() => is_early = true,
                    Err((topic, error)) => {
                        let what = format!("topic {topic} cannot be made ({error})");
                        let hint = "it needs the right to create topics, and as many brokers as \
                                    kafka.replication_factor says; or make the topics beforehand";
                        return Err(self.refusal(what, hint));
                    }
                }
            }
            if !is_early {
                break;
            }
            left = left.saturating_sub(LOOK_INTERVAL);
            while self.asking.poll(LOOK_INTERVAL).is_some() {}
        }
        wanted.iter().try_for_each(|wanted| self.wait_for(wanted))
    }

    /// Waits until the topic is known with its partitions, each with a leader.
    fn wait_for(&self, wanted: &Wanted) -> Result<(), LogError> {
        let mut left = self.config.request_timeout();
        loop {
            let metadata = self.asking.fetch_metadata(Some(&wanted.name), left);
            let metadata = metadata.map_err(|error| self.asking.context().unavailable(&error))?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == wanted.name);
            let partitions = topic.filter(|topic| topic.error().is_none()).map_or(&[][..], |topic| topic.partitions());
            let leaders = partitions.iter().filter(|partition| partition.leader() >= 0).count();
            if !partitions.is_empty() && partitions.len() != wanted.partitions as usize {
                let (name, there, wanted) = (&wanted.name, partitions.len(), wanted.partitions);
                let what = format!("topic {name} has {there} partitions, and the log was made with {wanted}");
                let hint = "the numbers are fixed when a log is made, because another would send a key elsewhere: set \
                            another kafka.topic_prefix to start a new log";
                return Err(self.refusal(what, hint));
            }
            if leaders == wanted.partitions as usize {
                return Ok(());
            }
            left = left.saturating_sub(LOOK_INTERVAL);
            if left.is_zero() {
                let reason = format!(
                    "{} has {leaders} partitions with a leader instead of {} (are all brokers up?)",
                    wanted.name, wanted.partitions
                );
                return Err(LogError::Unavailable { reason: reason.into() });
            }
            while self.asking.poll(LOOK_INTERVAL).is_some() {}
        }
    }

    /// What a topic of one partition holds.
    pub(crate) fn range_of(&self, topic: &str) -> Result<(i64, i64), LogError> {
        let name = format!("{}{topic}", self.config.topic_prefix);
        ranges::ask(self.asking, &name, 0, self.config.request_timeout())
    }

    /// Refuses settings of topics under which the log would not keep its promises.
    pub(crate) fn check_settings(&self, wanted: &[Wanted]) -> Result<(), LogError> {
        let asked: Vec<_> = wanted.iter().map(|wanted| ResourceSpecifier::Topic(&wanted.name)).collect();
        let options = AdminOptions::new().request_timeout(Some(self.config.request_timeout()));
        let described = match wait(self.admin.describe_configs(&asked, &options)) {
            Ok(described) => described,
            Err(error) => {
                tracing::warn!(%error, "the topics' settings cannot be read, and are taken for right");
                return Ok(());
            }
        };
        for (wanted, described) in wanted.iter().zip(described) {
            let name = &wanted.name;
            let described = match described {
                Ok(described) => described,
                Err(error) => {
                    tracing::warn!(topic = name, %error, "the topic's settings cannot be read, and are taken for right");
                    continue;
                }
            };
            let value = |key| described.get(key).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
            if value("cleanup.policy").contains("compact") {
                let what = format!("topic {name} is compacted, and each of its records counts");
                return Err(self.refusal(what, "set its cleanup.policy to delete"));
            }
            let needed = limits::RECORD_BYTES_MAX + BATCH_OVERHEAD_BYTES_MAX;
            if value("max.message.bytes").parse::<usize>().is_ok_and(|bytes| bytes < needed) {
                let what = format!("topic {name} takes no records of {needed} bytes");
                return Err(self.refusal(what, "raise its max.message.bytes to 4259840 or more"));
            }
            if value("message.timestamp.type") == "CreateTime" {
                let what = format!("topic {name} takes a record's time from its producer");
                return Err(self.refusal(what, "set its message.timestamp.type to LogAppendTime"));
            }
        }
        Ok(())
    }
}

pub(crate) fn exists(metadata: &Metadata, name: &str) -> bool {
    metadata.topics().iter().any(|topic| topic.name() == name)
}

/// What a topic is made with.
fn topic_settings(retention: &Retention) -> Vec<(&'static str, String)> {
    let kept = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
    let age_ms = retention.age_seconds.map(|seconds| seconds.saturating_mul(1000));
    // Only whole segments are dropped: one is closed after a day, or sooner where less than some days are kept.
    let segment_ms = age_ms.map_or(7 * DAY_MS, |age_ms| (age_ms / 4).clamp(60_000, DAY_MS));
    vec![
        ("cleanup.policy", "delete".to_owned()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("max.message.bytes", (limits::RECORD_BYTES_MAX + BATCH_OVERHEAD_BYTES_MAX).to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("retention.ms", kept(age_ms)),
        ("retention.bytes", kept(retention.partition_bytes)),
        ("segment.ms", segment_ms.to_string()),
    ]
}

/// Waits for an answer of the admin client, which has a thread and a time limit of its own.
pub(crate) fn wait<T>(future: impl Future<Output = Result<T, KafkaError>>) -> Result<T, KafkaError> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

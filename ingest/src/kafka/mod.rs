//! The log on Apache Kafka: any number of processes, as many brokers as are wanted. docs/KAFKA.md says what is promised
//! and what less than by the embedded log.
//!
//! - [`config`]: the settings. [`stats`], [`metrics`]: what it counts.
//! - `topics`, `identity`: the topics are made, and which log this is. `slots`: partitions by number. `client`: what
//!   every client has.
//! - `appender`, `call`, `lane`, `desk`, `pacer`, `producer`: from a call to its answer.
//! - `fetcher`, `reader`: from the brokers to a reader. `ranges`, `watermark`: what partitions hold.
//! - `group`: which process does what.
//! - `operator`: who is at work on it, and deleting it. [`bulk`]: a copy of another log. `copying`: its topics, which are no log until it is done. `sender`: its records on their
//!   way. `filler`: partitions that begin beyond offset 0. `first_record`: what is agreed on.

pub mod bulk;
pub mod config;
pub mod metrics;
pub mod stats;

mod appender;
mod call;
mod client;
mod copying;
mod desk;
mod fetcher;
mod filler;
mod first_record;
mod group;
mod identity;
mod lane;
mod operator;
mod pacer;
mod producer;
mod ranges;
mod reader;
mod sender;
mod silence;
mod slots;
mod topics;
mod watermark;

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use tidings_schemas::clock::{Clock, Entropy};
use tidings_schemas::topics::{Partitions, Topic};

use self::appender::Appender;
use self::client::Context;
use self::config::KafkaConfig;
use self::fetcher::Fetchers;
use self::group::GroupMember;
use self::identity::Identity;
use self::ranges::Ranges;
use self::reader::KafkaReader;
use self::slots::Slots;
use self::stats::{Counters, Stats};
use self::topics::Topics;
use crate::error::{AppendError, LogError};
use crate::group::{Groups, Membership};
use crate::log::{Log, LogReader, NewRecord, OffsetRange, OnAppended, OnRange, Pace};

/// A process' access to a log on Kafka. Dropping it waits a while for what is on its way; readers that are still there can
/// read on.
pub struct KafkaLog {
    log_id: u128,
    config: KafkaConfig,
    slots: Slots,
    /// Each topic's name on the brokers, by [`Topic::index`].
    names: Vec<Arc<str>>,
    /// None: it is open to be read only.
    appender: Option<Arc<Appender>>,
    /// By [`Pace`].
    fetchers: [Arc<Fetchers>; Pace::ALL.len()],
    ranges: Arc<Ranges>,
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

impl KafkaLog {
    /// Opens the log on the configured brokers, or makes it: its topics, if they are missing. Blocks for as long as the
    /// brokers take, but not much longer than `request_timeout_ms` for each question.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when the brokers do not answer; [`LogError::Mismatch`] when settings are missing, or the
    /// topics are not as they must be.
    pub fn open(config: &KafkaConfig, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, LogError> {
        let (client, asking, counters) = Self::clients(config)?;
        let identity = Topics::new(config, &client, &asking, &counters)?.open(&*clock, &*entropy)?;
        let (slots, names) = (Slots::new(&Partitions::from(identity.partitions)), Self::names(config));
        let appender = Appender::new(
            producer::configure(client.clone()),
            slots,
            &names,
            (config.delivery_timeout(), config.append_interval()),
            clock,
            Arc::clone(&counters),
        )?;
        Self::start(config, &identity, (client, asking, counters), Some(appender))
    }

    /// Opens the log that is there, to be read only: makes nothing, and refuses appends.
    ///
    /// # Errors
    /// As [`KafkaLog::open`]; [`LogError::Absent`] when there is no log.
    pub fn open_to_read(config: &KafkaConfig) -> Result<Self, LogError> {
        let (client, asking, counters) = Self::clients(config)?;
        let identity = Topics::new(config, &client, &asking, &counters)?.find()?;
        Self::start(config, &identity, (client, asking, counters), None)
    }

    /// What every client is made with, the one that asks, and what they count.
    pub(crate) fn clients(
        config: &KafkaConfig,
    ) -> Result<(ClientConfig, BaseConsumer<Context>, Arc<Counters>), LogError> {
        let client = config.client()?;
        let counters = Arc::new(Counters::default());
        let asking = ranges::client(client.clone(), Arc::clone(&counters))
            .map_err(|error| unavailable("the settings of [kafka] make no client", &error))?;
        Ok((client, asking, counters))
    }

    pub(crate) fn names(config: &KafkaConfig) -> Vec<Arc<str>> {
        Topic::ALL.iter().map(|topic| config.topic_name(*topic).into()).collect()
    }

    pub(crate) fn start(
        config: &KafkaConfig,
        identity: &Identity,
        (client, asking, counters): (ClientConfig, BaseConsumer<Context>, Arc<Counters>),
        appender: Option<Arc<Appender>>,
    ) -> Result<Self, LogError> {
        let (slots, names) = (Slots::new(&Partitions::from(identity.partitions)), Self::names(config));
        let ranges = Ranges::new(asking, slots.clone(), names.clone(), config.request_timeout());
        let mut log = Self {
            log_id: identity.log_id(),
            config: config.clone(),
            fetchers: Pace::ALL.map(|pace| Fetchers::new(pace, client.clone(), config, Arc::clone(&counters))),
            slots,
            names,
            appender,
            ranges,
            counters,
            threads: Vec::new(),
        };
        let no_thread = |error| unavailable("no thread can be started", &error);
        if let Some(appender) = &log.appender {
            log.threads.extend(appender.start().map_err(no_thread)?);
        }
        log.threads.push(log.ranges.start().map_err(no_thread)?);
        Ok(log)
    }

    /// The counters as they stand.
    pub fn stats(&self) -> Stats {
        let (queue_records, queue_bytes) = self.appender.as_ref().map_or((0, 0), |appender| appender.depth());
        let (queue_records, queue_bytes) = (queue_records as u64, queue_bytes as u64);
        Stats { queue_records, queue_bytes, ..self.counters.totals() }
    }

    /// Stops all fetching of the readers that are open, as consumers do that have gone deaf: for tests.
    #[cfg(feature = "conformance")]
    pub fn deafen(&self) {
        self.fetchers.iter().for_each(|fetchers| fetchers.deafen());
    }
}

fn unavailable(what: &str, error: &dyn std::fmt::Display) -> LogError {
    LogError::Unavailable { reason: format!("{what}: {error}").into() }
}

impl Log for KafkaLog {
    fn log_id(&self) -> u128 {
        self.log_id
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.slots.partitions(topic)
    }

    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        match &self.appender {
            Some(appender) => appender.append(records, on_appended),
            None => on_appended(Err(AppendError::Unavailable { reason: "it is open to be read only".into() })),
        }
    }

    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        self.ranges.ask(topic, partition)
    }

    fn range_with(&self, topic: Topic, partition: u32, on_range: OnRange) {
        self.ranges.ask_with(topic, partition, on_range);
    }

    fn end_seen(&self, topic: Topic, partition: u32) -> Option<u64> {
        let slot = self.slots.slot(topic, partition)?;
        let name = &self.names[topic.index()];
        self.fetchers.iter().filter_map(|fetchers| fetchers.end_seen(slot, name, partition)).max()
    }

    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        self.paced_reader(Pace::Prompt, topic, partition, from)
    }

    fn paced_reader(
        &self,
        pace: Pace,
        topic: Topic,
        partition: u32,
        from: u64,
    ) -> Result<Box<dyn LogReader>, LogError> {
        let slot = self.slots.slot(topic, partition).ok_or(LogError::UnknownPartition { topic, partition })?;
        let OffsetRange { start, end } = self.range(topic, partition)?;
        if !(start..=end).contains(&from) {
            return Err(LogError::OutOfRange { topic, partition, asked: from, start, end });
        }
        let (ranges, name) = (Arc::clone(&self.ranges), &self.names[topic.index()]);
        let fetchers = &self.fetchers[pace as usize];
        Ok(Box::new(KafkaReader::open(fetchers, ranges, (topic, partition), (slot, name), from)?))
    }
}
impl Groups for KafkaLog {
    fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Membership>, LogError> {
        let (client, counters) = (self.config.client()?, Arc::clone(&self.counters));
        Ok(Box::new(GroupMember::join(&self.config, client, counters, group, topics)?))
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        if let Some(appender) = &self.appender {
            appender.close();
        }
        self.ranges.close();
        self.fetchers.iter().for_each(|fetchers| fetchers.close());
        let current = thread::current().id();
        for thread in self.threads.drain(..) {
            // The last reference may have been a caller's, dropped on the log's own thread.
            if thread.thread().id() != current && thread.join().is_err() {
                tracing::error!("a thread of the log has panicked");
            }
        }
    }
}

//! Kafka's own group membership, used to share out partitions and for nothing else: no record is read here and no offset
//! committed.
//!
//! The assignment is cooperative and sticky: a member that joins or dies moves only what must move. All that the group
//! says comes to a thread of its own, which waits there while a member stops what it has to give away; the heartbeats are
//! sent by another thread meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tidings_schemas::topics::Topic;
use tokio::sync::watch;

use super::client::Context;
use super::config::KafkaConfig;
use super::stats::Counters;
use crate::error::LogError;
use crate::group::{Assignment, Membership};

/// How long the thread waits for the group at a time.
const POLL: Duration = Duration::from_millis(100);
/// How long leaving may take.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// A member whose thread has not looked for this long has lost its partitions. Far above what it waits at a time.
const POLL_INTERVAL_MAX_MS: u64 = 60_000;

/// Between the group's thread and the member.
struct Shared {
    group: String,
    prefix: String,
    assigned: watch::Sender<Assignment>,
    /// The newest generation for which the member has stopped what is not its own.
    settled: Mutex<u64>,
    has_settled: Condvar,
    handover_timeout: Duration,
    is_leaving: AtomicBool,
}

/// A member. Its thread ends when this is dropped.
pub(crate) struct GroupMember {
    shared: Arc<Shared>,
    ended: Mutex<mpsc::Receiver<()>>,
}

/// What the consumer calls back.
struct GroupContext {
    shared: Arc<Shared>,
    context: Context,
}

impl GroupMember {
    /// Joins.
    pub(crate) fn join(
        config: &KafkaConfig,
        client: ClientConfig,
        counters: Arc<Counters>,
        group: &str,
        topics: &[Topic],
    ) -> Result<Self, LogError> {
        let unavailable = |error: &dyn std::fmt::Display| LogError::Unavailable {
            reason: format!("the group {group} cannot be joined: {error}").into(),
        };
        let shared = Arc::new(Shared {
            group: group.to_owned(),
            prefix: config.topic_prefix.clone(),
            assigned: watch::Sender::new(Assignment::default()),
            settled: Mutex::new(0),
            has_settled: Condvar::new(),
            handover_timeout: Duration::from_millis(config.handover_timeout_ms),
            is_leaving: AtomicBool::new(false),
        });
        let context = GroupContext { shared: Arc::clone(&shared), context: Context::new("group", counters) };
        let config = configure(client, config, group);
        let consumer = BaseConsumer::from_config_and_context(&config, context).map_err(|error| unavailable(&error))?;
        let names: Vec<String> = topics.iter().map(|topic| format!("{}{}", shared.prefix, topic.name())).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(|error| unavailable(&error))?;
        let (end, ended) = mpsc::channel();
        let member = Arc::clone(&shared);
        let thread = thread::Builder::new().name(format!("group-{group}"));
        thread.spawn(move || member.run(consumer, end)).map_err(|error| unavailable(&error))?;
        Ok(Self { shared, ended: Mutex::new(ended) })
    }
}

fn configure(mut client: ClientConfig, config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut set = |key: &str, value: String| {
        client.set(key, value);
    };
    set("group.id", format!("{}{group}", config.topic_prefix));
    set("partition.assignment.strategy", "cooperative-sticky".to_owned());
    set("session.timeout.ms", config.session_timeout_ms.to_string());
    set("heartbeat.interval.ms", config.heartbeat_interval_ms.to_string());
    let poll_interval_max_ms = POLL_INTERVAL_MAX_MS.max(config.handover_timeout_ms.saturating_mul(2));
    set("max.poll.interval.ms", poll_interval_max_ms.to_string());
    // A coordinator that has moved is looked for at once.
    set("coordinator.query.interval.ms", "1000".to_owned());
    set("enable.auto.commit", "false".to_owned());
    set("enable.auto.offset.store", "false".to_owned());
    set("auto.offset.reset", "latest".to_owned());
    set("fetch.wait.max.ms", "1000".to_owned());
    client
}

impl Shared {
    fn run(&self, consumer: BaseConsumer<GroupContext>, end: mpsc::Sender<()>) {
        while !self.is_leaving.load(Ordering::Acquire) {
            match consumer.poll(POLL) {
                // Fetched before the pause took hold; the partition's readers read it elsewhere.
                None | Some(Ok(_)) => {}
                Some(Err(error)) => tracing::warn!(group = self.group, %error, "kafka: the group"),
            }
        }
        // Tells the group, so that it need not wait for a time-out.
        drop(consumer);
        // Nobody may wait for it.
        let _ = end.send(());
    }

    /// Changes what is owned, and gives the new generation.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<(Topic, u32)>)) -> u64 {
        let mut generation = 0;
        self.assigned.send_modify(|assigned| {
            change(&mut assigned.partitions);
            assigned.generation += 1;
            generation = assigned.generation;
        });
        generation
    }

    /// Waits until the member has stopped what is not its own, but not for ever.
    fn wait_settled(&self, generation: u64) {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let is_not = |settled: &mut u64| *settled < generation && !self.is_leaving.load(Ordering::Acquire);
        let waited = self.has_settled.wait_timeout_while(settled, self.handover_timeout, is_not);
        let (_settled, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            let timeout = self.handover_timeout;
            tracing::warn!(group = self.group, ?timeout, "what another is to take over has not stopped in time");
        }
    }

    fn partitions(&self, list: &TopicPartitionList) -> BTreeSet<(Topic, u32)> {
        let known = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let topic = Topic::from_name(element.topic().strip_prefix(&self.prefix)?)?;
            Some((topic, u32::try_from(element.partition()).ok()?))
        };
        list.elements().iter().filter_map(known).collect()
    }
}

impl GroupContext {
    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        // Where nothing has to be looked up; and then not even from there.
        list.set_all_offsets(Offset::End)?;
        consumer.incremental_assign(list)?;
        consumer.pause(list)
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let shared = &self.shared;
        let partitions = shared.partitions(list);
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(group = shared.group, ?partitions, "given partitions");
            let assigned = self.assign(consumer, list);
            if !partitions.is_empty() {
                shared.change(|owned| owned.extend(partitions));
            }
            assigned
        } else {
            let is_lost = consumer.assignment_lost();
            tracing::info!(group = shared.group, ?partitions, is_lost, "partitions go to others");
            let generation = shared.change(|owned| owned.retain(|partition| !partitions.contains(partition)));
            // What is lost, others have already.
            if !is_lost && !partitions.is_empty() {
                shared.wait_settled(generation);
            }
            consumer.incremental_unassign(list)
        };
        if let Err(error) = done {
            tracing::warn!(group = shared.group, %error, "kafka: the group's answer could not be followed");
        }
    }
}

impl Membership for GroupMember {
    fn assigned(&self) -> watch::Receiver<Assignment> {
        self.shared.assigned.subscribe()
    }

    fn settled(&self, generation: u64) {
        let mut settled = self.shared.settled.lock().unwrap_or_else(PoisonError::into_inner);
        *settled = (*settled).max(generation);
        self.shared.has_settled.notify_all();
    }

    fn leave(self: Box<Self>) {
        self.shared.leave();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(LEAVE_PATIENCE).is_err() {
            tracing::warn!(group = self.shared.group, "the group was not told in time that this process leaves it");
        }
    }
}

impl Shared {
    fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        // Under the lock, so that it does not come between the look and the wait.
        let _settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_settled.notify_all();
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

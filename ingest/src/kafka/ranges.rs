//! What partitions hold: asked of their leaders, on a connection of its own, so that no fetch that a broker holds back and
//! no append stands in the way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use tidings_schemas::limits::KAFKA_RANGES_WAITING_MAX;
use tidings_schemas::topics::Topic;

use super::client::Context;
use super::silence::Silence;
use super::slots::{Slot, Slots};
use super::stats::Counters;
use crate::error::LogError;
use crate::log::{OffsetRange, OnRange};

/// How often the client's own messages are looked at while nobody asks anything.
const SERVE_INTERVAL: Duration = Duration::from_millis(500);
/// How often silent readers are looked after.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Before a partition without a leader is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Who waits for which partition.
#[derive(Default)]
struct Waiting {
    by_slot: BTreeMap<Slot, Vec<OnRange>>,
    count: usize,
}

/// See the module.
pub(crate) struct Ranges {
    client: BaseConsumer<Context>,
    slots: Slots,
    /// By `Topic::index`.
    names: Vec<Arc<str>>,
    timeout: Duration,
    waiting: Mutex<Waiting>,
    came: Condvar,
    is_closed: AtomicBool,
    /// Readers to be looked after.
    pub(crate) silence: Silence,
}

impl Ranges {
    pub(crate) fn new(
        client: BaseConsumer<Context>,
        slots: Slots,
        names: Vec<Arc<str>>,
        timeout: Duration,
    ) -> Arc<Self> {
        let (waiting, came) = (Mutex::default(), Condvar::new());
        Arc::new(Self {
            client,
            slots,
            names,
            timeout,
            waiting,
            came,
            is_closed: AtomicBool::new(false),
            silence: Silence::default(),
        })
    }

    /// Starts the thread that asks for those who do not wait themselves.
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let ranges = Arc::clone(self);
        thread::Builder::new().name("log-ranges".to_owned()).spawn(move || ranges.run())
    }

    /// Asks and waits.
    pub(crate) fn ask(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        self.slots.slot(topic, partition).ok_or(LogError::UnknownPartition { topic, partition })?;
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let (start, end) = ask(&self.client, &self.names[topic.index()], number, self.timeout)?;
        let offset = |offset: i64| u64::try_from(offset).unwrap_or(0);
        Ok(OffsetRange { start: offset(start), end: offset(end) })
    }

    /// Asks, and does not wait. All who ask for the same partition before it is asked for share the answer.
    pub(crate) fn ask_with(&self, topic: Topic, partition: u32, on_range: OnRange) {
        let Some(slot) = self.slots.slot(topic, partition) else {
            return on_range(Err(LogError::UnknownPartition { topic, partition }));
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = if self.is_closed.load(Ordering::Acquire) {
            "the log is closed"
        } else if waiting.count >= KAFKA_RANGES_WAITING_MAX {
            "too many wait for the brokers' answer: retry after a moment"
        } else {
            waiting.count += 1;
            waiting.by_slot.entry(slot).or_default().push(on_range);
            self.came.notify_one();
            return;
        };
        drop(waiting);
        on_range(Err(LogError::Unavailable { reason: reason.into() }));
    }

    /// Whoever still waits is told that there will be no answer.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.came.notify_one();
    }

    fn run(&self) {
        let all: Vec<(Topic, u32)> = self.slots.all().collect();
        let mut looked = now();
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let is_idle = |waiting: &mut Waiting| waiting.count == 0 && !self.is_closed.load(Ordering::Acquire);
            let (mut waiting, _) =
                self.came.wait_timeout_while(waiting, SERVE_INTERVAL, is_idle).unwrap_or_else(PoisonError::into_inner);
            let Waiting { by_slot, .. } = std::mem::take(&mut *waiting);
            drop(waiting);
            self.serve();
            let is_closed = self.is_closed.load(Ordering::Acquire);
            for (slot, waiting) in by_slot {
                let (topic, partition) = all[slot as usize];
                let range = match is_closed {
                    true => Err(LogError::Unavailable { reason: "the log is closed".into() }),
                    false => self.ask(topic, partition),
                };
                waiting.into_iter().for_each(|on_range| on_range(range.clone()));
            }
            if is_closed {
                return;
            }
            let now = now();
            if now.saturating_duration_since(looked) >= LOOK_INTERVAL {
                looked = now;
                self.silence.look(now, |topic, partition| self.ask(topic, partition));
            }
        }
    }

    /// Passes on what the client has to say; it fetches no records.
    fn serve(&self) {
        while self.client.poll(Duration::ZERO).is_some() {}
    }
}

/// For how often something is done, alone.
#[allow(clippy::disallowed_methods, reason = "nothing that is written depends on it")]
fn now() -> Instant {
    Instant::now()
}

/// The first offset that is kept and the next to be written. While the partition has no leader, or one that does not know
/// it yet, it is asked again until the time is over.
pub(crate) fn ask(
    client: &BaseConsumer<Context>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<(i64, i64), LogError> {
    let mut left = timeout;
    loop {
        let error = match client.fetch_watermarks(topic, partition, left) {
            Ok(range) => return Ok(range),
            Err(error) => error,
        };
        let is_moving = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::ReplicaNotAvailable
                    | RDKafkaErrorCode::KafkaStorageError
                    | RDKafkaErrorCode::OffsetNotAvailable
                    | RDKafkaErrorCode::FencedLeaderEpoch
                    | RDKafkaErrorCode::UnknownLeaderEpoch
                    | RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::NetworkException
            )
        );
        // These come at once, so the pauses are what takes the time.
        left = left.saturating_sub(RETRY_INTERVAL);
        if !is_moving || left.is_zero() {
            return Err(client.context().unavailable(&error));
        }
        thread::park_timeout(RETRY_INTERVAL);
    }
}

/// The client that asks.
pub(crate) fn client(mut config: ClientConfig, counters: Arc<Counters>) -> KafkaResult<BaseConsumer<Context>> {
    config.set("isolation.level", "read_uncommitted");
    BaseConsumer::from_config_and_context(&config, Context::new("ranges", counters))
}

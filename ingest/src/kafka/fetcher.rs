//! The consumers that fetch for the readers. Each has every partition at most once, so there are as many as the most
//! readers of one partition; each reader has its partition's queue for itself.
//!
//! Partitions are assigned to consumers one by one, by us; no group is asked. Every consumer has a thread that serves what
//! is not of a partition: its log lines and errors.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidings_schemas::limits::{
    KAFKA_PATIENT_FETCH_BYTES, KAFKA_PATIENT_FETCH_WAIT, KAFKA_READERS_PER_PARTITION_MAX, KAFKA_STEADY_FETCH_BYTES,
    KAFKA_STEADY_FETCH_WAIT,
};

use super::client::Context;
use super::config::KafkaConfig;
use super::slots::Slot;
use super::stats::{Counters, add, take};
use crate::error::LogError;
use crate::log::Pace;

/// How long a consumer's thread waits at a time.
const SERVE: Duration = Duration::from_millis(100);

pub(crate) type Consumer = BaseConsumer<Context>;
pub(crate) type Queue = PartitionQueue<Context>;

/// See the module.
pub(crate) struct Fetchers {
    config: ClientConfig,
    counters: Arc<Counters>,
    fetchers: Mutex<Vec<Arc<Fetcher>>>,
}

/// One consumer.
pub(crate) struct Fetcher {
    consumer: Arc<Consumer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: BTreeSet<Slot>,
    is_closed: bool,
}

/// A partition of a consumer, for one reader.
pub(crate) struct Seat {
    fetchers: Arc<Fetchers>,
    fetcher: Arc<Fetcher>,
    slot: Slot,
    topic: Arc<str>,
    partition: i32,
    /// None only while it is being dropped.
    queue: Option<Queue>,
}

impl Fetchers {
    /// For readers of one pace.
    pub(crate) fn new(pace: Pace, client: ClientConfig, settings: &KafkaConfig, counters: Arc<Counters>) -> Arc<Self> {
        // A broker answers when it has so many bytes, or after so many milliseconds.
        let (wait_bytes, wait_ms) = match pace {
            Pace::Prompt => (1, settings.fetch_wait_ms.into()),
            Pace::Steady => (KAFKA_STEADY_FETCH_BYTES, KAFKA_STEADY_FETCH_WAIT.as_millis()),
            Pace::Patient => (KAFKA_PATIENT_FETCH_BYTES, KAFKA_PATIENT_FETCH_WAIT.as_millis()),
        };
        let mut config = client;
        let mut set = |key: &str, value: String| {
            config.set(key, value);
        };
        // It must have one to be given partitions at all; it never joins it and never commits.
        set("group.id", format!("{}readers", settings.topic_prefix));
        set("enable.auto.commit", "false".to_owned());
        set("enable.auto.offset.store", "false".to_owned());
        set("enable.partition.eof", "false".to_owned());
        set("isolation.level", "read_uncommitted".to_owned());
        set("check.crcs", "true".to_owned());
        // What is not there any more is the reader's to decide about.
        set("auto.offset.reset", "error".to_owned());
        set("fetch.wait.max.ms", wait_ms.to_string());
        set("fetch.min.bytes", wait_bytes.to_string());
        set("fetch.error.backoff.ms", "50".to_owned());
        // The default of a second is what a reader waits that has emptied a full queue.
        set("fetch.queue.backoff.ms", "1".to_owned());
        // With queues of their own, these hold for each partition. The number of records must not be what limits.
        set("queued.max.messages.kbytes", (settings.fetch_ahead_bytes_max / 1024).clamp(1, 2_097_151).to_string());
        set("queued.min.messages", "100000".to_owned());
        Arc::new(Self { config, counters, fetchers: Mutex::default() })
    }

    /// Gives a reader a partition of a consumer, to be fetched from `from` on. `on_nonempty` runs whenever the seat's
    /// queue is no longer empty, on a thread of the consumer: it must be quick and must not touch the queue.
    pub(crate) fn sit(
        self: &Arc<Self>,
        slot: Slot,
        topic: &Arc<str>,
        partition: u32,
        from: u64,
        on_nonempty: impl Fn() + Send + Sync + 'static,
    ) -> Result<Seat, LogError> {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        let fetcher = self.take(slot)?;
        let mut seat =
            Seat { fetchers: Arc::clone(self), fetcher, slot, topic: Arc::clone(topic), partition, queue: None };
        add(&self.counters.readers, 1);
        seat.open(from, on_nonempty).map_err(|error| LogError::Unavailable {
            reason: format!("{topic} partition {partition} cannot be fetched: {error}").into(),
        })?;
        Ok(seat)
    }

    /// The end of the partition as the consumers have been told it.
    pub(crate) fn end_seen(&self, slot: Slot, topic: &str, partition: u32) -> Option<u64> {
        let partition = i32::try_from(partition).ok()?;
        let fetchers = self.fetchers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fetchers
            .iter()
            .filter(|fetcher| fetcher.lock().taken.contains(&slot))
            .filter_map(|fetcher| super::watermark::cached_end(&fetcher.consumer, topic, partition))
            .max()
    }

    /// Consumers without readers end; the others when their last reader does.
    pub(crate) fn close(&self) {
        for fetcher in self.fetchers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            fetcher.lock().is_closed = true;
        }
    }

    /// Gives a seat for one whose consumer is deaf. Nobody sits down at that one any more; it ends when all have left.
    pub(crate) fn sit_elsewhere(
        self: &Arc<Self>,
        seat: &Seat,
        from: u64,
        on_nonempty: impl Fn() + Send + Sync + 'static,
    ) -> Result<Seat, LogError> {
        let mut fetchers = self.fetchers.lock().unwrap_or_else(PoisonError::into_inner);
        fetchers.retain(|fetcher| !Arc::ptr_eq(fetcher, &seat.fetcher));
        drop(fetchers);
        seat.fetcher.lock().is_closed = true;
        let partition = u32::try_from(seat.partition).unwrap_or(0);
        self.sit(seat.slot, &seat.topic, partition, from, on_nonempty)
    }

    /// Stops all fetching, as a consumer does that has gone deaf: for tests.
    #[cfg(feature = "conformance")]
    pub(crate) fn deafen(&self) {
        for fetcher in self.fetchers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let paused = fetcher.consumer.assignment().and_then(|list| fetcher.consumer.pause(&list));
            assert!(paused.is_ok(), "{paused:?}");
        }
    }

    fn take(&self, slot: Slot) -> Result<Arc<Fetcher>, LogError> {
        let mut fetchers = self.fetchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetcher) = fetchers.iter().find(|fetcher| fetcher.lock().taken.insert(slot)) {
            return Ok(Arc::clone(fetcher));
        }
        let unavailable = |reason: String| LogError::Unavailable { reason: reason.into() };
        if fetchers.len() >= KAFKA_READERS_PER_PARTITION_MAX {
            let reason = format!("there are {KAFKA_READERS_PER_PARTITION_MAX} readers of this partition already");
            return Err(unavailable(reason));
        }
        let consumer =
            Consumer::from_config_and_context(&self.config, Context::new("fetcher", Arc::clone(&self.counters)));
        let consumer = consumer.map_err(|error| unavailable(format!("no consumer can be made: {error}")))?;
        let state = State { taken: BTreeSet::from([slot]), is_closed: false };
        let fetcher = Arc::new(Fetcher { consumer: Arc::new(consumer), state: Mutex::new(state) });
        let served = Arc::clone(&fetcher);
        let thread = thread::Builder::new().name(format!("log-fetcher-{}", fetchers.len()));
        thread
            .spawn(move || served.serve())
            .map_err(|error| unavailable(format!("no thread can be started: {error}")))?;
        fetchers.push(Arc::clone(&fetcher));
        Ok(fetcher)
    }
}

impl Fetcher {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        loop {
            match self.consumer.poll(SERVE) {
                // Partitions have queues of their own from before they are assigned on.
                Some(Ok(_)) => tracing::error!("a record came outside of its partition's queue: this is a defect"),
                // Reported by the context; what concerns one partition comes through its queue.
                Some(Err(error)) => tracing::debug!(%error, "kafka: a consumer's error"),
                None => {}
            }
            let state = self.lock();
            if state.is_closed && state.taken.is_empty() {
                return;
            }
        }
    }
}

impl Seat {
    fn open(&mut self, from: u64, on_nonempty: impl Fn() + Send + Sync + 'static) -> KafkaResult<()> {
        // First the queue, then the partition: nothing goes elsewhere.
        let queue = self.fetcher.consumer.split_partition_queue(&self.topic, self.partition);
        let mut queue = queue.ok_or_else(|| KafkaError::Subscription("there is no queue for it".to_owned()))?;
        queue.set_nonempty_callback(on_nonempty);
        self.queue = Some(queue);
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        self.fetcher.consumer.incremental_assign(&self.list(Offset::Offset(from))?)
    }

    fn list(&self, offset: Offset) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&self.topic, self.partition, offset)?;
        Ok(list)
    }

    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.fetchers.counters
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        take(&self.fetchers.counters.readers, 1);
        let unassigned = self.list(Offset::Invalid).and_then(|list| self.fetcher.consumer.incremental_unassign(&list));
        if let Err(error) = unassigned {
            tracing::debug!(topic = &*self.topic, partition = self.partition, %error, "kafka: not assigned");
        }
        // Before the seat is free: the queue's call-back is the partition's, and would be taken from the next reader.
        self.queue = None;
        self.fetcher.lock().taken.remove(&self.slot);
    }
}

//! From a call to its answer: calls go through the lanes of their partitions to the producer, whose thread brings the
//! answers back.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig};
use tidings_schemas::clock::Clock;
use tidings_schemas::limits;

use super::call::{Call, Part, Then};
use super::desk::Desk;
use super::lane::{Begun, Lane, Resolved};
use super::pacer::Pacer;
use super::producer::{self, Producer};
use super::slots::{Slot, Slots};
use super::stats::{Counters, add, take};
use crate::error::{AppendError, LogError};
use crate::log::{NewRecord, OnAppended};

/// How long the producer's thread waits for an answer before it looks at the clock.
const POLL: Duration = Duration::from_millis(50);
/// How often it looks for what is late.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);
/// How long closing waits for what is on its way.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// One partition: its name on the brokers, and what is on its way there.
struct Target {
    topic: Arc<str>,
    partition: i32,
    lane: Mutex<Lane>,
}

/// See the module. Shared by callers, the producer's thread and its call-backs.
pub(crate) struct Appender {
    slots: Slots,
    targets: Vec<Target>,
    desk: Desk,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
    delivery_timeout: Duration,
    /// Between two groups of one partition.
    interval: Duration,
    pacer: Pacer,
    config: ClientConfig,
    /// None while it is being made, and while one that has failed for good is being replaced: nothing is sent off then.
    producer: RwLock<Option<Arc<Producer>>>,
}

impl Appender {
    /// `names`: each topic's on the brokers, by `Topic::index`.
    pub(crate) fn new(
        config: ClientConfig,
        slots: Slots,
        names: &[Arc<str>],
        (delivery_timeout, interval): (Duration, Duration),
        clock: Arc<dyn Clock>,
        counters: Arc<Counters>,
    ) -> Result<Arc<Self>, LogError> {
        let target = |(topic, partition): (tidings_schemas::topics::Topic, u32)| Target {
            topic: Arc::clone(&names[topic.index()]),
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            lane: Mutex::default(),
        };
        let targets = slots.all().map(target).collect();
        let appender = Arc::new(Self {
            slots,
            targets,
            desk: Desk::default(),
            counters,
            clock,
            delivery_timeout,
            interval,
            pacer: Pacer::default(),
            config,
            producer: RwLock::default(),
        });
        appender
            .connect()
            .map_err(|error| LogError::Unavailable { reason: format!("no producer can be made: {error}").into() })?;
        Ok(appender)
    }

    fn connect(self: &Arc<Self>) -> KafkaResult<()> {
        let producer = producer::create(&self.config, Arc::downgrade(self), Arc::clone(&self.counters))?;
        *self.producer.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(producer));
        Ok(())
    }

    /// Starts the threads that send off what is due and bring the answers back. They end when the appender is closed and
    /// nothing waits.
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<[JoinHandle<()>; 2]> {
        let (producing, pacing) = (Arc::clone(self), Arc::clone(self));
        let producer = thread::Builder::new().name("log-producer".to_owned()).spawn(move || producing.run())?;
        let pacer = thread::Builder::new().name("log-pacer".to_owned());
        let pacer = pacer.spawn(move || pacing.pacer.run(&*pacing.clock, |slot| pacing.begin(slot)))?;
        Ok([producer, pacer])
    }

    /// See `Log::append_with`.
    pub(crate) fn append(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        if records.is_empty() {
            if let Some((on_appended, result)) = self.desk.enter_empty(on_appended) {
                on_appended(result);
            }
            return;
        }
        let checked = self.check(&records).and_then(|(slots, bytes)| {
            let number = self.desk.enter(records.len(), bytes)?;
            Ok((slots, number))
        });
        let (slots, number) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                self.count_refusal(&error);
                return on_appended(Err(error));
            }
        };
        for part in Call::split(number, self.clock.monotonic(), records, &slots, on_appended) {
            self.push(part);
        }
    }

    /// Records and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        self.desk.depth()
    }

    /// Nothing more comes in; the thread ends when what is on its way is answered, or its patience is over.
    pub(crate) fn close(&self) {
        self.desk.close();
        self.pacer.close();
    }

    /// The partition of each record, and what the call takes of the queue.
    fn check(&self, records: &[NewRecord]) -> Result<(Vec<Slot>, usize), AppendError> {
        let (mut bytes, mut payload) = (0, 0);
        let mut slots = Vec::with_capacity(records.len());
        for record in records {
            let NewRecord { topic, partition, key, value } = record;
            let (topic, partition) = (*topic, *partition);
            let slot = self.slots.slot(topic, partition);
            slots.push(slot.ok_or(AppendError::UnknownPartition { topic, partition })?);
            let record_bytes = key.len() + value.len();
            if record_bytes > limits::RECORD_BYTES_MAX {
                let limit_bytes = limits::RECORD_BYTES_MAX;
                return Err(AppendError::TooLarge { unit: "record", bytes: record_bytes, limit_bytes });
            }
            payload += record_bytes;
            bytes += super::call::cost(record);
        }
        if payload > limits::APPEND_CALL_BYTES_MAX {
            let limit_bytes = limits::APPEND_CALL_BYTES_MAX;
            return Err(AppendError::TooLarge { unit: "call", bytes: payload, limit_bytes });
        }
        Ok((slots, bytes))
    }

    fn lane(&self, slot: Slot) -> MutexGuard<'_, Lane> {
        self.targets[slot as usize].lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, part: Part) {
        let slot = part.slot;
        let pushed = self.lane(slot).push(part);
        match pushed {
            Ok(()) => self.begin(slot),
            Err(part) => {
                let seconds = self.delivery_timeout.as_secs_f32();
                let target = &self.targets[slot as usize];
                let reason = format!(
                    "{} partition {} has not answered for more than {seconds} s (is there a leader, and enough in-sync \
                     replicas?)",
                    target.topic, target.partition
                );
                self.leave(&part);
                self.finish(&part, Err(AppendError::Unavailable { reason: reason.into() }));
            }
        }
    }

    /// Sends off what waits for a partition, if nothing is on its way there.
    fn begin(&self, slot: Slot) {
        let target = &self.targets[slot as usize];
        loop {
            let Some(producer) = self.producer() else { return };
            let mut lane = self.lane(slot);
            // What is on its way when the log is closed leaves without delay.
            let interval = if self.desk.is_closed() { Duration::ZERO } else { self.interval };
            let begun = lane.begin(self.clock.monotonic(), interval, |part, record, place| {
                let NewRecord { key, value, .. } = &part.records[record];
                let mut new = BaseRecord::with_opaque_to(&target.topic, producer::opaque(slot, place))
                    .partition(target.partition)
                    .payload(&value[..]);
                if !key.is_empty() {
                    new = new.key(&key[..]);
                }
                producer.send(new).map_err(|(error, _)| {
                    let reason = format!("the producer refused a record: {error}").into();
                    AppendError::Unavailable { reason }
                })
            });
            match begun {
                Begun::Nothing | Begun::Left => return,
                Begun::At(moment) => return self.pacer.at(moment, slot),
                Begun::Resolved => {}
            }
            let resolved = lane.resolve();
            drop(lane);
            self.settle(resolved);
        }
    }

    /// The producer has an answer for one record.
    pub(crate) fn delivered(&self, slot: Slot, place: u32, result: Result<u64, AppendError>) {
        let resolved = {
            let mut lane = self.lane(slot);
            if !lane.answered(place, result) {
                return;
            }
            lane.resolve()
        };
        // The next group leaves before the callers of this one are told: they may take their time.
        self.begin(slot);
        self.settle(resolved);
    }

    fn settle(&self, resolved: Option<Resolved>) {
        let Some(Resolved { answers, records, bytes, was_given_up }) = resolved else { return };
        add(&self.counters.groups, 1);
        self.desk.leave(records, bytes);
        if was_given_up {
            take(&self.counters.partitions_stalled, 1);
        }
        for (part, result) in answers {
            self.finish(&part, result);
        }
    }

    fn leave(&self, part: &Part) {
        self.desk.leave(part.records.len(), part.bytes);
    }

    /// A part is answered, and with the last one its call.
    fn finish(&self, part: &Part, result: Result<Vec<u64>, AppendError>) {
        let then = match result {
            Ok(offsets) => part.answered(Ok(&offsets)),
            Err(error) => part.answered(Err(error)),
        };
        match then {
            Then::Wait => {}
            Then::Send(parts) => parts.into_iter().for_each(|part| self.push(part)),
            Then::Answer { on_appended, result, dropped } => {
                dropped.iter().for_each(|part| self.leave(part));
                let call = &part.call;
                match &result {
                    Ok(_) => {
                        let took = self.clock.monotonic().saturating_sub(call.since);
                        self.counters.appended(call.records, call.bytes, took);
                    }
                    Err(error) => self.count_refusal(error),
                }
                answer(on_appended, result);
                while let Some(empty) = self.desk.answered(call.number) {
                    answer(Some(empty), Ok(Vec::new()));
                }
            }
        }
    }

    fn count_refusal(&self, error: &AppendError) {
        let counter = match error {
            AppendError::Full => &self.counters.refused_full,
            AppendError::TooLarge { .. } | AppendError::UnknownPartition { .. } => &self.counters.refused_invalid,
            AppendError::Unavailable { .. } => &self.counters.refused_unavailable,
            AppendError::Unknown { .. } => &self.counters.refused_unknown,
        };
        add(counter, 1);
    }

    fn producer(&self) -> Option<Arc<Producer>> {
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn run(self: Arc<Self>) {
        let mut swept = self.clock.monotonic();
        let mut closed = None;
        loop {
            match self.producer() {
                Some(producer) => {
                    producer.poll(POLL);
                    if let Some((code, reason)) = producer.client().fatal_error() {
                        tracing::error!(%code, reason, "the log's producer has failed for good and is replaced");
                        self.replace(&producer);
                    }
                }
                None => {
                    thread::park_timeout(POLL);
                    self.reconnect();
                }
            }
            let now = self.clock.monotonic();
            if now.saturating_sub(swept) >= SWEEP_INTERVAL {
                swept = now;
                self.give_up(now.saturating_sub(self.delivery_timeout));
            }
            if self.desk.is_closed() {
                let since = *closed.get_or_insert(now);
                if self.desk.is_idle() {
                    return;
                }
                // One may have found it too soon for its group a moment before the pacer ended.
                (0..).take(self.targets.len()).for_each(|slot| self.begin(slot));
                if now.saturating_sub(since) > CLOSE_PATIENCE {
                    tracing::warn!(
                        "the log is closed while appends are on their way: it is not known what becomes of them"
                    );
                    // Everything: nothing began later than now.
                    return self.give_up(now + SWEEP_INTERVAL);
                }
            }
        }
    }

    /// Tells the callers of what left before `before` that nobody knows, and refuses what has waited for as long.
    fn give_up(&self, before: Duration) {
        for (slot, target) in (0..).zip(&self.targets) {
            let late = self.lane(slot).give_up(before);
            if !late.given_up.is_empty() {
                add(&self.counters.partitions_stalled, 1);
                tracing::warn!(
                    topic = &*target.topic,
                    partition = target.partition,
                    "the brokers have not answered an append in time: its callers are told that it is not known"
                );
            }
            let seconds = self.delivery_timeout.as_secs_f32();
            for part in late.given_up {
                let reason = format!("the brokers have not answered for {seconds} s (do they run?)");
                self.finish(&part, Err(AppendError::Unknown { reason: reason.into() }));
            }
            for part in late.refused {
                let reason = format!("it could not be sent to the brokers for {seconds} s (do they run?)");
                self.leave(&part);
                self.finish(&part, Err(AppendError::Unavailable { reason: reason.into() }));
            }
        }
    }

    /// Puts a new producer in the place of one that has failed for good, once all that it had is answered.
    fn replace(self: &Arc<Self>, failed: &Producer) {
        *self.producer.write().unwrap_or_else(PoisonError::into_inner) = None;
        failed.purge(PurgeConfig::default().queue().inflight());
        let since = self.clock.monotonic();
        while failed.in_flight_count() > 0 && self.clock.monotonic().saturating_sub(since) < CLOSE_PATIENCE {
            failed.poll(POLL);
        }
        self.reconnect();
    }

    /// Makes a producer, and sends off what waits for one.
    fn reconnect(self: &Arc<Self>) {
        match self.connect() {
            Ok(()) => (0..).take(self.targets.len()).for_each(|slot| self.begin(slot)),
            // Tried again in a moment; meanwhile what waits for too long is refused.
            Err(error) => tracing::error!(%error, "no producer can be made: appends wait"),
        }
    }
}

/// Tells a caller. Its own panic is its own.
fn answer(on_appended: Option<OnAppended>, result: Result<Vec<u64>, AppendError>) {
    let Some(on_appended) = on_appended else { return };
    if std::panic::catch_unwind(AssertUnwindSafe(|| on_appended(result))).is_err() {
        tracing::error!("what was to be told of an append has panicked: this is a defect of the caller");
    }
}

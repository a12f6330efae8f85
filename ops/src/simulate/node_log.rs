//! The log as one node has it: calls take their time, are refused, or are answered with an error although they are
//! durable; partitions come at different speeds. Everything is drawn from the seed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tidings_ingest::{
    AppendError, Log, LogError, LogReader, NewRecord, OffsetRange, OnAppended, StoredRecord, Wake, memory::MemoryLog,
};
use tidings_schemas::topics::Topic;
use tokio::{sync::Notify, time::sleep};

use super::{
    gate::{Gate, Weather},
    random::Random,
    trace::Trace,
};

/// Of how many calls in a thousand each fails in a storm.
const FULL_PER_MILLE: u64 = 8;
const UNAVAILABLE_PER_MILLE: u64 = 12;
const UNKNOWN_BUT_DURABLE_PER_MILLE: u64 = 15;
const UNKNOWN_PER_MILLE: u64 = 5;
const READ_UNAVAILABLE_PER_MILLE: u64 = 4;

/// See the module.
pub(super) struct NodeLog {
    name: String,
    inner: Arc<MemoryLog>,
    gate: Arc<Gate>,
    weather: Arc<Weather>,
    random: Mutex<Random>,
    calls: Mutex<VecDeque<(Vec<NewRecord>, OnAppended)>>,
    called: Notify,
    trace: Trace,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Appended,
    Unavailable,
    UnknownButDurable,
    Unknown,
}

impl NodeLog {
    /// Begins to pass calls on.
    pub(super) fn new(
        name: String,
        inner: &Arc<MemoryLog>,
        gate: &Arc<Gate>,
        weather: &Arc<Weather>,
        random: Random,
        trace: &Trace,
    ) -> Arc<Self> {
        let log = Arc::new(Self {
            name,
            inner: Arc::clone(inner),
            gate: Arc::clone(gate),
            weather: Arc::clone(weather),
            random: Mutex::new(random),
            calls: Mutex::default(),
            called: Notify::new(),
            trace: trace.clone(),
        });
        tokio::spawn(Arc::clone(&log).pass_on());
        log
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn strikes(&self, per_mille: u64) -> bool {
        self.weather.is_stormy() && self.draw(|random| random.chance(per_mille))
    }

    fn delay(&self) -> Duration {
        let stormy = self.weather.is_stormy();
        let millis = self.draw(|random| match random.below(1000) {
            _ if !stormy => random.below(2),
            0..700 => random.below(4),
            700..985 => random.below(40),
            _ => random.between(100, 2_500),
        });
        Duration::from_millis(millis)
    }

    fn fate(&self) -> Fate {
        if !self.weather.is_stormy() {
            return Fate::Appended;
        }
        let mut drawn = self.draw(|random| random.below(1000));
        for (fate, per_mille) in [
            (Fate::Unavailable, UNAVAILABLE_PER_MILLE),
            (Fate::UnknownButDurable, UNKNOWN_BUT_DURABLE_PER_MILLE),
            (Fate::Unknown, UNKNOWN_PER_MILLE),
        ] {
            if drawn < per_mille {
                return fate;
            }
            drawn -= per_mille;
        }
        Fate::Appended
    }

    /// One call after the other, as the port demands.
    async fn pass_on(self: Arc<Self>) {
        loop {
            let next = self.calls.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((records, on_appended)) = next else {
                self.called.notified().await;
                continue;
            };
            sleep(self.delay()).await;
            self.gate.passed().await;
            let fate = self.fate();
            let reason = || "lost on the way (simulated)".into();
            let result = match fate {
                Fate::Appended => self.append(records),
                Fate::Unavailable => Err(AppendError::Unavailable { reason: reason() }),
                Fate::Unknown => Err(AppendError::Unknown { reason: reason() }),
                Fate::UnknownButDurable => {
                    self.append(records).and_then(|_| Err(AppendError::Unknown { reason: reason() }))
                }
            };
            if fate != Fate::Appended {
                self.trace.say(|| format!("{}: an append is {fate:?}", self.name));
            }
            sleep(self.delay()).await;
            self.gate.passed().await;
            on_appended(result);
        }
    }

    fn append(&self, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
        for record in &records {
            self.trace.mix(record.topic.name().as_bytes());
            self.trace.mix(&record.partition.to_le_bytes());
            self.trace.mix(&record.value);
        }
        let places: Vec<_> = records.iter().map(|record| (record.topic, record.partition)).collect();
        let answer = Arc::new(Mutex::new(None));
        let answered = Arc::clone(&answer);
        let on_appended = move |result| *answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.inner.append_with(records, Box::new(on_appended));
        while self.inner.commit_next() {}
        let result = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = result.unwrap_or(Err(AppendError::Full));
        if let Ok(offsets) = &result {
            for ((topic, partition), offset) in places.iter().zip(offsets) {
                self.trace.say(|| format!("{}: {}/{partition} has offset {offset}", self.name, topic.name()));
            }
        }
        result
    }
}

/// The log as a node has it.
pub(super) struct Connection(pub(super) Arc<NodeLog>);

impl Log for Connection {
    fn log_id(&self) -> u128 {
        self.0.inner.log_id()
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.0.inner.partitions(topic)
    }

    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        if self.0.strikes(FULL_PER_MILLE) {
            self.0.trace.say(|| format!("{}: an append is refused: full", self.0.name));
            return on_appended(Err(AppendError::Full));
        }
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).push_back((records, on_appended));
        self.0.called.notify_one();
    }

    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        if !self.0.gate.is_open() || self.0.strikes(READ_UNAVAILABLE_PER_MILLE) {
            return Err(unreadable());
        }
        self.0.inner.range(topic, partition)
    }

    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        if !self.0.gate.is_open() || self.0.strikes(READ_UNAVAILABLE_PER_MILLE) {
            return Err(unreadable());
        }
        let inner = self.0.inner.reader(topic, partition, from)?;
        Ok(Box::new(NodeReader { inner, log: Arc::clone(&self.0), topic, partition, entered: None }))
    }
}

fn unreadable() -> LogError {
    LogError::Unavailable { reason: "no connection (simulated)".into() }
}

struct NodeReader {
    inner: Box<dyn LogReader>,
    log: Arc<NodeLog>,
    topic: Topic,
    partition: u32,
    entered: Option<u64>,
}

impl LogReader for NodeReader {
    fn poll(&mut self, max_bytes: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        if !self.log.gate.lets_through(self.topic, self.partition) {
            return Ok(0);
        }
        if self.log.strikes(READ_UNAVAILABLE_PER_MILLE) {
            self.log.trace.say(|| format!("{}: {}/{} is unreadable", self.log.name, self.topic.name(), self.partition));
            return Err(unreadable());
        }
        self.inner.poll(max_bytes, into)
    }

    fn wake_with(&mut self, wake: Wake) {
        if let Some(entered) = self.entered.take() {
            self.log.gate.leave(entered);
        }
        self.entered = Some(self.log.gate.enter(Arc::clone(&wake)));
        self.inner.wake_with(wake);
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }
}

impl Drop for NodeReader {
    fn drop(&mut self) {
        if let Some(entered) = self.entered {
            self.log.gate.leave(entered);
        }
    }
}

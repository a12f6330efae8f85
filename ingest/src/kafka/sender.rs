//! Records of a copy on their way: each with its own time, each partition's in order, and each told to stand where it is to
//! stand. That is how it is noticed when somebody else writes to the same partitions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use super::client::Context;
use super::slots::Slot;
use crate::error::LogError;

/// How long is waited at a time.
const PIECE: Duration = Duration::from_millis(2);
/// Answers are taken after so many records, and whenever there is no room.
const TAKEN_AFTER: u32 = 1_000;

/// What has been answered.
struct Answered {
    /// By slot: the offset of the next record to be answered.
    next: Vec<u64>,
    count: u64,
    failed: Option<LogError>,
}

/// What the producer calls back.
struct Answers {
    place: String,
    answered: Arc<Mutex<Answered>>,
    context: Context,
}

/// See the module.
pub(crate) struct Sender {
    producer: BaseProducer<Answers>,
    answered: Arc<Mutex<Answered>>,
    /// How long no answer may come.
    patience: Duration,
    silent: Duration,
    untaken: u32,
}

/// One record.
pub(crate) struct Sent<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) slot: Slot,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Sender {
    /// `next` has the ends of the partitions, by slot.
    pub(crate) fn new(
        config: &ClientConfig,
        context: Context,
        place: String,
        next: Vec<u64>,
        patience: Duration,
    ) -> Result<Self, LogError> {
        let answered = Arc::new(Mutex::new(Answered { next, count: 0, failed: None }));
        let answers = Answers { place, answered: Arc::clone(&answered), context };
        let producer = BaseProducer::from_config_and_context(config, answers)
            .map_err(|error| LogError::Unavailable { reason: error.to_string().into() })?;
        Ok(Self { producer, answered, patience, silent: Duration::ZERO, untaken: 0 })
    }

    /// Sends a record; waits while there is no room.
    pub(crate) fn send(&mut self, sent: &Sent<'_>) -> Result<(), LogError> {
        let partition = i32::try_from(sent.partition).unwrap_or(i32::MAX);
        let mut record = BaseRecord::with_opaque_to(sent.topic, sent.slot as usize)
            .partition(partition)
            .timestamp(sent.timestamp_ms)
            .payload(sent.value);
        if !sent.key.is_empty() {
            record = record.key(sent.key);
        }
        self.untaken += 1;
        if self.untaken >= TAKEN_AFTER {
            self.untaken = 0;
            self.producer.poll(Duration::ZERO);
            self.check()?;
        }
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => record,
                Err((error, _)) => return Err(LogError::Unavailable { reason: error.to_string().into() }),
            };
            self.wait()?;
        }
    }

    /// Waits until all that was sent is answered.
    pub(crate) fn drain(&mut self) -> Result<(), LogError> {
        while self.producer.in_flight_count() > 0 {
            self.wait()?;
        }
        self.producer.poll(Duration::ZERO);
        self.check()
    }

    /// Waits a moment, but not for good while no answers come.
    fn wait(&mut self) -> Result<(), LogError> {
        let before = lock(&self.answered).count;
        self.producer.poll(PIECE);
        self.check()?;
        if lock(&self.answered).count > before {
            self.silent = Duration::ZERO;
            return Ok(());
        }
        self.silent += PIECE;
        if self.silent < self.patience {
            return Ok(());
        }
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::OperationTimedOut);
        Err(self.producer.context().context.unavailable(&error))
    }

    fn check(&self) -> Result<(), LogError> {
        lock(&self.answered).failed.clone().map_or(Ok(()), Err)
    }
}

fn lock(answered: &Mutex<Answered>) -> MutexGuard<'_, Answered> {
    answered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: usize) {
        let mut answered = lock(&self.answered);
        let expected = answered.next.get(slot).copied().unwrap_or_default();
        let failed = match result {
            // A broker that has had it before, and has forgotten where, tells no place. It is looked at in the end.
            Ok(message) => u64::try_from(message.offset()).ok().filter(|offset| *offset != expected).map(|offset| {
                let (topic, partition) = (message.topic(), message.partition());
                LogError::Mismatch {
                    place: self.place.clone(),
                    what: format!(
                        "a record of {topic} partition {partition} came to stand at offset {offset} instead of \
                         {expected}: somebody else writes there, too"
                    ),
                    hint: "stop that one, delete the topics (`tidings erase --drop-prefix PREFIX`), and begin again",
                }
            }),
            Err((error, _)) => Some(LogError::Unavailable { reason: error.to_string().into() }),
        };
        if let Some(next) = answered.next.get_mut(slot) {
            *next = expected + 1;
        }
        answered.count += 1;
        if answered.failed.is_none() {
            answered.failed = failed;
        }
    }
}

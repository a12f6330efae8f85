//! The producer: librdkafka's, idempotent, acknowledged by all in-sync replicas, with no time limit of its own.
//!
//! Why no limit: a record that librdkafka gives up for its age may be passed by the next one, if a broker comes back in
//! between; a consumer that keeps a watermark would then take the first one, when it is tried again, for a repeat. So a
//! record that was sent off stays in its place, and it is the callers who are told in time (`Appender::give_up`).

use std::sync::{Arc, Weak};

use rdkafka::Message as _;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use tidings_schemas::limits::{APPEND_QUEUE_BYTES_MAX, KAFKA_BATCH_BYTES, RECORD_BYTES_MAX};

use super::appender::Appender;
use super::client::Context;
use super::slots::Slot;
use super::stats::Counters;
use crate::error::AppendError;

/// What a record may have in addition to key and value: the batch around it.
pub(crate) const BATCH_OVERHEAD_BYTES_MAX: usize = 64 * 1024;

pub(crate) type Producer = BaseProducer<Deliveries>;

/// What the producer calls back.
pub(crate) struct Deliveries {
    appender: Weak<Appender>,
    context: Context,
}

/// What the producer needs beside what every client has.
pub(crate) fn configure(mut client: ClientConfig) -> ClientConfig {
    let mut set = |key: &str, value: String| {
        client.set(key, value);
    };
    set("acks", "all".to_owned());
    set("enable.idempotence", "true".to_owned());
    // A batch that is refused stops all that is behind it; the producer is then replaced.
    set("enable.gapless.guarantee", "true".to_owned());
    set("message.timeout.ms", "0".to_owned());
    // Lanes gather, with finer timers.
    set("linger.ms", "0".to_owned());
    set("retry.backoff.ms", "50".to_owned());
    set("message.max.bytes", (RECORD_BYTES_MAX + BATCH_OVERHEAD_BYTES_MAX).to_string());
    set("batch.size", KAFKA_BATCH_BYTES.to_string());
    // The bound is the desk's. These must never be met before it.
    set("queue.buffering.max.messages", "0".to_owned());
    set("queue.buffering.max.kbytes", (8 * APPEND_QUEUE_BYTES_MAX / 1024).to_string());
    client
}

pub(crate) fn create(
    config: &ClientConfig,
    appender: Weak<Appender>,
    counters: Arc<Counters>,
) -> KafkaResult<Producer> {
    let context = Deliveries { appender, context: Context::new("producer", counters) };
    BaseProducer::from_config_and_context(config, context)
}

const _: () = assert!(usize::BITS == 64, "a slot and a place are told as one pointer");

/// What a record carries to its answer: its partition's slot and its place in the group.
pub(crate) fn opaque(slot: Slot, place: u32) -> usize {
    (slot as usize) << 32 | place as usize
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    #[allow(clippy::cast_possible_truncation, reason = "two halves of one number")]
    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let Some(appender) = self.appender.upgrade() else { return };
        let result = match result {
            Ok(message) => u64::try_from(message.offset())
                .map_err(|_| AppendError::Unknown { reason: "the broker told no offset".into() }),
            Err((error, _)) => Err(append_error(error)),
        };
        appender.delivered((opaque >> 32) as Slot, opaque as u32, result);
    }
}

/// What a failed record is called.
fn append_error(error: &KafkaError) -> AppendError {
    use RDKafkaErrorCode as Code;
    let reason = format!("{error}").into();
    match error.rdkafka_error_code() {
        // Refused before anything was written.
        Some(
            Code::PurgeQueue
            | Code::MessageSizeTooLarge
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::PolicyViolation,
        ) => AppendError::Unavailable { reason },
        _ => AppendError::Unknown { reason },
    }
}

//! The first record of a topic of one partition, kept for good: what all processes agree on. Whoever comes first writes it; the
//! order of that partition decides between two who come at once.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::Context;
use super::config::KafkaConfig;
use crate::error::LogError;

/// Appends it. Somebody else may have been faster: what counts is what is then read.
pub(crate) fn write(config: &KafkaConfig, client: &ClientConfig, topic: &str, value: &[u8]) -> Result<(), LogError> {
    let unavailable = |error: KafkaError| LogError::Unavailable { reason: format!("{topic}: {error}").into() };
    let mut client = client.clone();
    client.set("acks", "all").set("enable.idempotence", "true");
    let producer: BaseProducer<DefaultProducerContext> =
        BaseProducer::from_config_and_context(&client, DefaultProducerContext).map_err(unavailable)?;
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(value);
    producer.send(record).map_err(|(error, _)| unavailable(error))?;
    producer.flush(config.request_timeout()).map_err(unavailable)
}

/// Reads it; the topic has one.
pub(crate) fn read(
    config: &KafkaConfig,
    client: &ClientConfig,
    context: Context,
    topic: &str,
) -> Result<Bytes, LogError> {
    let unavailable = |reason: String| LogError::Unavailable { reason: reason.into() };
    let mut client = client.clone();
    client.set("group.id", format!("{}readers", config.topic_prefix));
    client.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "100");
    let failed = |error: KafkaError| unavailable(format!("{topic}: {error}"));
    let consumer: BaseConsumer<Context> = BaseConsumer::from_config_and_context(&client, context).map_err(failed)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(0)).map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    const PIECE: Duration = Duration::from_millis(100);
    let pieces = config.request_timeout().as_millis().div_ceil(PIECE.as_millis());
    for _ in 0..pieces {
        match consumer.poll(PIECE) {
            Some(Ok(message)) => return Ok(Bytes::copy_from_slice(message.payload().unwrap_or_default())),
            Some(Err(error)) => tracing::debug!(%error, topic, "kafka: not read yet"),
            None => {}
        }
    }
    Err(unavailable(format!("{topic} has not given its first record in {:?}", config.request_timeout())))
}

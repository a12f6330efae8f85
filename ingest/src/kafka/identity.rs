//! What the log is: its identity and its numbers of partitions, kept on Kafka itself, as the first record of a topic of
//! one partition. Whoever comes first makes it; the order of that partition decides between two who come at once. So all
//! processes agree, and topics that were deleted and made anew are another log.

use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tidings_schemas::clock::{Clock, Entropy};

use super::client::Context;
use super::config::KafkaConfig;
use crate::error::LogError;
use crate::settings::PartitionCounts;

/// The topic's name, after the prefix.
pub(crate) const TOPIC: &str = "meta.v1";
const FORMAT: u32 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    format: u32,
    /// 32 hex digits.
    log_id: String,
    created_at_ms: i64,
    pub(crate) partitions: PartitionCounts,
}

impl Identity {
    /// One that nobody else has.
    pub(crate) fn new(clock: &dyn Clock, entropy: &dyn Entropy, partitions: PartitionCounts) -> Self {
        let log_id = format!("{:032x}", entropy.next_u128());
        Self { format: FORMAT, log_id, created_at_ms: clock.now_ms(), partitions }
    }

    pub(crate) fn log_id(&self) -> u128 {
        u128::from_str_radix(&self.log_id, 16).unwrap_or_default()
    }

    fn decode(bytes: &[u8], config: &KafkaConfig) -> Result<Self, LogError> {
        let topic = format!("{}{TOPIC}", config.topic_prefix);
        let refuse = |what: String, hint| Err(LogError::Mismatch { place: config.place(), what, hint });
        let identity: Self = match serde_json::from_slice(bytes) {
            Ok(identity) => identity,
            Err(error) => {
                let what = format!("the first record of {topic} is not a log's identity ({error})");
                return refuse(what, "set another kafka.topic_prefix");
            }
        };
        if identity.format > FORMAT {
            let what = format!("it has format {}, and this program knows {FORMAT} at most", identity.format);
            return refuse(what, "use the newer program that made it");
        }
        if u128::from_str_radix(&identity.log_id, 16).is_ok_and(|id| id != 0) {
            return Ok(identity);
        }
        refuse(
            format!("the log_id in the first record of {topic} is not 32 hex digits"),
            "set another kafka.topic_prefix",
        )
    }
}

/// The identity that stands in the topic, or else `candidate`, written there, unless another is faster. The topic is
/// there; `range` is what it holds.
pub(crate) fn agree(
    config: &KafkaConfig,
    client: &ClientConfig,
    context: impl Fn() -> Context,
    range: (i64, i64),
    candidate: impl FnOnce() -> Result<Identity, LogError>,
) -> Result<Identity, LogError> {
    let topic = format!("{}{TOPIC}", config.topic_prefix);
    let (start, end) = range;
    if start > 0 {
        return Err(LogError::Mismatch {
            place: config.place(),
            what: format!("the first record of {topic}, which says which log this is, was deleted"),
            hint: "that topic must keep all it has (retention.ms=-1): this log cannot be told from another any more",
        });
    }
    if end == 0 {
        write(config, client, &topic, &candidate()?)?;
    }
    read(config, client, context(), &topic)
}

fn write(config: &KafkaConfig, client: &ClientConfig, topic: &str, identity: &Identity) -> Result<(), LogError> {
    let unavailable = |error: KafkaError| LogError::Unavailable { reason: format!("{topic}: {error}").into() };
    let mut client = client.clone();
    client.set("acks", "all").set("enable.idempotence", "true");
    let producer: BaseProducer<DefaultProducerContext> =
        BaseProducer::from_config_and_context(&client, DefaultProducerContext).map_err(unavailable)?;
    let value = serde_json::to_vec(identity).unwrap_or_default();
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(&value);
    producer.send(record).map_err(|(error, _)| unavailable(error))?;
    producer.flush(config.request_timeout()).map_err(unavailable)
}

/// The first record of the topic: ours, or that of who was faster.
fn read(config: &KafkaConfig, client: &ClientConfig, context: Context, topic: &str) -> Result<Identity, LogError> {
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
            Some(Ok(message)) => return Identity::decode(message.payload().unwrap_or_default(), config),
            Some(Err(error)) => tracing::debug!(%error, topic, "kafka: not read yet"),
            None => {}
        }
    }
    Err(unavailable(format!("{topic} has not given its first record in {:?}", config.request_timeout())))
}

//! What the log is: its identity and its numbers of partitions, kept on Kafka itself, as the first record of a topic of
//! one partition. Whoever comes first makes it; the order of that partition decides between two who come at once. So all
//! processes agree, and topics that were deleted and made anew are another log.

use rdkafka::config::ClientConfig;
use serde::{Deserialize, Serialize};
use tidings_schemas::clock::{Clock, Entropy};

use super::client::Context;
use super::config::KafkaConfig;
use super::first_record;
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
        Self::of(entropy.next_u128(), clock, partitions)
    }

    /// That of a log that is copied.
    pub(crate) fn of(log_id: u128, clock: &dyn Clock, partitions: PartitionCounts) -> Self {
        Self { format: FORMAT, log_id: format!("{log_id:032x}"), created_at_ms: clock.now_ms(), partitions }
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
        let value = serde_json::to_vec(&candidate()?).unwrap_or_default();
        first_record::write(config, client, &topic, &value)?;
    }
    Identity::decode(&first_record::read(config, client, context(), &topic)?, config)
}

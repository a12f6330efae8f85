//! What the settings of every log have in common: how many partitions, and how long records are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidings_schemas::topics::{Partitions, Topic};

/// How many partitions each kind of topic has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PartitionCounts {
    /// `events` and `timeline`: shards of the conversations stage.
    pub conversations: u32,
    /// `signals`, `fanout`, `inbox` and `notifications`: shards of the recipients stage.
    pub recipients: u32,
    /// `deliveries`: the most edges there can be.
    pub edges: u32,
    /// `directory`.
    pub directory: u32,
}

impl Default for PartitionCounts {
    fn default() -> Self {
        Self { conversations: 2, recipients: 2, edges: 4, directory: 1 }
    }
}

impl From<PartitionCounts> for Partitions {
    fn from(counts: PartitionCounts) -> Self {
        let PartitionCounts { conversations, recipients, edges, directory } = counts;
        Self { conversations, recipients, edges, directory }
    }
}

/// How long a topic's records are kept. Whole files (Kafka: segments) are dropped, oldest first, as soon as either limit
/// is passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// At least this long, in seconds. Left out: for good.
    pub age_seconds: Option<u64>,
    /// At least this many bytes of each partition. Left out: however many.
    pub partition_bytes: Option<u64>,
}

const DAY_SECONDS: u64 = 24 * 60 * 60;

impl Retention {
    /// What a topic has if nothing is set. What views and archive are rebuilt from outlives the archive's year; the
    /// directory says who owns which name, and is kept for good; the rest is of use for days.
    pub fn default_of(topic: Topic) -> Self {
        let days = match topic {
            Topic::Directory => return Self::default(),
            Topic::Events | Topic::Timeline | Topic::Inbox => 400,
            Topic::Fanout | Topic::Notifications => 7,
            Topic::Signals | Topic::Deliveries | Topic::Leases => 1,
        };
        Self { age_seconds: Some(days * DAY_SECONDS), partition_bytes: None }
    }

    /// What each topic has, by [`Topic::index`]: what is set under its name, else its default.
    pub(crate) fn of_all(set: &BTreeMap<String, Self>) -> [Self; Topic::ALL.len()] {
        Topic::ALL.map(|topic| set.get(topic.name()).copied().unwrap_or_else(|| Self::default_of(topic)))
    }
}

//! One number for each partition of each topic.

use tidings_schemas::topics::{Partitions, Topic};

/// The number of a partition among all partitions of all topics.
pub(crate) type Slot = u32;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    /// By [`Topic::index`]: the first slot, and how many.
    topics: [(Slot, u32); Topic::ALL.len()],
}

impl Slots {
    pub(crate) fn new(partitions: &Partitions) -> Self {
        let mut next = 0;
        let topics = Topic::ALL.map(|topic| {
            let first = next;
            next += partitions.of(topic);
            (first, partitions.of(topic))
        });
        Self { topics }
    }

    /// The partition's slot, if the topic has it.
    pub(crate) fn slot(&self, topic: Topic, partition: u32) -> Option<Slot> {
        let (first, count) = self.topics[topic.index()];
        (partition < count).then_some(first + partition)
    }

    pub(crate) fn partitions(&self, topic: Topic) -> u32 {
        self.topics[topic.index()].1
    }

    /// All partitions, in the order of their slots.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Topic, u32)> + '_ {
        Topic::ALL.into_iter().flat_map(|topic| (0..self.partitions(topic)).map(move |partition| (topic, partition)))
    }
}

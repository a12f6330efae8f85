//! The topics of the log, and which partition a key belongs to.

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{ConversationId, UserId};

/// A topic. Its name carries the version of its records' schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What clients did, by conversation. The only truth.
    Events,
    /// Sessions, heartbeats, presence watches, typing, by user.
    Signals,
    /// What became of each event, by conversation.
    Timeline,
    /// What an event means for the recipients of one partition.
    Fanout,
    /// Each recipient's numbered stream.
    Inbox,
    /// What an edge must push now: the partition is the edge.
    Deliveries,
    /// Push work for recipients with no live session, by user.
    Notifications,
    /// Registrations, by user name.
    Directory,
    /// Which edge has which number, in one partition: the order decides.
    Leases,
}

impl Topic {
    /// All of them, in the order of [`Topic::index`].
    pub const ALL: [Self; 9] = [
        Self::Events,
        Self::Signals,
        Self::Timeline,
        Self::Fanout,
        Self::Inbox,
        Self::Deliveries,
        Self::Notifications,
        Self::Directory,
        Self::Leases,
    ];

    /// The topic's name on the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Events => "events.v1",
            Self::Signals => "signals.v1",
            Self::Timeline => "timeline.v1",
            Self::Fanout => "fanout.v1",
            Self::Inbox => "inbox.v1",
            Self::Deliveries => "deliveries.v1",
            Self::Notifications => "notifications.v1",
            Self::Directory => "directory.v1",
            Self::Leases => "leases.v1",
        }
    }

    /// The topic of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Its place in [`Topic::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// How many partitions each kind of topic has. Fixed when a log is made: another number would send a key elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions {
    /// `events` and `timeline`: shards of the conversations stage.
    pub conversations: u32,
    /// `signals`, `fanout`, `inbox` and `notifications`: shards of the recipients stage.
    pub recipients: u32,
    /// `deliveries`: the most edges there can be.
    pub edges: u32,
    /// `directory`.
    pub directory: u32,
}

impl Partitions {
    /// The number of partitions of a topic.
    pub fn of(&self, topic: Topic) -> u32 {
        match topic {
            Topic::Events | Topic::Timeline => self.conversations,
            Topic::Signals | Topic::Fanout | Topic::Inbox | Topic::Notifications => self.recipients,
            Topic::Deliveries => self.edges,
            Topic::Directory => self.directory,
            Topic::Leases => 1,
        }
    }
}

/// The partition, of `count`, of a conversation's events.
pub fn conversation_partition(conversation: ConversationId, count: u32) -> u32 {
    partition_of(&conversation.to_bytes(), count)
}

/// The partition, of `count`, of a user's signals, fan-out and inbox.
pub fn user_partition(user: UserId, count: u32) -> u32 {
    partition_of(&user.to_bytes(), count)
}

/// The partition, of `count`, of a user name's registrations. `username` is in its canonical (lower-case) form.
pub fn username_partition(username: &str, count: u32) -> u32 {
    partition_of(username.as_bytes(), count)
}

/// XXH3 of the key, scaled to the count by multiplication (Lemire's reduction: no modulo, even for any count).
#[allow(clippy::cast_possible_truncation, reason = "the product's upper half is below `count`")]
fn partition_of(key: &[u8], count: u32) -> u32 {
    ((u128::from(xxh3_64(key)) * u128::from(count)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_never_change() {
        // Written down once: another hash would send keys to other partitions and split their order.
        let found: Vec<u32> = (0..8).map(|n| user_partition(UserId(n), 64)).collect();
        assert_eq!(found, PINNED);
    }

    const PINNED: [u32; 8] = [52, 16, 3, 33, 5, 62, 10, 63];

    #[test]
    fn names_are_distinct_and_come_back() {
        for topic in Topic::ALL {
            assert_eq!(Topic::from_name(topic.name()), Some(topic));
            assert_eq!(Topic::ALL[topic.index()], topic);
        }
    }

    #[test]
    fn keys_spread_evenly() {
        let mut counts = [0_u32; 10];
        for n in 0..10_000 {
            counts[user_partition(UserId(n), 10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}

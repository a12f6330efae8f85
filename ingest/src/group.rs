//! Who does what: the processes of one role share out the partitions of some topics among those of them that are alive.
//!
//! A member learns what it owns and does that, no more. When something is taken from it so that another may have it, it is
//! given time to stop first; when it has been out of touch for too long, others may already do what was its own. Two owners
//! of one partition for a while do no harm (ARCHITECTURE.md, invariants 2 and 3); no owner for long would.

use std::collections::BTreeSet;

use tidings_schemas::topics::Topic;
use tokio::sync::watch;

use crate::error::LogError;
use crate::log::Log;

/// What a member owns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Counts the changes: what [`Membership::settled`] is told.
    pub generation: u64,
    /// The partitions. None before the group has answered, and after the member was out of touch for too long.
    pub partitions: BTreeSet<(Topic, u32)>,
}

/// Where groups can be joined.
pub trait Groups: Send + Sync + 'static {
    /// Joins the group of that name, which shares out the partitions of these topics; each of its members names the same
    /// topics. Does not wait for the group's answer.
    ///
    /// # Errors
    /// [`LogError::Unavailable`], [`LogError::Mismatch`].
    fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Membership>, LogError>;
}

/// A member of a group. Dropping it leaves the group.
pub trait Membership: Send + Sync {
    /// What the member owns. After each change: stop what is not owned any more, say so with [`Membership::settled`],
    /// then start what is new.
    fn assigned(&self) -> watch::Receiver<Assignment>;

    /// Everything that is not in the assignment of this generation has stopped. Another process waits for it, though not
    /// for ever: who does not say it in time has it taken anyway.
    fn settled(&self, generation: u64);

    /// Leaves: what the member owned goes to others at once. To be called when all of it has stopped. May block for a few
    /// seconds.
    fn leave(self: Box<Self>);
}

/// A member that owns the same for good, whatever others own: the only one of its group, or one that asks no group.
pub struct FixedMember {
    assigned: watch::Sender<Assignment>,
}

impl FixedMember {
    /// Owns these.
    pub fn new(partitions: BTreeSet<(Topic, u32)>) -> Self {
        Self { assigned: watch::Sender::new(Assignment { generation: 1, partitions }) }
    }

    /// Owns all partitions of these topics: there is one process.
    pub(crate) fn of_all(log: &impl Log, topics: &[Topic]) -> Self {
        let all = |topic: &Topic| {
            let topic = *topic;
            (0..log.partitions(topic)).map(move |partition| (topic, partition))
        };
        Self::new(topics.iter().flat_map(all).collect())
    }
}

impl Membership for FixedMember {
    fn assigned(&self) -> watch::Receiver<Assignment> {
        self.assigned.subscribe()
    }

    fn settled(&self, _generation: u64) {}

    fn leave(self: Box<Self>) {}
}

//! Who does what in a fleet: this process' share of the partitions, as the group of its role deals them out, handed to
//! the stages and the projections.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tidings_dataflow::{
    archive::projection as archive_projection,
    assignment::{Assignment, Partitions},
    host::Ownership,
    shard::{ShardId, Stage},
    views::projection as views_projection,
};
use tidings_ingest::{FixedMember, Groups, Log, Membership};
use tidings_schemas::topics::Topic;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::health::Probe;

/// The group of the processes that run stages.
const DATAFLOW: &str = "dataflow";
/// The group of the processes that write views and archive.
const PROJECT: &str = "project";

/// How long a projection may take to end what it is writing before the share changes all the same.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(2);

/// Takes shares on and gives them up.
trait Worker: Send + 'static {
    /// Stops what is not in the share, in order.
    fn keep(&self, share: &Partitions) -> impl Future<Output = ()> + Send;
    /// From now on this is the share.
    fn own(&self, share: &Partitions) -> impl Future<Output = ()> + Send;
}

/// This process in a group.
pub(super) struct Member {
    leave: watch::Sender<bool>,
    has_share: Arc<AtomicBool>,
    following: JoinHandle<()>,
}

impl Member {
    /// Joins the stages' group. A shard is its input partition.
    pub(super) fn of_stages(groups: &dyn Groups, ownership: Ownership) -> Result<Self> {
        let membership = groups.join(DATAFLOW, &SHARDED);
        Ok(Self::follow(membership.context("cannot join the other dataflow processes")?, Stages(ownership)))
    }

    /// Runs the shards of these partitions whatever the group says.
    pub(super) fn of_fixed_stages(partitions: &BTreeSet<u32>, log: &dyn Log, ownership: Ownership) -> Result<Self> {
        let partitions = fixed(partitions, |topic| log.partitions(topic))?;
        tracing::warn!(
            partitions = partitions.len(),
            "this process' share is fixed by dataflow.partitions: no other takes it over"
        );
        Ok(Self::follow(Box::new(FixedMember::new(partitions)), Stages(ownership)))
    }

    /// Joins the projections' group.
    pub(super) fn of_projections(groups: &dyn Groups, views: Assignment, archive: Option<Assignment>) -> Result<Self> {
        // What either of them reads. (One that has no archive leaves its share of the rest alone.)
        let topics: BTreeSet<Topic> = views_projection::TOPICS.into_iter().chain(archive_projection::TOPICS).collect();
        let topics: Vec<Topic> = topics.into_iter().collect();
        let membership = groups.join(PROJECT, &topics);
        Ok(Self::follow(membership.context("cannot join the other projections")?, Projections { views, archive }))
    }

    fn follow(membership: Box<dyn Membership>, worker: impl Worker + Sync) -> Self {
        let (leave, mut leaving) = watch::channel(false);
        let has_share = Arc::new(AtomicBool::new(false));
        let answered = Arc::clone(&has_share);
        let following = tokio::spawn(async move {
            let mut assigned = membership.assigned();
            loop {
                let share = assigned.borrow_and_update().clone();
                tracing::info!(
                    generation = share.generation,
                    partitions = share.partitions.len(),
                    "this process' share"
                );
                worker.keep(&share.partitions).await;
                membership.settled(share.generation);
                worker.own(&share.partitions).await;
                if share.generation > 0 {
                    answered.store(true, Ordering::Release);
                }
                let changed = tokio::select! {
                    changed = assigned.changed() => changed.is_ok(),
                    // An error: the process is ending.
                    _ = leaving.wait_for(|leave| *leave) => false,
                };
                if !changed {
                    break;
                }
            }
            worker.keep(&BTreeSet::new()).await;
            // It may block, for the group's answer.
            if let Err(error) = tokio::task::spawn_blocking(move || membership.leave()).await {
                tracing::error!(%error, "leaving the group failed");
            }
        });
        Self { leave, has_share, following }
    }

    /// Whether the group has answered: a check for readiness.
    pub(super) fn probe(&self) -> Probe {
        let has_share = Arc::clone(&self.has_share);
        Box::new(move || {
            let waits = !has_share.load(Ordering::Acquire);
            waits.then(|| "the group has not said yet which partitions are this process'".to_owned())
        })
    }

    /// Gives the share up in order, and leaves, so that others have it at once.
    pub(super) async fn shutdown(self) {
        self.leave.send_replace(true);
        // A panic there was reported where it happened.
        let _ = self.following.await;
    }
}

/// The topics whose partitions are shards.
const SHARDED: [Topic; 2] = [Topic::Events, Topic::Fanout];

/// These partitions, of each topic that has them.
fn fixed(partitions: &BTreeSet<u32>, count: impl Fn(Topic) -> u32) -> Result<Partitions> {
    if partitions.is_empty() {
        bail!("dataflow.partitions is empty, so this process would do nothing (hint: leave it out)");
    }
    if let Some(partition) =
        partitions.iter().find(|partition| SHARDED.iter().all(|topic| count(*topic) <= **partition))
    {
        let counts = SHARDED.map(count);
        bail!(
            "dataflow.partitions names {partition}, and events has {} partitions and fanout {} (hint: they count from 0)",
            counts[0],
            counts[1]
        );
    }
    let of_topic = |topic: Topic| {
        let count = count(topic);
        partitions.iter().filter(move |partition| **partition < count).map(move |partition| (topic, *partition))
    };
    Ok(SHARDED.into_iter().flat_map(of_topic).collect())
}

struct Stages(Ownership);

fn shards(partitions: &Partitions) -> BTreeSet<ShardId> {
    let shard = |(topic, partition): &(Topic, u32)| {
        let stage = match topic {
            Topic::Events => Stage::Conversations,
            Topic::Fanout => Stage::Recipients,
            _ => return None,
        };
        Some(ShardId { stage, partition: *partition })
    };
    partitions.iter().filter_map(shard).collect()
}

impl Worker for Stages {
    async fn keep(&self, share: &Partitions) {
        let kept = shards(share);
        let given_up = self.0.owned().into_iter().filter(|shard| !kept.contains(shard)).collect();
        self.0.release(given_up).await;
    }

    async fn own(&self, share: &Partitions) {
        self.0.own(&shards(share));
    }
}

struct Projections {
    views: Assignment,
    archive: Option<Assignment>,
}

impl Projections {
    async fn take(&self, share: Partitions) {
        let of = |topics: &[Topic]| share.iter().copied().filter(|(topic, _)| topics.contains(topic)).collect();
        let archive = self.archive.as_ref().map(|archive| archive.own(of(&archive_projection::TOPICS)));
        let viewed = of(&views_projection::TOPICS);
        let both = async {
            self.views.own(viewed).await;
            if let Some(archive) = archive {
                archive.await;
            }
        };
        // A store that hangs keeps no partition from its next owner: two owners do no harm.
        if timeout(HANDOVER_PATIENCE, both).await.is_err() {
            tracing::warn!("a store is slow: the share changes while a write to it is still under way");
        }
    }
}

impl Worker for Projections {
    async fn keep(&self, share: &Partitions) {
        let owned = self.views.owned();
        if !owned.is_subset(share) {
            self.take(owned.intersection(share).copied().collect()).await;
        }
    }

    async fn own(&self, share: &Partitions) {
        if self.views.owned() != *share {
            self.take(share.clone()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_share_is_what_both_topics_have_of_it() {
        let count = |topic| if topic == Topic::Events { 2 } else { 4 };
        let share = fixed(&BTreeSet::from([1, 3]), count).unwrap();
        assert_eq!(share, BTreeSet::from([(Topic::Events, 1), (Topic::Fanout, 1), (Topic::Fanout, 3)]));
    }

    #[test]
    fn a_share_of_nothing_and_one_of_what_is_not_there_are_refused() {
        assert!(fixed(&BTreeSet::new(), |_| 4).unwrap_err().to_string().contains("leave it out"));
        let refused = fixed(&BTreeSet::from([0, 4]), |_| 4).unwrap_err().to_string();
        assert!(refused.contains("names 4, and events has 4"), "{refused}");
    }
}

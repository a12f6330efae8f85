//! Which partitions a projection follows: said from outside, taken on between two batches.

use std::{collections::BTreeSet, sync::Arc};

use tidings_ingest::Log;
use tidings_schemas::topics::Topic;
use tokio::sync::watch;

/// Partitions of topics.
pub type Partitions = BTreeSet<(Topic, u32)>;

/// All partitions of these topics on a log.
pub fn all_partitions(log: &dyn Log, topics: &[Topic]) -> Partitions {
    topics.iter().flat_map(|topic| (0..log.partitions(*topic)).map(|partition| (*topic, partition))).collect()
}

/// Says which partitions a running projection follows. May be held by whatever follows their ownership.
#[derive(Clone)]
pub struct Assignment {
    asked: watch::Sender<Asked>,
    taken: watch::Sender<u64>,
    /// Lets the projection look.
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The projection's side.
pub(crate) struct Assigned {
    asked: watch::Receiver<Asked>,
    taken: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Asked {
    generation: u64,
    partitions: Partitions,
}

/// Both sides.
pub(crate) fn assignment(first: Partitions, wake: Arc<dyn Fn() + Send + Sync>) -> (Assignment, Assigned) {
    let (asked, receiver) = watch::channel(Asked { generation: 1, partitions: first });
    let taken = watch::Sender::new(0);
    (Assignment { asked, taken: taken.clone(), wake }, Assigned { asked: receiver, taken })
}

impl Assignment {
    /// From now on exactly these partitions are followed. The future ends when that is so: nothing more is then written
    /// of any other. It goes on without the future, too.
    pub fn own(&self, partitions: Partitions) -> impl Future<Output = ()> + Send + use<> {
        let mut generation = 0;
        self.asked.send_modify(|asked| {
            asked.generation += 1;
            asked.partitions = partitions;
            generation = asked.generation;
        });
        (self.wake)();
        let mut taken = self.taken.subscribe();
        async move {
            // An error: the projection has ended, and writes nothing at all.
            let _ = taken.wait_for(|taken| *taken >= generation).await;
        }
    }

    /// What was asked for last.
    pub fn owned(&self) -> Partitions {
        self.asked.borrow().partitions.clone()
    }
}

impl Assigned {
    /// Takes on what was asked for last.
    pub(crate) fn take(&mut self) -> Partitions {
        let (generation, partitions) = {
            let asked = self.asked.borrow_and_update();
            (asked.generation, asked.partitions.clone())
        };
        self.taken.send_replace(generation);
        partitions
    }

    /// Whether something else was asked for since.
    pub(crate) fn is_changed(&self) -> bool {
        // An error: nobody is left who could ask.
        self.asked.has_changed().unwrap_or(false)
    }

    /// Waits until something else is asked for; it is still there to be taken then.
    pub(crate) async fn changed(&self) {
        let mut looking = self.asked.clone();
        if looking.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

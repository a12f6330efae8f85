//! Which shards are to run here, on which worker, and which are to be given up in order.
//!
//! What is wished for is written down here and the worker is woken; the worker compares it with what it runs. So a wish
//! that is taken back before the worker looked costs nothing, and nothing queues up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::wake::Waker;
use crate::shard::ShardId;

/// What is to become of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It is to run.
    Run,
    /// It is to be given up in order; and then to run again, if it was wished for meanwhile.
    Release { then_run: bool },
    /// It is to be dropped: it belongs to another.
    Drop,
}

#[derive(Debug, Clone, Copy)]
struct Placed {
    worker: usize,
    wish: Wish,
}

/// A worker as the assignments see it.
#[derive(Debug)]
struct Seat {
    waker: Arc<Waker>,
    /// Something was wished since the worker last looked.
    changed: AtomicBool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Assignments {
    placed: Mutex<BTreeMap<ShardId, Placed>>,
    seats: Vec<Seat>,
    /// Told whenever a shard has been given up.
    given_up: watch::Sender<()>,
}

impl Assignments {
    /// For workers that are woken by these.
    pub(super) fn new(wakers: Vec<Arc<Waker>>) -> Self {
        let seat = |waker| Seat { waker, changed: AtomicBool::new(false) };
        let seats = wakers.into_iter().map(seat).collect();
        Self { placed: Mutex::default(), seats, given_up: watch::channel(()).0 }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on exactly these are to run here. The others are dropped, but for those that are being given up.
    pub(super) fn own(&self, shards: &BTreeSet<ShardId>) {
        let mut placed = self.lock();
        for (shard, Placed { worker, wish }) in placed.iter_mut() {
            let is_owned = shards.contains(shard);
            let wished = match *wish {
                Wish::Release { .. } => Wish::Release { then_run: is_owned },
                Wish::Run | Wish::Drop if is_owned => Wish::Run,
                Wish::Run | Wish::Drop => Wish::Drop,
            };
            if wished != *wish {
                *wish = wished;
                self.tell(*worker);
            }
        }
        for shard in shards {
            if !placed.contains_key(shard) {
                let mut counts = vec![0_usize; self.seats.len()];
                placed.values().for_each(|placed| counts[placed.worker] += 1);
                let fewest = counts.iter().enumerate().min_by_key(|(_, count)| **count);
                let worker = fewest.map_or(0, |(worker, _)| worker);
                placed.insert(*shard, Placed { worker, wish: Wish::Run });
                self.tell(worker);
            }
        }
    }

    /// These are to be given up in order; the future ends when they are, or have been taken away altogether.
    pub(super) fn release(self: &Arc<Self>, shards: BTreeSet<ShardId>) -> impl Future<Output = ()> + Send + use<> {
        let assignments = Arc::clone(self);
        // From here on, so that nothing is missed.
        let mut given_up = assignments.given_up.subscribe();
        for (shard, Placed { worker, wish }) in assignments.lock().iter_mut() {
            if shards.contains(shard) && *wish != Wish::Drop {
                *wish = Wish::Release { then_run: false };
                assignments.tell(*worker);
            }
        }
        async move {
            let is_leaving = |shard: &ShardId| {
                let wish = assignments.lock().get(shard).map(|placed| placed.wish);
                wish.is_some_and(|wish| wish != Wish::Run)
            };
            // The sender lives in `assignments`, so this does not fail.
            while shards.iter().any(is_leaving) && given_up.changed().await.is_ok() {}
        }
    }

    /// What is wished of a worker, if that has changed since it last asked.
    pub(super) fn wishes(&self, worker: usize) -> Option<Vec<(ShardId, Wish)>> {
        if !self.seats[worker].changed.swap(false, Ordering::AcqRel) {
            return None;
        }
        let placed = self.lock();
        let own = placed.iter().filter(|(_, placed)| placed.worker == worker);
        Some(own.map(|(shard, placed)| (*shard, placed.wish)).collect())
    }

    /// A worker has given a shard up.
    pub(super) fn given_up(&self, shard: ShardId) {
        let mut placed = self.lock();
        if let Some(Placed { worker, wish }) = placed.get_mut(&shard) {
            if matches!(wish, Wish::Run | Wish::Release { then_run: true }) {
                *wish = Wish::Run;
                self.tell(*worker);
            } else {
                placed.remove(&shard);
            }
        }
        drop(placed);
        self.given_up.send_replace(());
    }

    /// A worker has ended: nothing of it runs any more.
    pub(super) fn worker_ended(&self, worker: usize) {
        self.lock().retain(|_, placed| placed.worker != worker);
        self.given_up.send_replace(());
    }

    /// The shards that are to run here.
    pub(super) fn owned(&self) -> BTreeSet<ShardId> {
        let placed = self.lock();
        let owned = placed.iter().filter(|(_, placed)| placed.wish == Wish::Run);
        owned.map(|(shard, _)| *shard).collect()
    }

    /// Wakes all workers.
    pub(super) fn wake_all(&self) {
        self.seats.iter().for_each(|seat| seat.waker.wake());
    }

    fn tell(&self, worker: usize) {
        self.seats[worker].changed.store(true, Ordering::Release);
        self.seats[worker].waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Stage;

    fn shards(partitions: impl IntoIterator<Item = u32>) -> BTreeSet<ShardId> {
        partitions.into_iter().map(|partition| ShardId { stage: Stage::Conversations, partition }).collect()
    }

    fn two_workers() -> Arc<Assignments> {
        Arc::new(Assignments::new(vec![Arc::default(), Arc::default()]))
    }

    /// How many shards each worker is wished to run.
    fn counts(assignments: &Assignments) -> [usize; 2] {
        let placed = assignments.lock();
        [0, 1].map(|worker| placed.values().filter(|placed| placed.worker == worker).count())
    }

    #[test]
    fn the_worker_with_the_fewest_gets_the_next() {
        let assignments = two_workers();
        assignments.own(&shards(0..8));
        assert_eq!(counts(&assignments), [4, 4]);
        // All of one worker's go, and as many new ones come.
        let of_first: Vec<_> = assignments.wishes(0).unwrap().into_iter().map(|(shard, _)| shard).collect();
        let rest: BTreeSet<_> = shards(0..8).into_iter().filter(|shard| !of_first.contains(shard)).collect();
        assignments.own(&rest);
        of_first.iter().for_each(|shard| assignments.given_up(*shard));
        assert_eq!(counts(&assignments), [0, 4]);
        assignments.own(&rest.into_iter().chain(shards(8..12)).collect());
        assert_eq!(counts(&assignments), [4, 4]);
    }

    #[test]
    fn a_wish_taken_back_before_the_worker_looked_is_none() {
        let assignments = two_workers();
        assignments.own(&shards([1]));
        assert_eq!(assignments.wishes(0).unwrap().len(), 1);
        assert!(assignments.wishes(0).is_none(), "told twice");
        assignments.own(&shards([]));
        assignments.own(&shards([1]));
        assert_eq!(assignments.wishes(0).unwrap()[0].1, Wish::Run);
    }

    #[tokio::test]
    async fn a_shard_wished_for_while_it_is_given_up_runs_again() {
        let assignments = two_workers();
        assignments.own(&shards([1]));
        let released = assignments.release(shards([1]));
        assert!(assignments.owned().is_empty());
        assignments.own(&shards([1]));
        let [(shard, Wish::Release { then_run: true })] = assignments.wishes(0).unwrap()[..] else { panic!() };
        assignments.given_up(shard);
        released.await;
        assert_eq!(assignments.wishes(0).unwrap()[0].1, Wish::Run);
    }

    #[tokio::test]
    async fn a_release_ends_with_its_worker() {
        let assignments = two_workers();
        assignments.own(&shards([1]));
        let released = assignments.release(shards([1, 7]));
        assignments.worker_ended(0);
        released.await;
    }
}

//! The positions in memory, and those who wait for one: a waiter is woken by the batch that passes its offset.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use fjall::Keyspace;
use tidings_schemas::{
    topics::Topic,
    views::{Move, ViewError},
};
use tokio::sync::watch;

use super::keys;

/// The next offset of every partition that was ever applied, or waited for.
#[derive(Default)]
pub(super) struct Positions {
    partitions: RwLock<HashMap<(Topic, u32), watch::Sender<u64>>>,
}

impl Positions {
    /// As they stand in the store; those who wait go on waiting.
    pub(super) fn restore(&self, rows: &Keyspace) -> fjall::Result<()> {
        let mut stored = HashMap::new();
        for guard in rows.range(keys::positions()) {
            let (key, value) = guard.into_inner()?;
            if let (Some(partition), Ok(next_offset)) = (keys::position_of(&key), value.as_ref().try_into()) {
                stored.insert(partition, u64::from_be_bytes(next_offset));
            }
        }
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        for (partition, position) in partitions.iter() {
            position.send_replace(stored.remove(partition).unwrap_or(0));
        }
        partitions.extend(stored.into_iter().map(|(partition, position)| (partition, watch::Sender::new(position))));
        Ok(())
    }

    pub(super) fn get(&self, topic: Topic, partition: u32) -> u64 {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(&(topic, partition)).map_or(0, |position| *position.borrow())
    }

    /// Whether the partition stands there.
    pub(super) fn check(&self, topic: Topic, partition: u32, expected: u64) -> Result<(), ViewError> {
        let found = self.get(topic, partition);
        if found == expected { Ok(()) } else { Err(ViewError::Overtaken { topic, partition, expected, found }) }
    }

    /// Tells those who wait.
    pub(super) fn publish(&self, moves: &[Move]) {
        for step in moves {
            let partition = (step.topic, step.partition);
            let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(sender) = partitions.get(&partition) {
                sender.send_replace(step.to);
                continue;
            }
            drop(partitions);
            let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
            partitions.entry(partition).or_default().send_replace(step.to);
        }
    }

    pub(super) async fn wait_past(
        &self,
        topic: Topic,
        partition: u32,
        offset: u64,
        timeout: Duration,
    ) -> Result<(), ViewError> {
        let mut position = self.subscribe(topic, partition);
        if *position.borrow() > offset {
            return Ok(());
        }
        let passed = tokio::time::timeout(timeout, position.wait_for(|next_offset| *next_offset > offset)).await;
        match passed {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ViewError::Unavailable("the store is closed".to_owned())),
            Err(_) => Err(not_in_time(topic, partition, offset, timeout)),
        }
    }

    /// Where each partition stands that was ever applied.
    pub(super) fn all(&self) -> Vec<((Topic, u32), u64)> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|(partition, position)| (*partition, *position.borrow())).collect()
    }

    fn subscribe(&self, topic: Topic, partition: u32) -> watch::Receiver<u64> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = partitions.get(&(topic, partition)) {
            return sender.subscribe();
        }
        drop(partitions);
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.entry((topic, partition)).or_default().subscribe()
    }
}

/// What is said to who has waited long enough.
pub(super) fn not_in_time(topic: Topic, partition: u32, offset: u64, timeout: Duration) -> ViewError {
    let topic = topic.name();
    ViewError::Unavailable(format!("{topic}/{partition} was not applied past offset {offset} in {timeout:?}"))
}

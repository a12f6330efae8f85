//! Those who wait for a position. Redis tells of every batch on a channel; what it tells only wakes, and is looked up
//! before it is believed, so that messages that were lost, or are older than a restart, do no harm.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use redis::{PushInfo, PushKind, Value};
use tidings_schemas::{topics::Topic, views::Move};
use tokio::sync::watch;

use super::layout;

/// The newest position of each partition that was told of or waited for.
#[derive(Debug, Default)]
pub(super) struct Moved {
    partitions: RwLock<HashMap<(Topic, u32), watch::Sender<u64>>>,
}

/// What is told of a batch's moves.
pub(super) fn message(moves: &[Move]) -> String {
    let moves = moves.iter().map(|step| format!("{}={}", layout::position_field(step.topic, step.partition), step.to));
    moves.collect::<Vec<_>>().join(" ")
}

impl Moved {
    /// Who waits from now on; everything told before counts as seen.
    pub(super) fn subscribe(&self, topic: Topic, partition: u32) -> watch::Receiver<u64> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = partitions.get(&(topic, partition)) {
            return sender.subscribe();
        }
        drop(partitions);
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.entry((topic, partition)).or_default().subscribe()
    }

    /// Takes in what Redis pushes.
    pub(super) fn push(&self, info: &PushInfo) {
        match (&info.kind, info.data.as_slice()) {
            (PushKind::Message, [_, Value::BulkString(message)]) => {
                for step in String::from_utf8_lossy(message).split(' ') {
                    self.told(step);
                }
            }
            // What was told in between is lost: everybody looks.
            (PushKind::Disconnection | PushKind::Subscribe, _) => {
                let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
                partitions.values().for_each(|sender| sender.send_modify(|next_offset| *next_offset = u64::MAX));
            }
            _ => {}
        }
    }

    /// Wakes those who wait for a partition; nobody has to be told of one that nobody has waited for.
    fn told(&self, step: &str) {
        let Some((field, next_offset)) = step.split_once('=') else { return };
        let (Some(partition), Ok(next_offset)) = (layout::position_of(field), next_offset.parse()) else { return };
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = partitions.get(&partition) {
            sender.send_replace(next_offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_wakes_those_it_is_for() {
        let moved = Moved::default();
        let [mut ann, mut bob] = [0, 1].map(|partition| moved.subscribe(Topic::Fanout, partition));
        let step = |topic, to| Move { topic, partition: 0, from: 0, to };
        let message = message(&[step(Topic::Inbox, 3), step(Topic::Fanout, u64::MAX - 1)]);
        let push = |kind, data: &str| {
            let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            moved.push(&PushInfo { kind, data: vec![text("channel"), text(data)] });
        };
        for odd in ["", "=", "fanout.v1/0", "fanout.v1/0=-1", "fanout.v1/x=1", "nothing/0=1"] {
            push(PushKind::Message, odd);
        }
        assert!(!ann.has_changed().unwrap());
        push(PushKind::Message, &message);
        assert!(ann.has_changed().unwrap() && !bob.has_changed().unwrap());
        assert_eq!(*ann.borrow_and_update(), u64::MAX - 1);
        push(PushKind::Disconnection, "");
        assert!(ann.has_changed().unwrap() && bob.has_changed().unwrap());
        assert_eq!((*ann.borrow_and_update(), *bob.borrow_and_update()), (u64::MAX, u64::MAX));
    }
}

//! The messages that were deleted lately, so that no edit brings one back: those of the dedupe window's time, bounded in
//! number. Past the bound the oldest are forgotten (a later edit of one is then passed on, and the views drop it).

use std::collections::VecDeque;

use hashbrown::HashSet;

use super::{dedupe::WINDOW_MS, fanout::Slot};

/// One deleted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deletion {
    /// Grows by one with each deletion of the shard.
    pub(super) number: u64,
    pub(super) at_ms: i64,
    pub(super) slot: Slot,
    pub(super) seq: u64,
}

/// The deletions that are remembered.
#[derive(Debug)]
pub(super) struct Deletions {
    by_age: VecDeque<Deletion>,
    present: HashSet<(Slot, u64)>,
    next_number: u64,
    entries_max: usize,
    /// Those that were forgotten since the last snapshot.
    forgotten: Vec<u64>,
    /// Those from this number on came after the last snapshot.
    pub(super) unsaved_from: u64,
}

impl Deletions {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            by_age: VecDeque::new(),
            present: HashSet::new(),
            next_number: 0,
            entries_max,
            forgotten: Vec::new(),
            unsaved_from: 0,
        }
    }

    pub(super) fn contains(&self, slot: Slot, seq: u64) -> bool {
        self.present.contains(&(slot, seq))
    }

    /// Forgets what is older than the window.
    pub(super) fn expire(&mut self, now_ms: i64) {
        while self.by_age.front().is_some_and(|oldest| now_ms.saturating_sub(oldest.at_ms) > WINDOW_MS) {
            self.pop();
        }
    }

    pub(super) fn insert(&mut self, slot: Slot, seq: u64, at_ms: i64) {
        while self.by_age.len() >= self.entries_max {
            self.pop();
        }
        self.push(Deletion { number: self.next_number, at_ms, slot, seq });
    }

    /// Adds one without letting any go; numbers only grow.
    pub(super) fn push(&mut self, deletion: Deletion) {
        self.present.insert((deletion.slot, deletion.seq));
        self.next_number = deletion.number + 1;
        self.by_age.push_back(deletion);
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.by_age.pop_front() {
            self.present.remove(&(oldest.slot, oldest.seq));
            self.forgotten.push(oldest.number);
        }
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Deletion> {
        self.by_age.iter()
    }

    /// The number that the next one gets.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    pub(super) fn take_forgotten(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.forgotten)
    }
}

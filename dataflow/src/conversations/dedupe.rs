//! The window in which a repeated `client_message_id` yields the first message: 24 hours of event time, bounded in
//! entries. Past the bound the oldest leave before their time, which is counted.
//!
//! Entries stand in the order in which they came, numbered, in chunks; a hash index leads to them. The index is cut into
//! many small tables, so that growing one is never a pause.

use std::collections::VecDeque;

use hashbrown::HashTable;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits,
};
use xxhash_rust::xxh3::xxh3_64;

/// The window in milliseconds.
#[allow(clippy::cast_possible_truncation, reason = "a day")]
pub(super) const WINDOW_MS: i64 = limits::DEDUPE_WINDOW.as_millis() as i64;

/// Entries of a chunk.
const CHUNK: u64 = 4_096;
/// Tables of the index.
const TABLES: usize = 256;

/// Which message: one half from the conversation and the sender, whose ids nobody can choose; one half from all three.
/// So no choice of `client_message_id` can make one user's message pass for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct DedupeKey {
    identity: u64,
    hash: u64,
}

impl DedupeKey {
    #[allow(clippy::cast_possible_truncation, reason = "halves of ids")]
    pub(super) fn new(conversation: ConversationId, sender: UserId, client_message_id: &str) -> Self {
        let sender_bits = (sender.0 as u64).rotate_left(32) ^ (sender.0 >> 64) as u64;
        let identity =
            (conversation.0 as u64 ^ (conversation.0 >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ sender_bits;
        Self { identity, hash: xxh3_64(client_message_id.as_bytes()) ^ identity.rotate_left(17) }
    }

    fn table(self) -> usize {
        (self.hash >> 56) as usize % TABLES
    }

    /// The part of the key that the index holds.
    #[allow(clippy::cast_possible_truncation, reason = "a part is meant")]
    fn tag(self) -> u32 {
        self.hash as u32
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.identity) << 64) | u128::from(self.hash)).to_be_bytes()
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(bytes);
        Self { identity: (bits >> 64) as u64, hash: bits as u64 }
    }
}

/// What the index hashes by.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// What the window knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known<'a> {
    /// A message of the window.
    First(&'a DedupeEntry),
    /// One that has left the window, but not yet the memory.
    Stale,
    Nothing,
}

/// A message of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DedupeEntry {
    pub(super) key: DedupeKey,
    pub(super) message_id: MessageId,
    pub(super) seq: u64,
    pub(super) at_ms: i64,
}

/// The window of one shard.
#[derive(Debug)]
pub(super) struct DedupeWindow {
    chunks: VecDeque<Vec<DedupeEntry>>,
    /// The number of the first place of the first chunk.
    base: u64,
    /// The number of the oldest entry, and of the next one to come.
    start: u64,
    end: u64,
    entries_max: u64,
    /// For each entry a part of its key, which spares looks at entries of other keys, and the lower half of its number.
    index: Box<[HashTable<(u32, u32)>]>,
    /// Entries that left before their time, since the last call.
    early: u64,
}

impl DedupeWindow {
    pub(super) fn new(entries_max: u64) -> Self {
        let index = (0..TABLES).map(|_| HashTable::new()).collect();
        Self { chunks: VecDeque::new(), base: 0, start: 0, end: 0, entries_max, index, early: 0 }
    }

    /// The number of the oldest entry and of the next one.
    pub(super) fn range(&self) -> std::ops::Range<u64> {
        self.start..self.end
    }

    #[allow(clippy::cast_possible_truncation, reason = "below the number of entries, which fit in memory")]
    pub(super) fn get(&self, number: u64) -> &DedupeEntry {
        let place = number - self.base;
        &self.chunks[(place / CHUNK) as usize][(place % CHUNK) as usize]
    }

    /// The number of an entry from its lower half: there are fewer entries than halves.
    #[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn number(&self, low: u32) -> u64 {
        self.start + u64::from(low.wrapping_sub(self.start as u32))
    }

    /// What is known of a key at `now_ms`.
    pub(super) fn find(&self, key: DedupeKey, now_ms: i64) -> Known<'_> {
        let found = self.index[key.table()]
            .find(spread(key.tag()), |(tag, low)| *tag == key.tag() && self.get(self.number(*low)).key == key);
        let Some((_, low)) = found else { return Known::Nothing };
        let entry = self.get(self.number(*low));
        if now_ms.saturating_sub(entry.at_ms) <= WINDOW_MS { Known::First(entry) } else { Known::Stale }
    }

    /// Adds an entry whose key is not in the window, and lets up to two old ones go.
    pub(super) fn insert(&mut self, entry: DedupeEntry, is_stale: bool) {
        if is_stale {
            self.unlink(entry.key);
        }
        for _ in 0..2 {
            if self.start < self.end && entry.at_ms.saturating_sub(self.get(self.start).at_ms) > WINDOW_MS {
                self.pop();
            }
        }
        while self.end - self.start >= self.entries_max {
            if entry.at_ms.saturating_sub(self.get(self.start).at_ms) <= WINDOW_MS {
                self.early += 1;
            }
            self.pop();
        }
        self.push(entry);
    }

    /// Adds an entry of a saved window, in the order in which they were added.
    pub(super) fn restore(&mut self, entry: DedupeEntry) {
        self.unlink(entry.key);
        self.push(entry);
    }

    /// Starts at this number: what came before has left.
    pub(super) fn restore_at(&mut self, number: u64) {
        (self.base, self.start, self.end) = (number, number, number);
    }

    #[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn push(&mut self, entry: DedupeEntry) {
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK as usize => chunk.push(entry),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK as usize);
                chunk.push(entry);
                self.chunks.push_back(chunk);
            }
        }
        let indexed = (entry.key.tag(), self.end as u32);
        self.end += 1;
        self.index[entry.key.table()].insert_unique(spread(indexed.0), indexed, |(tag, _)| spread(*tag));
    }

    #[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn pop(&mut self) {
        let key = self.get(self.start).key;
        let indexed = (key.tag(), self.start as u32);
        if let Ok(found) = self.index[key.table()].find_entry(spread(indexed.0), |other| *other == indexed) {
            found.remove();
        }
        self.start += 1;
        if self.start - self.base == CHUNK {
            self.chunks.pop_front();
            self.base = self.start;
        }
    }

    /// Leads nowhere from this key any more.
    fn unlink(&mut self, key: DedupeKey) {
        let found = self.index[key.table()]
            .find(spread(key.tag()), |(tag, low)| *tag == key.tag() && self.get(self.number(*low)).key == key)
            .copied();
        if let Some(indexed) = found
            && let Ok(found) = self.index[key.table()].find_entry(spread(indexed.0), |other| *other == indexed)
        {
            found.remove();
        }
    }

    /// How many left before their time since the last call.
    pub(super) fn take_early(&mut self) -> u64 {
        std::mem::take(&mut self.early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> DedupeKey {
        DedupeKey::new(ConversationId(1), UserId(2), &number.to_string())
    }

    fn entry(number: u64, at_ms: i64) -> DedupeEntry {
        DedupeEntry { key: key(number), message_id: MessageId(number.into()), seq: number, at_ms }
    }

    fn seq(window: &DedupeWindow, number: u64, now_ms: i64) -> Option<u64> {
        match window.find(key(number), now_ms) {
            Known::First(entry) => Some(entry.seq),
            Known::Stale | Known::Nothing => None,
        }
    }

    #[test]
    fn an_entry_is_found_until_the_window_has_passed() {
        let mut window = DedupeWindow::new(100);
        window.insert(entry(7, 1_000), false);
        assert_eq!(seq(&window, 7, 1_000 + WINDOW_MS), Some(7));
        assert_eq!(window.find(key(7), 1_001 + WINDOW_MS), Known::Stale);
        assert_eq!(window.find(key(8), 1_000), Known::Nothing);
    }

    #[test]
    fn a_key_comes_again_after_its_time() {
        let mut window = DedupeWindow::new(1_000_000);
        for number in 0..20_000 {
            window.insert(entry(number, 0), false);
        }
        window.insert(DedupeEntry { seq: 99_999, ..entry(5, WINDOW_MS + 1) }, true);
        for number in 20_000..60_000 {
            window.insert(entry(number, WINDOW_MS + 2), false);
            assert_eq!(seq(&window, 5, WINDOW_MS + 2), Some(99_999));
        }
        assert_eq!(window.range(), 20_000..60_001);
        assert_eq!(window.take_early(), 0);
    }

    #[test]
    fn past_the_bound_the_oldest_leave_and_are_counted() {
        let mut window = DedupeWindow::new(10);
        for number in 0..25 {
            window.insert(entry(number, 0), false);
        }
        assert_eq!(seq(&window, 14, 0), None);
        assert!((15..25).all(|number| seq(&window, number, 0).is_some()));
        assert_eq!(window.take_early(), 15);
    }
}

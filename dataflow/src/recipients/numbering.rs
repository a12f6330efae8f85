//! The keyed operator that numbers each recipient's stream 1, 2, 3 …, and drops what it has seen.
//!
//! It also gives every user of the shard a small number, the *slot*: the key of the routing dataflow and of all that is
//! kept for a user, an eighth of an id's size in the hot tables.

use hashbrown::{HashMap, HashTable, hash_table::Entry};
use tidings_schemas::ids::UserId;

use super::frames::SourceFrame;

/// A user's place in the shard's tables. Meaningless outside of this process.
pub(super) type Slot = u32;

/// What is known of a user: 32 bytes, and 8 to 16 in the index.
#[derive(Debug, Clone, Copy)]
struct User {
    id: UserId,
    /// The newest offset of the user's stream: 0 before the first.
    last_offset: u64,
    /// The lookup that asks where the user is, if `lookup_round` is the present round.
    lookup: u32,
    lookup_round: u32,
}

impl User {
    #[inline]
    fn look_up(&mut self, round: u32, new_lookup: u32) -> u32 {
        if self.lookup_round != round {
            self.lookup_round = round;
            self.lookup = new_lookup;
        }
        self.lookup
    }
}

/// All users that the shard has met. Bounded by the users of its partition: a slot is given only to a recipient of a
/// fan-out item and to the user of a session, both of which the directory has registered.
#[derive(Debug, Default)]
pub(super) struct Users {
    slot_by_id: HashTable<Slot>,
    users: Vec<User>,
    /// The last sign of life in milliseconds, 0 for none.
    last_seen_ms: Vec<i64>,
    /// Slots whose saved row is out of date, and one bit a slot that says so.
    changed: Vec<Slot>,
    changed_bits: Vec<u64>,
    /// Between two changes of the sessions, one lookup serves all records for the same user.
    round: u32,
}

impl Users {
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// The user's slot, if the shard has met the user.
    pub(super) fn find(&self, id: UserId) -> Option<Slot> {
        self.slot_by_id.find(hash(id), |slot| self.users[*slot as usize].id == id).copied()
    }

    /// The user's slot; a new one at the first sight.
    pub(super) fn slot(&mut self, id: UserId) -> Slot {
        let Self { slot_by_id, users, .. } = self;
        let entry =
            slot_by_id.entry(hash(id), |slot| users[*slot as usize].id == id, |slot| hash(users[*slot as usize].id));
        match entry {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(vacant) => {
                // A partition with four thousand million users is none that a shard could hold: more partitions are due.
                let slot = Slot::try_from(users.len()).unwrap_or(Slot::MAX);
                vacant.insert(slot);
                users.push(User { id, last_offset: 0, lookup: 0, lookup_round: 0 });
                self.last_seen_ms.push(0);
                slot
            }
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.users.len()).filter_map(|slot| Slot::try_from(slot).ok())
    }

    pub(super) fn id(&self, slot: Slot) -> UserId {
        self.users[slot as usize].id
    }

    pub(super) fn last_offset(&self, slot: Slot) -> u64 {
        self.users[slot as usize].last_offset
    }

    pub(super) fn last_seen_ms(&self, slot: Slot) -> i64 {
        self.last_seen_ms[slot as usize]
    }

    pub(super) fn set_last_seen_ms(&mut self, slot: Slot, at_ms: i64) {
        self.last_seen_ms[slot as usize] = at_ms;
        self.mark_changed(slot);
    }

    /// Puts a user back as a checkpoint has it.
    pub(super) fn restore(&mut self, id: UserId, last_offset: u64, last_seen_ms: i64) -> Slot {
        let slot = self.slot(id);
        self.users[slot as usize].last_offset = last_offset;
        self.last_seen_ms[slot as usize] = last_seen_ms;
        slot
    }

    /// The next offset of the user's stream, and the lookup that says where the user is: an earlier one of this
    /// round, or `new_lookup`, which the caller then makes for the slot.
    #[inline]
    pub(super) fn number(&mut self, id: UserId, new_lookup: u32) -> Numbered {
        let slot = self.slot(id);
        self.mark_changed(slot);
        let user = &mut self.users[slot as usize];
        user.last_offset += 1;
        let offset = user.last_offset;
        Numbered { slot, offset, lookup: user.look_up(self.round, new_lookup) }
    }

    /// The lookup that says where the user is, without numbering anything.
    pub(super) fn look_up(&mut self, slot: Slot, new_lookup: u32) -> u32 {
        self.users[slot as usize].look_up(self.round, new_lookup)
    }

    /// Begins a round: what was looked up before is out of date.
    pub(super) fn begin_round(&mut self) {
        if let Some(next) = self.round.checked_add(1) {
            self.round = next;
        } else {
            // Once in four thousand million rounds: no user may seem to have been looked up in a round to come.
            for user in &mut self.users {
                user.lookup_round = 0;
            }
            self.round = 1;
        }
    }

    /// Notes that the user's saved row is out of date.
    #[inline]
    pub(super) fn mark_changed(&mut self, slot: Slot) {
        let (word, bit) = (slot as usize / 64, 1_u64 << (slot % 64));
        if word >= self.changed_bits.len() {
            self.changed_bits.resize((word + 1).next_power_of_two(), 0);
        }
        if self.changed_bits[word] & bit == 0 {
            self.changed_bits[word] |= bit;
            self.changed.push(slot);
        }
    }

    /// Takes the slots whose saved row is out of date.
    pub(super) fn take_changed(&mut self) -> Vec<Slot> {
        let changed = std::mem::take(&mut self.changed);
        for slot in &changed {
            self.changed_bits[*slot as usize / 64] = 0;
        }
        changed
    }
}

/// What numbering gave a recipient.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbered {
    pub(super) slot: Slot,
    pub(super) offset: u64,
    pub(super) lookup: u32,
}

/// Ids are random (or SHA-256), so mixing them is all the hashing they need; nobody outside can choose them.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
fn hash(id: UserId) -> u64 {
    (id.0 as u64 ^ (id.0 >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The newest offset of each `events` partition whose fan-out was taken in.
#[derive(Debug, Default)]
pub(super) struct Watermarks {
    by_partition: HashMap<u32, u64>,
    changed: Vec<u32>,
}

impl Watermarks {
    /// Whether a fan-out record of that source is new. If so, it is taken in, and never new again.
    pub(super) fn advance(&mut self, source: SourceFrame) -> bool {
        let known = self.by_partition.get_mut(&source.partition);
        match known {
            Some(newest) if source.offset <= *newest => return false,
            Some(newest) => *newest = source.offset,
            None => {
                self.by_partition.insert(source.partition, source.offset);
            }
        }
        if self.changed.last() != Some(&source.partition) && !self.changed.contains(&source.partition) {
            self.changed.push(source.partition);
        }
        true
    }

    pub(super) fn restore(&mut self, partition: u32, newest: u64) {
        self.by_partition.insert(partition, newest);
    }

    /// All of them: (partition, newest offset).
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.by_partition.iter().map(|(partition, newest)| (*partition, *newest))
    }

    /// Those that moved since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<(u32, u64)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|partition| (partition, self.by_partition[&partition])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_counts_from_one_without_a_gap() {
        let mut users = Users::default();
        users.begin_round();
        for round in 1..=3 {
            for id in 0..1_000 {
                assert_eq!(users.number(UserId(id), 0).offset, round);
            }
        }
        assert_eq!(users.len(), 1_000);
        assert_eq!(users.find(UserId(1_000)), None);
    }

    #[test]
    fn one_lookup_serves_a_round() {
        let mut users = Users::default();
        users.begin_round();
        assert_eq!(users.number(UserId(1), 10).lookup, 10);
        assert_eq!(users.number(UserId(1), 11).lookup, 10);
        users.begin_round();
        assert_eq!(users.number(UserId(1), 12).lookup, 12);
        users.round = u32::MAX;
        users.begin_round();
        assert_eq!(users.number(UserId(1), 13).lookup, 13);
    }

    #[test]
    fn a_watermark_lets_nothing_through_twice() {
        let mut watermarks = Watermarks::default();
        assert!(watermarks.advance(SourceFrame { partition: 1, offset: 0 }));
        assert!(!watermarks.advance(SourceFrame { partition: 1, offset: 0 }));
        assert!(watermarks.advance(SourceFrame { partition: 1, offset: 5 }));
        assert!(!watermarks.advance(SourceFrame { partition: 1, offset: 4 }));
        assert!(watermarks.advance(SourceFrame { partition: 0, offset: 4 }));
        assert_eq!(watermarks.take_changed(), [(1, 5), (0, 4)]);
        assert!(watermarks.take_changed().is_empty());
    }

    #[test]
    fn a_changed_user_is_named_once() {
        let mut users = Users::default();
        for id in [5, 6, 5] {
            users.number(UserId(id), 0);
        }
        assert_eq!(users.take_changed(), [0, 1]);
        users.number(UserId(6), 0);
        assert_eq!(users.take_changed(), [1]);
    }
}

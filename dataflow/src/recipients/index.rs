//! The index from a user's id to the user's slot: open addressing with linear probing, eight bytes a place.
//!
//! A place holds 32 bits of the id's hash beside the slot, so that a look-up touches one cache line and none of the
//! users'. Users are never removed, so there is nothing to mark as deleted.

use tidings_schemas::ids::UserId;

use super::users::Slot;

/// No slot: it would be that of the four thousand millionth user.
const EMPTY: u64 = u64::MAX;
const PLACES_MIN: usize = 64;

/// Slots by hash. At most three quarters full.
#[derive(Debug)]
pub(super) struct SlotIndex {
    /// The lower half of the hash above, the slot below. A power of two of them.
    places: Vec<u64>,
    /// How far a hash is shifted to the right to give its first place.
    shift: u32,
    len: usize,
}

impl Default for SlotIndex {
    fn default() -> Self {
        Self::with_places(PLACES_MIN)
    }
}

impl SlotIndex {
    fn with_places(count: usize) -> Self {
        Self { places: vec![EMPTY; count], shift: 64 - count.trailing_zeros(), len: 0 }
    }

    /// The first slot of that hash that `is_it` accepts. (Its lower half is compared; the upper half is where it stands.)
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of a place")]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mask = self.places.len() - 1;
        let mut place = (hash >> self.shift) as usize;
        loop {
            let found = self.places[place & mask];
            if found == EMPTY {
                return None;
            }
            if (found >> 32) as u32 == hash as u32 && is_it(found as u32) {
                return Some(found as u32);
            }
            place += 1;
        }
    }

    /// Whether it must grow before the next one is put in.
    pub(super) fn is_full(&self) -> bool {
        (self.len + 1) * 4 > self.places.len() * 3
    }

    /// Puts a slot in; there is room.
    pub(super) fn insert(&mut self, hash: u64, slot: Slot) {
        let mask = self.places.len() - 1;
        let mut place = (hash >> self.shift) as usize;
        while self.places[place & mask] != EMPTY {
            place += 1;
        }
        self.places[place & mask] = hash << 32 | u64::from(slot);
        self.len += 1;
    }

    /// Makes the index anew, twice as large, of the hashes of slots 0, 1, 2 ….
    pub(super) fn grow(&mut self, hashes: impl Iterator<Item = u64>) {
        *self = Self::with_places(self.places.len() * 2);
        for (slot, hash) in (0..).zip(hashes) {
            self.insert(hash, slot);
        }
    }
}

/// Ids are random (or SHA-256), so mixing them is all the hashing they need; nobody outside can choose them.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
pub(super) fn hash(id: UserId) -> u64 {
    (id.0 as u64 ^ (id.0 >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_nothing_else() {
        let mut index = SlotIndex::default();
        let hashes: Vec<u64> = (0..10_000_u128).map(|id| hash(UserId(id << 40 | id))).collect();
        for (slot, hash) in (0..).zip(&hashes) {
            assert_eq!(index.find(*hash, |_| true), None);
            if index.is_full() {
                index.grow(hashes[..=slot as usize].iter().copied());
            } else {
                index.insert(*hash, slot);
            }
            assert!(index.len * 4 <= index.places.len() * 3);
        }
        for (slot, hash) in (0..).zip(&hashes) {
            assert_eq!(index.find(*hash, |found| found == slot), Some(slot));
        }
    }

    #[test]
    fn hashes_that_meet_are_told_apart() {
        let mut index = SlotIndex::default();
        // The last place: probing goes round.
        for slot in 0..10 {
            index.insert(u64::MAX, slot);
        }
        assert_eq!(index.find(u64::MAX, |slot| slot == 7), Some(7));
        assert_eq!(index.find(u64::MAX, |slot| slot == 10), None);
    }
}

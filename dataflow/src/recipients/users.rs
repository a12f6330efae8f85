//! The users that a shard has met: the offset of each one's stream, and a small number for each, the *slot*.
//!
//! The slot is the key of the routing dataflow and of all else that is kept for a user: a quarter of an id's size.
//!
//! A shard's users do not fit into a processor's caches, so what a message costs is the memory it waits for. A user is
//! found in two reads, one of the index and one of the user, and each kind is done for a whole group of users before
//! the other ([`Users::guess`], then [`Users::number`]), so that the processor can have many of them under way.

use tidings_schemas::ids::UserId;

use super::index::{SlotIndex, hash};

/// A user's place in the shard's tables. Meaningless outside of this process.
pub(super) type Slot = u32;

/// What is known of a user: 32 bytes, and 11 to 22 in the index.
#[derive(Debug, Clone, Copy)]
struct User {
    id: UserId,
    /// The newest offset of the user's stream: 0 before the first.
    last_offset: u64,
    /// The last sign of life in milliseconds: 0 for none.
    last_seen_ms: i64,
}

/// All users that the shard has met. Bounded by the users of its partition: a slot is given only to a recipient of a
/// fan-out item and to the user of a session, both of which the directory has registered.
#[derive(Debug, Default)]
pub(super) struct Users {
    index: SlotIndex,
    users: Vec<User>,
    /// Slots whose saved row is out of date, and one bit a slot that says so.
    changed: Vec<Slot>,
    changed_bits: Vec<u64>,
}

impl Users {
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// The user's slot, if the shard has met the user.
    pub(super) fn find(&self, id: UserId) -> Option<Slot> {
        self.index.find(hash(id), |slot| self.users[slot as usize].id == id)
    }

    /// The user's slot; a new one at the first sight.
    pub(super) fn slot(&mut self, id: UserId) -> Slot {
        match self.find(id) {
            Some(slot) => slot,
            None => self.insert(id),
        }
    }

    /// Very likely the user's slot, without a look at the user; a new one at the first sight. Only [`Users::number`]
    /// may be given it.
    #[inline]
    pub(super) fn guess(&mut self, id: UserId) -> Slot {
        match self.index.find(hash(id), |_| true) {
            Some(slot) => slot,
            None => self.insert(id),
        }
    }

    /// The user's slot and the next offset of the user's stream. `guess` is what was guessed for this id.
    #[inline]
    pub(super) fn number(&mut self, id: UserId, guess: Slot) -> (Slot, u64) {
        let mut slot = guess;
        if self.users[slot as usize].id != id {
            // Two ids with the same 32 bits of hash, near one another in the index.
            slot = self.slot(id);
        }
        self.mark_changed(slot);
        let user = &mut self.users[slot as usize];
        user.last_offset += 1;
        (slot, user.last_offset)
    }

    #[cold]
    fn insert(&mut self, id: UserId) -> Slot {
        // A partition with four thousand million users is none that a shard could hold: more partitions are due.
        let slot = Slot::try_from(self.users.len()).unwrap_or(Slot::MAX);
        self.users.push(User { id, last_offset: 0, last_seen_ms: 0 });
        if self.index.is_full() {
            self.index.grow(self.users.iter().map(|user| hash(user.id)));
        } else {
            self.index.insert(hash(id), slot);
        }
        slot
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
        self.users[slot as usize].last_seen_ms
    }

    pub(super) fn set_last_seen_ms(&mut self, slot: Slot, at_ms: i64) {
        self.users[slot as usize].last_seen_ms = at_ms;
        self.mark_changed(slot);
    }

    /// Puts a user back as a checkpoint has it.
    pub(super) fn restore(&mut self, id: UserId, last_offset: u64, last_seen_ms: i64) -> Slot {
        let slot = self.slot(id);
        self.users[slot as usize] = User { id, last_offset, last_seen_ms };
        slot
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

    /// Takes the slots whose saved row is out of date, in the order in which they stand in memory.
    pub(super) fn take_changed(&mut self) -> Vec<Slot> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        for slot in &changed {
            self.changed_bits[*slot as usize / 64] = 0;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_counts_from_one_without_a_gap() {
        let mut users = Users::default();
        for round in 1..=3 {
            for id in (0..1_000).map(UserId) {
                let guess = users.guess(id);
                assert_eq!(users.number(id, guess).1, round);
            }
        }
        assert_eq!(users.len(), 1_000);
        assert_eq!(users.find(UserId(1_000)), None);
    }

    #[test]
    fn a_wrong_guess_is_put_right() {
        let mut users = Users::default();
        let (ann, bob) = (UserId(1), UserId(2));
        let guess = users.guess(ann);
        assert_eq!(users.number(ann, guess), (0, 1));
        assert_eq!(users.number(bob, guess), (1, 1), "a user seen for the first time");
        assert_eq!(users.number(bob, guess), (1, 2), "a known user");
        assert_eq!(users.last_offset(guess), 1);
    }

    #[test]
    fn a_changed_user_is_named_once() {
        let mut users = Users::default();
        for id in [5, 6, 5].map(UserId) {
            let guess = users.guess(id);
            users.number(id, guess);
        }
        assert_eq!(users.take_changed(), [0, 1]);
        users.set_last_seen_ms(1, 7);
        assert_eq!(users.take_changed(), [1]);
    }
}

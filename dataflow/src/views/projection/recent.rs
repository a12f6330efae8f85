//! Rows that are changed again and again, kept at hand so that the store is not asked for them each time.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

/// Keys are ids, whose bits are random already: mixing the halves is enough.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(29) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
    fn write_u128(&mut self, number: u128) {
        self.write_u64((number >> 64) as u64);
        self.write_u64(number as u64);
    }
}

/// A map whose keys are made of ids.
pub(super) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A bounded map that forgets what was not used for long: two generations, of which the older one goes when the younger
/// one is full.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    younger: IdMap<K, V>,
    older: IdMap<K, V>,
    generation_max: usize,
}

impl<K: Eq + std::hash::Hash, V> Recent<K, V> {
    /// Of at most `max` values.
    pub(super) fn new(max: usize) -> Self {
        Self { younger: IdMap::default(), older: IdMap::default(), generation_max: (max / 2).max(1) }
    }

    /// Takes a value out; it is put back when it is no longer being changed.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        self.younger.remove(key).or_else(|| self.older.remove(key))
    }

    /// Puts a value in, as the most recently used.
    pub(super) fn put(&mut self, key: K, value: V) {
        if self.younger.len() >= self.generation_max {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut recent = Recent::new(100);
        recent.put(0_u64, 0);
        for key in 1..10_000_u64 {
            recent.put(key, key);
            let used = recent.take(&0).expect("just used");
            recent.put(0, used);
            assert!(recent.younger.len() + recent.older.len() <= 100);
        }
        assert_eq!(recent.take(&1), None);
        assert_eq!(recent.take(&9_999), Some(9_999));
    }
}

//! The watermark that drops what was taken in before: with it, repeats in the fan-out are harmless.

use hashbrown::HashMap;

use super::frames::SourceFrame;

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
}

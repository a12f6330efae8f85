//! What readers see: for each partition, where its records are. Everything here is durable.
//!
//! One lock for all partitions, taken once for each commit and held for moments: the records of a commit become visible
//! in all of its partitions at once. The ends stand beside it as atomics, so that a reader with nothing to read takes no
//! lock.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::journal::JournalFile;
use super::manifest::Slot;
use crate::log::Wake;

/// What a section in memory takes besides its records (itself, and the buffer's bookkeeping).
const SECTION_OVERHEAD_BYTES: usize = 128;

/// One partition's records of one commit.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) base_offset: u64,
    pub(crate) count: u32,
    pub(crate) timestamp_ms: i64,
    /// Where in the journal: segment, byte, length, CRC-32C.
    pub(crate) segment: u64,
    pub(crate) position: u64,
    pub(crate) length: u32,
    pub(crate) checksum: u32,
    /// The records, while they are recent.
    pub(crate) cached: Option<Bytes>,
}

impl Section {
    fn end(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }
}

/// One file of a partition, as far as readers may read it.
#[derive(Debug, Clone)]
pub(crate) struct PartitionFile {
    pub(crate) base_offset: u64,
    /// One past the last record.
    pub(crate) next_offset: u64,
    /// Where its blocks end.
    pub(crate) blocks_end: u64,
    /// Of its newest record.
    pub(crate) max_timestamp_ms: i64,
    /// When the first records came into it.
    pub(crate) opened_at_ms: i64,
    /// It has its index, and nothing is added to it any more.
    pub(crate) closed: bool,
    pub(crate) path: PathBuf,
}

/// One partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionState {
    /// The oldest record kept.
    pub(crate) start: u64,
    /// The next to be written.
    pub(crate) end: u64,
    /// Records below are in `files`; records from here on are in the journal only.
    pub(crate) stored_end: u64,
    /// Oldest first, without a gap.
    pub(crate) files: VecDeque<Arc<PartitionFile>>,
    /// Oldest first, without a gap, up to `end`: the records of the journal, and those in memory.
    sections: VecDeque<Section>,
    /// `sections` before this have left memory.
    cached_from: usize,
    cached_bytes: usize,
}

impl PartitionState {
    /// A partition whose records are all in its files.
    pub(crate) fn new(start: u64, stored_end: u64, files: VecDeque<Arc<PartitionFile>>) -> Self {
        Self { start, end: stored_end, stored_end, files, ..Self::default() }
    }

    /// The section that holds `offset`, if the journal or memory does.
    pub(crate) fn section_of(&self, offset: u64) -> Option<&Section> {
        if self.sections.front()?.base_offset > offset {
            return None;
        }
        let after = self.sections.partition_point(|section| section.base_offset <= offset);
        self.sections.get(after - 1)
    }

    /// The file that holds `offset`, if one does.
    pub(crate) fn file_of(&self, offset: u64) -> Option<&Arc<PartitionFile>> {
        let after = self.files.partition_point(|file| file.base_offset <= offset);
        self.files.get(after.checked_sub(1)?)
    }

    pub(crate) fn push(&mut self, section: Section, cache_bytes_max: usize) {
        self.end = section.end();
        if let Some(bytes) = &section.cached {
            self.cached_bytes += bytes.len() + SECTION_OVERHEAD_BYTES;
        } else {
            // Only when the log is opened: nothing is in memory yet.
            self.cached_from = self.sections.len() + 1;
        }
        self.sections.push_back(section);
        // The newest stays, however large: live readers are about to ask for it.
        while self.cached_bytes > cache_bytes_max && self.cached_from + 1 < self.sections.len() {
            if let Some(bytes) = self.sections[self.cached_from].cached.take() {
                self.cached_bytes -= bytes.len() + SECTION_OVERHEAD_BYTES;
            }
            self.cached_from += 1;
        }
        self.forget_stored();
    }

    /// Drops what is neither in memory nor only in the journal.
    pub(crate) fn forget_stored(&mut self) {
        while self.cached_from > 0 && self.sections.front().is_some_and(|section| section.end() <= self.stored_end) {
            self.sections.pop_front();
            self.cached_from -= 1;
        }
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }
}

/// All partitions, and the journal's segments that hold records of theirs.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) partitions: Vec<PartitionState>,
    pub(crate) journal: BTreeMap<u64, Arc<JournalFile>>,
}

/// A reader that wants to be woken.
pub(crate) struct Watcher {
    /// It has polled since it was last woken.
    armed: AtomicBool,
    wake: Wake,
}

impl Watcher {
    pub(crate) fn new(wake: Wake) -> Arc<Self> {
        Arc::new(Self { armed: AtomicBool::new(true), wake })
    }

    /// Before the reader looks at the end: a commit after that look finds it armed, one before is seen by it.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }
}

/// The state, the ends, and who wants to know.
pub(crate) struct Visible {
    state: RwLock<State>,
    ends: Vec<AtomicU64>,
    watchers: Vec<Mutex<Vec<Arc<Watcher>>>>,
}

impl Visible {
    pub(crate) fn new(state: State) -> Self {
        let ends = state.partitions.iter().map(|partition| AtomicU64::new(partition.end)).collect();
        let watchers = state.partitions.iter().map(|_| Mutex::default()).collect();
        Self { state: RwLock::new(state), ends, watchers }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a commit visible, then wakes who waits for it.
    pub(crate) fn publish(&self, sections: impl Iterator<Item = (Slot, Section)>, cache_bytes_max: usize) {
        let mut touched = Vec::new();
        let mut state = self.write();
        for (slot, section) in sections {
            let index = slot as usize;
            let partition = &mut state.partitions[index];
            partition.push(section, cache_bytes_max);
            self.ends[index].store(partition.end, Ordering::SeqCst);
            touched.push(index);
        }
        drop(state);
        let mut woken = Vec::new();
        for index in touched {
            let watchers = self.watchers[index].lock().unwrap_or_else(PoisonError::into_inner);
            woken.extend(watchers.iter().filter(|watcher| watcher.armed.swap(false, Ordering::SeqCst)).cloned());
        }
        // Outside of the locks: a wake-up may well drop a reader.
        for watcher in woken {
            (watcher.wake)();
        }
    }

    /// Puts another state in the place of this one, of at least as many records, then wakes everybody.
    pub(crate) fn replace(&self, new: State) {
        let mut state = self.write();
        for (end, partition) in self.ends.iter().zip(&new.partitions) {
            end.store(partition.end, Ordering::SeqCst);
        }
        *state = new;
        drop(state);
        self.wake_all();
    }

    /// Wakes everybody who waits.
    pub(crate) fn wake_all(&self) {
        let mut woken = Vec::new();
        for watchers in &self.watchers {
            let watchers = watchers.lock().unwrap_or_else(PoisonError::into_inner);
            woken.extend(watchers.iter().filter(|watcher| watcher.armed.swap(false, Ordering::SeqCst)).cloned());
        }
        for watcher in woken {
            (watcher.wake)();
        }
    }

    pub(crate) fn end(&self, slot: Slot) -> u64 {
        self.ends[slot as usize].load(Ordering::SeqCst)
    }

    pub(crate) fn watch(&self, slot: Slot, watcher: Arc<Watcher>) {
        self.watchers[slot as usize].lock().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    pub(crate) fn unwatch(&self, slot: Slot, watcher: &Arc<Watcher>) {
        let mut watchers = self.watchers[slot as usize].lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|other| !Arc::ptr_eq(other, watcher));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(base_offset: u64, count: u32, cached: bool) -> Section {
        let cached = cached.then(|| Bytes::from(vec![0; 72]));
        Section { base_offset, count, timestamp_ms: 0, segment: 0, position: 0, length: 72, checksum: 0, cached }
    }

    #[test]
    fn the_oldest_sections_leave_memory_and_those_stored_are_forgotten() {
        let mut partition = PartitionState::default();
        partition.push(section(0, 2, false), 400);
        for base in 1..6 {
            partition.push(section(base * 2, 2, true), 400);
        }
        // 200 bytes each with the overhead: two fit.
        assert_eq!(partition.cached_bytes(), 400);
        let cached = |partition: &PartitionState, offset| partition.section_of(offset).unwrap().cached.is_some();
        assert!(!cached(&partition, 7) && cached(&partition, 8) && cached(&partition, 11));
        assert_eq!(partition.section_of(5).unwrap().base_offset, 4);
        partition.stored_end = 12;
        partition.forget_stored();
        assert!(partition.section_of(7).is_none(), "stored, and not in memory");
        assert!(cached(&partition, 9), "stored, but still in memory");
        partition.push(section(12, 9, true), 10);
        assert!(cached(&partition, 12), "the newest stays");
        assert!(partition.section_of(11).is_none());
        assert_eq!(partition.end, 21);
    }
}

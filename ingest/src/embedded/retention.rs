//! Drops a partition's oldest files once they are older, or the partition larger, than its topic is to be kept.

use std::sync::Arc;

use super::config::Retention;
use super::files::IoContext;
use super::manifest::Slot;
use super::partition_writer::close;
use super::splitter::Splitter;
use super::state::PartitionFile;
use super::stats::add;
use crate::error::LogError;

impl Splitter {
    /// Looks at every partition once.
    pub(crate) fn apply_retention(&mut self) -> Result<(), LogError> {
        let shared = Arc::clone(self.shared());
        let now_ms = shared.clock.now_ms();
        for slot in 0..shared.slots.count() {
            let slot = Slot::try_from(slot).unwrap_or(Slot::MAX);
            // A topic that this program does not know is left alone.
            let Some(topic) = shared.slots.topic(slot) else { continue };
            let retention = shared.settings.retention[topic.index()];
            self.close_aged(slot, now_ms, retention)?;
            self.drop_oldest(slot, now_ms, retention);
        }
        self.remove_dropped()
    }

    /// Closes the partition's last file if it has been open for long, or all in it is past its time: only closed files
    /// are dropped.
    fn close_aged(&mut self, slot: Slot, now_ms: i64, retention: Retention) -> Result<(), LogError> {
        let shared = Arc::clone(self.shared());
        let last = shared.visible.read().partitions[slot as usize].files.back().cloned();
        let Some(last) = last.filter(|file| !file.closed) else { return Ok(()) };
        let age_max_ms = i64::try_from(shared.settings.partition_segment_age_max.as_millis()).unwrap_or(i64::MAX);
        let aged = now_ms.saturating_sub(last.opened_at_ms) > age_max_ms || expired(&last, now_ms, retention);
        if !aged {
            return Ok(());
        }
        let mut contents = self.take_open(slot, &last)?;
        let file = shared.disk.open(&last.path).at("open", &last.path)?;
        close(&*file, &last.path, &mut contents)?;
        let mut state = shared.visible.write();
        if let Some(seen) = state.partitions[slot as usize].files.back_mut() {
            *seen = Arc::new(PartitionFile { closed: true, ..(*last).clone() });
        }
        Ok(())
    }

    /// Takes what is past its time, or too much, out of readers' sight.
    fn drop_oldest(&mut self, slot: Slot, now_ms: i64, retention: Retention) {
        let shared = Arc::clone(self.shared());
        let mut state = shared.visible.write();
        let partition = &mut state.partitions[slot as usize];
        let mut bytes: u64 = partition.files.iter().map(|file| file.blocks_end).sum();
        while let Some(oldest) = partition.files.front() {
            // Dropped only if what is left is still all that is to be kept.
            let surplus = retention.partition_bytes.is_some_and(|kept| bytes - oldest.blocks_end >= kept);
            if !oldest.closed || !(surplus || expired(oldest, now_ms, retention)) {
                break;
            }
            bytes -= oldest.blocks_end;
            partition.start = oldest.next_offset;
            self.to_remove.push(oldest.path.clone());
            partition.files.pop_front();
            add(&shared.counters.retention_dropped_files, 1);
        }
    }

    /// Removes the files of what was dropped: one after the other, each durably, so that after a crash what is left of a
    /// partition has no hole.
    fn remove_dropped(&mut self) -> Result<(), LogError> {
        let shared = Arc::clone(self.shared());
        while let Some(path) = self.to_remove.first() {
            match shared.disk.remove(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result.at("remove", path)?,
            }
            if let Some(directory) = path.parent() {
                shared.disk.sync_directory(directory).at("sync", directory)?;
            }
            self.to_remove.remove(0);
        }
        Ok(())
    }
}

fn expired(file: &PartitionFile, now_ms: i64, retention: Retention) -> bool {
    retention.age_seconds.is_some_and(|seconds| {
        let age_ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        now_ms.saturating_sub(file.max_timestamp_ms) > age_ms
    })
}

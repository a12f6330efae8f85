//! The background: splits full journal segments into the partitions' files, keeps a journal file ready, and drops what
//! retention no longer wants.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidings_schemas::limits::RETENTION_INTERVAL;

use super::files::IoContext;
use super::journal::JournalFile;
use super::manifest::Slot;
use super::partition_file::{self, Contents};
use super::partition_writer::{PartitionWriter, Sizes, Written, contents_of};
use super::records::Batch;
use super::shared::{Sealed, Shared};
use super::state::PartitionFile;
use super::stats::add;
use crate::error::LogError;

/// After an error the background tries again this often.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Splitter {
    shared: Arc<Shared>,
    /// What the files hold that are not closed, so far as it is known.
    open: BTreeMap<Slot, Contents>,
    /// Segments whose records are in the partitions' files, but which could not be removed yet: at most the oldest.
    split: Option<u64>,
    /// Dropped by retention, and still to be removed, oldest first.
    pub(crate) to_remove: Vec<PathBuf>,
}

impl Splitter {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: BTreeMap::new(), split: None, to_remove: Vec::new() }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What the partition's last file holds, if it is not closed; closes it in what is remembered.
    pub(crate) fn take_open(&mut self, slot: Slot, file: &PartitionFile) -> Result<Contents, LogError> {
        match self.open.remove(&slot) {
            Some(contents) => Ok(contents),
            None => contents_of(&*self.shared.disk, file),
        }
    }

    /// Until the log is closed. `between`: run whenever there is time.
    pub(crate) fn run(splitter: &std::sync::Mutex<Self>, shared: &Shared) {
        let mut retention_at = shared.clock.monotonic();
        loop {
            let wait = if shared.backlog.is_failing() { RETRY_INTERVAL } else { RETENTION_INTERVAL };
            let now = shared.clock.monotonic();
            if !shared.backlog.wait_for_work(wait.min(retention_at.saturating_sub(now))) {
                return;
            }
            let mut splitter = splitter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            splitter.report("prepare a journal file", shared.spares.refill());
            // An error was reported, and the next attempt comes after a while.
            let _ = splitter.split_all();
            let now = shared.clock.monotonic();
            if now >= retention_at {
                retention_at = now + RETENTION_INTERVAL;
                let dropped = splitter.apply_retention();
                splitter.report("apply retention", dropped);
            }
        }
    }

    pub(crate) fn report(&self, what: &'static str, result: Result<(), LogError>) {
        let Err(error) = result else { return };
        if matches!(error, LogError::Corrupt { .. }) {
            add(&self.shared.counters.corruptions, 1);
        } else {
            add(&self.shared.counters.io_errors, 1);
        }
        tracing::error!(%error, "the log's background could not {what}: it tries again");
    }

    /// Splits all segments that wait, oldest first.
    pub(crate) fn split_all(&mut self) -> Result<(), LogError> {
        while let Some(sealed) = self.shared.backlog.oldest() {
            if self.shared.backlog.is_closed() {
                return Ok(());
            }
            if let Err(error) = self.split_one(&sealed) {
                self.shared.backlog.failed();
                self.report("split the journal", Err(error.clone()));
                return Err(error);
            }
            self.shared.backlog.done();
        }
        Ok(())
    }

    fn split_one(&mut self, sealed: &Sealed) -> Result<(), LogError> {
        let segment = sealed.file.header.segment;
        let mut sound = sealed.sound;
        if self.split == Some(segment) {
            // Its removal failed before: its name may be gone already.
            sound = false;
        } else {
            let written = self.write_partitions(&sealed.file, sealed.commits_end)?;
            self.publish(segment, written);
            self.split = Some(segment);
            add(&self.shared.counters.splits, 1);
        }
        // Readers find the file through the state alone, and it is no longer there: one for the backlog, one for
        // `sealed`. More: somebody is still reading it, and it must keep its content.
        let unread = Arc::strong_count(&sealed.file) <= 2;
        self.shared.spares.retire(&sealed.file, sound && unread)
    }

    /// Copies the segment's commits into the partitions' files, durably.
    fn write_partitions(&mut self, file: &JournalFile, commits_end: u64) -> Result<BTreeMap<Slot, Written>, LogError> {
        let mut writers: BTreeMap<Slot, PartitionWriter> = BTreeMap::new();
        let (mut position, mut commit) = (file.first_at(), file.header.first_commit);
        while commit < commits_end {
            let frame = file.frame_at(position)?.filter(|frame| frame.head.commit == commit);
            let frame = frame.ok_or_else(|| LogError::Corrupt {
                file: file.path.clone(),
                position,
                what: format!("commit {commit} was written here, and cannot be read"),
                hint: "the disk or the memory of this machine is failing: restore the log from a backup",
            })?;
            let mut at = 0;
            for entry in &frame.head.entries {
                let records = frame.records.slice(at..at + entry.length as usize);
                at += entry.length as usize;
                let writer = match writers.entry(entry.slot) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(vacant) => {
                        vacant.insert(Self::partition_writer(&self.shared, &mut self.open, entry.slot)?)
                    }
                };
                let mut batch = Batch::of_run(records, entry.base_offset, frame.head.timestamp_ms, entry.count);
                // What an attempt before has stored already is not stored again.
                let malformed = |_| LogError::Corrupt {
                    file: file.path.clone(),
                    position,
                    what: format!("the records of commit {commit} are malformed"),
                    hint: "this is a defect of the program: keep the file and report it",
                };
                batch.skip_to(writer.next_offset()).map_err(malformed)?;
                let (rest, count) = batch.rest_of_run();
                writer.add(frame.head.timestamp_ms, count, rest)?;
            }
            position = frame.next_at;
            commit += 1;
        }
        let mut written = BTreeMap::new();
        let mut made_directory = false;
        for (slot, writer) in writers {
            made_directory |= writer.made_names();
            written.insert(slot, writer.finish()?);
        }
        if made_directory {
            let directory = self.shared.directory.join(partition_file::DIRECTORY);
            self.shared.disk.sync_directory(&directory).at("sync", &directory)?;
        }
        Ok(written)
    }

    fn partition_writer(
        shared: &Shared,
        open: &mut BTreeMap<Slot, Contents>,
        slot: Slot,
    ) -> Result<PartitionWriter, LogError> {
        let (next_offset, last) = {
            let state = shared.visible.read();
            let partition = &state.partitions[slot as usize];
            (partition.stored_end, partition.files.back().filter(|file| !file.closed).cloned())
        };
        let last = match &last {
            None => None,
            // Taken out: if this attempt fails, the next reads it anew.
            Some(file) => {
                let known = open.remove(&slot).map_or_else(|| contents_of(&*shared.disk, file), Ok)?;
                Some((&**file, known))
            }
        };
        let sizes = Sizes {
            file_bytes: shared.settings.partition_segment_bytes,
            block_bytes: shared.settings.partition_block_bytes,
        };
        let directory = shared.partition_directory(slot);
        let disk = Arc::clone(&shared.disk);
        PartitionWriter::new(disk, directory, shared.log_id, slot, sizes, shared.clock.now_ms(), next_offset, last)
    }

    /// From now on readers find these records in the partitions' files.
    fn publish(&mut self, segment: u64, written: BTreeMap<Slot, Written>) {
        let mut state = self.shared.visible.write();
        for (slot, written) in written {
            let partition = &mut state.partitions[slot as usize];
            for file in written.files {
                if partition.files.back().is_some_and(|last| last.base_offset == file.base_offset) {
                    partition.files.pop_back();
                }
                partition.files.push_back(Arc::new(file));
            }
            partition.stored_end = written.next_offset;
            partition.forget_stored();
            if let Some(contents) = written.open {
                self.open.insert(slot, contents);
            }
        }
        state.journal.remove(&segment);
    }
}

//! Keeps what readers see in step with a log that another process writes: commits as they become durable, segments as they
//! are split and used again, files as retention drops them.
//!
//! Whatever is read is checked (salts, commit numbers, checksums), so bytes of another use of a file are never taken for
//! records: they only show that the place is of the past, and it is looked for again.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::disk::{Disk, DiskFile};
use super::durable::{self, Durable};
use super::files::IoContext;
use super::journal::{self, Frame, JournalFile};
use super::manifest::{Slot, Slots};
use super::partition_file::{self, FILE_HEADER_BYTES, Opened};
use super::reader::Readable;
use super::state::{PartitionFile, PartitionState, Section, State, Visible};
use crate::error::LogError;
use crate::log::OffsetRange;

/// How often a folder that changes under our eyes is read again before its state is taken for damage.
const ATTEMPTS_MAX: usize = 200;
/// How often the same is met in a row before it is.
const SAME_ERRORS_MAX: usize = 3;

/// See the module.
pub(crate) struct Follower {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    log_id: u128,
    slots: Slots,
    visible: Visible,
    place: Mutex<Place>,
    closing: Mutex<bool>,
    closed: Condvar,
    failure: Mutex<Option<LogError>>,
}

/// How far the journal was read.
struct Place {
    /// The segments that are known, oldest first, without a gap. Never empty once the log is open.
    segments: VecDeque<Arc<JournalFile>>,
    /// Which of them is being read, by its number.
    segment: u64,
    /// Where its next frame begins.
    position: u64,
    /// The next commit.
    commit: u64,
    notice: Option<Arc<dyn DiskFile>>,
    /// What the writer had said at the last look.
    durable: Option<Durable>,
}

impl Follower {
    /// Reads what is there.
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: PathBuf, log_id: u128, slots: Slots) -> Result<Self, LogError> {
        let partitions = (0..slots.count()).map(|_| PartitionState::default()).collect();
        let state = State { partitions, ..State::default() };
        let place =
            Place { segments: VecDeque::new(), segment: 0, position: 0, commit: 0, notice: None, durable: None };
        let follower = Self {
            disk,
            directory,
            log_id,
            slots,
            visible: Visible::new(state),
            place: Mutex::new(place),
            closing: Mutex::new(false),
            closed: Condvar::new(),
            failure: Mutex::new(None),
        };
        follower.catch_up(true)?;
        Ok(follower)
    }

    /// Until it is closed.
    pub(crate) fn run(&self, interval: Duration) {
        loop {
            let closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.closed.wait_timeout_while(closing, interval, |closing| !*closing);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
            if let Err(error) = self.catch_up(false) {
                // Readers are told, and nothing more comes.
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                self.visible.wake_all();
                return;
            }
        }
    }

    pub(crate) fn close(&self) {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.closed.notify_all();
    }

    /// What the partition holds now.
    pub(crate) fn range(&self, slot: Slot) -> Result<OffsetRange, LogError> {
        self.look_again(slot)?;
        let state = self.visible.read();
        let partition = &state.partitions[slot as usize];
        Ok(OffsetRange { start: partition.start, end: partition.end })
    }

    /// As at the last look.
    pub(crate) fn end(&self, slot: Slot) -> u64 {
        self.visible.end(slot)
    }

    /// Takes in what has become durable. `thorough`: also looks which segments there are when the writer has said
    /// nothing new.
    fn catch_up(&self, thorough: bool) -> Result<(), LogError> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut last, mut repeats) = (None, 0);
        for _ in 0..ATTEMPTS_MAX {
            let said = self.read_notice(&mut place);
            if !thorough && said.is_some() && said == place.durable {
                return Ok(());
            }
            let Err(error) = self.step(&mut place, said, thorough) else {
                place.durable = said;
                return Ok(());
            };
            // Begin anew from what is there now. What is met again and again does not come from a change.
            place.segments.clear();
            let text = error.to_string();
            repeats = if last.as_ref() == Some(&text) { repeats + 1 } else { 0 };
            if repeats >= SAME_ERRORS_MAX {
                return Err(error);
            }
            last = Some(text);
        }
        let reason = "the log's files change faster than they can be read: try again, or read a copy of the folder";
        Err(LogError::Unavailable { reason: reason.into() })
    }

    fn read_notice(&self, place: &mut Place) -> Option<Durable> {
        if place.notice.is_none() {
            place.notice = self.disk.open(&self.directory.join(durable::FILE_NAME)).ok();
        }
        Durable::read(&**place.notice.as_ref()?)
    }

    /// One attempt. An error may come from a folder that changes meanwhile.
    fn step(&self, place: &mut Place, said: Option<Durable>, thorough: bool) -> Result<(), LogError> {
        let last_salt = place.segments.back().map(|file| file.header.salt);
        if thorough || last_salt.is_none() || said.map(|said| said.salt) != last_salt {
            self.list_segments(place)?;
        }
        self.read_frames(place, said)
    }

    /// Learns which segments there are.
    fn list_segments(&self, place: &mut Place) -> Result<(), LogError> {
        let directory = self.directory.join(journal::DIRECTORY);
        let names = self.disk.list(&directory).at("list", &directory)?;
        let mut found: Vec<u64> = names.iter().filter_map(|name| journal::segment_of(name)).collect();
        found.sort_unstable();
        let (Some(first), Some(last)) = (found.first().copied(), found.last().copied()) else {
            return Err(self.damaged(&directory, "the log has a manifest, but no journal".to_owned()));
        };
        if found.windows(2).any(|pair| pair[0] + 1 != pair[1]) {
            return Err(self.damaged(&directory, format!("segments are missing between {first} and {last}")));
        }
        if first > place.segment {
            // All that was not read yet is in the partitions' files by now.
            place.segments.clear();
        }
        let is_new = place.segments.is_empty();
        let old_first = place.segments.front().map(|file| file.header.segment);
        while place.segments.front().is_some_and(|file| file.header.segment < first) {
            place.segments.pop_front();
        }
        let known = place.segments.back().map_or(first, |file| file.header.segment + 1);
        for segment in known..=last {
            let path = directory.join(journal::file_name(segment));
            let file = JournalFile::open(&*self.disk, path, self.log_id, segment)?;
            place.segments.push_back(Arc::new(file));
        }
        let Some(first_file) = place.segments.front().cloned() else { return Ok(()) };
        if is_new {
            // All that stands before it is in the partitions' files: begin behind them.
            let mut state = State::default();
            for slot in 0..self.slots.count() {
                let stored_end = first_file.header.next_offsets.get(slot).copied().unwrap_or(0);
                let files = self.files_of(slot_number(slot), stored_end)?;
                let start = files.front().map_or(stored_end, |file| file.base_offset);
                state.partitions.push(PartitionState::new(start, stored_end, files));
            }
            state.journal = place.segments.iter().map(|file| (file.header.segment, Arc::clone(file))).collect();
            self.visible.replace(state);
            place.segment = first;
            place.position = first_file.first_at();
            place.commit = first_file.header.first_commit;
        } else if old_first != Some(first) {
            self.take_split(&first_file)?;
        }
        let mut state = self.visible.write();
        state.journal = place.segments.iter().map(|file| (file.header.segment, Arc::clone(file))).collect();
        Ok(())
    }

    /// The records before `first` are in the partitions' files now.
    fn take_split(&self, first: &JournalFile) -> Result<(), LogError> {
        for slot in 0..self.slots.count() {
            let stored_end = first.header.next_offsets.get(slot).copied().unwrap_or(0);
            if self.visible.read().partitions[slot].stored_end == stored_end {
                continue;
            }
            let files = self.files_of(slot_number(slot), stored_end)?;
            let mut state = self.visible.write();
            let partition = &mut state.partitions[slot];
            partition.start = files.front().map_or(stored_end, |file| file.base_offset);
            partition.files = files;
            partition.stored_end = stored_end;
            partition.forget_stored();
        }
        Ok(())
    }

    /// The partition's files up to `stored_end`; what stands behind is of a split that is not done.
    fn files_of(&self, slot: Slot, stored_end: u64) -> Result<VecDeque<Arc<PartitionFile>>, LogError> {
        let directory = self.partition_directory(slot);
        let names = self.disk.list(&directory).at("list", &directory)?;
        let mut bases: Vec<u64> = names.iter().filter_map(|name| partition_file::base_offset_of(name)).collect();
        bases.retain(|base| *base < stored_end);
        bases.sort_unstable();
        let known = self.visible.read().partitions[slot as usize].files.clone();
        let mut files = VecDeque::with_capacity(bases.len());
        for (index, base_offset) in bases.iter().copied().enumerate() {
            if let Some(file) = known.iter().find(|file| file.base_offset == base_offset && file.closed) {
                files.push_back(Arc::clone(file));
                continue;
            }
            let path = directory.join(partition_file::file_name(base_offset));
            let file = match self.disk.open(&path) {
                Ok(file) => file,
                // Retention drops the oldest first: what was listed before it is gone as well.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    files.clear();
                    continue;
                }
                Err(error) => return Err(error).at("open", &path),
            };
            let opened = Opened { file: &*file, path: &path };
            opened.check_header(self.log_id, slot, base_offset)?;
            let next = bases.get(index + 1).copied();
            let contents = match opened.index()? {
                Some(contents) if contents.next_offset <= stored_end => contents,
                _ if next.is_none() => opened.walk(base_offset, stored_end, file.size().at("measure", &path)?)?,
                _ => return Err(opened.damaged(0, "its index is missing or damaged, and it is not the last file")),
            };
            let end = next.unwrap_or(stored_end);
            if contents.next_offset != end {
                let what = format!("its records end at offset {}, and should go on to {end}", contents.next_offset);
                return Err(opened.damaged(contents.blocks_end.max(FILE_HEADER_BYTES as u64), what));
            }
            files.push_back(Arc::new(PartitionFile {
                base_offset,
                next_offset: contents.next_offset,
                blocks_end: contents.blocks_end,
                max_timestamp_ms: contents.max_timestamp_ms,
                opened_at_ms: 0,
                closed: contents.closed,
                path,
            }));
        }
        Ok(files)
    }

    /// Drops what retention has dropped.
    fn drop_removed(&self, slot: Slot) -> Result<(), LogError> {
        let directory = self.partition_directory(slot);
        let names = self.disk.list(&directory).at("list", &directory)?;
        let oldest = names.iter().filter_map(|name| partition_file::base_offset_of(name)).min();
        let mut state = self.visible.write();
        let partition = &mut state.partitions[slot as usize];
        while let Some(file) = partition.files.front()
            && oldest.is_none_or(|oldest| file.base_offset < oldest)
        {
            partition.start = file.next_offset;
            partition.files.pop_front();
        }
        Ok(())
    }

    /// Takes in the frames that are known to be durable.
    fn read_frames(&self, place: &mut Place, said: Option<Durable>) -> Result<(), LogError> {
        loop {
            let index = place.segments.iter().position(|file| file.header.segment == place.segment);
            let Some(file) = index.and_then(|index| place.segments.get(index)).cloned() else { return Ok(()) };
            let next = index.and_then(|index| place.segments.get(index + 1)).cloned();
            let sure_until = match (&next, said) {
                (Some(next), _) => next.header.first_commit,
                (None, Some(said)) if said.salt == file.header.salt => said.next_commit,
                (None, _) => 0,
            };
            if let Some(next) = &next
                && place.commit >= next.header.first_commit
            {
                if place.commit > next.header.first_commit {
                    let what = format!("it begins with commit {}, which was seen before", next.header.first_commit);
                    return Err(self.damaged(&next.path, what));
                }
                place.segment = next.header.segment;
                place.position = next.first_at();
                continue;
            }
            let frame = file.frame_at(place.position)?.filter(|frame| frame.head.commit == place.commit);
            let Some(frame) = frame else {
                if place.commit >= sure_until {
                    return Ok(());
                }
                // Split and used again, or else damaged: the list of segments tells, at the next attempt.
                let what =
                    format!("commit {} was written at byte {}, and cannot be read", place.commit, place.position);
                return Err(self.damaged(&file.path, what));
            };
            let is_sure = place.commit < sure_until
                || file.frame_at(frame.next_at)?.is_some_and(|next| next.head.commit == place.commit + 1);
            if !is_sure {
                return Ok(());
            }
            self.take_in(&file, &frame)?;
            place.position = frame.next_at;
            place.commit += 1;
        }
    }

    fn take_in(&self, file: &JournalFile, frame: &Frame) -> Result<(), LogError> {
        let mut at = frame.records_at;
        let mut sections = Vec::with_capacity(frame.head.entries.len());
        for entry in &frame.head.entries {
            let position = at;
            at += u64::from(entry.length);
            if entry.slot as usize >= self.slots.count() {
                // Of a topic that was added since.
                continue;
            }
            let expected = self.visible.end(entry.slot);
            if entry.base_offset != expected {
                let what = format!(
                    "offset {} of {} stands where {expected} should, at byte {position}",
                    entry.base_offset,
                    self.slots.name(entry.slot)
                );
                return Err(self.damaged(&file.path, what));
            }
            let section = Section {
                base_offset: entry.base_offset,
                count: entry.count,
                timestamp_ms: frame.head.timestamp_ms,
                segment: file.header.segment,
                position,
                length: entry.length,
                checksum: entry.checksum,
                cached: None,
            };
            sections.push((entry.slot, section));
        }
        self.visible.publish(sections.into_iter(), 0);
        Ok(())
    }

    fn damaged(&self, file: &std::path::Path, what: String) -> LogError {
        let hint = "acknowledged records may be lost: put the log back from a backup";
        LogError::Corrupt { file: file.to_owned(), position: 0, what, hint }
    }
}

fn slot_number(slot: usize) -> Slot {
    Slot::try_from(slot).unwrap_or(Slot::MAX)
}

impl Readable for Follower {
    fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    fn visible(&self) -> &Visible {
        &self.visible
    }

    fn partition_directory(&self, slot: Slot) -> PathBuf {
        self.directory.join(partition_file::DIRECTORY).join(self.slots.name(slot))
    }

    fn look_again(&self, slot: Slot) -> Result<(), LogError> {
        self.catch_up(true)?;
        self.drop_removed(slot)
    }

    fn failure(&self) -> Option<LogError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! What is found when a log is opened: the journal checked frame by frame, the partitions' files checked against it.
//!
//! docs/LOG.md says which traces a crash can leave and why cutting exactly these loses nothing acknowledged. Anything
//! else is damage, and an error: nothing is ever skipped.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use super::files::IoContext;
use super::frame::PAGE_BYTES;
use super::journal::{self, Frame, JournalFile};
use super::manifest::{Slot, Slots};
use super::partition_file::{self, Contents, FILE_HEADER_BYTES, Opened};
use super::records::Batch;
use super::shared::Sealed;
use super::state::{PartitionFile, PartitionState, Section, State};
use crate::error::LogError;

const HINT: &str = "acknowledged records may be lost: put the log back from a backup, or remove it and start anew";

/// What a log holds when it is opened.
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// All segments of the journal, oldest first.
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) next_segment: u64,
    pub(crate) next_commit: u64,
    /// By slot.
    pub(crate) next_offsets: Vec<u64>,
}

/// Reads and checks the log in `directory`.
pub(crate) fn recover(
    disk: &dyn Disk,
    directory: &Path,
    log_id: u128,
    slots: &Slots,
    now_ms: i64,
) -> Result<Recovered, LogError> {
    let files = open_journal(disk, &directory.join(journal::DIRECTORY), log_id)?;
    let (Some(first), Some(last)) = (files.first(), files.last()) else {
        let file = directory.join(journal::DIRECTORY);
        let what = "the log has a manifest, but no journal".to_owned();
        return Err(LogError::Corrupt { file, position: 0, what, hint: HINT });
    };
    let next_segment = last.header.segment + 1;
    let mut state = State::default();
    for slot in 0..slots.count() {
        let stored_end = first.header.next_offsets.get(slot).copied().unwrap_or(0);
        let slot = Slot::try_from(slot).unwrap_or(Slot::MAX);
        let partition_directory = directory.join(partition_file::DIRECTORY).join(slots.name(slot));
        let files = check_partition(disk, &partition_directory, log_id, slot, stored_end, now_ms)?;
        let start = files.front().map_or(stored_end, |file| file.base_offset);
        state.partitions.push(PartitionState::new(start, stored_end, files));
    }
    let (next_commit, last_frame) = read_journal(&files, &mut state)?;
    make_durable(last, last_frame)?;
    let next_offsets = state.partitions.iter().map(|partition| partition.end).collect();
    let mut sealed = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let commits_end = files.get(index + 1).map_or(next_commit, |next| next.header.first_commit);
        state.journal.insert(file.header.segment, Arc::clone(file));
        sealed.push(Sealed { file: Arc::clone(file), commits_end, sound: true });
    }
    Ok(Recovered { state, sealed, next_segment, next_commit, next_offsets })
}

fn open_journal(disk: &dyn Disk, directory: &Path, log_id: u128) -> Result<Vec<Arc<JournalFile>>, LogError> {
    let names = disk.list(directory).at("list", directory)?;
    let mut segments: Vec<u64> = names.iter().filter_map(|name| journal::segment_of(name)).collect();
    segments.sort_unstable();
    let open = |segment| {
        let file = JournalFile::open(disk, directory.join(journal::file_name(segment)), log_id, segment)?;
        Ok(Arc::new(file))
    };
    let files = segments.into_iter().map(open).collect::<Result<_, _>>()?;
    disk.sync_directory(directory).at("sync", directory)?;
    Ok(files)
}

/// The last frame may never have been synced, or its sync may have failed: then the kernel shows it to us, but holds it
/// for written, and another sync alone would do nothing. So it is written again, as it is, before anybody sees it. All
/// frames before it were synced, or the one after would not have been written.
fn make_durable(file: &JournalFile, frame: Option<Range<u64>>) -> Result<(), LogError> {
    let Some(frame) = frame else { return Ok(()) };
    let bytes = journal::read(&*file.file, &file.path, frame.start, frame.end - frame.start)?;
    file.file.write_at(&[&bytes], frame.start).at("write", &file.path)?;
    file.file.sync().at("sync", &file.path)
}

/// Reads all commits; returns the number of the next, and where the last frame of the last segment is.
fn read_journal(files: &[Arc<JournalFile>], state: &mut State) -> Result<(u64, Option<Range<u64>>), LogError> {
    let mut commit = files.first().map_or(0, |file| file.header.first_commit);
    let mut last_frame = None;
    for (index, file) in files.iter().enumerate() {
        let damaged =
            |position: u64, what: String| LogError::Corrupt { file: file.path.clone(), position, what, hint: HINT };
        if file.header.first_commit != commit {
            let what = format!("it begins with commit {}, and {commit} is the next", file.header.first_commit);
            return Err(damaged(0, what));
        }
        for (slot, partition) in state.partitions.iter().enumerate() {
            let said = file.header.next_offsets.get(slot).copied().unwrap_or(0);
            if said != partition.end {
                let what =
                    format!("it begins at offset {said} of partition number {slot}, and {} is next", partition.end);
                return Err(damaged(0, what));
            }
        }
        let commits_end = files.get(index + 1).map(|next| next.header.first_commit);
        let mut position = file.first_at();
        last_frame = None;
        while commits_end.is_none_or(|end| commit < end) {
            let Some(frame) = file.frame_at(position)? else {
                if commits_end.is_some() {
                    return Err(damaged(position, format!("commit {commit} is missing or damaged")));
                }
                check_nothing_after(file, position, commit)?;
                break;
            };
            if frame.head.commit != commit {
                return Err(damaged(position, format!("commit {} stands where {commit} should", frame.head.commit)));
            }
            take_in(file, &frame, position, state)?;
            last_frame = Some(position..frame.next_at);
            position = frame.next_at;
            commit += 1;
        }
    }
    Ok((commit, last_frame))
}

/// Only one frame is ever in flight, so the bytes of an interrupted write are the last of the journal. Whole frames
/// after them mean that the one here was once whole, and acknowledged.
fn check_nothing_after(file: &JournalFile, torn_at: u64, commit: u64) -> Result<(), LogError> {
    let mut position = torn_at + PAGE_BYTES;
    while position < file.bytes {
        if let Some(later) = file.frame_at(position)? {
            return Err(LogError::Corrupt {
                file: file.path.clone(),
                position: torn_at,
                what: format!("commit {commit} is damaged, and {} follows it at byte {position}", later.head.commit),
                hint: HINT,
            });
        }
        position += PAGE_BYTES;
    }
    Ok(())
}

fn take_in(file: &JournalFile, frame: &Frame, position: u64, state: &mut State) -> Result<(), LogError> {
    let damaged = |what: String| Err(LogError::Corrupt { file: file.path.clone(), position, what, hint: HINT });
    let mut at = 0;
    for entry in &frame.head.entries {
        let Some(partition) = state.partitions.get_mut(entry.slot as usize) else {
            return damaged(format!("it has records of partition number {}, which the manifest lacks", entry.slot));
        };
        if entry.base_offset != partition.end {
            let what = format!("offset {} stands where {} should", entry.base_offset, partition.end);
            return damaged(format!("{what}, in partition number {}", entry.slot));
        }
        let records = frame.records.slice(at..at + entry.length as usize);
        let run = Batch::of_run(records, entry.base_offset, frame.head.timestamp_ms, entry.count);
        if run.check(entry.base_offset + u64::from(entry.count)).is_err() {
            return damaged(format!("the records of partition number {} are malformed", entry.slot));
        }
        let section = Section {
            base_offset: entry.base_offset,
            count: entry.count,
            timestamp_ms: frame.head.timestamp_ms,
            segment: file.header.segment,
            position: frame.records_at + at as u64,
            length: entry.length,
            checksum: entry.checksum,
            cached: None,
        };
        partition.push(section, 0);
        at += entry.length as usize;
    }
    Ok(())
}

/// Brings a partition's files to `stored_end`, from which on the journal has the records, and checks that nothing is
/// missing before it.
fn check_partition(
    disk: &dyn Disk,
    directory: &Path,
    log_id: u128,
    slot: Slot,
    stored_end: u64,
    now_ms: i64,
) -> Result<VecDeque<Arc<PartitionFile>>, LogError> {
    let names = disk.list(directory).at("list", directory)?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| partition_file::base_offset_of(name)).collect();
    bases.sort_unstable();
    // The split of a segment that is still in the journal: it is split again.
    for base in bases.extract_if(.., |base| *base >= stored_end) {
        let path = directory.join(partition_file::file_name(base));
        disk.remove(&path).at("remove", &path)?;
    }
    let mut files = VecDeque::with_capacity(bases.len());
    for (index, base_offset) in bases.iter().copied().enumerate() {
        let path = directory.join(partition_file::file_name(base_offset));
        let file = disk.open(&path).at("open", &path)?;
        let opened = Opened { file: &*file, path: &path };
        opened.check_header(log_id, slot, base_offset)?;
        let next = bases.get(index + 1).copied();
        let contents = match opened.index()? {
            Some(contents) if contents.next_offset <= stored_end => contents,
            // Closed by a split that is done again; or open; or damaged, and then the walk ends early.
            _ if next.is_none() => cut(&opened, base_offset, stored_end)?,
            _ => return Err(opened.damaged(0, "its index is missing or damaged, and it is not the last file")),
        };
        let end = next.unwrap_or(stored_end);
        if contents.next_offset != end {
            let what = format!("its records end at offset {}, and should go on to {end}", contents.next_offset);
            return Err(opened.damaged(contents.blocks_end, what));
        }
        let first = opened.block_at(FILE_HEADER_BYTES as u64, contents.blocks_end)?;
        files.push_back(Arc::new(PartitionFile {
            base_offset,
            next_offset: contents.next_offset,
            blocks_end: contents.blocks_end,
            max_timestamp_ms: contents.max_timestamp_ms,
            opened_at_ms: first.map_or(now_ms, |block| block.max_timestamp_ms),
            closed: contents.closed,
            path,
        }));
    }
    Ok(files)
}

/// What the last file holds below `stored_end`; the rest is cut off.
fn cut(opened: &Opened<'_>, base_offset: u64, stored_end: u64) -> Result<Contents, LogError> {
    let bytes = opened.file.size().at("measure", opened.path)?;
    let contents = opened.walk(base_offset, stored_end, bytes)?;
    if contents.next_offset == stored_end && contents.blocks_end < bytes {
        opened.file.truncate(contents.blocks_end).at("truncate", opened.path)?;
        opened.file.sync().at("sync", opened.path)?;
    }
    Ok(contents)
}

//! Gives records of a log another key and value, in place: what was erased leaves the files. docs/ERASURE.md says when
//! that is right, and what follows from it.
//!
//! Offsets, times and numbers of records stay, so that the log is the same log to whoever reads it. Each file is
//! written anew beside the old one and takes its name when it is durable: at any moment, after a crash too, the log is
//! whole, and an interrupted run is simply begun again. The journal keeps nothing: all of it is split first, and the
//! segment that is left, with whatever an earlier use of its file has left in it, is written anew, too.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidings_schemas::clock::{Clock, Entropy};
use tidings_schemas::topics::Topic;

use super::config::EmbeddedConfig;
use super::disk::{Disk, DiskFile, RealDisk};
use super::files::{self, IoContext};
use super::journal::{self, JournalFile};
use super::manifest::{Manifest, Slots};
use super::partition_file::{self, BLOCK_HEADER_BYTES, BlockAt, BlockHeader, FILE_HEADER_BYTES, Opened};
use super::partition_writer::close;
use super::records::{Batch, encode_record, encode_run_header};
use super::{EmbeddedLog, LOCK_FILE};
use crate::error::LogError;
use crate::log::StoredRecord;

/// A file that is being written beside the one that it replaces.
const UNFINISHED: &str = ".rewritten";
/// What a spare file of the journal, and a file of it that was never finished, end with.
const SPARES: [&str; 2] = [".spare", ".new"];

/// A record's new key and value; `None`: it stays as it is.
pub type Replacement = Option<(Bytes, Bytes)>;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Records that were looked at.
    pub records: u64,
    /// Records that have another value now.
    pub changed: u64,
    /// Files that were written anew.
    pub files: u64,
}

/// Rewrites the log in the configured directory, which no process may have open. `replace` is given every record of
/// every topic that this program knows, once; of a partition, the newest file first. It must give the same for the same
/// record, and `None` for what it has given.
///
/// # Errors
/// As [`EmbeddedLog::open`]; [`LogError::Locked`] also when another process opens the log meanwhile. What was rewritten
/// until then stays so.
pub fn rewrite(
    config: &EmbeddedConfig,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    mut replace: impl FnMut(Topic, u32, &StoredRecord) -> Replacement,
) -> Result<Rewritten, LogError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let directory = &config.directory;
    // Opening repairs what a crash has left and begins a segment; the others are split.
    let log = EmbeddedLog::open(config, Arc::clone(clock), Arc::clone(entropy))?;
    log.maintain()?;
    drop(log);
    let lock_path = directory.join(LOCK_FILE);
    let _lock = disk
        .lock(&lock_path, &format!("pid {}", std::process::id()))
        .at("lock", &lock_path)?
        .map_err(|holder| LogError::Locked { directory: directory.clone(), holder })?;
    let manifest = Manifest::load(&*disk, directory)?.ok_or_else(|| LogError::Absent {
        place: directory.display().to_string(),
        hint: "name the data folder that `tidings up --data` was given",
    })?;
    let log_id = manifest.log_id().unwrap_or_default();
    empty_journal(&*disk, &directory.join(journal::DIRECTORY), log_id)?;
    let slots = Slots::of(&manifest);
    let mut done = Rewritten::default();
    for topic in Topic::ALL {
        for partition in 0..slots.partitions(topic) {
            let Some(slot) = slots.slot(topic, partition) else { continue };
            let folder = directory.join(partition_file::DIRECTORY).join(slots.name(slot));
            let mut each = |record: &StoredRecord| replace(topic, partition, record);
            let names = disk.list(&folder).at("list", &folder)?;
            for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
                let path = folder.join(name);
                disk.remove(&path).at("remove", &path)?;
            }
            let mut bases: Vec<u64> = names.iter().filter_map(|name| partition_file::base_offset_of(name)).collect();
            bases.sort_unstable();
            for base_offset in bases.into_iter().rev() {
                let path = folder.join(partition_file::file_name(base_offset));
                let file = disk.open(&path).at("open", &path)?;
                let opened = Opened { file: &*file, path: &path };
                opened.check_header(log_id, slot, base_offset)?;
                rewrite_file(&*disk, &folder, &opened, base_offset, &mut each, &mut done)?;
            }
        }
    }
    Ok(done)
}

/// Leaves of the journal one segment without a commit, in a file that never held one.
fn empty_journal(disk: &dyn Disk, folder: &Path, log_id: u128) -> Result<(), LogError> {
    let names = disk.list(folder).at("list", folder)?;
    let segments: Vec<u64> = names.iter().filter_map(|name| journal::segment_of(name)).collect();
    let busy = |what: &str| LogError::Mismatch {
        place: folder.display().to_string(),
        what: what.to_owned(),
        hint: "another process has written to the log: stop it and run this again",
    };
    let [segment] = segments[..] else { return Err(busy("the journal is not split")) };
    let file = JournalFile::open(disk, folder.join(journal::file_name(segment)), log_id, segment)?;
    if file.frame_at(file.first_at())?.is_some() {
        return Err(busy("the journal is not empty"));
    }
    let header = file.header.encode();
    drop(file);
    files::store_whole(disk, folder, &journal::file_name(segment), &header)?;
    for name in names.iter().filter(|name| SPARES.iter().any(|suffix| name.ends_with(suffix))) {
        let path = folder.join(name);
        disk.remove(&path).at("remove", &path)?;
    }
    disk.sync_directory(folder).at("sync", folder)
}

/// One file: read to its end; written anew from the first block on that changes.
fn rewrite_file(
    disk: &dyn Disk,
    folder: &Path,
    opened: &Opened<'_>,
    base_offset: u64,
    replace: &mut dyn FnMut(&StoredRecord) -> Replacement,
    done: &mut Rewritten,
) -> Result<(), LogError> {
    let size = opened.file.size().at("measure", opened.path)?;
    let contents = match opened.index()? {
        Some(contents) => contents,
        None => opened.walk(base_offset, u64::MAX, size)?,
    };
    let mut target: Option<Target> = None;
    for at in &contents.blocks {
        let block = opened
            .block_at(at.position, contents.blocks_end)?
            .ok_or_else(|| opened.damaged(at.position, "a block is missing or damaged"))?;
        let runs_at = at.position + BLOCK_HEADER_BYTES as u64;
        let runs = Bytes::from(journal::read(opened.file, opened.path, runs_at, u64::from(block.length))?);
        if crc32c::crc32c(&runs) != block.checksum {
            return Err(opened.damaged(at.position, "the checksum of a block is wrong"));
        }
        done.records += u64::from(block.count);
        let changed = changed_runs(&runs, &block, replace)
            .map_err(|_| opened.damaged(at.position, "a block is malformed, though its checksum is right"))?;
        if let Some((_, count)) = &changed
            && target.is_none()
        {
            debug_assert!(*count > 0);
            target = Some(Target::begin(disk, opened, at)?);
        }
        let Some(target) = &mut target else { continue };
        match changed {
            None => target.put(&block, &runs)?,
            Some((runs, count)) => {
                done.changed += count;
                let length = u32::try_from(runs.len()).unwrap_or(u32::MAX);
                target.put(&BlockHeader { length, checksum: crc32c::crc32c(&runs), ..block }, &runs)?;
            }
        }
    }
    let Some(Target { file, path, mut blocks, end }) = target else { return Ok(()) };
    let first = contents.blocks.iter().take(contents.blocks.len() - blocks.len()).copied();
    blocks = first.chain(blocks).collect();
    let mut contents = partition_file::Contents { blocks, blocks_end: end, ..contents };
    if contents.closed {
        close(&*file, &path, &mut contents)?;
    } else {
        file.sync().at("sync", &path)?;
    }
    disk.rename(&path, opened.path).at("put in place", opened.path)?;
    disk.sync_directory(folder).at("sync", folder)?;
    done.files += 1;
    Ok(())
}

/// The runs with the replaced records in them, and how many these are; `None`: none is.
fn changed_runs(
    runs: &Bytes,
    block: &BlockHeader,
    replace: &mut dyn FnMut(&StoredRecord) -> Replacement,
) -> Result<Option<(Vec<u8>, u64)>, super::records::Malformed> {
    let mut batch = Batch::of_runs(runs.clone(), 0, runs.len(), block.base_offset);
    let mut records = Vec::with_capacity(block.count as usize);
    let mut changed = 0;
    while let Some(mut record) = batch.next()? {
        if let Some((key, value)) = replace(&record) {
            (record.key, record.value) = (key, value);
            changed += 1;
        }
        records.push(record);
    }
    if changed == 0 {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(runs.len());
    for run in records.chunk_by(|one, other| one.timestamp_ms == other.timestamp_ms) {
        let mut bytes = Vec::new();
        for record in run {
            encode_record(&mut bytes, &record.key, &record.value);
        }
        let (count, length) = (u32::try_from(run.len()), u32::try_from(bytes.len()));
        let timestamp_ms = run.first().map_or(0, |record| record.timestamp_ms);
        encode_run_header(&mut out, timestamp_ms, count.unwrap_or(u32::MAX), length.unwrap_or(u32::MAX));
        out.extend_from_slice(&bytes);
    }
    Ok(Some((out, changed)))
}

/// The file that takes the old one's place.
struct Target {
    file: Arc<dyn DiskFile>,
    path: std::path::PathBuf,
    /// Those that were put, without those that were copied at the beginning.
    blocks: Vec<BlockAt>,
    end: u64,
}

impl Target {
    /// With all that stands before this block.
    fn begin(disk: &dyn Disk, old: &Opened<'_>, at: &BlockAt) -> Result<Self, LogError> {
        let mut name = old.path.as_os_str().to_owned();
        name.push(UNFINISHED);
        let path = std::path::PathBuf::from(name);
        let file = disk.create(&path).at("create", &path)?;
        let mut copied = 0;
        while copied < at.position {
            let bytes = (at.position - copied).min(COPY_BYTES);
            let some = journal::read(old.file, old.path, copied, bytes)?;
            file.write_at(&[&some], copied).at("write", &path)?;
            copied += bytes;
        }
        debug_assert!(at.position >= FILE_HEADER_BYTES as u64);
        Ok(Self { file, path, blocks: Vec::new(), end: at.position })
    }

    fn put(&mut self, header: &BlockHeader, runs: &[u8]) -> Result<(), LogError> {
        self.file.write_at(&[&header.encode(), runs], self.end).at("write", &self.path)?;
        self.blocks.push(BlockAt { base_offset: header.base_offset, position: self.end });
        self.end += (BLOCK_HEADER_BYTES + runs.len()) as u64;
        Ok(())
    }
}

/// What is copied at a time.
const COPY_BYTES: u64 = 1024 * 1024;

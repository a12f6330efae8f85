//! A log made from records that have their offsets and times already: a copy of another log, or of a part of it.
//!
//! Records go straight into the partitions' files, each run with its own time; the journal is begun behind them, and the
//! manifest comes last, so that what is not finished is no log yet. An attempt that was interrupted is gone on with: what is
//! durable of each partition is kept, and the same records, given again, are not written twice.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidings_schemas::clock::Clock;
use tidings_schemas::limits;
use tidings_schemas::topics::{Partitions, Topic};

use super::disk::{DirectoryLock, Disk, RealDisk};
use super::files::{self, IoContext};
use super::frame::SegmentHeader;
use super::journal;
use super::manifest::{Manifest, Slot, Slots};
use super::partition_file::{self, BLOCK_HEADER_BYTES, Contents, FILE_HEADER_BYTES, Opened};
use super::partition_writer::{PartitionWriter, Sizes};
use super::records::encode_record;
use super::state::PartitionFile;
use crate::bulk::{Bulk, BulkPlan};
use crate::error::LogError;
use crate::log::StoredRecord;

/// The file that says what is being made; removed when it is done.
pub(crate) const PLAN_FILE: &str = "import.json";
/// Records of one time that are gathered before they are handed on, in bytes.
const RUN_BYTES: usize = 32 * 1024;
const HINT: &str = "remove the folder and begin again";

/// A log being made in a folder. Dropped before it is finished, it can be gone on with.
pub struct BulkLog {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    plan: BulkPlan,
    manifest: Manifest,
    slots: Slots,
    now_ms: i64,
    writers: Vec<Option<PartitionWriter>>,
    runs: Vec<Run>,
    /// By slot: the offset of the next record given, and of the first that is not in the files yet.
    next: Vec<u64>,
    durable: Vec<u64>,
    _lock: DirectoryLock,
}

/// Records of one time that are not handed on yet.
#[derive(Default)]
struct Run {
    timestamp_ms: i64,
    count: u32,
    bytes: Vec<u8>,
}

impl BulkLog {
    /// What is being made in `directory`, if an attempt was interrupted there.
    ///
    /// # Errors
    /// [`LogError::Io`]; [`LogError::Corrupt`].
    pub fn unfinished(directory: &Path) -> Result<Option<BulkPlan>, LogError> {
        let path = directory.join(PLAN_FILE);
        let Some(bytes) = files::load_whole(&RealDisk, &path)? else { return Ok(None) };
        let plan = serde_json::from_slice(&bytes).map_err(|error| LogError::Corrupt {
            file: path,
            position: 0,
            what: format!("it is not the plan of an import ({error})"),
            hint: HINT,
        })?;
        Ok(Some(plan))
    }

    /// Begins, or goes on. `None`: it was finished already.
    ///
    /// # Errors
    /// [`LogError::Mismatch`] when there is a log, or an unfinished one by another plan; [`LogError::Locked`];
    /// [`LogError::Corrupt`] when what an interrupted attempt left is damaged; [`LogError::Io`].
    pub fn open(directory: &Path, plan: BulkPlan, clock: &dyn Clock) -> Result<Option<Self>, LogError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let refuse = |what: String, hint| LogError::Mismatch { place: directory.display().to_string(), what, hint };
        disk.create_directory(directory).at("create", directory)?;
        let lock_path = directory.join(super::LOCK_FILE);
        let lock = disk
            .lock(&lock_path, &format!("pid {}", std::process::id()))
            .at("lock", &lock_path)?
            .map_err(|holder| LogError::Locked { directory: directory.to_owned(), holder })?;
        let before = Self::unfinished(directory)?;
        let same = before.as_ref() == Some(&plan);
        if Manifest::load(&*disk, directory)?.is_some() {
            if !same {
                return Err(refuse("there is a log already".to_owned(), "name an empty folder"));
            }
            remove_plan(&*disk, directory)?;
            return Ok(None);
        }
        if before.is_some() && !same {
            let what = "an import of something else was begun here".to_owned();
            return Err(refuse(what, "finish that one, or remove the folder"));
        }
        let partitions = Partitions::from(plan.partitions);
        let manifest = Manifest::new(plan.log_id, clock.now_ms(), &partitions);
        manifest.check(directory)?;
        if before.is_none() {
            super::refuse_lost_manifest(&*disk, directory)?;
            for name in [journal::DIRECTORY, partition_file::DIRECTORY] {
                let path = directory.join(name);
                disk.create_directory(&path).at("create", &path)?;
            }
            let encoded = serde_json::to_vec_pretty(&plan).unwrap_or_default();
            files::store_whole(&*disk, directory, PLAN_FILE, &encoded)?;
        }
        let slots = Slots::of(&manifest);
        let mut starts = vec![0; slots.count()];
        for (topic, partition, start) in &plan.starts {
            let slot = Topic::from_name(topic).and_then(|topic| slots.slot(topic, *partition));
            let slot = slot.ok_or_else(|| refuse(format!("{topic} has no partition {partition}"), HINT))?;
            starts[slot as usize] = *start;
        }
        let mut log = Self {
            disk,
            directory: directory.to_owned(),
            plan,
            manifest,
            now_ms: clock.now_ms(),
            writers: (0..slots.count()).map(|_| None).collect(),
            runs: (0..slots.count()).map(|_| Run::default()).collect(),
            durable: starts.clone(),
            next: starts,
            slots,
            _lock: lock,
        };
        for slot in 0..log.slots.count() {
            log.adopt(Slot::try_from(slot).unwrap_or(Slot::MAX))?;
        }
        Ok(Some(log))
    }

    fn hand_on(&mut self, slot: Slot) -> Result<(), LogError> {
        let index = slot as usize;
        let Run { timestamp_ms, count, bytes } = &mut self.runs[index];
        if *count == 0 {
            return Ok(());
        }
        if self.writers[index].is_none() {
            self.writers[index] = Some(writer(
                &self.disk,
                self.directory.join(partition_file::DIRECTORY).join(self.slots.name(slot)),
                self.plan.log_id,
                slot,
                self.now_ms,
                self.durable[index],
                None,
            )?);
        }
        if let Some(writer) = &mut self.writers[index] {
            writer.add(*timestamp_ms, *count, bytes)?;
        }
        *count = 0;
        bytes.clear();
        Ok(())
    }

    /// Takes over what an interrupted attempt has left of a partition. Closed files were synced whole; of the last, blocks
    /// count from the first on for as long as their checksums are right.
    fn adopt(&mut self, slot: Slot) -> Result<(), LogError> {
        let directory = self.directory.join(partition_file::DIRECTORY).join(self.slots.name(slot));
        let names = self.disk.list(&directory).at("list", &directory)?;
        let mut bases: Vec<u64> = names.iter().filter_map(|name| partition_file::base_offset_of(name)).collect();
        bases.sort_unstable();
        let bases: VecDeque<u64> = bases.into();
        let index = slot as usize;
        for base_offset in bases.iter().copied() {
            let path = directory.join(partition_file::file_name(base_offset));
            let file = self.disk.open(&path).at("open", &path)?;
            let opened = Opened { file: &*file, path: &path };
            let is_last = bases.back() == Some(&base_offset);
            if base_offset != self.durable[index] {
                return Err(opened.damaged(0, format!("it should begin with offset {}", self.durable[index])));
            }
            if opened.check_header(self.plan.log_id, slot, base_offset).is_err() && is_last {
                self.disk.remove(&path).at("remove", &path)?;
                break;
            }
            if let Some(contents) = opened.index()? {
                self.durable[index] = contents.next_offset;
                continue;
            }
            if !is_last {
                return Err(opened.damaged(0, "its index is missing or damaged, and it is not the last file"));
            }
            let contents = whole_blocks(&opened, base_offset)?;
            file.truncate(contents.blocks_end).at("truncate", &path)?;
            self.durable[index] = contents.next_offset;
            let known = PartitionFile {
                base_offset,
                next_offset: contents.next_offset,
                blocks_end: contents.blocks_end,
                max_timestamp_ms: contents.max_timestamp_ms,
                opened_at_ms: self.now_ms,
                closed: false,
                path,
            };
            let last = Some((&known, contents));
            let id = self.plan.log_id;
            self.writers[index] =
                Some(writer(&self.disk, directory.clone(), id, slot, self.now_ms, known.next_offset, last)?);
        }
        Ok(())
    }
}

impl Bulk for BulkLog {
    fn next_offset(&self, topic: Topic, partition: u32) -> Option<u64> {
        self.slots.slot(topic, partition).map(|slot| self.next[slot as usize])
    }

    fn kept(&self) -> u64 {
        self.durable.iter().zip(&self.next).map(|(durable, next)| durable.saturating_sub(*next)).sum()
    }

    fn append(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> Result<u64, LogError> {
        let slot = self.slots.slot(topic, partition).ok_or(LogError::UnknownPartition { topic, partition })?;
        let index = slot as usize;
        let bytes = record.key.len() + record.value.len();
        if bytes > limits::RECORD_BYTES_MAX {
            return Err(LogError::Mismatch {
                place: self.directory.display().to_string(),
                what: format!("a record of {} has {bytes} bytes", topic.name()),
                hint: "no log of this program can hold it",
            });
        }
        let offset = self.next[index];
        self.next[index] += 1;
        if offset < self.durable[index] {
            return Ok(offset);
        }
        let run = &self.runs[index];
        if run.count > 0 && (run.timestamp_ms != record.timestamp_ms || run.bytes.len() >= RUN_BYTES) {
            self.hand_on(slot)?;
        }
        let run = &mut self.runs[index];
        run.timestamp_ms = record.timestamp_ms;
        run.count += 1;
        encode_record(&mut run.bytes, &record.key, &record.value);
        Ok(offset)
    }

    fn finish(mut self) -> Result<(), LogError> {
        for slot in 0..self.slots.count() {
            self.hand_on(Slot::try_from(slot).unwrap_or(Slot::MAX))?;
            if let Some(writer) = self.writers[slot].take() {
                writer.finish()?;
            }
        }
        let partitions = self.directory.join(partition_file::DIRECTORY);
        self.disk.sync_directory(&partitions).at("sync", &partitions)?;
        // The salt keeps two uses of one file apart; this file is new.
        let header = SegmentHeader {
            log_id: self.plan.log_id,
            segment: 0,
            salt: 0,
            first_commit: 0,
            next_offsets: self.next.iter().zip(&self.durable).map(|(next, durable)| *next.max(durable)).collect(),
        };
        let path = self.directory.join(journal::DIRECTORY);
        files::store_whole(&*self.disk, &path, &journal::file_name(0), &header.encode())?;
        self.manifest.store(&*self.disk, &self.directory)?;
        remove_plan(&*self.disk, &self.directory)
    }
}

fn remove_plan(disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
    let path = directory.join(PLAN_FILE);
    disk.remove(&path).at("remove", &path)?;
    disk.sync_directory(directory).at("sync", directory)
}

fn writer(
    disk: &Arc<dyn Disk>,
    directory: PathBuf,
    log_id: u128,
    slot: Slot,
    now_ms: i64,
    next_offset: u64,
    last: Option<(&PartitionFile, Contents)>,
) -> Result<PartitionWriter, LogError> {
    let sizes = Sizes { file_bytes: limits::PARTITION_SEGMENT_BYTES, block_bytes: limits::PARTITION_BLOCK_BYTES };
    PartitionWriter::new(Arc::clone(disk), directory, log_id, slot, sizes, now_ms, next_offset, last)
}

/// The blocks of an open file, up to the first that is not whole.
fn whole_blocks(opened: &Opened<'_>, base_offset: u64) -> Result<Contents, LogError> {
    let bytes = opened.file.size().at("measure", opened.path)?;
    let mut end = FILE_HEADER_BYTES as u64;
    while let Some(block) = opened.block_at(end, bytes)? {
        let runs_at = end + BLOCK_HEADER_BYTES as u64;
        let runs = Bytes::from(journal::read(opened.file, opened.path, runs_at, u64::from(block.length))?);
        if crc32c::crc32c(&runs) != block.checksum {
            break;
        }
        end = runs_at + u64::from(block.length);
    }
    opened.walk(base_offset, u64::MAX, end)
}

/// Refuses to make a new log where an import was begun.
pub(crate) fn refuse_unfinished(disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
    if files::load_whole(disk, &directory.join(PLAN_FILE))?.is_none() {
        return Ok(());
    }
    Err(LogError::Mismatch {
        place: directory.display().to_string(),
        what: "an import into it was not finished".to_owned(),
        hint: "run the same import again, or remove the folder",
    })
}

//! The embedded log: one process, one directory, nothing else to install.
//!
//! Every commit goes as one frame into the journal, and is acknowledged when that is on disk; full journal segments are
//! split into files of one partition each, in the background. docs/LOG.md has the files byte by byte, and what is
//! recovered from them and why.
//!
//! - [`config`]: the settings. [`stats`], [`metrics`]: what it counts. [`disk`]: what is asked of the file system.
//! - `queue`, `writer`: from a call to a durable commit. `state`: what readers see of it. `reader`: how they read.
//! - `journal`, `frame`, `records`: the journal and its bytes. `partition_file`, `partition_writer`: the same for the
//!   partitions' files. `manifest`: what the log is. `files`, `bytesio`: small helpers.
//! - `splitter`, `retention`: the background. `recovery`: what opening a log does.
//! - [`read_only`]: the log read by another process than the one that writes it. `follow`: how it keeps up. `durable`: what
//!   the writer tells it. [`bulk`]: a log made from another's records. [`rewrite`]: records replaced where they stand.

pub mod bulk;
pub mod config;
pub mod disk;
pub mod metrics;
pub mod read_only;
pub mod rewrite;
pub mod stats;

mod bytesio;
mod durable;
mod files;
mod follow;
mod frame;
mod journal;
mod manifest;
mod partition_file;
mod partition_writer;
mod queue;
mod reader;
mod records;
mod recovery;
mod retention;
mod shared;
mod splitter;
mod state;
mod writer;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tidings_schemas::clock::{Clock, Entropy};
use tidings_schemas::limits;
use tidings_schemas::topics::{Partitions, Topic};

use self::config::{EmbeddedConfig, PartitionCounts, Settings};
use self::disk::{DirectoryLock, Disk, RealDisk};
use self::files::IoContext;
use self::frame::SegmentHeader;
use self::journal::Spares;
use self::manifest::{Manifest, Slots};
use self::queue::{Call, CallSlots, Queue};
use self::reader::EmbeddedReader;
use self::records::RECORD_HEADER_BYTES;
use self::recovery::{Recovered, recover};
use self::shared::{Backlog, Shared};
use self::splitter::Splitter;
use self::state::Visible;
use self::stats::{Counters, Stats, add};
use self::writer::Writer;
use crate::error::{AppendError, LogError};
use crate::group::{FixedMember, Groups, Membership};
use crate::log::{Log, LogReader, NewRecord, OffsetRange, OnAppended};

const LOCK_FILE: &str = "lock";

/// The log of one process, in a directory of its own. Dropping it writes what waits and stops its threads; readers that
/// are still there can read on.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    splitter: Arc<Mutex<Splitter>>,
    threads: Vec<JoinHandle<()>>,
    /// Given back when the threads have ended, too.
    lock: Arc<DirectoryLock>,
}

impl EmbeddedLog {
    /// Opens the log in the configured directory, or makes one.
    ///
    /// # Errors
    /// [`LogError::Locked`] when another process has it; [`LogError::Mismatch`] when it was made with other numbers of
    /// partitions or by a newer program; [`LogError::Corrupt`] when it is damaged in a way that no crash explains;
    /// [`LogError::Io`].
    pub fn open(config: &EmbeddedConfig, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, LogError> {
        Self::open_on(Arc::new(RealDisk), config, clock, entropy)
    }

    /// As [`EmbeddedLog::open`], on a file system of the caller's: for tests that make it fail.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: &EmbeddedConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, LogError> {
        let directory = &config.directory;
        disk.create_directory(directory).at("create", directory)?;
        let lock_path = directory.join(LOCK_FILE);
        let holder = format!("pid {}", std::process::id());
        let lock = disk
            .lock(&lock_path, &holder)
            .at("lock", &lock_path)?
            .map_err(|holder| LogError::Locked { directory: directory.clone(), holder })?;

        let manifest = load_or_create(&*disk, config, &*clock, &*entropy)?;
        let log_id = manifest.log_id().unwrap_or_default();
        let slots = Slots::of(&manifest);
        let recovered = recover(&*disk, directory, log_id, &slots, clock.now_ms())?;
        let Recovered { state, mut sealed, next_segment, next_commit, next_offsets } = recovered;
        let settings = Settings::of(config);
        let journal_directory = directory.join(journal::DIRECTORY);
        let shared = Arc::new(Shared {
            directory: directory.clone(),
            log_id,
            spares: Spares::adopt(Arc::clone(&disk), journal_directory, settings.journal_segment_bytes)?,
            slots,
            disk,
            clock,
            entropy,
            visible: Visible::new(state),
            queue: Queue::new(settings.queue),
            backlog: Backlog::default(),
            counters: Counters::default(),
            settings,
        });
        let mut writer = Writer::new(Arc::clone(&shared), next_segment, next_commit, next_offsets);
        let last = sealed.pop();
        for sealed in sealed {
            shared.backlog.seal(sealed);
        }
        if let Err(error) = writer.prepare(last) {
            // It can still be read; each append tries again.
            tracing::error!(%error, "the log cannot be written: appends are refused until this is repaired");
        }
        let splitter = Arc::new(Mutex::new(Splitter::new(Arc::clone(&shared))));
        let mut log = Self { shared, splitter, threads: Vec::new(), lock: Arc::new(lock) };
        log.start(writer)?;
        Ok(log)
    }

    fn start(&mut self, writer: Writer) -> Result<(), LogError> {
        let directory = &self.shared.directory;
        let (lock, shared) = (Arc::clone(&self.lock), Arc::clone(&self.shared));
        let writer = thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            if std::panic::catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                tracing::error!("the log's writer has panicked: appends are refused until the program is restarted");
                shared.queue.refuse_all("the log's writer has panicked: restart the program");
            }
            drop(lock);
        });
        self.threads.push(writer.at("start a thread for", directory)?);
        let (splitter, shared) = (Arc::clone(&self.splitter), Arc::clone(&self.shared));
        let background = thread::Builder::new().name("log-background".to_owned());
        let lock = Arc::clone(&self.lock);
        let background = background.spawn(move || {
            if std::panic::catch_unwind(AssertUnwindSafe(|| Splitter::run(&splitter, &shared))).is_err() {
                tracing::error!(
                    "the log's background has panicked: the journal will be full soon; restart the program"
                );
                // The writer is not to wait for it.
                shared.backlog.close();
            }
            drop(lock);
        });
        self.threads.push(background.at("start a thread for", directory)?);
        Ok(())
    }

    /// Does at once what the background does from time to time: splits what waits in the journal (all but the segment
    /// being filled), then applies retention.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::Corrupt`].
    pub fn maintain(&self) -> Result<(), LogError> {
        let mut splitter = self.splitter.lock().unwrap_or_else(PoisonError::into_inner);
        splitter.split_all()?;
        splitter.apply_retention()
    }

    /// The counters as they stand.
    pub fn stats(&self) -> Stats {
        let (queue_records, queue_bytes) = self.shared.queue.depth();
        let state = self.shared.visible.read();
        let files = state.partitions.iter().flat_map(|partition| &partition.files);
        Stats {
            queue_records: queue_records as u64,
            queue_bytes: queue_bytes as u64,
            tail_cache_bytes: state.partitions.iter().map(|partition| partition.cached_bytes() as u64).sum(),
            journal_segments: state.journal.len() as u64,
            journal_disk_bytes: state.journal.values().map(|file| file.bytes).sum::<u64>() + self.shared.spares.bytes(),
            partitions_disk_bytes: files.map(|file| file.blocks_end).sum(),
            ..self.shared.counters.totals()
        }
    }

    /// The call as the writer takes it, if it is within the limits.
    fn check(&self, records: &[NewRecord]) -> Result<(CallSlots, usize), AppendError> {
        let mut bytes = 0;
        let mut each = Vec::new();
        let mut first = None;
        for (index, record) in records.iter().enumerate() {
            let slot = self
                .shared
                .slots
                .slot(record.topic, record.partition)
                .ok_or(AppendError::UnknownPartition { topic: record.topic, partition: record.partition })?;
            let record_bytes = record.key.len() + record.value.len();
            if record_bytes > limits::RECORD_BYTES_MAX {
                let limit_bytes = limits::RECORD_BYTES_MAX;
                return Err(AppendError::TooLarge { unit: "record", bytes: record_bytes, limit_bytes });
            }
            bytes += record_bytes + RECORD_HEADER_BYTES;
            let first = *first.get_or_insert(slot);
            if each.is_empty() && slot != first {
                each.reserve(records.len());
                each.resize(index, first);
                each.push(slot);
            } else if !each.is_empty() {
                each.push(slot);
            }
        }
        if bytes > limits::APPEND_CALL_BYTES_MAX {
            let limit_bytes = limits::APPEND_CALL_BYTES_MAX;
            return Err(AppendError::TooLarge { unit: "call", bytes, limit_bytes });
        }
        let slots = if each.is_empty() { CallSlots::One(first.unwrap_or(0)) } else { CallSlots::Each(each) };
        Ok((slots, bytes))
    }
}

impl Log for EmbeddedLog {
    fn log_id(&self) -> u128 {
        self.shared.log_id
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.shared.slots.partitions(topic)
    }

    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        let counters = &self.shared.counters;
        let (slots, bytes) = match self.check(&records) {
            Ok(checked) => checked,
            Err(error) => {
                add(&counters.refused_invalid, 1);
                return on_appended(Err(error));
            }
        };
        if let Err((call, error)) = self.shared.queue.push(Call { records, slots, bytes, on_appended }) {
            let full = matches!(error, AppendError::Full);
            add(if full { &counters.refused_full } else { &counters.refused_unavailable }, 1);
            (call.on_appended)(Err(error));
        }
    }

    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        let slot = self.shared.slots.slot(topic, partition).ok_or(LogError::UnknownPartition { topic, partition })?;
        let state = self.shared.visible.read();
        let found = &state.partitions[slot as usize];
        Ok(OffsetRange { start: found.start, end: found.end })
    }

    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        let slot = self.shared.slots.slot(topic, partition).ok_or(LogError::UnknownPartition { topic, partition })?;
        let OffsetRange { start, end } = self.range(topic, partition)?;
        if !(start..=end).contains(&from) {
            return Err(LogError::OutOfRange { topic, partition, asked: from, start, end });
        }
        Ok(Box::new(EmbeddedReader::new(Arc::clone(&self.shared) as _, topic, partition, slot, from)))
    }
}

impl Groups for EmbeddedLog {
    fn join(&self, _group: &str, topics: &[Topic]) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(FixedMember::of_all(self, topics)))
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.shared.queue.close();
        let current = thread::current().id();
        // The background goes on until the writer is done: the writer may be waiting for it to make room.
        for (index, thread) in self.threads.drain(..).enumerate() {
            if index == 1 {
                self.shared.backlog.close();
            }
            // The last reference may have been a caller's, dropped on the writer's own thread.
            if thread.thread().id() != current && thread.join().is_err() {
                tracing::error!("a thread of the log has panicked");
            }
        }
        self.shared.backlog.close();
    }
}

/// The manifest of the log that is there, or of a new one.
fn load_or_create(
    disk: &dyn Disk,
    config: &EmbeddedConfig,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Manifest, LogError> {
    let directory = &config.directory;
    let asked = config.partitions.map(Partitions::from);
    let default = PartitionCounts::default().into();
    if let Some(mut manifest) = Manifest::load(disk, directory)? {
        if manifest.reconcile(directory, asked.as_ref(), &default)? {
            manifest.store(disk, directory)?;
        }
        return Ok(manifest);
    }
    bulk::refuse_unfinished(disk, directory)?;
    let mut manifest = Manifest::new(entropy.next_u128(), clock.now_ms(), asked.as_ref().unwrap_or(&default));
    manifest.check(directory)?;
    refuse_lost_manifest(disk, directory)?;
    for name in [journal::DIRECTORY, partition_file::DIRECTORY] {
        let path = directory.join(name);
        disk.create_directory(&path).at("create", &path)?;
    }
    // The first segment before the manifest: a log that has a manifest has a journal.
    let header = SegmentHeader {
        log_id: manifest.log_id().unwrap_or_default(),
        segment: 0,
        salt: entropy.next_u64(),
        first_commit: 0,
        next_offsets: vec![0; Slots::of(&manifest).count()],
    };
    let path = directory.join(journal::DIRECTORY);
    files::store_whole(disk, &path, &journal::file_name(0), &header.encode())?;
    manifest.store(disk, directory)?;
    Ok(manifest)
}

/// A directory without a manifest is that of a new log, or of one whose making was interrupted: then there is at most an
/// empty first segment. More is a log whose manifest was lost.
fn refuse_lost_manifest(disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
    let journal = directory.join(journal::DIRECTORY);
    let partitions = directory.join(partition_file::DIRECTORY);
    let names = disk.list(&journal).at("list", &journal)?;
    let more = names.iter().filter_map(|name| journal::segment_of(name)).any(|segment| segment > 0);
    if more || !disk.list(&partitions).at("list", &partitions)?.is_empty() {
        return Err(LogError::Corrupt {
            file: directory.join(manifest::FILE_NAME),
            position: 0,
            what: "it is missing, but there are records".to_owned(),
            hint: "put the manifest back from a backup, or empty the directory to start anew",
        });
    }
    Ok(())
}

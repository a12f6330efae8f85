//! The embedded log, read by another process than the one that writes it, or while nobody does.
//!
//! Takes no lock and changes nothing in the folder. Only acknowledged records are seen: those of commits of which the
//! writer has said that they are durable (`durable`), or which another commit or segment follows, since that is written
//! only afterwards. A torn or unfinished frame at the end is the end.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidings_schemas::topics::Topic;

use super::disk::{Disk, ReadOnlyDisk};
use super::files::IoContext;
use super::follow::Follower;
use super::manifest::{Manifest, Slots};
use super::reader::EmbeddedReader;
use crate::error::{AppendError, LogError};
use crate::log::{Log, LogReader, NewRecord, OffsetRange, OnAppended};

/// How often it is looked whether there is more. A look is one small read.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A log that another process may be writing. Appends are refused.
pub struct ReadOnlyLog {
    log_id: u128,
    slots: Slots,
    follower: Arc<Follower>,
    thread: Option<JoinHandle<()>>,
}

impl ReadOnlyLog {
    /// Opens the log in `directory`.
    ///
    /// # Errors
    /// [`LogError::Absent`]; [`LogError::Mismatch`] when a newer program made it; [`LogError::Corrupt`]; [`LogError::Io`].
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        Self::open_on(Arc::new(ReadOnlyDisk), directory)
    }

    fn open_on(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, LogError> {
        let manifest = Manifest::load(&*disk, directory)?.ok_or_else(|| LogError::Absent {
            place: directory.display().to_string(),
            hint: "name the data folder that `tidings up --data` was given",
        })?;
        let log_id = manifest.log_id().unwrap_or_default();
        let slots = Slots::of(&manifest);
        let follower = Arc::new(Follower::new(disk, directory.to_owned(), log_id, slots.clone())?);
        let follows = Arc::clone(&follower);
        let thread = thread::Builder::new().name("log-follower".to_owned());
        let thread = thread.spawn(move || follows.run(LOOK_INTERVAL)).at("start a thread for", directory)?;
        Ok(Self { log_id, slots, follower, thread: Some(thread) })
    }
}

impl Log for ReadOnlyLog {
    fn log_id(&self) -> u128 {
        self.log_id
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.slots.partitions(topic)
    }

    fn append_with(&self, _records: Vec<NewRecord>, on_appended: OnAppended) {
        on_appended(Err(AppendError::Unavailable { reason: "it is open to be read only".into() }));
    }

    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        let slot = self.slots.slot(topic, partition).ok_or(LogError::UnknownPartition { topic, partition })?;
        self.follower.range(slot)
    }

    fn end_seen(&self, topic: Topic, partition: u32) -> Option<u64> {
        self.slots.slot(topic, partition).map(|slot| self.follower.end(slot))
    }

    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        let slot = self.slots.slot(topic, partition).ok_or(LogError::UnknownPartition { topic, partition })?;
        let OffsetRange { start, end } = self.follower.range(slot)?;
        if !(start..=end).contains(&from) {
            return Err(LogError::OutOfRange { topic, partition, asked: from, start, end });
        }
        Ok(Box::new(EmbeddedReader::new(Arc::clone(&self.follower) as _, topic, partition, slot, from)))
    }
}

impl Drop for ReadOnlyLog {
    fn drop(&mut self) {
        self.follower.close();
        let current = thread::current().id();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != current
            && thread.join().is_err()
        {
            tracing::error!("the thread that follows the log has panicked");
        }
    }
}

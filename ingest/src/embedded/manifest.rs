//! The manifest: what a log is, fixed when it is made. `log.json` in its directory.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidings_schemas::limits::PARTITIONS_MAX;
use tidings_schemas::topics::{Partitions, Topic};

use super::disk::Disk;
use super::files;
use crate::error::LogError;

/// The format that this program writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;
/// The manifest's file name.
pub(crate) const FILE_NAME: &str = "log.json";

/// The manifest's content. The order of `topics` numbers the partitions in all other files: a topic is only ever added
/// at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// 32 hex digits.
    pub(crate) log_id: String,
    pub(crate) created_at_ms: i64,
    pub(crate) topics: Vec<TopicEntry>,
    /// CRC-32C of this JSON with 0 here.
    pub(crate) checksum: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicEntry {
    pub(crate) name: String,
    pub(crate) partitions: u32,
}

impl Manifest {
    /// A new log's.
    pub(crate) fn new(log_id: u128, created_at_ms: i64, partitions: &Partitions) -> Self {
        let topics =
            Topic::ALL.map(|topic| TopicEntry { name: topic.name().to_owned(), partitions: partitions.of(topic) });
        Self { format: FORMAT, log_id: format!("{log_id:032x}"), created_at_ms, topics: topics.into(), checksum: 0 }
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Puts it in place, whole or not at all.
    pub(crate) fn store(&mut self, disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
        self.checksum = 0;
        self.checksum = crc32c::crc32c(&self.encode());
        files::store_whole(disk, directory, FILE_NAME, &self.encode())
    }

    /// Reads it; `None` if there is none.
    pub(crate) fn load(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, LogError> {
        let path = directory.join(FILE_NAME);
        let Some(bytes) = files::load_whole(disk, &path)? else { return Ok(None) };
        let damaged = |what: String| LogError::Corrupt {
            file: path.clone(),
            position: 0,
            what,
            hint: "put the manifest back from a backup",
        };
        let mut manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(format!("it is not a log's manifest ({error})")))?;
        if manifest.format > FORMAT {
            return Err(LogError::Mismatch {
                place: directory.display().to_string(),
                what: format!("it has format {}, and this program knows {FORMAT} at most", manifest.format),
                hint: "use the newer program that made it",
            });
        }
        let stored = std::mem::take(&mut manifest.checksum);
        if crc32c::crc32c(&manifest.encode()) != stored {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        if manifest.log_id().is_none() {
            return Err(damaged("its log_id is not 32 hex digits".to_owned()));
        }
        manifest.checksum = stored;
        Ok(Some(manifest))
    }

    pub(crate) fn log_id(&self) -> Option<u128> {
        u128::from_str_radix(&self.log_id, 16).ok()
    }

    fn partitions_of(&self, topic: Topic) -> Option<u32> {
        self.topics.iter().find(|entry| entry.name == topic.name()).map(|entry| entry.partitions)
    }

    /// Refuses other numbers of partitions than the log was made with. Adds topics that it does not know yet; says
    /// whether it did.
    pub(crate) fn reconcile(
        &mut self,
        directory: &Path,
        asked: Option<&Partitions>,
        default: &Partitions,
    ) -> Result<bool, LogError> {
        let mut added = false;
        for topic in Topic::ALL {
            match (self.partitions_of(topic), asked.map(|asked| asked.of(topic))) {
                (Some(stored), Some(asked)) if stored != asked => {
                    return Err(LogError::Mismatch {
                        place: directory.display().to_string(),
                        what: format!("topic {} has {stored} partitions, and {asked} are set", topic.name()),
                        hint: "the number is fixed when a log is made: leave the setting out, or start a new log",
                    });
                }
                (Some(_), _) => {}
                (None, asked) => {
                    let partitions = asked.unwrap_or_else(|| default.of(topic));
                    self.topics.push(TopicEntry { name: topic.name().to_owned(), partitions });
                    added = true;
                }
            }
        }
        self.check(directory)?;
        Ok(added)
    }

    /// Refuses a log of no partitions or too many.
    pub(crate) fn check(&self, directory: &Path) -> Result<(), LogError> {
        let refuse = |what: String| {
            Err(LogError::Mismatch {
                place: directory.display().to_string(),
                what,
                hint: "set other numbers of partitions",
            })
        };
        if let Some(entry) = self.topics.iter().find(|entry| entry.partitions == 0) {
            return refuse(format!("topic {} would have no partition", entry.name));
        }
        let all: usize = self.topics.iter().map(|entry| entry.partitions as usize).sum();
        if all > PARTITIONS_MAX {
            return refuse(format!("{all} partitions are more than the {PARTITIONS_MAX} that a log can have"));
        }
        Ok(())
    }
}

/// A partition of a topic, numbered through all topics. Every other file of the log names partitions by slot.
pub(crate) type Slot = u32;

/// Which slots are whose, from the manifest.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    /// For each [`Topic::index`]: its first slot, and how many.
    topics: [(Slot, u32); Topic::ALL.len()],
    /// For each slot, `topic.name()-partition`, also of topics that this program does not know.
    names: Vec<String>,
}

impl Slots {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let mut topics = [(0, 0); Topic::ALL.len()];
        let mut names = Vec::new();
        let mut first: Slot = 0;
        for entry in &manifest.topics {
            if let Some(topic) = Topic::from_name(&entry.name) {
                topics[topic.index()] = (first, entry.partitions);
            }
            names.extend((0..entry.partitions).map(|partition| format!("{}-{partition}", entry.name)));
            first += entry.partitions;
        }
        Self { topics, names }
    }

    pub(crate) fn partitions(&self, topic: Topic) -> u32 {
        self.topics[topic.index()].1
    }

    /// `None` if the topic has no such partition.
    pub(crate) fn slot(&self, topic: Topic, partition: u32) -> Option<Slot> {
        let (first, count) = self.topics[topic.index()];
        (partition < count).then_some(first + partition)
    }

    /// All of them.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }

    /// The topic and partition, as in `events.v1-0`.
    pub(crate) fn name(&self, slot: Slot) -> &str {
        &self.names[slot as usize]
    }

    /// The topic of a slot, if this program knows it.
    pub(crate) fn topic(&self, slot: Slot) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| {
            let (first, count) = self.topics[topic.index()];
            (first..first + count).contains(&slot)
        })
    }
}

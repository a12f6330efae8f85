//! Logs for the tests of the past: what the host makes of random histories, and logs whose records are held in memory.

#![allow(dead_code, reason = "each test uses a part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use prometheus_client::registry::Registry;
use prost::Message;
use tempfile::TempDir;
use tidings_dataflow::{
    checkpoints::CheckpointConfig,
    host::{self, HostConfig},
};
use tidings_ingest::{
    AsyncReader, EmbeddedConfig, EmbeddedLog, Log, LogError, LogExt, LogReader, NewRecord, OffsetRange, OnAppended,
    PartitionCounts, StoredRecord, Wake,
};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    topics::{Partitions, Topic},
    wire,
};

use crate::{PARTITIONS, config, history::History};

/// The settings that the histories are made with.
pub(crate) fn host_config() -> HostConfig {
    HostConfig { worker_threads: 1, conversations: config(), ..Default::default() }
}

/// What the host makes of two histories, one in each partition of `events`, with a checkpoint whenever something changed,
/// all of which are kept; or with none, so that each of the `runs` repeats all before.
pub(crate) async fn made(runs: usize, events_of_run: usize, has_checkpoints: bool) -> (TempDir, Arc<dyn Log>) {
    let (directory, log) = empty_log();
    let mut histories: Vec<History> = (0..2).map(|seed| History::new(seed + 23)).collect();
    let checkpoints = CheckpointConfig {
        directory: has_checkpoints.then(|| checkpoints_of(directory.path())),
        interval_ms: 1,
        deltas_max: 3,
        kept: 10_000,
        ..Default::default()
    };
    for _ in 0..runs {
        let all: BTreeSet<_> = host::all_shards(&*log);
        let config = HostConfig { checkpoints: checkpoints.clone(), ..host_config() };
        let host = host::start(config, &all, Arc::clone(&log), Arc::new(SystemClock::new()), &mut Registry::default());
        let host = host.unwrap();
        for _ in 0..events_of_run.div_ceil(50) {
            for (partition, history) in (0..).zip(&mut histories) {
                let records = history.take(50).into_iter().map(|event| {
                    let (key, value) = (event.key, event.value);
                    NewRecord { topic: Topic::Events, partition, key, value }
                });
                log.append(records.collect()).await.unwrap();
                let end = log.range(Topic::Events, partition).unwrap().end;
                let source = |value| wire::TimelineRecord::decode(value).unwrap().source.unwrap().offset;
                wait(&*log, Topic::Timeline, partition, |record| source(record.value.clone()) + 1 == end).await;
            }
        }
        host.shutdown().await;
    }
    (directory, log)
}

/// A log in a folder of its own, with nothing in it.
pub(crate) fn empty_log() -> (TempDir, Arc<dyn Log>) {
    let directory = tempfile::tempdir().unwrap();
    let Partitions { conversations, recipients, edges, directory: names } = PARTITIONS;
    let embedded = EmbeddedConfig {
        directory: directory.path().join("log"),
        partitions: Some(PartitionCounts { conversations, recipients, edges, directory: names }),
        ..Default::default()
    };
    let log = EmbeddedLog::open(&embedded, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    (directory, Arc::new(log))
}

pub(crate) fn checkpoints_of(folder: &Path) -> std::path::PathBuf {
    folder.join("checkpoints")
}

/// Waits for a record.
pub(crate) async fn wait(log: &dyn Log, topic: Topic, partition: u32, is_it: impl Fn(&StoredRecord) -> bool) {
    let mut reader = AsyncReader::new(log.reader(topic, partition, 0).unwrap());
    let found = async { while !reader.next_batch(1 << 20).await.unwrap().iter().any(&is_it) {} };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap();
}

/// A log whose records are held in memory, with the times that they are given: nothing is appended, and whoever likes can
/// tamper with them.
#[derive(Clone, Default)]
pub(crate) struct Held {
    pub(crate) records: BTreeMap<(Topic, u32), Vec<StoredRecord>>,
    /// The first offset of each partition that retention has overtaken.
    pub(crate) starts: BTreeMap<(Topic, u32), u64>,
}

impl Held {
    pub(crate) fn push(&mut self, topic: Topic, partition: u32, timestamp_ms: i64, key: &[u8], value: Vec<u8>) -> u64 {
        let records = self.records.entry((topic, partition)).or_default();
        let offset = records.len() as u64;
        let key = bytes::Bytes::copy_from_slice(key);
        records.push(StoredRecord { offset, timestamp_ms, key, value: value.into() });
        offset
    }

    /// A copy of another log, without what retention has overtaken here.
    pub(crate) fn of(log: &dyn Log) -> Self {
        let mut held = Self::default();
        for topic in Topic::ALL {
            for partition in 0..log.partitions(topic) {
                let scan = tidings_replay::Scan::new(log, topic, partition, 0..u64::MAX).unwrap();
                held.records.insert((topic, partition), scan.map(Result::unwrap).collect());
            }
        }
        held
    }
}

impl Log for Held {
    fn log_id(&self) -> u128 {
        7
    }
    fn partitions(&self, topic: Topic) -> u32 {
        PARTITIONS.of(topic)
    }
    fn append_with(&self, _: Vec<NewRecord>, _: OnAppended) {
        unreachable!("the past does not change")
    }
    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        let start = self.starts.get(&(topic, partition)).copied().unwrap_or(0);
        let end = self.records.get(&(topic, partition)).map_or(0, |records| records.len() as u64);
        Ok(OffsetRange { start, end })
    }
    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        let records = self.records.get(&(topic, partition)).cloned().unwrap_or_default();
        Ok(Box::new(HeldReader { records, next: from }))
    }
}

struct HeldReader {
    records: Vec<StoredRecord>,
    next: u64,
}

impl LogReader for HeldReader {
    fn poll(&mut self, _: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        // Cut anywhere: what comes must not depend on it.
        let from = usize::try_from(self.next).unwrap();
        let records = &self.records[from..self.records.len().min(from + 37)];
        into.extend_from_slice(records);
        self.next += records.len() as u64;
        Ok(records.len())
    }
    fn wake_with(&mut self, _: Wake) {}
    fn position(&self) -> u64 {
        self.next
    }
}

//! A log that fails and dies on demand, and what the tests read from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::registry::Registry;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings_dataflow::{
    checkpoints::CheckpointConfig,
    host::{self, Handle, HostConfig},
    shard::ShardId,
};
use tidings_ingest::{
    AppendError, AsyncReader, EmbeddedConfig, EmbeddedLog, Log, LogError, LogExt, LogReader, NewRecord, OffsetRange,
    OnAppended, StoredRecord, Wake, embedded::config::PartitionCounts,
};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    ids::{UserId, unpack_user_ids},
    topics::{Partitions, Topic},
    wire,
};

/// Between the host and the log.
pub(crate) struct FlakyLog {
    inner: Arc<dyn Log>,
    random: Mutex<StdRng>,
    fails: bool,
    dead: AtomicBool,
    /// Whether records cannot be read, nor where partitions end.
    unreadable: Mutex<Unreadable>,
    /// How often that was said.
    pub(crate) refusals: AtomicU64,
}

/// What cannot be read of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Nothing,
    /// New readers, and where partitions end.
    Partitions,
    /// Records.
    Records,
    /// Records, and for good.
    Damaged,
}

impl FlakyLog {
    /// A log that refuses some appends if it `fails`.
    pub(crate) fn new(inner: Arc<dyn Log>, seed: u64, fails: bool) -> Arc<Self> {
        Arc::new(Self {
            inner,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            fails,
            dead: AtomicBool::new(false),
            unreadable: Mutex::new(Unreadable::Nothing),
            refusals: AtomicU64::new(0),
        })
    }

    /// From now on this cannot be read.
    pub(crate) fn set_unreadable(&self, what: Unreadable) {
        *self.unreadable.lock().unwrap() = what;
    }

    /// Waits until the log was asked in vain so often.
    pub(crate) async fn refused(&self, times: u64) {
        until("the log was asked in vain", || self.refusals.load(Ordering::SeqCst) >= times).await;
    }

    fn refuse(&self, reason: &str) -> LogError {
        self.refusals.fetch_add(1, Ordering::SeqCst);
        LogError::Unavailable { reason: reason.into() }
    }

    fn check_partitions(&self) -> Result<(), LogError> {
        match *self.unreadable.lock().unwrap() {
            Unreadable::Partitions => Err(self.refuse("partitions, on purpose")),
            _ => Ok(()),
        }
    }

    fn check_records(&self) -> Result<(), LogError> {
        match *self.unreadable.lock().unwrap() {
            Unreadable::Records => Err(self.refuse("records, on purpose")),
            Unreadable::Damaged => Err(LogError::Corrupt {
                file: "a file".into(),
                position: 7,
                what: "damaged on purpose".into(),
                hint: "none",
            }),
            _ => Ok(()),
        }
    }

    /// From now on nothing is appended, no append is answered, and whoever reads dies.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}

impl Log for FlakyLog {
    fn log_id(&self) -> u128 {
        self.inner.log_id()
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        if self.dead.load(Ordering::SeqCst) {
            return;
        }
        match if self.fails { self.random.lock().unwrap().random_range(0..20) } else { 9 } {
            0 => on_appended(Err(AppendError::Full)),
            1 => on_appended(Err(AppendError::Unavailable { reason: "on purpose".into() })),
            _ => self.inner.append_with(records, on_appended),
        }
    }

    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        self.inner.range(topic, partition)
    }

    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        unreachable!("readers are made by the wrapper around {topic:?} {partition} {from}")
    }
}

/// What the host is given: its readers die with the log.
pub(crate) struct Killable(pub(crate) Arc<FlakyLog>);

impl Log for Killable {
    fn log_id(&self) -> u128 {
        self.0.log_id()
    }
    fn partitions(&self, topic: Topic) -> u32 {
        self.0.partitions(topic)
    }
    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        self.0.append_with(records, on_appended);
    }
    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        self.0.check_partitions()?;
        self.0.range(topic, partition)
    }
    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        self.0.check_partitions()?;
        let inner = self.0.inner.reader(topic, partition, from)?;
        Ok(Box::new(KillableReader { inner, log: Arc::clone(&self.0) }))
    }
}

struct KillableReader {
    inner: Box<dyn LogReader>,
    log: Arc<FlakyLog>,
}

impl LogReader for KillableReader {
    fn poll(&mut self, max_bytes: usize, into: &mut Vec<StoredRecord>) -> Result<usize, LogError> {
        assert!(!self.log.dead.load(Ordering::SeqCst), "killed on purpose");
        self.log.check_records()?;
        self.inner.poll(max_bytes, into)
    }
    fn wake_with(&mut self, wake: Wake) {
        self.inner.wake_with(wake);
    }
    fn position(&self) -> u64 {
        self.inner.position()
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), so).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(crate) fn open_log(folder: &Path, partitions: Partitions) -> Arc<dyn Log> {
    let Partitions { conversations, recipients, edges, directory } = partitions;
    let config = EmbeddedConfig {
        directory: folder.join("log"),
        partitions: Some(PartitionCounts { conversations, recipients, edges, directory }),
        ..Default::default()
    };
    let log = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    Arc::new(log)
}

pub(crate) fn config(folder: &Path, worker_threads: usize, interval_ms: u64) -> HostConfig {
    HostConfig {
        worker_threads,
        conversations: crate::config(),
        checkpoints: CheckpointConfig {
            directory: Some(folder.join("checkpoints")),
            interval_ms,
            deltas_max: 3,
            ..Default::default()
        },
        ..Default::default()
    }
}

pub(crate) fn start(config: HostConfig, log: Arc<dyn Log>) -> Handle {
    let all = host::all_shards(&*log);
    start_owning(config, &all, log, &mut Registry::default())
}

pub(crate) fn start_owning(
    config: HostConfig,
    owned: &BTreeSet<ShardId>,
    log: Arc<dyn Log>,
    registry: &mut Registry,
) -> Handle {
    host::start(config, owned, log, Arc::new(SystemClock::new()), registry).unwrap()
}

/// Appends events as an edge would, and gives them back as they stand in the log.
pub(crate) async fn append_events(log: &dyn Log, partition: u32, events: &[StoredRecord]) {
    let records = events.iter().map(|event| NewRecord {
        topic: Topic::Events,
        partition,
        key: event.key.clone(),
        value: event.value.clone(),
    });
    log.append(records.collect()).await.unwrap();
}

/// Everything in a partition.
pub(crate) async fn read_all(log: &dyn Log, topic: Topic, partition: u32) -> Vec<StoredRecord> {
    let end = log.range(topic, partition).unwrap().end;
    let mut reader = log.reader(topic, partition, 0).unwrap();
    let mut records = Vec::new();
    while reader.position() < end {
        assert!(reader.poll(1 << 20, &mut records).unwrap() > 0);
    }
    records
}

/// Waits until a partition's newest record that `is_it` says yes to is there.
pub(crate) async fn wait_for(log: &dyn Log, topic: Topic, partition: u32, is_it: impl Fn(&StoredRecord) -> bool) {
    let mut reader = AsyncReader::new(log.reader(topic, partition, 0).unwrap());
    let found = async {
        loop {
            if reader.next_batch(1 << 20).await.unwrap().iter().any(&is_it) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap_or_else(|_| {
        panic!("{topic:?} {partition} does not get there: {:?}", log.range(topic, partition));
    });
}

/// Waits until all of a partition's events have their timeline record.
pub(crate) async fn wait_for_timeline(log: &dyn Log, partition: u32, events: u64) {
    wait_for(log, Topic::Timeline, partition, |record| {
        source(wire::TimelineRecord::decode(record.value.clone()).unwrap().source).1 + 1 >= events
    })
    .await;
}

/// Waits until all fan-out has been taken in.
pub(crate) async fn wait_for_inbox(log: &dyn Log, partition: u32) {
    let Some(last) = log.range(Topic::Fanout, partition).unwrap().end.checked_sub(1) else { return };
    // The last record may be a repeat that leads to nothing: the last that is not one is waited for.
    let fanout = deduped(read_all(log, Topic::Fanout, partition).await, fanout_source);
    let last = fanout.last().map_or(last, |record| record.offset);
    wait_for(log, Topic::Inbox, partition, |record| {
        source(wire::InboxRecord::decode(record.value.clone()).unwrap().source).1 >= last
    })
    .await;
}

pub(crate) fn source(source: Option<wire::Source>) -> (u32, u64) {
    let source = source.unwrap();
    (source.partition, source.offset)
}

pub(crate) fn timeline_source(record: &StoredRecord) -> (u32, u64) {
    source(wire::TimelineRecord::decode(record.value.clone()).unwrap().source)
}

pub(crate) fn fanout_source(record: &StoredRecord) -> (u32, u64) {
    source(wire::FanoutRecord::decode(record.value.clone()).unwrap().source)
}

pub(crate) fn inbox_source(record: &StoredRecord) -> (u32, u64) {
    source(wire::InboxRecord::decode(record.value.clone()).unwrap().source)
}

/// What a consumer with a watermark for each source partition keeps.
pub(crate) fn deduped(
    records: Vec<StoredRecord>,
    source_of: impl Fn(&StoredRecord) -> (u32, u64),
) -> Vec<StoredRecord> {
    let mut watermarks = BTreeMap::<u32, u64>::new();
    records
        .into_iter()
        .filter(|record| {
            let (partition, offset) = source_of(record);
            let is_new = watermarks.get(&partition).is_none_or(|watermark| offset > *watermark);
            if is_new {
                watermarks.insert(partition, offset);
            }
            is_new
        })
        .collect()
}

/// Each user's stream: where each update came from in `events`, with the offsets checked to be 1, 2, 3 …
pub(crate) fn streams(inbox: &[StoredRecord]) -> BTreeMap<UserId, Vec<(u32, u64)>> {
    let mut streams = BTreeMap::<UserId, Vec<(u32, u64)>>::new();
    for record in inbox {
        let record = wire::InboxRecord::decode(record.value.clone()).unwrap();
        for item in &record.items {
            for (user, offset) in unpack_user_ids(&item.user_ids).zip(&item.offsets) {
                let stream = streams.entry(user).or_default();
                assert_eq!(*offset, stream.len() as u64 + 1, "{user}");
                stream.push(source(record.events_source));
            }
        }
    }
    streams
}

/// What each user's stream must hold, in the order within each events partition.
pub(crate) fn expected_streams(fanout: impl Iterator<Item = NewRecord>) -> BTreeMap<UserId, Vec<(u32, u64)>> {
    let mut streams = BTreeMap::<UserId, Vec<(u32, u64)>>::new();
    for record in fanout.filter(|record| record.topic == Topic::Fanout) {
        let record = wire::FanoutRecord::decode(record.value).unwrap();
        for user in record.items.iter().flat_map(|item| unpack_user_ids(&item.user_ids)) {
            streams.entry(user).or_default().push(source(record.source));
        }
    }
    streams
}

/// The files of one shard's checkpoints, oldest first.
pub(crate) fn checkpoint_files(folder: &Path, shard: &str) -> BTreeSet<std::path::PathBuf> {
    let folder = folder.join("checkpoints").join(shard);
    std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

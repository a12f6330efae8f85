//! A log on Kafka made from records that have their offsets and times already: a copy of another log, or of a part of it.
//!
//! The offsets of what is there say how far it is, so an attempt that was interrupted is gone on with. What is there in the end
//! is read back and compared with what was given before it becomes a log.

use std::sync::Arc;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use tidings_schemas::clock::Clock;
use tidings_schemas::limits::{APPEND_QUEUE_BYTES_MAX, RECORD_BYTES_MAX, SCAN_PATIENCE};
use tidings_schemas::topics::{Partitions, Topic};

use super::client::Context;
use super::config::KafkaConfig;
use super::filler::{self, Short};
use super::identity::Identity;
use super::sender::{Sender, Sent};
use super::slots::{Slot, Slots};
use super::stats::Counters;
use super::topics::Topics;
use super::{KafkaLog, producer, ranges};
use crate::bulk::{Bulk, BulkPlan};
use crate::error::LogError;
use crate::log::{Log as _, StoredRecord};
use crate::waiting::WaitingReader;

/// Read back at a time, in bytes.
const READ_BYTES: usize = 1024 * 1024;
const HINT: &str = "delete the topics (`tidings erase --drop-prefix PREFIX`), and begin again";

/// A log being made on Kafka. Dropped before it is finished, it can be gone on with.
pub struct KafkaBulkLog {
    config: KafkaConfig,
    clients: (ClientConfig, BaseConsumer<Context>, Arc<Counters>),
    clock: Arc<dyn Clock>,
    plan: BulkPlan,
    slots: Slots,
    names: Vec<Arc<str>>,
    sender: Sender,
    /// By slot: where it begins, the offset of the next record given, and of the first that was not there at the beginning.
    starts: Vec<u64>,
    next: Vec<u64>,
    durable: Vec<u64>,
    /// By slot: of all that was given.
    checksums: Vec<u32>,
}

impl KafkaBulkLog {
    /// What is being made there, if an attempt was interrupted.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; [`LogError::Mismatch`].
    pub fn unfinished(config: &KafkaConfig) -> Result<Option<BulkPlan>, LogError> {
        let (client, asking, counters) = KafkaLog::clients(config)?;
        Topics::new(config, &client, &asking, &counters)?.unfinished()
    }

    /// Begins, or goes on; `None`: it was finished already. Where partitions do not begin with offset 0, this takes a while:
    /// `filled` is told of so many offsets that are filled and deleted again.
    ///
    /// # Errors
    /// [`LogError::Mismatch`] when there is a log, topics, or an unfinished copy by another plan; [`LogError::Unavailable`].
    pub fn open(
        config: &KafkaConfig,
        plan: BulkPlan,
        clock: Arc<dyn Clock>,
        filled: impl FnMut(u64),
    ) -> Result<Option<Self>, LogError> {
        let clients = KafkaLog::clients(config)?;
        let (client, asking, counters) = &clients;
        if let Some(set) = config.partitions.filter(|set| *set != plan.partitions) {
            let what = format!("it is to have {:?}, and {set:?} are set", plan.partitions);
            let hint = "a copy has the partitions of its source: leave kafka.partitions out";
            return Err(LogError::Mismatch { place: config.place(), what, hint });
        }
        let topics = Topics::new(config, client, asking, counters)?;
        if !topics.begin_copy(&plan)? {
            return Ok(None);
        }
        let slots = Slots::new(&Partitions::from(plan.partitions));
        let names = KafkaLog::names(config);
        let mut starts = vec![0; slots.all().count()];
        for (topic, partition, start) in &plan.starts {
            let slot = Topic::from_name(topic).and_then(|topic| slots.slot(topic, *partition));
            let slot = slot.ok_or_else(|| topics.refusal(format!("{topic} has no partition {partition}"), HINT))?;
            starts[slot as usize] = *start;
        }
        let (mut durable, mut shorts) = (Vec::new(), Vec::new());
        for ((topic, partition), start) in slots.all().zip(&starts) {
            let (name, slot) = (&*names[topic.index()], Slot::try_from(durable.len()).unwrap_or(Slot::MAX));
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            let (from, end) = ranges::ask(asking, name, number, config.request_timeout())?;
            let (from, end) = (u64::try_from(from).unwrap_or(0), u64::try_from(end).unwrap_or(0));
            if from > *start {
                let what = format!("{name} partition {partition} begins with offset {from} instead of {start}");
                return Err(topics.refusal(what, HINT));
            }
            if from < *start {
                shorts.push(Short { name, partition, slot, end, start: *start });
            }
            durable.push(end);
        }
        let context = || topics.context("copy");
        let (place, patience) = (config.place(), config.delivery_timeout());
        let producer = configure(client.clone());
        if !shorts.is_empty() {
            let filler = filler::configure(producer.clone());
            let mut sender = Sender::new(&filler, context(), place.clone(), durable.clone(), patience)?;
            filler::fill(&topics, &mut sender, shorts, filled)?;
        }
        let durable: Vec<u64> = durable.into_iter().zip(&starts).map(|(end, start)| end.max(*start)).collect();
        let sender = Sender::new(&producer, context(), place, durable.clone(), patience)?;
        Ok(Some(Self {
            config: config.clone(),
            clock,
            plan,
            names,
            sender,
            next: starts.clone(),
            durable,
            checksums: vec![0; starts.len()],
            starts,
            slots,
            clients,
        }))
    }

    fn refusal(&self, what: String, hint: &'static str) -> LogError {
        LogError::Mismatch { place: self.config.place(), what, hint }
    }

    /// Reads everything back.
    fn compare(&self, log: &KafkaLog) -> Result<(), LogError> {
        for (index, (topic, partition)) in self.slots.all().enumerate() {
            let (start, end) = (self.starts[index], self.next[index]);
            let range = log.range(topic, partition)?;
            if (range.start, range.end) != (start, end) {
                let (found, name) = (format!("{} to {}", range.start, range.end), topic.name());
                let what = format!("{name} partition {partition} has the offsets {found} instead of {start} to {end}");
                return Err(self.refusal(what, HINT));
            }
            if start == end {
                continue;
            }
            let mut reader = WaitingReader::new(log.reader(topic, partition, start)?);
            let (mut records, mut checksum) = (Vec::new(), 0);
            while reader.position() < end {
                if reader.poll(READ_BYTES, &mut records, SCAN_PATIENCE)? == 0 {
                    let reason = format!("{} partition {partition} gives no more records", topic.name());
                    return Err(LogError::Unavailable { reason: reason.into() });
                }
                for record in records.drain(..) {
                    checksum = sum(checksum, record.offset, &record);
                }
            }
            if checksum != self.checksums[index] {
                let what = format!("{} partition {partition} does not hold what was written there", topic.name());
                return Err(self.refusal(what, HINT));
            }
        }
        Ok(())
    }
}

/// Goes on with a checksum of records at their places.
fn sum(before: u32, offset: u64, record: &StoredRecord) -> u32 {
    let mut head = [0; 24];
    head[..8].copy_from_slice(&offset.to_le_bytes());
    head[8..16].copy_from_slice(&record.timestamp_ms.to_le_bytes());
    head[16..].copy_from_slice(&(record.key.len() as u64).to_le_bytes());
    let parts = [&head[..], &record.key[..], &record.value[..]];
    parts.into_iter().fold(before, crc32c::crc32c_append)
}

/// What the producer needs: as one that appends, but that it may gather.
fn configure(client: ClientConfig) -> ClientConfig {
    let mut client = producer::configure(client);
    client.set("linger.ms", "5");
    client.set("queue.buffering.max.messages", "100000");
    client.set("queue.buffering.max.kbytes", (APPEND_QUEUE_BYTES_MAX / 1024).to_string());
    client
}

impl Bulk for KafkaBulkLog {
    fn next_offset(&self, topic: Topic, partition: u32) -> Option<u64> {
        self.slots.slot(topic, partition).map(|slot| self.next[slot as usize])
    }

    fn kept(&self) -> u64 {
        self.durable.iter().zip(&self.next).map(|(durable, next)| durable.saturating_sub(*next)).sum()
    }

    fn append(&mut self, topic: Topic, partition: u32, record: &StoredRecord) -> Result<u64, LogError> {
        let slot = self.slots.slot(topic, partition).ok_or(LogError::UnknownPartition { topic, partition })?;
        let (index, bytes) = (slot as usize, record.key.len() + record.value.len());
        if bytes > RECORD_BYTES_MAX {
            let what = format!("a record of {} has {bytes} bytes", topic.name());
            return Err(self.refusal(what, "no log of this program can hold it"));
        }
        if record.timestamp_ms <= 0 {
            let what = format!("a record of {} has the time {} ms", topic.name(), record.timestamp_ms);
            return Err(self.refusal(what, "Kafka has no times before 1970: copy it into a data folder"));
        }
        let offset = self.next[index];
        self.next[index] += 1;
        self.checksums[index] = sum(self.checksums[index], offset, record);
        if offset >= self.durable[index] {
            let (topic, timestamp_ms) = (&*self.names[topic.index()], record.timestamp_ms);
            let (key, value) = (&record.key[..], &record.value[..]);
            self.sender.send(&Sent { topic, partition, slot, timestamp_ms, key, value })?;
        }
        Ok(offset)
    }

    fn finish(mut self) -> Result<(), LogError> {
        self.sender.drain()?;
        let identity = Identity::of(self.plan.log_id, &*self.clock, self.plan.partitions);
        let log = KafkaLog::start(&self.config, &identity, KafkaLog::clients(&self.config)?, None)?;
        self.compare(&log)?;
        drop(log);
        let (client, asking, counters) = &self.clients;
        Topics::new(&self.config, client, asking, counters)?.finish_copy(&self.plan, &*self.clock)
    }
}

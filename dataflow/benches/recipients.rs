//! The recipients stage by itself, in process and without I/O: how many direct messages and group deliveries one
//! worker takes (in processor time) with a million users known, how long one record takes when idle, and what a user costs in memory.
//!
//! `cargo bench -p tidings-dataflow --bench recipients` (`-- --users N` for another number).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark measures real time, prints what it found, and may panic"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings_dataflow::{
    recipients::{RecipientsConfig, RecipientsShard},
    shard::{Intake, SavedState, Shard, SnapshotKind, StateSink},
};
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::{
    ids::{UserId, pack_user_ids},
    topics::Topic,
    wire::{self, entry, fanout_item, signal},
};
use timely::worker::Worker;

const EDGES: u32 = 4;
const NOW_MS: i64 = 1_700_000_000_000;
const TEXT_BYTES: usize = 100;

struct Bench {
    shard: Box<RecipientsShard>,
    random: StdRng,
    users: Vec<UserId>,
    next_fanout: u64,
    next_signals: u64,
    out: Vec<NewRecord>,
}

impl Bench {
    fn new(worker: &mut Worker, users: usize, saved: &SavedState) -> Self {
        let mut random = StdRng::seed_from_u64(1);
        let users = (0..users).map(|_| UserId::random(random.random())).collect();
        let shard = RecipientsShard::build(worker, 0, EDGES, &RecipientsConfig::default(), saved).unwrap();
        Self {
            shard: Box::new(shard),
            random,
            users,
            next_fanout: saved.next_offset(Topic::Fanout),
            next_signals: saved.next_offset(Topic::Signals),
            out: Vec::new(),
        }
    }

    /// A message to these users.
    fn message(&mut self, mut users: Vec<UserId>) -> StoredRecord {
        users.sort_unstable();
        let sender = users[0];
        let send = wire::Send { client_message_id: "c".repeat(36), text: "t".repeat(TEXT_BYTES), ..Default::default() };
        let conversation_id = Some(UserId::random(self.random.random()).into());
        let event = wire::Event {
            conversation_id,
            actor_id: Some(sender.into()),
            stamped_at_ms: NOW_MS,
            origin: Some(wire::Origin { edge_id: 1, request_id: self.next_fanout }),
            body: Some(wire::event::Body::Send(send)),
        };
        let entry = wire::Entry {
            conversation_id,
            seq: self.next_fanout,
            message_id: Some(UserId::random(self.random.random()).into()),
            sender_id: Some(sender.into()),
            sent_at_ms: NOW_MS,
            content: Some(entry::Content::Event(event.encode_to_vec().into())),
        };
        let content = Some(fanout_item::Content::Entry(entry));
        let items = vec![wire::FanoutItem { user_ids: pack_user_ids(users), content }];
        let source = Some(wire::Source { partition: 0, offset: self.next_fanout });
        let value = wire::FanoutRecord { source, at_ms: NOW_MS, items }.encode_to_vec().into();
        let offset = self.next_fanout;
        self.next_fanout += 1;
        StoredRecord { offset, timestamp_ms: NOW_MS, key: Bytes::new(), value }
    }

    fn random_users(&mut self, count: usize) -> Vec<UserId> {
        (0..count).map(|_| self.users[self.random.random_range(0..self.users.len())]).collect()
    }

    fn signals(&mut self, edge_id: u32, signals: Vec<wire::Signal>) -> StoredRecord {
        let record = wire::SignalRecord { edge_id, edge_run: 1, stamped_at_ms: NOW_MS, signals };
        let offset = self.next_signals;
        self.next_signals += 1;
        let value = record.encode_to_vec().into();
        StoredRecord { offset, timestamp_ms: NOW_MS, key: Bytes::new(), value }
    }

    /// Sends everybody one message, so that everybody is known and has been looked up. Gives deliveries a second.
    fn meet_everybody(&mut self, worker: &mut Worker) -> f64 {
        let mut time = Duration::ZERO;
        let users = self.users.clone();
        for users in users.chunks(50_000) {
            let records = users.chunks(100).map(|users| self.message(users.to_vec())).collect();
            let before = processor_time();
            self.run(worker, Topic::Fanout, records);
            time += processor_time() - before;
        }
        users.len() as f64 / time.as_secs_f64()
    }

    /// Opens a session each for users `from..to`, spread over the edges.
    fn open_sessions(&mut self, worker: &mut Worker, from: usize, to: usize) -> Duration {
        let mut time = Duration::ZERO;
        for start in (from..to).step_by(1000) {
            let signals = (start..to.min(start + 1000)).map(|user| {
                let user_id = Some(self.users[user].into());
                let opened = wire::SessionOpened { user_id, session_id: user as u64, device_id: String::new() };
                wire::Signal { body: Some(signal::Body::SessionOpened(opened)) }
            });
            let edge_id = (start / 1000) as u32 % EDGES;
            let signals = signals.collect();
            let record = self.signals(edge_id, signals);
            time += self.run(worker, Topic::Signals, vec![record]);
        }
        time
    }

    fn run(&mut self, worker: &mut Worker, topic: Topic, records: Vec<StoredRecord>) -> Duration {
        let started = Instant::now();
        self.shard.run(worker, vec![Intake { topic, records }], &mut self.out).unwrap();
        let taken = started.elapsed();
        self.out.clear();
        taken
    }

    /// Takes `count` messages to `recipients` users each, in batches. Gives messages a second of processor time.
    fn throughput(&mut self, worker: &mut Worker, count: usize, recipients: usize, batch: usize) -> f64 {
        let mut time = Duration::ZERO;
        for _ in 0..count / batch {
            let records: Vec<StoredRecord> = (0..batch)
                .map(|_| {
                    let users = self.random_users(recipients);
                    self.message(users)
                })
                .collect();
            let before = processor_time();
            self.run(worker, Topic::Fanout, records);
            time += processor_time() - before;
        }
        (count / batch * batch) as f64 / time.as_secs_f64()
    }

    /// One record at a time: the median and the 99th percentile.
    fn latency(&mut self, worker: &mut Worker, count: usize, recipients: usize) -> (Duration, Duration) {
        let mut times: Vec<Duration> = (0..count)
            .map(|_| {
                let users = self.random_users(recipients);
                let record = self.message(users);
                self.run(worker, Topic::Fanout, vec![record])
            })
            .collect();
        times.sort_unstable();
        (times[count / 2], times[count * 99 / 100])
    }

    fn report(&mut self, worker: &mut Worker, who: &str) {
        let first = self.meet_everybody(worker);
        println!("{who:<16} first message to each since the sessions changed: {first:.0} deliveries/s");
        let direct = self.throughput(worker, 400_000, 2, 4_000);
        let group = self.throughput(worker, 20_000, 100, 500);
        println!("{who:<16} direct {direct:>9.0} messages/s   groups of 100 {:>10.0} deliveries/s", group * 100.0);
        let (median, high) = self.latency(worker, 5_000, 2);
        let (group_median, group_high) = self.latency(worker, 2_000, 100);
        println!(
            "{who:<16} one direct message {median:?} (p99 {high:?})   one of a group {group_median:?} (p99 {group_high:?})"
        );
    }
}

/// A checkpoint's part, as far as the shard waits for it: rows one after the other.
#[derive(Default)]
struct Part(Vec<u8>);

impl StateSink for Part {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push(key.len() as u8);
        self.0.extend_from_slice(key);
        self.0.push(value.len() as u8);
        self.0.extend_from_slice(value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.put(key, &[]);
    }
}

/// The time this thread had on a processor: what others do on the machine does not count.
fn processor_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

/// Resident memory in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn main() {
    let mut arguments = std::env::args();
    let users = match arguments.find(|argument| argument == "--users") {
        Some(_) => arguments.next().unwrap().parse().unwrap(),
        None => 1_000_000,
    };
    timely::execute_directly(move |worker| {
        let mut bench = Bench::new(worker, users, &SavedState::default());
        let per_user = |before: usize, users: usize| resident().saturating_sub(before) / users;

        let before = resident();
        bench.meet_everybody(worker);
        println!("{users} users known: {} bytes each", per_user(before, users));
        bench.report(worker, "nobody online");

        let before = resident();
        let tenth = users / 10;
        let time = bench.open_sessions(worker, 0, tenth);
        println!("{tenth} sessions opened: {:.0}/s", tenth as f64 / time.as_secs_f64());
        bench.report(worker, "10 % online");

        bench.open_sessions(worker, tenth, users);
        println!("{users} sessions open: {} bytes each", per_user(before, users));
        bench.report(worker, "all online");

        let beats: Vec<u8> = (0..users)
            .flat_map(|user| [bench.users[user].to_bytes().to_vec(), (user as u64).to_be_bytes().to_vec()].concat())
            .collect();
        let mut time = Duration::ZERO;
        for (index, beats) in beats.chunks(24 * 1000).enumerate() {
            let body = Some(signal::Body::Heartbeats(beats.to_vec().into()));
            let record = bench.signals(index as u32 % EDGES, vec![wire::Signal { body }]);
            time += bench.run(worker, Topic::Signals, vec![record]);
        }
        println!("heartbeats: {:.0}/s", users as f64 / time.as_secs_f64());

        bench.shard.snapshot(SnapshotKind::Changes, &mut Part::default());
        bench.throughput(worker, 25_000, 2, 1_000);
        let mut part = Part::default();
        let before = processor_time();
        bench.shard.snapshot(SnapshotKind::Changes, &mut part);
        println!(
            "pause for the changes of 25000 direct messages: {:?}, {} bytes",
            processor_time() - before,
            part.0.len()
        );
        let mut saved = SavedState::default();
        bench.shard.snapshot(SnapshotKind::Full, &mut saved);
        saved.positions = bench.shard.positions();
        bench.shard.close(worker);
        let started = Instant::now();
        let bench = Bench::new(worker, 0, &saved);
        println!("restart from the snapshot: {:?}", started.elapsed());
        bench.shard.close(worker);
    });
}

//! Both stages on one worker, in process and without input or output: throughput, idle latency, memory, restart.
//!
//! `cargo bench -p tidings-dataflow --bench stages -- [--memberships N] [--json]`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod world;

use std::time::{Duration, Instant};

use tidings_dataflow::{
    checkpoints::{CheckpointStore, CheckpointWriter, PartWriter, Snapshot, open_folder},
    conversations::{ConversationsConfig, ConversationsShard},
    recipients::{RecipientsConfig, RecipientsShard},
    shard::{Intake, SavedState, Shard, SnapshotKind},
};
use tidings_ingest::{NewRecord, OffsetRange, StoredRecord};
use tidings_schemas::{
    clock::SystemClock,
    topics::{Partitions, Topic},
};
use timely::{execute::execute_directly, worker::Worker};
use world::{World, stored, stored_bytes};

const PARTITIONS: Partitions = Partitions { conversations: 1, recipients: 1, edges: 4, directory: 1 };
const BATCH: usize = 4_096;

struct Stages {
    conversations: ConversationsShard,
    recipients: RecipientsShard,
    events: u64,
    fanout: u64,
    signals: u64,
    /// What the runs took, by stage, and what they gave out.
    took: [Duration; 2],
    out: Vec<NewRecord>,
    out_2: Vec<NewRecord>,
    out_bytes: usize,
}

impl Stages {
    fn build(worker: &mut Worker, states: Option<&[SavedState; 2]>) -> Self {
        let empty = SavedState::default();
        let [conversations, recipients] = states.map_or([&empty, &empty], |[one, two]| [one, two]);
        let stage_1 =
            ConversationsShard::build(worker, &ConversationsConfig::default(), PARTITIONS, 0, Some(conversations));
        let stage_2 = RecipientsShard::build(worker, 0, PARTITIONS.edges, &RecipientsConfig::default(), recipients);
        Self {
            conversations: stage_1.unwrap(),
            recipients: stage_2.unwrap(),
            events: conversations.next_offset(Topic::Events),
            fanout: recipients.next_offset(Topic::Fanout),
            signals: recipients.next_offset(Topic::Signals),
            took: [Duration::ZERO; 2],
            out: Vec::new(),
            out_2: Vec::new(),
            out_bytes: 0,
        }
    }

    /// One batch of events through both stages.
    fn run(&mut self, worker: &mut Worker, records: Vec<StoredRecord>) {
        self.events += records.len() as u64;
        self.out.clear();
        let start = cpu_time();
        self.conversations.run(worker, vec![Intake { topic: Topic::Events, records }], &mut self.out).unwrap();
        self.took[0] += cpu_time() - start;
        let fanout: Vec<StoredRecord> = (self.fanout..)
            .zip(self.out.iter().filter(|record| record.topic == Topic::Fanout))
            .map(|(offset, record)| stored_bytes(record.value.clone(), offset))
            .collect();
        self.fanout += fanout.len() as u64;
        self.out_2.clear();
        let start = cpu_time();
        self.recipients.run(worker, vec![Intake { topic: Topic::Fanout, records: fanout }], &mut self.out_2).unwrap();
        self.took[1] += cpu_time() - start;
        self.out_bytes += self.out.iter().chain(&self.out_2).map(|record| record.value.len()).sum::<usize>();
    }

    fn signal(&mut self, worker: &mut Worker, records: Vec<StoredRecord>) {
        self.signals += records.len() as u64;
        self.out_2.clear();
        self.recipients.run(worker, vec![Intake { topic: Topic::Signals, records }], &mut self.out_2).unwrap();
    }

    fn snapshot(&mut self, kind: SnapshotKind) -> [(PartWriter, Duration); 2] {
        let shards: [&mut dyn Shard; 2] = [&mut self.conversations, &mut self.recipients];
        shards.map(|shard| {
            let mut parts = PartWriter::default();
            let start = Instant::now();
            shard.snapshot(kind, &mut parts);
            (parts, start.elapsed())
        })
    }
}

/// What this thread has had of a core: on a machine that others use too, the fair measure of throughput.
fn cpu_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

fn rss_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

/// Figures by name, for people and machines.
struct Report {
    json: bool,
    figures: Vec<(String, f64, &'static str)>,
}

impl Report {
    fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        if !self.json {
            let digits = if value >= 1_000.0 { 0 } else { 2 };
            println!("{name:<58}{value:>14.digits$} {unit}");
        }
        self.figures.push((name, value, unit));
    }

    fn finish(&self) {
        if self.json {
            let fields = self.figures.iter().map(|(name, value, unit)| format!("  \"{name} ({unit})\": {value:.3}"));
            println!("{{\n{}\n}}", fields.collect::<Vec<_>>().join(",\n"));
        }
    }
}

/// Events in batches through both stages; what was done each second counts `each` for one event.
fn throughput(
    worker: &mut Worker,
    stages: &mut Stages,
    report: &mut Report,
    name: &str,
    events: &[tidings_schemas::wire::Event],
    each: f64,
    unit: &'static str,
) {
    let before = rss_bytes();
    stages.took = [Duration::ZERO; 2];
    stages.out_bytes = 0;
    let mut wall = Duration::ZERO;
    for batch in events.chunks(BATCH) {
        let batch = stored(batch, stages.events);
        let start = Instant::now();
        stages.run(worker, batch);
        wall += start.elapsed();
    }
    let done = events.len() as f64 * each;
    let [one, two] = stages.took.map(|took| took.as_secs_f64());
    report.add(format!("{name}: both stages"), done / (one + two), unit);
    report.add(format!("{name}: both stages, by the clock on the wall"), done / wall.as_secs_f64(), unit);
    report.add(format!("{name}: conversations alone"), done / one, unit);
    report.add(format!("{name}: recipients alone"), done / two, unit);
    report.add(format!("{name}: memory"), (rss_bytes() - before) / events.len() as f64, "bytes each");
    report.add(format!("{name}: output"), stages.out_bytes as f64 / events.len() as f64, "bytes each");
}

fn latency(
    worker: &mut Worker,
    stages: &mut Stages,
    report: &mut Report,
    name: &str,
    events: &[tidings_schemas::wire::Event],
) {
    let mut took: Vec<Duration> = stored(events, stages.events)
        .into_iter()
        .map(|record| {
            let start = Instant::now();
            stages.run(worker, vec![record]);
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    for (label, at) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let at = took[((took.len() - 1) as f64 * at) as usize];
        report.add(format!("{name}: idle latency {label}"), at.as_secs_f64() * 1e6, "µs");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let json = arguments.iter().any(|argument| argument == "--json");
    let memberships = number("--memberships", 1_000_000);
    let users = number("--users", 1_000_000);
    let messages = number("--messages", 1_000_000);
    let online = number("--online-every", 10);
    let only = arguments.iter().position(|argument| argument == "--only").map(|at| arguments[at + 1].clone());
    execute_directly(move |worker| {
        let mut report = Report { json, figures: Vec::new() };
        run(worker, &mut report, (memberships, users, messages, online), only.as_deref());
        report.finish();
    });
}

fn run(
    worker: &mut Worker,
    report: &mut Report,
    (memberships, users, messages, online): (usize, usize, usize, usize),
    only: Option<&str>,
) {
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let mut world = World::new(users, memberships, 100);
    let creations = world.creations();
    let before = rss_bytes();
    let mut stages = Stages::build(worker, None);
    let start = Instant::now();
    for batch in creations.chunks(BATCH) {
        let batch = stored(batch, stages.events);
        stages.run(worker, batch);
    }
    report.add("load: memberships created", memberships as f64 / start.elapsed().as_secs_f64(), "memberships/s");
    stages.out = Vec::new();
    stages.out_2 = Vec::new();
    report.add(
        "memory: growth for each membership and its cursors",
        (rss_bytes() - before) / memberships as f64,
        "bytes",
    );
    let before = rss_bytes();
    let sessions = world.sessions(online);
    let sessions = stored(&sessions, 0);
    for session in sessions {
        stages.signal(worker, vec![session]);
    }
    report.add("memory: growth for each session", (rss_bytes() - before) / (users / online) as f64, "bytes");

    if wanted("direct") {
        // Twice: the first grows what grows.
        let events = world.direct_sends(messages / 4);
        throughput(worker, &mut stages, report, "direct, first", &events, 1.0, "messages/s");
        let events = world.direct_sends(messages);
        throughput(worker, &mut stages, report, "direct", &events, 1.0, "messages/s");
    }
    if wanted("groups") {
        let events = world.group_sends(messages / 10);
        throughput(worker, &mut stages, report, "groups of 100", &events, 100.0, "deliveries/s");
    }
    if wanted("receipts") {
        let events = world.receipts(messages / 400, 100);
        throughput(worker, &mut stages, report, "direct receipts, 100 a record", &events, 100.0, "receipts/s");
    }
    if wanted("latency") {
        let events = world.direct_sends(20_000);
        latency(worker, &mut stages, report, "direct", &events);
        let events = world.group_sends(20_000);
        latency(worker, &mut stages, report, "groups of 100", &events);
    }
    if wanted("restart") {
        restart(worker, report, stages, &mut world);
    }
}

/// Snapshots, and a restart from them.
fn restart(worker: &mut Worker, report: &mut Report, mut stages: Stages, world: &mut World) {
    let full = stages.snapshot(SnapshotKind::Full);
    for (name, (_, took)) in ["conversations", "recipients"].into_iter().zip(&full) {
        report.add(format!("snapshot of all: {name}"), took.as_secs_f64() * 1e3, "ms");
    }
    let events = world.direct_sends(40_000);
    for batch in events.chunks(BATCH) {
        let batch = stored(batch, stages.events);
        stages.run(worker, batch);
    }
    let changes = stages.snapshot(SnapshotKind::Changes);
    for (name, (_, took)) in ["conversations", "recipients"].into_iter().zip(&changes) {
        report.add(format!("snapshot of 40,000 messages' changes: {name}"), took.as_secs_f64() * 1e3, "ms");
    }
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::new(open_folder(folder.path()).unwrap(), 1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shards: [&dyn Shard; 2] = [&stages.conversations, &stages.recipients];
    let ids = shards.map(|shard| (shard.id(), shard.positions()));
    let mut bytes = 0;
    for (((id, positions), (full, _)), (changes, _)) in ids.iter().zip(full).zip(changes) {
        let clock = std::sync::Arc::new(SystemClock::new());
        runtime.block_on(async {
            let mut writer = CheckpointWriter::take_over(store.clone(), *id, clock, (32, 3)).await.unwrap();
            for (parts, is_full) in [(full, true), (changes, false)] {
                let snapshot = Snapshot { positions: positions.clone(), parts: parts.finish(), is_full };
                bytes += writer.write(&snapshot).await.unwrap().bytes;
            }
        });
    }
    report.add("checkpoint: size of both stages'", bytes as f64 / 1e6, "MB");
    let Stages { conversations, recipients, .. } = stages;
    Box::new(conversations).close(worker);
    Box::new(recipients).close(worker);

    let start = Instant::now();
    let held = |_| OffsetRange { start: 0, end: u64::MAX };
    let states = ids.map(|(id, _)| {
        let newest = runtime.block_on(store.sequences(id)).unwrap()[0];
        runtime.block_on(store.load(id, newest, held)).unwrap().state
    });
    report.add("restart: checkpoints read", start.elapsed().as_secs_f64(), "s");
    let mut stages = Stages::build(worker, Some(&states));
    let event = stored(&world.direct_sends(1), stages.events);
    stages.run(worker, event);
    report.add("restart: until the first message is through", start.elapsed().as_secs_f64(), "s");
}

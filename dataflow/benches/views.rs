//! The views on the embedded log and store: what it costs to keep them up to date at a given rate (processor time of
//! their threads), how far behind they are, and how long reads take.
//!
//! `cargo bench -p tidings-dataflow --bench views -- [--seconds N] [--json]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and fails loudly")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]

use std::{
    collections::BTreeMap,
    env, fs,
    ops::Bound,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use prost::Message;
use tidings_dataflow::views::{
    projection::{self, ProjectionConfig},
    store::{FjallViews, StoreConfig},
};
use tidings_ingest::{
    Log, LogExt, NewRecord,
    embedded::{
        EmbeddedLog,
        config::{EmbeddedConfig, PartitionCounts},
    },
};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    ids::{ConversationId, MessageId, UserId, pack_user_ids},
    limits::PAGE_ITEMS_MAX,
    topics::{Topic, conversation_partition, user_partition},
    views::{Key, Scan, Table, ViewStore},
    wire::{self, entry::Content, inbox_item::Reference},
};

const PARTITIONS: u32 = 2;
const USERS: u64 = 10_000;
/// The load is appended in slices of this length.
const SLICE: Duration = Duration::from_millis(2);
const WAIT: Duration = Duration::from_secs(60);

/// Messages to conversations of so many members each.
struct Load {
    name: &'static str,
    messages_per_second: u64,
    members: u64,
    conversations: u64,
    /// Cursors that receipts move each second.
    receipts_per_second: u64,
}

const LOADS: [Load; 3] = [
    Load { name: "groups of 100", messages_per_second: 400, members: 100, conversations: 500, receipts_per_second: 0 },
    Load { name: "direct", messages_per_second: 8_000, members: 2, conversations: 5_000, receipts_per_second: 0 },
    Load {
        name: "direct with receipts",
        messages_per_second: 8_000,
        members: 2,
        conversations: 5_000,
        receipts_per_second: 8_000,
    },
];

fn user(number: u64) -> UserId {
    UserId(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number))
}

fn conversation(number: u64) -> ConversationId {
    ConversationId(u128::from(number.wrapping_mul(0xd134_2543_de82_ef95)) << 64 | u128::from(number))
}

/// Makes the records that the stages would have made.
struct Generator<'a> {
    load: &'a Load,
    sent: u64,
    receipts: u64,
    seqs: Vec<u64>,
    offsets: Vec<u64>,
    sources: BTreeMap<(Topic, u32), u64>,
}

impl<'a> Generator<'a> {
    fn new(load: &'a Load) -> Self {
        let zeros = |count: u64| vec![0; usize::try_from(count).unwrap()];
        Self {
            load,
            sent: 0,
            receipts: 0,
            seqs: zeros(load.conversations),
            offsets: zeros(USERS),
            sources: BTreeMap::new(),
        }
    }

    fn source(&mut self, topic: Topic, partition: u32) -> wire::Source {
        let next = self.sources.entry((topic, partition)).or_default();
        *next += 1;
        wire::Source { partition, offset: *next - 1 }
    }

    fn members(&self, conversation: u64) -> impl Iterator<Item = u64> + use<> {
        let (members, step) = (self.load.members, USERS / self.load.members);
        (0..members).map(move |member| (conversation + member * step) % USERS)
    }

    fn create_all(&mut self) -> Vec<NewRecord> {
        (0..self.load.conversations)
            .map(|number| {
                let id = Some(conversation(number).into());
                let members = self
                    .members(number)
                    .map(|member| wire::MemberState {
                        user_id: Some(user(member).into()),
                        role: wire::Role::Member.into(),
                        ..Default::default()
                    })
                    .collect();
                let state = wire::ConversationState { conversation_id: id, members, ..Default::default() };
                let partition = conversation_partition(conversation(number), PARTITIONS);
                let source = Some(self.source(Topic::Events, partition));
                let record = wire::TimelineRecord { source, conversation: Some(state), ..Default::default() };
                new_record(Topic::Timeline, partition, &record)
            })
            .collect()
    }

    fn send(&mut self, into: &mut Vec<NewRecord>) {
        let number = self.sent.wrapping_mul(7_919) % self.load.conversations;
        self.sent += 1;
        let id = conversation(number);
        let partition = conversation_partition(id, PARTITIONS);
        let source = self.source(Topic::Events, partition);
        let seq = &mut self.seqs[usize::try_from(number).unwrap()];
        *seq += 1;
        let seq = *seq;
        let at_ms = 1_700_000_000_000 + i64::try_from(self.sent).unwrap() / 8;
        let message_id = Some(MessageId::from_position(at_ms, partition, source.offset).into());
        let sender = user(self.members(number).next().unwrap());
        let entry = wire::Entry {
            conversation_id: Some(id.into()),
            seq,
            message_id,
            sender_id: Some(sender.into()),
            sent_at_ms: at_ms,
            content: Some(Content::Event(Bytes::from(vec![b'x'; 180]))),
        };
        let cursors = wire::CursorMove {
            conversation_id: Some(id.into()),
            user_id: Some(sender.into()),
            delivered_seq: seq,
            seen_seq: seq,
        };
        let record = wire::TimelineRecord {
            source: Some(source),
            at_ms,
            entries: vec![entry],
            cursor_moves: vec![cursors],
            ..Default::default()
        };
        into.push(new_record(Topic::Timeline, partition, &record));
        let mut recipients: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for member in self.members(number) {
            recipients.entry(user_partition(user(member), PARTITIONS)).or_default().push(member);
        }
        for (recipients_partition, members) in recipients {
            let offsets = members.iter().map(|member| {
                let offset = &mut self.offsets[usize::try_from(*member).unwrap()];
                *offset += 1;
                *offset
            });
            let offsets = offsets.collect();
            let reference = wire::EntryReference { conversation_id: Some(id.into()), seq, message_id };
            let item = wire::InboxItem {
                user_ids: pack_user_ids(members.into_iter().map(user)),
                offsets,
                reference: Some(Reference::Entry(reference)),
            };
            let record = wire::InboxRecord {
                source: Some(self.source(Topic::Fanout, recipients_partition)),
                at_ms,
                items: vec![item],
                events_source: Some(source),
            };
            into.push(new_record(Topic::Inbox, recipients_partition, &record));
        }
    }

    /// One batch of receipts for each partition, as an edge sends it.
    fn receipts(&mut self, count: u64, into: &mut Vec<NewRecord>) {
        let mut moves: BTreeMap<u32, Vec<wire::CursorMove>> = BTreeMap::new();
        for _ in 0..count {
            let number = self.receipts.wrapping_mul(7_919) % self.load.conversations;
            self.receipts += 1;
            let seq = self.seqs[usize::try_from(number).unwrap()];
            let reader = self.members(number).last().unwrap();
            moves.entry(conversation_partition(conversation(number), PARTITIONS)).or_default().push(wire::CursorMove {
                conversation_id: Some(conversation(number).into()),
                user_id: Some(user(reader).into()),
                delivered_seq: seq,
                seen_seq: seq,
            });
        }
        for (partition, cursor_moves) in moves {
            let source = Some(self.source(Topic::Events, partition));
            let record = wire::TimelineRecord { source, cursor_moves, ..Default::default() };
            into.push(new_record(Topic::Timeline, partition, &record));
        }
    }
}

fn new_record(topic: Topic, partition: u32, record: &impl Message) -> NewRecord {
    NewRecord { topic, partition, key: Bytes::new(), value: record.encode_to_vec().into() }
}

/// Seconds of processor time of this process's threads, by name.
fn processor_seconds() -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap) {
        let Ok(stat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
        let nanoseconds: f64 = stat.split_whitespace().next().unwrap().parse().unwrap();
        *seconds.entry(name.trim().to_owned()).or_default() += nanoseconds / 1e9;
    }
    seconds
}

/// One line of the result: a name, a figure, its unit.
type Figure = (String, f64, &'static str);

async fn run(load: &Load, seconds: u64, figures: &mut Vec<Figure>) {
    let folder = tempfile::tempdir().unwrap();
    let counts = PartitionCounts { conversations: PARTITIONS, recipients: PARTITIONS, edges: 1, directory: 1 };
    let config =
        EmbeddedConfig { directory: folder.path().join("log"), partitions: Some(counts), ..EmbeddedConfig::default() };
    let log = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    let log: Arc<dyn Log> = Arc::new(log);
    let views = FjallViews::open(&folder.path().join("views"), log.log_id(), &StoreConfig::default()).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let handle = projection::start(
        &ProjectionConfig::default(),
        projection::all_partitions(&*log),
        Arc::clone(&log),
        Arc::new(views.clone()),
        runtime,
        &mut Registry::default(),
    )
    .unwrap();
    let mut generator = Generator::new(load);
    for chunk in generator.create_all().chunks(100) {
        log.append(chunk.to_vec()).await.unwrap();
    }
    caught_up(&*log, &views).await;

    let before = processor_seconds();
    let started = Instant::now();
    let mut behind = Vec::new();
    let mut next_sample = Duration::ZERO;
    let mut newest = None;
    while started.elapsed() < Duration::from_secs(seconds) {
        let due = |per_second: u64| per_second * u64::try_from(started.elapsed().as_micros()).unwrap() / 1_000_000;
        let mut records = Vec::new();
        while generator.sent < due(load.messages_per_second) {
            generator.send(&mut records);
        }
        let receipts = due(load.receipts_per_second) - generator.receipts;
        generator.receipts(receipts, &mut records);
        if !records.is_empty() {
            let appended = log.append(records);
            if started.elapsed() >= next_sample {
                next_sample += Duration::from_millis(100);
                appended.await.unwrap();
                newest = None;
                let end = log.range(Topic::Inbox, 0).unwrap().end;
                let since = Instant::now();
                if end > 0 {
                    views.wait_past(Topic::Inbox, 0, end - 1, WAIT).await.unwrap();
                    behind.push(since.elapsed());
                }
            } else {
                newest = Some(appended);
            }
        }
        tokio::time::sleep(SLICE).await;
    }
    if let Some(appended) = newest {
        appended.await.unwrap();
    }
    caught_up(&*log, &views).await;
    let elapsed = started.elapsed().as_secs_f64();
    let after = processor_seconds();
    let mut total = 0.0;
    for name in ["views", "views-sync", "fjall:worker"] {
        let used = after.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0);
        total += used;
        figures.push((format!("{}: thread {name}", load.name), 100.0 * used / elapsed, "% of a core"));
    }
    figures.push((format!("{}: all", load.name), 100.0 * total / elapsed, "% of a core"));
    let messages = generator.sent as f64;
    figures.push((format!("{}: messages", load.name), messages / elapsed, "/s"));
    let rows = messages * load.members as f64;
    figures.push((format!("{}: updates", load.name), rows / elapsed, "rows/s"));
    behind.sort();
    for (name, place) in [("median", 0.5), ("p99", 0.99)] {
        let index = ((behind.len() - 1) as f64 * place) as usize;
        figures.push((format!("{}: behind the log, {name}", load.name), behind[index].as_secs_f64() * 1e3, "ms"));
    }
    figures.push((format!("{}: memory for new rows", load.name), views.memory_bytes() as f64 / 1e6, "MB"));
    figures.push((format!("{}: disk", load.name), disk_bytes(&folder.path().join("views")) as f64 / 1e6, "MB"));
    reads(load, &generator, &views, figures).await;
    handle.shutdown().await;
}

async fn reads(load: &Load, generator: &Generator<'_>, views: &FjallViews, figures: &mut Vec<Figure>) {
    let scattered: Vec<Key> = (0..1_000_u64)
        .map(|n| {
            let number = n.wrapping_mul(31) % load.conversations;
            let seq = generator.seqs[usize::try_from(number).unwrap()];
            Key::entry(conversation(number), 1 + n % seq.max(1))
        })
        .collect();
    let page = Scan {
        table: Table::Inbox,
        owner: user(0).0,
        from: Bound::Unbounded,
        to: Bound::Unbounded,
        reverse: false,
        limit: 1_000,
    };
    let history =
        Scan { table: Table::Entries, owner: conversation(0).0, reverse: true, limit: PAGE_ITEMS_MAX, ..page.clone() };
    let mut timings = [const { Vec::new() }; 3];
    for _ in 0..200 {
        let started = Instant::now();
        assert!(views.get(&scattered).await.unwrap().iter().all(Option::is_some));
        timings[0].push(started.elapsed());
        let started = Instant::now();
        views.scan(page.clone()).await.unwrap();
        timings[1].push(started.elapsed());
        let started = Instant::now();
        views.scan(history.clone()).await.unwrap();
        timings[2].push(started.elapsed());
    }
    for (name, timings) in
        ["1,000 scattered entries", "a page of updates", "a page of history"].into_iter().zip(&mut timings)
    {
        timings.sort();
        figures.push((format!("{}: read {name}, median", load.name), timings[100].as_secs_f64() * 1e3, "ms"));
    }
}

async fn caught_up(log: &dyn Log, views: &FjallViews) {
    for topic in [Topic::Timeline, Topic::Inbox] {
        for partition in 0..PARTITIONS {
            let end = log.range(topic, partition).unwrap().end;
            if end > 0 {
                views.wait_past(topic, partition, end - 1, WAIT).await.unwrap();
            }
        }
    }
}

fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::read_dir(folder)
        .unwrap()
        .map(Result::unwrap)
        .map(
            |item| {
                if item.path().is_dir() { disk_bytes(&item.path()) } else { item.metadata().unwrap().blocks() * 512 }
            },
        )
        .sum()
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let value_of = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let seconds = value_of("--seconds").map_or(10, |seconds| seconds.parse().unwrap());
    let only = value_of("--only");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut figures = Vec::new();
    for load in LOADS.iter().filter(|load| only.is_none_or(|only| load.name == only)) {
        runtime.block_on(run(load, seconds, &mut figures));
    }
    if arguments.iter().any(|argument| argument == "--json") {
        let lines: Vec<String> =
            figures.iter().map(|(name, value, unit)| format!("  \"{name} ({unit})\": {value:.3}")).collect();
        println!("{{\n{}\n}}", lines.join(",\n"));
        return;
    }
    for (name, value, unit) in figures {
        println!("{name:<60} {value:>12.2} {unit}");
    }
}

//! How fast `tidings replay verify` is: a log of direct messages with all that follows from them, verified.
//!
//! `cargo bench -p tidings-replay --bench verify` (`-- --events N` for another number than a million, `--threads N`).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, prints what it found, and may panic"
)]

use std::{
    sync::{Arc, mpsc},
    time::Instant,
};

use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings_dataflow::{
    host::HostConfig,
    shard::{SavedState, ShardId, Stage},
    solo::SoloShard,
};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, NewRecord, PartitionCounts, ReadOnlyLog};
use tidings_replay::{Scan, verify::Verify};
use tidings_schemas::{
    clock::{SystemClock, SystemEntropy},
    ids::{ConversationId, UserId},
    limits::VERIFY_PUT_BY_BYTES_MAX,
    topics::{Partitions, Topic, conversation_partition},
    wire::{self, ConversationKind, event::Body},
};

const PARTITIONS: Partitions = Partitions { conversations: 2, recipients: 2, edges: 4, directory: 1 };
const USERS: usize = 10_000;
const CHATS: usize = 20_000;
const TEXT_BYTES: usize = 100;
/// Records of one append.
const APPEND_RECORDS: usize = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| {
        let place = arguments.iter().position(|argument| argument == name);
        place.and_then(|place| arguments.get(place + 1)?.parse().ok()).unwrap_or(default)
    };
    let events = number("--events", 1_000_000);
    let threads = number("--threads", std::thread::available_parallelism().map_or(1, usize::from));
    let folder =
        tempfile::tempdir_in(std::env::var_os("TIDINGS_BENCH_DIR").unwrap_or_else(|| "/var/tmp".into())).unwrap();
    let directory = folder.path().join("log");
    make(&directory, events);

    let log = ReadOnlyLog::open(&directory).unwrap();
    let config = HostConfig::default();
    let verify = Verify {
        log: &log,
        checkpoints: None,
        config: &config,
        is_complete: true,
        kept_max: 1,
        threads,
        put_by_bytes_max: VERIFY_PUT_BY_BYTES_MAX,
        progress: &|_| {},
    };
    for _ in 0..3 {
        let began = Instant::now();
        let report = verify.run().unwrap();
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!(report.difference_count(), 0, "{:?}", report.differences);
        let compared: u64 = report.streams.iter().map(|stream| stream.agreeing).sum();
        let all = (CHATS + events) as f64;
        println!(
            "{:.0} events/s, {:.0} records compared/s ({threads} threads)",
            all / seconds,
            compared as f64 / seconds
        );
    }
}

/// A log of chats, of messages in them, and of what the stages make of these.
fn make(directory: &std::path::Path, events: usize) {
    let Partitions { conversations, recipients, edges, directory: names } = PARTITIONS;
    let config = EmbeddedConfig {
        directory: directory.to_owned(),
        partitions: Some(PartitionCounts { conversations, recipients, edges, directory: names }),
        ..Default::default()
    };
    let log = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let users: Vec<UserId> = (0..USERS).map(|_| UserId::random(random.random())).collect();
    let chats: Vec<(ConversationId, [UserId; 2])> = (0..CHATS)
        .map(|place| {
            let (one, other) = (users[place % USERS], users[(place * 7 + 1) % USERS]);
            (ConversationId::direct(one, other), [one, other])
        })
        .collect();
    let mut pending = Vec::new();
    let mut put = |(id, members): (ConversationId, [UserId; 2]), body: Body| {
        let event = wire::Event {
            conversation_id: Some(id.into()),
            actor_id: Some(members[0].into()),
            body: Some(body),
            ..Default::default()
        };
        let partition = conversation_partition(id, conversations);
        let (key, value) = (id.to_bytes().to_vec().into(), event.encode_to_vec().into());
        pending.push(NewRecord { topic: Topic::Events, partition, key, value });
        if pending.len() == APPEND_RECORDS {
            append(&log, std::mem::take(&mut pending));
        }
    };
    for chat in &chats {
        let member_ids = vec![chat.1[1].into()];
        let kind = ConversationKind::Direct.into();
        put(*chat, Body::CreateConversation(wire::CreateConversation { kind, member_ids, ..Default::default() }));
    }
    for number in 0..events {
        let chat = chats[random.random_range(0..CHATS)];
        let send =
            wire::Send { client_message_id: number.to_string(), text: "x".repeat(TEXT_BYTES), ..Default::default() };
        put(chat, Body::Send(send));
    }
    append(&log, pending);
    for (stage, input) in [(Stage::Conversations, Topic::Events), (Stage::Recipients, Topic::Fanout)] {
        for partition in 0..log.partitions(input) {
            let id = ShardId { stage, partition };
            let mut shard = SoloShard::build(id, &HostConfig::default(), PARTITIONS, &SavedState::default()).unwrap();
            let mut records = Scan::new(&log, input, partition, 0..u64::MAX).unwrap().map(Result::unwrap);
            loop {
                let batch: Vec<_> = records.by_ref().take(APPEND_RECORDS / 2).collect();
                if batch.is_empty() {
                    break;
                }
                let mut out = Vec::new();
                shard.take(input, batch, &mut out).unwrap();
                append(&log, out);
            }
        }
    }
}

fn append(log: &EmbeddedLog, records: Vec<NewRecord>) {
    if records.is_empty() {
        return;
    }
    let (answer, answered) = mpsc::channel();
    log.append_with(records, Box::new(move |result| answer.send(result).unwrap_or_default()));
    answered.recv().unwrap().unwrap();
}

//! The archive at scale: many millions of messages from a generator through the archive's own port, then the questions
//! that are asked of so many.
//!
//! `cargo bench -p tidings-dataflow --bench archive_scale -- --messages 50000000 --folder DIR`, and again with `--measure`
//! for the questions alone, in a process of its own: its first run of each is a cold one, as far as the engine is
//! concerned (the operating system may still have the files in memory). Before it asks it waits until the engine has merged
//! what it wants to merge, and counts what is over, as the projection does every five minutes (`--days N`: of the last N
//! days only what `daily_active_users` and `delivery_latency` are then asked for).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark measures time, prints, and may panic"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use prost::Message as _;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use tidings_dataflow::archive::{
    Archive, ArchiveSettings, Batch, EmbeddedArchive,
    libchdb::{Connection, configuration::EngineConfiguration},
    rows::RowSet,
    store::{EntriesQuery, SourceOffsets, SourceRange},
};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits,
    topics::Topic,
    wire::{self, MembershipAction, signal},
};

const DAY_MS: i64 = 86_400_000;
/// Far enough ahead that no retention drops it: 2090-01-01.
const START_MS: i64 = 3_786_912_000_000;
const DAYS: i64 = 60;
const CONVERSATIONS: u64 = 100_000;
const USERS: u64 = 200_000;
const WORDS: usize = 4_000;

struct Arguments {
    messages: u64,
    folder: PathBuf,
    is_load: bool,
    is_measure: bool,
    /// Loading ends then, with what there is.
    seconds: u64,
    /// How many of the last days are counted before it is asked about them.
    days: i64,
}

fn main() {
    let mut arguments = Arguments {
        messages: 1_000_000,
        folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("archive-scale"),
        is_load: true,
        is_measure: true,
        seconds: u64::MAX,
        days: DAYS,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--messages" => arguments.messages = given.next().unwrap().parse().unwrap(),
            "--folder" => arguments.folder = given.next().unwrap().into(),
            "--seconds" => arguments.seconds = given.next().unwrap().parse().unwrap(),
            "--days" => arguments.days = given.next().unwrap().parse().unwrap(),
            "--load" => arguments.is_measure = false,
            "--measure" => arguments.is_load = false,
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    if arguments.is_load && arguments.folder.exists() {
        fs::remove_dir_all(&arguments.folder).unwrap();
    }
    fs::create_dir_all(&arguments.folder).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let configuration = EngineConfiguration::in_folder(arguments.folder.join("archive"));
        let archive = EmbeddedArchive::open(&configuration, ArchiveSettings::default());
        let archive = archive.unwrap_or_else(|error| panic!("{error}"));
        archive.migrate().await.unwrap();
        if arguments.is_load {
            load(&archive, arguments.messages, Duration::from_secs(arguments.seconds)).await;
        }
        if arguments.is_measure {
            settle(&archive);
            summarize(&archive, arguments.days).await;
        }
        sizes(&archive);
        if arguments.is_measure {
            measure(&archive).await;
        }
    });
}

/// Who says what where: everything follows from the seed.
struct Generator {
    random: StdRng,
    words: Vec<String>,
    last_seq: Vec<u64>,
    raw_bytes: u64,
}

impl Generator {
    fn new() -> Self {
        let mut random = StdRng::seed_from_u64(50);
        let letters = |random: &mut StdRng| {
            let length = random.random_range(2..9);
            (0..length).map(|_| char::from(b'a' + random.random_range(0..26))).collect()
        };
        let words = (0..WORDS).map(|_| letters(&mut random)).collect();
        Self { random, words, last_seq: vec![1; CONVERSATIONS as usize], raw_bytes: 0 }
    }

    /// The conversation's creation.
    fn created(&mut self, number: u64) -> wire::TimelineRecord {
        let members: Vec<UserId> = members(number).collect();
        let kind = if members.len() == 2 { wire::ConversationKind::Direct } else { wire::ConversationKind::Group };
        let membership = wire::Membership {
            action: MembershipAction::Created.into(),
            by: Some(members[0].into()),
            member_ids: members.iter().copied().map(wire::Id::from).collect(),
            kind: kind.into(),
            ..Default::default()
        };
        let content = wire::entry::Content::Membership(membership);
        self.record(number, number, 1, members[0], START_MS, content, Vec::new())
    }

    /// A message, with its sender's cursors; now and then somebody else has received and read what there is.
    fn message(&mut self, offset: u64, of: u64) -> wire::TimelineRecord {
        // Some conversations are much busier than others.
        let skew: f64 = self.random.random();
        let number = ((skew * skew) * CONVERSATIONS as f64) as u64;
        let size = members(number).count() as u64;
        let sender = member(number, self.random.random_range(0..size));
        let at_ms = START_MS + 1_000 + ((offset as f64 / of as f64) * (DAYS * DAY_MS - 3_600_000) as f64) as i64;
        self.last_seq[number as usize] += 1;
        let seq = self.last_seq[number as usize];
        // Few people write evenly: words of a language are as uneven as this.
        let count = 1 + self.random.random_range(0..4_u32) * self.random.random_range(1..6_u32);
        let mut text = String::new();
        for _ in 0..count {
            let rank: f64 = self.random.random();
            text += &self.words[(rank * rank * rank * WORDS as f64) as usize];
            text.push(' ');
        }
        let send = wire::Send {
            client_message_id: format!("{:08x}-{:04x}-4000-8000-{:012x}", self.random.next_u32(), seq & 0xffff, offset),
            text,
            ..Default::default()
        };
        let event = wire::Event {
            conversation_id: Some(conversation(number).into()),
            actor_id: Some(sender.into()),
            stamped_at_ms: at_ms,
            body: Some(wire::event::Body::Send(send)),
            ..Default::default()
        };
        let mut moves = vec![(sender, seq, seq)];
        if self.random.random_ratio(1, 5) {
            let reader = member(number, self.random.random_range(0..size));
            let seen = if self.random.random_ratio(2, 3) { seq } else { 0 };
            moves.push((reader, seq, seen));
        }
        let content = wire::entry::Content::Event(event.encode_to_vec().into());
        self.record(CONVERSATIONS + offset, number, seq, sender, at_ms, content, moves)
    }

    #[allow(clippy::too_many_arguments, reason = "all that there is to say about an entry")]
    fn record(
        &mut self,
        offset: u64,
        number: u64,
        seq: u64,
        sender: UserId,
        at_ms: i64,
        content: wire::entry::Content,
        moves: Vec<(UserId, u64, u64)>,
    ) -> wire::TimelineRecord {
        let entry = wire::Entry {
            conversation_id: Some(conversation(number).into()),
            seq,
            message_id: Some(MessageId::from_position(at_ms, 0, offset).into()),
            sender_id: Some(sender.into()),
            sent_at_ms: at_ms,
            content: Some(content),
        };
        let moved = |(user, delivered_seq, seen_seq): (UserId, u64, u64)| wire::CursorMove {
            conversation_id: Some(conversation(number).into()),
            user_id: Some(user.into()),
            delivered_seq,
            seen_seq,
        };
        let record = wire::TimelineRecord {
            source: Some(wire::Source { partition: 0, offset }),
            at_ms: at_ms + if moves.len() > 1 { self.random.random_range(20..20_000) } else { 0 },
            entries: vec![entry],
            cursor_moves: moves.into_iter().map(moved).collect(),
            ..Default::default()
        };
        self.raw_bytes += record.encoded_len() as u64;
        record
    }

    /// Some of the users open a session on each day.
    fn sessions(&mut self, day: i64) -> Vec<wire::SignalRecord> {
        let mut records = Vec::new();
        for first in (0..USERS * 3 / 10).step_by(500) {
            let opened = (first..first + 500).map(|session| wire::Signal {
                body: Some(signal::Body::SessionOpened(wire::SessionOpened {
                    user_id: Some(user(self.random.random_range(0..USERS)).into()),
                    session_id: session,
                    device_id: "phone".to_owned(),
                })),
            });
            let signals = opened.collect();
            let stamped_at_ms = START_MS + day * DAY_MS + (first as i64 * 400);
            records.push(wire::SignalRecord { edge_id: 1, edge_run: 1, stamped_at_ms, signals });
        }
        records
    }
}

fn user(number: u64) -> UserId {
    UserId::random(u128::from(number) + (0xa0 << 100))
}

fn conversation(number: u64) -> ConversationId {
    ConversationId::random(u128::from(number) + (0xc0 << 100))
}

/// Seven in ten are direct chats, the others groups of up to twelve.
fn members(number: u64) -> impl Iterator<Item = UserId> {
    let size = if number % 10 < 7 { 2 } else { 3 + number % 10 };
    (0..size).map(move |place| member(number, place))
}

fn member(number: u64, place: u64) -> UserId {
    user((number * 7 + place * 7_919) % USERS)
}

async fn load(archive: &EmbeddedArchive, messages: u64, longest: Duration) {
    let (give, take) = mpsc::sync_channel::<(Batch, u64)>(2);
    let generating = std::thread::spawn(move || {
        let mut generator = Generator::new();
        let mut offset = 0;
        for day in 0..DAYS {
            let mut rows = RowSet::default();
            let first = offset;
            for record in generator.sessions(day) {
                rows.push_signals(&record, 0, offset);
                offset += 1;
            }
            let batch = Batch { ranges: vec![range(Topic::Signals, first, offset)], rows: rows.take() };
            if give.send((batch, 0)).is_err() {
                return;
            }
        }
        let (mut next, end) = (0, CONVERSATIONS + messages);
        while next < end {
            let first = next;
            let mut rows = RowSet::default();
            while next < end
                && rows.rows() < limits::ARCHIVE_BATCH_ROWS_MAX - 3
                && rows.bytes() < limits::ARCHIVE_BATCH_BYTES_MAX
            {
                let record = match next.checked_sub(CONVERSATIONS) {
                    None => generator.created(next),
                    Some(offset) => generator.message(offset, messages),
                };
                rows.push_timeline(&record);
                next += 1;
            }
            let raw = std::mem::take(&mut generator.raw_bytes);
            let batch = Batch { ranges: vec![range(Topic::Timeline, first, next)], rows: rows.take() };
            if give.send((batch, raw)).is_err() {
                return;
            }
        }
    });
    let (started, mut inserting) = (Instant::now(), Duration::ZERO);
    let (mut rows, mut raw, mut records, mut retries, mut said) = (0, 0, 0, 0, started);
    for (batch, bytes) in take {
        rows += batch.rows.iter().map(|rows| rows.count).sum::<usize>();
        raw += bytes;
        records += batch
            .ranges
            .iter()
            .filter(|range| range.topic == Topic::Timeline)
            .map(|range| range.end_offset - range.first_offset)
            .sum::<u64>();
        let batch = Arc::new(batch);
        let began = Instant::now();
        while let Err(error) = archive.insert(Arc::clone(&batch)).await {
            // Merges are behind, for one: as the projection does.
            println!("again: {error}");
            retries += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        inserting += began.elapsed();
        if started.elapsed() > longest {
            break;
        }
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            let seconds = started.elapsed().as_secs_f64();
            println!("  {records} records, {rows} rows, {seconds:.0} s, {:.0} rows/s", rows as f64 / seconds);
        }
    }
    generating.join().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let messages = records.saturating_sub(CONVERSATIONS);
    println!("messages                    {messages:>12}");
    println!("rows                        {rows:>12}");
    println!(
        "loaded in                   {seconds:>12.0} s, {:.0} s of it in inserts, {retries} repeats",
        inserting.as_secs_f64()
    );
    println!(
        "rate                        {:>12.0} messages/s, {:.0} rows/s",
        messages as f64 / seconds,
        rows as f64 / seconds
    );
    println!("raw bytes a message         {:>12.1} (timeline records, protobuf)", raw as f64 / messages as f64);
}

fn range(topic: Topic, first_offset: u64, end_offset: u64) -> SourceRange {
    SourceRange {
        topic,
        partition: 0,
        first_offset,
        end_offset,
        source: SourceOffsets { from: first_offset, to: end_offset },
    }
}

fn session(archive: &EmbeddedArchive) -> Connection {
    let setup = vec![
        "USE tidings".to_owned(),
        // As an analyst has it.
        "SET final = 1, do_not_merge_across_partitions_select_final = 1, max_execution_time = 60".to_owned(),
    ];
    Connection::open(archive.engine(), setup).unwrap()
}

/// Waits until the engine has nothing to merge for ten seconds.
fn settle(archive: &EmbeddedArchive) {
    let (started, mut quiet_since) = (Instant::now(), Instant::now());
    while quiet_since.elapsed() < Duration::from_secs(10) {
        let answer = session(archive).query("SELECT count() FROM system.merges", "TSV", &[]).unwrap();
        if answer.bytes != b"0\n" {
            quiet_since = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("merged for                  {:>12.0} s", (quiet_since - started).as_secs_f64());
}

/// Counts the days and hours that are over, from so many days before the end on.
async fn summarize(archive: &EmbeddedArchive, days: i64) {
    if days < DAYS {
        let before = (START_MS + (DAYS - days) * DAY_MS) / 1_000 - 1;
        for (table, period) in [("daily_summaries", "toDate"), ("hourly_summaries", "toStartOfHour")] {
            let column = if period == "toDate" { "day" } else { "hour" };
            let sql = format!(
                "INSERT INTO {table} ({column}, known_at) SELECT {period}(toDateTime({before}, 'UTC')), now64(3) + INTERVAL 100 YEAR"
            );
            session(archive).query(&sql, "Null", &[]).unwrap();
        }
    }
    let started = Instant::now();
    let counted = archive.summarize_as_of(((START_MS + (DAYS + 2) * DAY_MS) as u64) + 1).await.unwrap();
    println!("counted                     {counted:>12} days and hours in {:.0} s", started.elapsed().as_secs_f64());
}

fn sizes(archive: &EmbeddedArchive) {
    let sql = "SELECT table, sum(rows), sum(bytes_on_disk), sum(data_uncompressed_bytes), count() FROM system.parts \
               WHERE database = 'tidings' AND active AND rows > 0 GROUP BY table ORDER BY table";
    let answer = session(archive).query(sql, "TSV", &[]).unwrap();
    println!("table, rows, bytes on disk, bytes uncompressed, parts");
    print!("{}", String::from_utf8(answer.bytes).unwrap());
}

/// The first run of each, and the median and the 99th percentile of the others.
async fn measure(archive: &EmbeddedArchive) {
    let mut random = StdRng::seed_from_u64(7);
    // The busiest have thousands of messages.
    let mut busy = || (random.random_range(0.0..0.3_f64).powi(2) * CONVERSATIONS as f64) as u64;
    for (what, part) in [("last 50 of a conversation", 1.0), ("a page deep in history", 0.3)] {
        let mut times = Vec::new();
        for _ in 0..300 {
            let number = busy();
            let last = last_seq(archive, number);
            let end = ((last as f64) * part) as u64;
            let query = EntriesQuery {
                conversation: conversation(number),
                seqs: end.saturating_sub(63)..=end,
                newest_first: true,
                limit: 50,
            };
            let started = Instant::now();
            let found = archive.entries(query).await.unwrap();
            times.push(started.elapsed());
            assert!(!found.is_empty());
        }
        show(&format!("{what} (the edge's read)"), times);
    }
    let times = (0..50)
        .map(|_| {
            let id = conversation(busy());
            timed(archive, &format!("SELECT seq, sender_id, sent_at, text FROM messages WHERE conversation_id = '{id}' ORDER BY seq DESC LIMIT 50"))
        })
        .collect();
    show("last 50 of a conversation (view messages)", times);
    for (what, sql, runs) in [
        (
            "daily active users, 30 days",
            "SELECT * FROM daily_active_users WHERE day >= '2090-01-30' AND day < '2090-03-01'",
            20,
        ),
        (
            "daily active users, a day that is not over",
            "SELECT * FROM daily_active_users_between(since = '2090-02-20 00:00:00', until = '2090-02-21 00:00:00')",
            10,
        ),
        (
            "delivery latency by hour, 30 days",
            "SELECT * FROM delivery_latency WHERE hour >= '2090-01-30' AND hour < '2090-03-01'",
            20,
        ),
        (
            "delivery latency of an hour that is not over",
            "SELECT * FROM delivery_latency_between(since = '2090-02-20 10:00:00', until = '2090-02-20 11:00:00')",
            10,
        ),
        ("messages by day", "SELECT toDate(sent_at) AS day, count() FROM messages GROUP BY day", 3),
    ] {
        let first = session(archive).query(sql, "TSV", &[]);
        match first {
            Err(error) => println!("{what:48} {}", error.to_string().chars().take(160).collect::<String>()),
            Ok(answer) => {
                let lines = String::from_utf8(answer.bytes).unwrap().lines().count();
                show(&format!("{what} ({lines} rows)"), (0..runs).map(|_| timed(archive, sql)).collect());
            }
        }
    }
}

fn last_seq(archive: &EmbeddedArchive, number: u64) -> u64 {
    let sql = format!("SELECT max(seq) FROM timeline_entries WHERE conversation_id = '{}'", conversation(number));
    let answer = session(archive).query(&sql, "TSV", &[]).unwrap();
    String::from_utf8(answer.bytes).unwrap().trim().parse().unwrap()
}

fn timed(archive: &EmbeddedArchive, sql: &str) -> Duration {
    let mut session = session(archive);
    let started = Instant::now();
    session.query(sql, "TSV", &[]).unwrap();
    started.elapsed()
}

fn show(what: &str, mut times: Vec<Duration>) {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let first = ms(times[0]);
    times.sort();
    let at = |percent: usize| ms(times[(times.len() - 1) * percent / 100]);
    println!(
        "{what:48} first {first:>9.1} ms   p50 {:>9.1} ms   p99 {:>9.1} ms   ({} runs)",
        at(50),
        at(99),
        times.len()
    );
}

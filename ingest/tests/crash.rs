//! A process that appends from many threads is killed with SIGKILL at random moments, over and over, on one directory;
//! after each kill every acknowledged record is there, once, in order, at its offset, with its bytes; and calls are there
//! whole or not at all. Files are small, so that kills hit rolls, splits and retention.
//!
//! `TIDINGS_CRASH_ROUNDS` sets how often, `TIDINGS_SEED` repeats the parent's choices.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use bytes::Bytes;
use support::{Random, read_from};
use tidings_ingest::embedded::config::Retention;
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, NewRecord};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

const CHILD: &str = "TIDINGS_CRASH_CHILD";
const THREADS: u32 = 6;
/// Calls that a thread has in flight.
const WINDOW: usize = 4;
/// The first two are kept whole; the third has retention.
const WHERE: [(Topic, u32); 3] = [(Topic::Events, 0), (Topic::Events, 1), (Topic::Signals, 1)];

fn config(directory: &Path) -> EmbeddedConfig {
    let retention = Retention { age_seconds: None, partition_bytes: Some(60_000) };
    EmbeddedConfig {
        directory: directory.to_owned(),
        journal_segment_bytes: 256 * 1024,
        partition_segment_bytes: 32 * 1024,
        tail_cache_bytes_max: 64 * 1024,
        retention: [(Topic::Signals.name().to_owned(), retention)].into(),
        ..EmbeddedConfig::default()
    }
}

fn open(directory: &Path) -> EmbeddedLog {
    EmbeddedLog::open(&config(directory), Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap()
}

/// `round, thread, call, index, records of the call`, filling, checksum.
fn payload(header: [u32; 5], filling: usize) -> Bytes {
    let mut value: Vec<u8> = header.iter().flat_map(|number| number.to_le_bytes()).collect();
    value.resize(value.len() + filling, header[2] as u8);
    value.extend_from_slice(&crc32c::crc32c(&value).to_le_bytes());
    value.into()
}

fn header_of(value: &[u8]) -> [u32; 5] {
    let (covered, checksum) = value.split_last_chunk::<4>().unwrap();
    assert_eq!(crc32c::crc32c(covered), u32::from_le_bytes(*checksum), "the record's own checksum");
    std::array::from_fn(|index| u32::from_le_bytes(covered[index * 4..index * 4 + 4].try_into().unwrap()))
}

/// The process that is killed: appends for as long as it lives, and says what was acknowledged. Not a test of its own.
#[test]
fn child() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let (directory, round) = directory.split_once('|').unwrap();
    let round: u32 = round.parse().unwrap();
    println!("opening");
    let log = open(Path::new(directory));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || append_for_good(log, round, thread));
        }
    });
}

fn append_for_good(log: &EmbeddedLog, round: u32, thread: u32) {
    let mut random = Random::new(u64::from(round) << 32 | u64::from(thread));
    let window = Arc::new((Mutex::new(0_usize), Condvar::new()));
    for call in 0.. {
        let count = random.pick(&[1, 1, 1, 3, 20]);
        let records: Vec<NewRecord> = (0..count)
            .map(|index| {
                let (topic, partition) = random.pick(&WHERE);
                let filling = random.pick(&[0, 30, 200, 6_000]);
                let value = payload([round, thread, call, index, count], filling);
                NewRecord { topic, partition, key: Bytes::new(), value }
            })
            .collect();
        let said = records.clone();
        let room = Arc::clone(&window);
        let on_appended = move |result: Result<Vec<u64>, _>| {
            let mut line = String::new();
            for (record, offset) in said.iter().zip(result.unwrap()) {
                let place = WHERE.iter().position(|place| *place == (record.topic, record.partition)).unwrap();
                line += &format!("acknowledged {place} {offset} {}\n", crc32c::crc32c(&record.value));
            }
            // Unbuffered: what the parent has read, the caller was told.
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            *room.0.lock().unwrap() -= 1;
            room.1.notify_one();
        };
        let mut in_flight = window.1.wait_while(window.0.lock().unwrap(), |in_flight| *in_flight >= WINDOW).unwrap();
        *in_flight += 1;
        drop(in_flight);
        log.append_with(records, Box::new(on_appended));
        // Retention comes by itself only once a minute.
        if thread == 0 && call % 20 == 0 {
            log.maintain().unwrap();
        }
    }
}

/// What the parent knows.
#[derive(Default)]
struct Seen {
    /// By place and offset, the checksum of the value.
    acknowledged: BTreeMap<(usize, u64), u32>,
    /// Checked already, by place.
    checked_to: [u64; WHERE.len()],
}

#[test]
fn no_acknowledged_record_is_lost_repeated_or_moved_by_kills() {
    let seed = support::seed();
    let rounds = u32::try_from(support::setting("TIDINGS_CRASH_ROUNDS", 100)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log");
    let mut random = Random::new(seed);
    let mut seen = Seen::default();
    let mut total = 0;
    for round in 0..rounds {
        let before = seen.acknowledged.len();
        run_and_kill(&directory, round, &mut random, &mut seen);
        total += seen.acknowledged.len() - before;
        check(&directory, &mut seen, round + 1 == rounds);
    }
    println!("{rounds} kills, {total} acknowledged records");
    assert!(total > rounds as usize, "the kills came too early to prove anything");
}

fn run_and_kill(directory: &Path, round: u32, random: &mut Random, seen: &mut Seen) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(CHILD, format!("{}|{round}", directory.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let opening = BufReader::new(child.stdout.take().unwrap());
    assert!(opening.lines().map_while(Result::ok).any(|line| line.ends_with("opening")), "the child came up");
    let lines = BufReader::new(child.stderr.take().unwrap());
    // After so many acknowledgements; or while it opens, or right after, with no wait for any.
    let enough = if random.once_in(5) { 0 } else { random.below(600) };
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let reader = thread::spawn({
        let acknowledged = Arc::clone(&acknowledged);
        move || {
            let mut said = Vec::new();
            let mut lines = lines;
            let mut line = String::new();
            // A line without its end was cut short by the kill: its number may be, too.
            while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
                let mut words = line.split_whitespace();
                if words.next() == Some("acknowledged") {
                    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
                    said.push((number() as usize, number(), number() as u32));
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                } else {
                    // It is killed before it could end by itself: anything else is its failure.
                    panic!("the child said: {line}");
                }
                line.clear();
            }
            said
        }
    });
    while (acknowledged.load(Ordering::SeqCst) as u64) < enough && !reader.is_finished() {
        thread::yield_now();
    }
    for _ in 0..random.below(1_000_000) {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for (place, offset, checksum) in reader.join().unwrap() {
        let before = seen.acknowledged.insert((place, offset), checksum);
        assert_eq!(before, None, "{:?} offset {offset} was given out twice", WHERE[place]);
    }
}

fn check(directory: &Path, seen: &mut Seen, everything: bool) {
    let log = open(directory);
    let mut dropped = false;
    let mut calls: HashMap<[u32; 3], (u32, u32)> = HashMap::new();
    for (place, (topic, partition)) in WHERE.into_iter().enumerate() {
        let range = log.range(topic, partition).unwrap();
        let from = if everything { 0 } else { seen.checked_to[place] };
        // Where retention has dropped records, the calls that had a part there are no longer whole.
        dropped |= range.start > from;
        let stored = read_from(&log, topic, partition, from);
        let mut last_of: HashMap<[u32; 2], (u32, u32)> = HashMap::new();
        for record in &stored {
            let [round, thread, call, index, count] = header_of(&record.value);
            let order = (call, index);
            let before = last_of.insert([round, thread], order);
            assert!(before < Some(order), "{topic:?} {partition}: {order:?} of thread {thread} comes after {before:?}");
            calls.entry([round, thread, call]).or_insert((0, count)).0 += 1;
            if let Some(checksum) = seen.acknowledged.get(&(place, record.offset)) {
                assert_eq!(crc32c::crc32c(&record.value), *checksum, "{topic:?} {partition} offset {}", record.offset);
            }
        }
        let last = seen.acknowledged.range((place, 0)..(place + 1, 0)).next_back();
        assert!(last.is_none_or(|((_, offset), _)| *offset < range.end), "acknowledged records are gone: {last:?}");
        assert!(topic == Topic::Signals || range.start == 0);
        seen.checked_to[place] = range.end;
    }
    let in_part = calls.iter().filter(|(_, (found, count))| found != count);
    assert!(dropped || in_part.count() == 0, "a call is there in part");
    drop(log);
}

#[test]
fn a_second_process_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let directory: PathBuf = folder.path().join("log");
    let log = open(&directory);
    let Err(error) = EmbeddedLog::open(&config(&directory), Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
    else {
        panic!("opened twice")
    };
    assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
    drop(log);
    open(&directory);
}

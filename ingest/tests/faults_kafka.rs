//! Three brokers, one of which is killed and comes back, under load: what was acknowledged is there once, in order; and
//! what is not answered is not passed by what comes later.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests, and they measure time"
)]

#[path = "support/broker.rs"]
mod broker;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use broker::Brokers;
use bytes::Bytes;
use tidings_ingest::{AppendError, KafkaConfig, KafkaLog, Log, NewRecord, StoredRecord, WaitingReader};
use tidings_schemas::topics::Topic;

const PATIENCE: Duration = Duration::from_secs(60);

fn record(topic: Topic, partition: u32, value: String) -> NewRecord {
    NewRecord { topic, partition, key: Bytes::new(), value: value.into() }
}

fn append(log: &dyn Log, records: Vec<NewRecord>) -> Result<Vec<u64>, AppendError> {
    let (answer, answered) = mpsc::channel();
    log.append_with(records, Box::new(move |result| answer.send(result).unwrap_or_default()));
    answered.recv_timeout(PATIENCE).expect("an append is answered")
}

fn read_all(log: &dyn Log, topic: Topic, partition: u32) -> Vec<StoredRecord> {
    let end = log.range(topic, partition).unwrap().end;
    let mut reader = WaitingReader::new(log.reader(topic, partition, 0).unwrap());
    let mut records = Vec::new();
    while reader.position() < end {
        assert!(reader.poll(usize::MAX, &mut records, PATIENCE).unwrap() > 0, "what is on the log comes");
    }
    records
}

/// One appender, as a shard's output is: one call on its way at a time, tried again until it is acknowledged, then the
/// next. Each call has two records for each of two partitions.
struct Appender {
    /// What it was told: value to offset, by partition.
    told: BTreeMap<u32, HashMap<String, u64>>,
    /// The longest that a call took, tries included.
    longest: Duration,
    tries: u64,
}

fn append_until(log: &KafkaLog, name: usize, stop: &AtomicBool, acknowledged: &mpsc::Sender<()>) -> Appender {
    let mut appender = Appender { told: BTreeMap::new(), longest: Duration::ZERO, tries: 0 };
    for call in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = |number: u64| format!("{name}:{:07}", call * 2 + number);
        let values = [(0, value(0)), (1, value(0)), (0, value(1)), (1, value(1))];
        let started = Instant::now();
        let offsets = loop {
            appender.tries += 1;
            let records = values.iter().map(|(partition, value)| record(Topic::Inbox, *partition, value.clone()));
            match append(log, records.collect()) {
                Ok(offsets) => break offsets,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
        appender.longest = appender.longest.max(started.elapsed());
        for ((partition, value), offset) in values.into_iter().zip(offsets) {
            appender.told.entry(partition).or_default().insert(value, offset);
        }
        acknowledged.send(()).unwrap();
    }
    appender
}

/// Each acknowledged record is at its offset; and to a consumer that keeps a watermark for each appender, as the stages'
/// consumers do, none is missing and none comes twice.
fn check(log: &KafkaLog, appenders: &[Appender]) {
    for partition in [0, 1] {
        let stored = read_all(log, Topic::Inbox, partition);
        assert!(stored.iter().map(|record| record.offset).eq(0..stored.len() as u64), "offsets are dense");
        let mut watermarks: HashMap<usize, u64> = HashMap::new();
        let mut repeats = 0;
        for record in &stored {
            let value = std::str::from_utf8(&record.value).unwrap();
            let (name, number) = value.split_once(':').unwrap();
            let (name, number): (usize, u64) = (name.parse().unwrap(), number.parse().unwrap());
            let next = watermarks.entry(name).or_default();
            if number < *next {
                repeats += 1;
                continue;
            }
            assert_eq!(number, *next, "appender {name}: a record was passed by a later one");
            *next += 1;
        }
        for (name, appender) in appenders.iter().enumerate() {
            let told = &appender.told[&partition];
            for (value, offset) in told {
                assert_eq!(stored[usize::try_from(*offset).unwrap()].value, value.as_bytes());
            }
            assert!(watermarks[&name] >= told.len() as u64);
        }
        println!("partition {partition}: {} records, of which {repeats} repeats", stored.len());
        let calls: u64 = appenders.iter().map(|appender| appender.told[&partition].len() as u64 / 2).sum();
        let tries: u64 = appenders.iter().map(|appender| appender.tries).sum();
        assert!(tries > calls || repeats == 0, "nothing was tried again, so nothing is there twice");
    }
}

/// Runs three appenders while `meanwhile` does what it does; it can wait until so many more calls are acknowledged.
fn under_load(log: &KafkaLog, first_name: usize, meanwhile: impl FnOnce(&dyn Fn(u64))) -> Vec<Appender> {
    let stop = AtomicBool::new(false);
    let (acknowledge, acknowledged) = mpsc::channel();
    let go_on = |calls: u64| {
        // Those of before do not count.
        while acknowledged.try_recv().is_ok() {}
        for _ in 0..calls {
            acknowledged.recv_timeout(PATIENCE).expect("calls are acknowledged again");
        }
    };
    thread::scope(|scope| {
        let appenders: Vec<_> = (first_name..first_name + 3)
            .map(|name| {
                let (stop, acknowledge) = (&stop, acknowledge.clone());
                scope.spawn(move || append_until(log, name, stop, &acknowledge))
            })
            .collect();
        meanwhile(&go_on);
        stop.store(true, Ordering::Relaxed);
        appenders.into_iter().map(|appender| appender.join().unwrap()).collect()
    })
}

/// A reader that follows all the while, until it sees the last record.
fn follow(log: &KafkaLog, last: &'static str) -> thread::JoinHandle<Vec<StoredRecord>> {
    let mut reader = WaitingReader::new(log.reader(Topic::Inbox, 0, 0).unwrap());
    thread::spawn(move || {
        let mut records: Vec<StoredRecord> = Vec::new();
        while records.last().is_none_or(|record| &record.value[..] != last.as_bytes()) {
            assert!(reader.poll(64 * 1024, &mut records, PATIENCE).unwrap() > 0);
        }
        records
    })
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn each_broker_of_three_is_killed_and_comes_back() {
    const LAST: &str = "999:0000000";
    let brokers = Brokers::start("three", 3, 40, &[]);
    // Once with the patience of the default, once with so little that calls fail while a leader is missing.
    for (delivery_timeout_ms, killed) in [(30_000, vec![1]), (700, vec![2, 3])] {
        let log = broker::open(&KafkaConfig { delivery_timeout_ms, ..broker::settings(&brokers) });
        let follower = follow(&log, LAST);
        let mut appenders = Vec::new();
        for number in killed {
            let before = log.stats();
            let round = under_load(&log, appenders.len(), |go_on| {
                go_on(200);
                let killed = Instant::now();
                brokers.kill(number);
                go_on(200);
                println!("broker {number} killed: 200 more calls acknowledged within {:?}", killed.elapsed());
                brokers.restart(number);
                go_on(500);
            });
            let longest = round.iter().map(|appender| appender.longest).max().unwrap();
            let after = log.stats();
            println!(
                "delivery timeout {delivery_timeout_ms} ms: longest call {longest:?}, {} unknown, {} unavailable",
                after.refused_unknown_total - before.refused_unknown_total,
                after.refused_unavailable_total - before.refused_unavailable_total
            );
            appenders.extend(round);
        }
        check(&log, &appenders);
        append(&log, vec![record(Topic::Inbox, 0, LAST.to_owned())]).unwrap();
        assert_eq!(follower.join().unwrap(), read_all(&log, Topic::Inbox, 0), "who follows sees what is there");
    }
}

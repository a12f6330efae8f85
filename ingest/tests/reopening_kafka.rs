//! Readers of one partition opened and closed one after the other, as shards are that move: each is given what is there.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests, and they measure time"
)]

#[path = "support/broker.rs"]
mod broker;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings_ingest::{Log, NewRecord, Pace, WaitingReader};
use tidings_schemas::topics::Topic;

const PATIENCE: Duration = Duration::from_secs(30);

fn append(log: &dyn Log, count: usize) {
    let record = |number: usize| NewRecord {
        topic: Topic::Events,
        partition: u32::try_from(number % 2).unwrap(),
        key: Bytes::new(),
        value: format!("{number:0200}").into(),
    };
    let (answer, answered) = mpsc::channel();
    log.append_with((0..count).map(record).collect(), Box::new(move |result| answer.send(result).unwrap_or_default()));
    answered.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn a_partition_that_is_opened_again_at_once_is_read() {
    let brokers = broker::shared();
    let log: Arc<dyn Log> = Arc::new(broker::open(&broker::settings(brokers)));
    for _ in 0..20 {
        append(&*log, 1_000);
    }
    let end = log.range(Topic::Events, 0).unwrap().end;
    let mut longest = Duration::ZERO;
    for round in 0..150_u64 {
        let from = round * 37 % end;
        let started = Instant::now();
        let mut reader = WaitingReader::new(log.reader(Topic::Events, 0, from).unwrap());
        // Now and then it is closed before anything has come, or when only some has been taken.
        if round % 3 != 0 {
            let mut records = Vec::new();
            let count = reader.poll(if round % 2 == 0 { 1 } else { 1 << 20 }, &mut records, PATIENCE).unwrap();
            assert!(count > 0, "round {round}: nothing has come from offset {from}");
            assert_eq!(records[0].offset, from);
        }
        longest = longest.max(started.elapsed());
    }
    println!("the longest took {} ms", longest.as_millis());
}

/// What a consumer does not fetch any more comes by another.
#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn a_reader_of_a_deaf_consumer_gets_another() {
    let log = broker::open(&broker::settings(broker::shared()));
    append(&log, 100);
    let mut readers = [log.reader(Topic::Events, 0, 0), log.paced_reader(Pace::Patient, Topic::Events, 0, 0)]
        .map(|reader| WaitingReader::new(reader.unwrap()));
    let mut records = Vec::new();
    for reader in &mut readers {
        while reader.position() < 50 {
            reader.poll(1 << 20, &mut records, PATIENCE).unwrap();
        }
    }
    log.deafen();
    append(&log, 100);
    for reader in &mut readers {
        records.clear();
        while reader.position() < 100 {
            assert!(reader.poll(1 << 20, &mut records, PATIENCE).unwrap() > 0, "it stays silent");
        }
        assert!(records.iter().map(|record| record.offset).eq(50..100));
    }
    assert_eq!(log.stats().readers_moved_total, 2);
}

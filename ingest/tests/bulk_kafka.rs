//! A log on Kafka made from records that have their places and times already.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests, and one measures time"
)]

#[path = "support/broker.rs"]
mod broker;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use support::{append, record};
use tidings_ingest::{
    Bulk, BulkPlan, Groups, KafkaBulkLog, KafkaConfig, KafkaLog, Log, LogError, PartitionCounts, Retention,
    StoredRecord, WaitingReader,
};
use tidings_schemas::clock::{Clock, SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

const RECORDS: u64 = 5_000;
/// Beyond one batch of empty records.
const FAR: u64 = 450_123;

fn plan() -> BulkPlan {
    let starts = vec![(Topic::Inbox.name().to_owned(), 1, FAR), (Topic::Fanout.name().to_owned(), 0, 77)];
    BulkPlan { log_id: 42, partitions: PartitionCounts::default(), starts, origin: "a test".to_owned() }
}

/// Settings under which records that are years old are not dropped for that.
fn settings() -> KafkaConfig {
    let retention = Topic::ALL.iter().map(|topic| (topic.name().to_owned(), Retention::default())).collect();
    KafkaConfig { retention, ..broker::settings(broker::shared()) }
}

fn given(number: u64) -> StoredRecord {
    let value = Bytes::from(vec![u8::try_from(number % 251).unwrap(); usize::try_from(number % 300).unwrap()]);
    // The clock stands still, goes (many days in all), and steps back.
    let timestamp_ms =
        1_700_000_000_000 + i64::try_from(number / 3 * 100_000).unwrap() - i64::try_from(number % 7).unwrap();
    let key = if number.is_multiple_of(5) { Bytes::new() } else { Bytes::from(number.to_string()) };
    StoredRecord { offset: 0, timestamp_ms, key, value }
}

fn read_from(log: &dyn Log, topic: Topic, partition: u32, from: u64) -> Vec<StoredRecord> {
    let end = log.range(topic, partition).unwrap().end;
    let mut reader = WaitingReader::new(log.reader(topic, partition, from).unwrap());
    let mut records = Vec::new();
    while reader.position() < end {
        assert!(reader.poll(1 << 20, &mut records, support::PATIENCE).unwrap() > 0, "it stays silent");
    }
    records
}

fn start(config: &KafkaConfig, plan: BulkPlan) -> Result<Option<KafkaBulkLog>, LogError> {
    KafkaBulkLog::open(config, plan, Arc::new(SystemClock::new()), |_| {})
}

fn begun(config: &KafkaConfig) -> KafkaBulkLog {
    start(config, plan()).unwrap().unwrap()
}

/// All, or what comes before an interruption.
fn fill(log: &mut KafkaBulkLog, records: u64) {
    for number in 0..records {
        assert_eq!(log.append(Topic::Events, 0, &given(number)).unwrap(), number);
        assert_eq!(log.append(Topic::Inbox, 1, &given(number)).unwrap(), FAR + number);
    }
}

/// Waits until so many records of `events` are there, whatever is still on its way.
fn until_written(config: &KafkaConfig, records: u64) {
    let mut client = ClientConfig::new();
    let asking: BaseConsumer = client.set("bootstrap.servers", &config.brokers).create().unwrap();
    let (topic, deadline) = (config.topic_name(Topic::Events), Instant::now() + support::PATIENCE);
    loop {
        let (_, end) = asking.fetch_watermarks(&topic, 0, support::PATIENCE).unwrap();
        if u64::try_from(end).unwrap() >= records {
            return;
        }
        assert!(Instant::now() < deadline, "{end} of {records} records");
    }
}

fn check(config: &KafkaConfig) {
    let log = broker::open(config);
    assert_eq!(log.log_id(), 42);
    for (topic, partition, start) in [(Topic::Events, 0, 0), (Topic::Inbox, 1, FAR)] {
        let records = read_from(&log, topic, partition, start);
        assert_eq!(records.len() as u64, RECORDS);
        for (number, record) in (0..).zip(records) {
            assert_eq!(record, StoredRecord { offset: start + number, ..given(number) });
        }
        assert_eq!(log.range(topic, partition).unwrap().start, start);
        let before_ms = SystemClock::new().now_ms() - 60_000;
        assert_eq!(append(&log, vec![record(topic, partition, "next")]).unwrap(), [start + RECORDS]);
        let next = read_from(&log, topic, partition, start + RECORDS);
        assert!(next[0].timestamp_ms > before_ms, "the log's clock is back: {next:?}");
    }
    let empty = log.range(Topic::Fanout, 0).unwrap();
    assert_eq!((empty.start, empty.end), (77, 77));
    drop(log);
    assert_eq!(KafkaLog::open_to_read(config).unwrap().log_id(), 42);
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn it_is_a_log_like_any_other() {
    let config = settings();
    let mut log = begun(&config);
    fill(&mut log, RECORDS);
    log.finish().unwrap();
    check(&config);
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn an_interrupted_attempt_is_gone_on_with_and_is_no_log() {
    let config = settings();
    assert_eq!(KafkaBulkLog::unfinished(&config).unwrap(), None);
    let mut kept = 0;
    for records in [0, 10, 2_000, 4_000] {
        let mut log = begun(&config);
        assert!(log.kept() >= kept);
        kept = log.kept();
        fill(&mut log, records);
        // What is on its way when it ends is there in part, or not.
        until_written(&config, records / 4);
        drop(log);
        let opened = KafkaLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        for opened in [opened, KafkaLog::open_to_read(&config)] {
            let Err(error) = opened else { panic!("it is no log yet") };
            assert!(error.to_string().contains("was not finished"), "{error}");
        }
    }
    assert_eq!(KafkaBulkLog::unfinished(&config).unwrap(), Some(plan()));
    let mut log = begun(&config);
    println!("{} records were kept", log.kept());
    assert!(log.kept() >= 1_000, "what was written is kept: {}", log.kept());
    fill(&mut log, RECORDS);
    log.finish().unwrap();
    check(&config);
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn a_log_other_topics_and_another_plan_are_refused() {
    let config = settings();
    drop(begun(&config));
    let other = BulkPlan { origin: "another".to_owned(), ..plan() };
    let Err(error) = start(&config, other) else { panic!("it is another's") };
    assert!(error.to_string().contains("something else"), "{error}");
    begun(&config).finish().unwrap();
    assert_eq!(KafkaBulkLog::unfinished(&config).unwrap(), None);
    let Err(error) = start(&config, plan()) else { panic!("there is a log") };
    assert!(error.to_string().contains("already"), "{error}");
    let config =
        KafkaConfig { partitions: Some(PartitionCounts { edges: 7, ..PartitionCounts::default() }), ..settings() };
    assert!(matches!(start(&config, plan()), Err(LogError::Mismatch { .. })));
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn whoever_else_writes_is_noticed_and_so_is_what_an_attempt_before_did_not_write() {
    let write = |config: &KafkaConfig| {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &config.brokers);
        let producer: BaseProducer = client.create().unwrap();
        let topic = config.topic_name(Topic::Events);
        producer.send(BaseRecord::<[u8], [u8]>::to(&topic).partition(0).payload(b"not the copy's")).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
    };
    let config = settings();
    let mut log = begun(&config);
    write(&config);
    let appended = log.append(Topic::Events, 0, &given(1)).and_then(|_| log.finish());
    let error = appended.unwrap_err();
    assert!(error.to_string().contains("somebody else writes there"), "{error}");

    let config = settings();
    drop(begun(&config));
    write(&config);
    let mut log = begun(&config);
    assert_eq!(log.kept(), 1);
    log.append(Topic::Events, 0, &given(1)).unwrap();
    let error = log.finish().unwrap_err();
    assert!(error.to_string().contains("does not hold what was written"), "{error}");
    assert!(KafkaLog::open_to_read(&config).is_err(), "it is no log");
}

/// What docs/KAFKA.md says.
#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn a_partition_that_begins_far_beyond_0_takes_a_while() {
    let offsets: u64 = std::env::var("TIDINGS_TEST_FAR").map_or(2_000_000, |far| far.parse().unwrap());
    let starts =
        vec![(Topic::Events.name().to_owned(), 0, offsets / 2), (Topic::Timeline.name().to_owned(), 1, offsets / 2)];
    let (config, since) = (settings(), Instant::now());
    let mut filled = 0;
    let log = KafkaBulkLog::open(&config, BulkPlan { starts, ..plan() }, Arc::new(SystemClock::new()), |count| {
        filled += count;
    });
    let took = since.elapsed();
    log.unwrap().unwrap().finish().unwrap();
    println!("{filled} offsets in {took:?}");
    assert_eq!(filled, offsets);
    let range = broker::open(&config).range(Topic::Events, 0).unwrap();
    assert_eq!((range.start, range.end), (offsets / 2, offsets / 2));
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn a_log_says_who_is_at_work_on_it_and_can_be_deleted() {
    let config = settings();
    assert_eq!(KafkaLog::topics(&config).unwrap(), Vec::<String>::new());
    drop(begun(&config));
    assert_eq!(KafkaLog::delete(&config).unwrap().len(), Topic::ALL.len() + 1, "all but the identity, and the plan");
    assert_eq!(KafkaBulkLog::unfinished(&config).unwrap(), None);
    begun(&config).finish().unwrap();
    let log = broker::open(&config);
    assert_eq!(KafkaLog::members(&config).unwrap(), Vec::new());
    let member = log.join("workers", &[Topic::Events]).unwrap();
    let deadline = Instant::now() + support::PATIENCE;
    while KafkaLog::members(&config).unwrap() != [("workers".to_owned(), 1)] {
        assert!(Instant::now() < deadline, "{:?}", KafkaLog::members(&config));
    }
    drop((member, log));
    assert_eq!(KafkaLog::delete(&config).unwrap().len(), Topic::ALL.len() + 1);
    assert_eq!(KafkaLog::topics(&config).unwrap(), Vec::<String>::new());
    begun(&config).finish().unwrap();
}

//! What one hop through the log takes, embedded and on Kafka in the same run:
//! `cargo bench -p tidings-ingest --bench hops -- --kafka 127.0.0.1:9092 [--seconds N] [--only TEXT] [--append-interval-us N] [--json]`.
//!
//! From the moment a record is due until it is acknowledged, and until a reader that was asleep has it; alone and as the
//! stages append (one call for several partitions, with `deliveries` last); how much goes through; and what opening a
//! reader and catching up take. Without `--kafka` only the embedded log is measured.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark: real time, and it prints"
)]

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, KafkaConfig, KafkaLog, Log, NewRecord, WaitingReader};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

const VALUE_BYTES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after =
        |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default| after(name).map_or(default, |text| text.parse().unwrap());
    let duration = Duration::from_secs(number("--seconds", 5));
    let only = after("--only");
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let config = EmbeddedConfig { directory: folder.path().join("log"), ..EmbeddedConfig::default() };
    let embedded = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
    let mut logs: Vec<(&str, Arc<dyn Log>)> = vec![("embedded", Arc::new(embedded))];
    if let Some(brokers) = after("--kafka") {
        let config = KafkaConfig {
            brokers: brokers.clone(),
            topic_prefix: format!("bench{}.", std::process::id()),
            append_interval_us: u32::try_from(number("--append-interval-us", 2_000)).unwrap(),
            fetch_wait_ms: u32::try_from(number("--fetch-wait-ms", 100)).unwrap(),
            ..KafkaConfig::default()
        };
        let kafka = KafkaLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
        logs.push(("kafka", Arc::new(kafka)));
    }
    let mut results = Vec::new();
    for (name, log) in logs {
        let mut show = |what: &str, measure: &dyn Fn() -> Value| {
            if only.is_some_and(|only| !what.contains(only.as_str()) && !name.contains(only.as_str())) {
                return;
            }
            let mut result = measure();
            (result["log"], result["what"]) = (name.into(), what.into());
            if !as_json {
                println!("{}", line(&result));
            }
            results.push(result);
        };
        for rate in [200, 2_000, 10_000] {
            show(&format!("one record, {rate}/s"), &|| hops(&log, duration, rate, &[Topic::Events]));
        }
        let stage = [Topic::Timeline, Topic::Fanout, Topic::Deliveries];
        show("as a stage appends, 200/s", &|| hops(&log, duration, 200, &stage));
        show("as a stage appends, 2000/s", &|| hops(&log, duration, 2_000, &stage));
        show("200 calls in flight", &|| windows(&log, duration, 200));
        show("2000 calls in flight", &|| windows(&log, duration, 2_000));
        show("a reader opened", &|| open_readers(&log));
        show("catching up", &|| catch_up(&log));
    }
    if as_json {
        println!("{}", serde_json::to_string_pretty(&results).unwrap());
    }
}

fn line(result: &Value) -> String {
    let text = |name: &str| result[name].as_str().unwrap().to_owned();
    let figures = result.as_object().unwrap().iter().filter_map(|(name, figure)| {
        let figure = figure.as_f64()?;
        Some(if figure >= 100.0 { format!("{name} {figure:.0}") } else { format!("{name} {figure:.2}") })
    });
    format!("{:9} {:28} {}", text("log"), text("what"), figures.collect::<Vec<_>>().join(" · "))
}

fn record(topic: Topic, number: u64) -> NewRecord {
    let mut value = vec![b'v'; VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    NewRecord { topic, partition: 0, key: Bytes::new(), value: value.into() }
}

fn percentiles(name: &str, mut latencies: Vec<Duration>, into: &mut Value) {
    latencies.sort_unstable();
    for (percentile, label) in [(50, "p50"), (90, "p90"), (99, "p99")] {
        let at = (latencies.len() * percentile / 100).min(latencies.len() - 1);
        into[format!("{name}_ms_{label}")] = (latencies[at].as_secs_f64() * 1e3).into();
    }
}

/// `rate` calls a second, each due at its moment whatever became of those before; a reader of the last of the topics
/// sleeps in between.
fn hops(log: &Arc<dyn Log>, duration: Duration, rate: u64, topics: &[Topic]) -> Value {
    let last = *topics.last().unwrap();
    let count = rate * duration.as_secs();
    let from = log.range(last, 0).unwrap().end;
    let mut reader = WaitingReader::new(log.reader(last, 0, from).unwrap());
    // The reader is part of a fetch before it counts.
    let (answer, answered) = mpsc::channel();
    log.append_with(
        topics.iter().map(|topic| record(*topic, u64::MAX)).collect(),
        Box::new(move |result| answer.send(result.is_ok()).unwrap()),
    );
    assert!(answered.recv().unwrap());
    assert!(reader.poll(usize::MAX, &mut Vec::new(), PATIENCE).unwrap() > 0);
    let started = Instant::now() + Duration::from_millis(20);
    let due = move |number: u64| started + Duration::from_nanos(1_000_000_000 / rate) * u32::try_from(number).unwrap();
    let readable = thread::spawn(move || {
        let (mut latencies, mut records) = (Vec::new(), Vec::new());
        while latencies.len() < usize::try_from(count).unwrap() {
            records.clear();
            assert!(reader.poll(64 * 1024, &mut records, PATIENCE).unwrap() > 0);
            let now = Instant::now();
            for record in &records {
                let number = u64::from_le_bytes(record.value[..8].try_into().unwrap());
                latencies.push(now.saturating_duration_since(due(number)));
            }
        }
        latencies
    });
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for number in 0..count {
        thread::sleep(due(number).saturating_duration_since(Instant::now()));
        let acknowledged = Arc::clone(&acknowledged);
        let on_appended = move |result: Result<Vec<u64>, _>| {
            result.unwrap();
            acknowledged.lock().unwrap().push(Instant::now().saturating_duration_since(due(number)));
        };
        log.append_with(topics.iter().map(|topic| record(*topic, number)).collect(), Box::new(on_appended));
    }
    let mut result = json!({});
    percentiles("readable", readable.join().unwrap(), &mut result);
    let (answer, answered) = mpsc::channel();
    log.append_with(Vec::new(), Box::new(move |_| answer.send(()).unwrap()));
    answered.recv().unwrap();
    let latencies = std::mem::take(&mut *acknowledged.lock().unwrap());
    percentiles("acknowledged", latencies, &mut result);
    result
}

/// As much as goes through with so many calls in flight, over two partitions.
fn windows(log: &Arc<dyn Log>, duration: Duration, window: usize) -> Value {
    let (answer, answered) = mpsc::channel();
    let (started, mut sent, mut done, mut in_flight) = (Instant::now(), 0_u64, 0_u64, 0);
    loop {
        while in_flight < window && started.elapsed() < duration {
            let answer = answer.clone();
            let record = NewRecord { partition: u32::from(sent % 2 == 1), ..record(Topic::Events, sent) };
            log.append_with(vec![record], Box::new(move |result| answer.send(result.is_ok()).unwrap_or_default()));
            (sent, in_flight) = (sent + 1, in_flight + 1);
        }
        if in_flight == 0 {
            return json!({ "records_per_second": done as f64 / started.elapsed().as_secs_f64() });
        }
        assert!(answered.recv().unwrap());
        (done, in_flight) = (done + 1, in_flight - 1);
    }
}

/// From the call that opens a reader to its first record, while other readers wait.
fn open_readers(log: &Arc<dyn Log>) -> Value {
    let _other = WaitingReader::new(log.reader(Topic::Signals, 0, 0).unwrap());
    let mut latencies = Vec::new();
    for _ in 0..40 {
        let started = Instant::now();
        let mut reader = WaitingReader::new(log.reader(Topic::Events, 0, 0).unwrap());
        assert!(reader.poll(1, &mut Vec::new(), PATIENCE).unwrap() > 0);
        latencies.push(started.elapsed());
    }
    let mut result = json!({});
    percentiles("first_record", latencies, &mut result);
    result
}

/// Everything in a partition, from its start.
fn catch_up(log: &Arc<dyn Log>) -> Value {
    let end = log.range(Topic::Events, 0).unwrap().end;
    let started = Instant::now();
    let mut reader = WaitingReader::new(log.reader(Topic::Events, 0, 0).unwrap());
    let mut records = Vec::new();
    while reader.position() < end {
        records.clear();
        assert!(reader.poll(512 * 1024, &mut records, PATIENCE).unwrap() > 0);
    }
    let seconds = started.elapsed().as_secs_f64();
    json!({ "records_per_second": end as f64 / seconds, "mib_per_second": (end * VALUE_BYTES as u64) as f64 / seconds / 1048576.0 })
}

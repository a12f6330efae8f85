//! How fast the embedded log is on this machine: `cargo bench -p tidings-ingest [-- --json] [-- --seconds N]`.
//!
//! Throughput of 200-byte records from many concurrent appenders, beside the disk itself (write + fdatasync of batches
//! of the same size) and fjall; the latency of paced appends; reading from memory and from files.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark: real time, and it prints"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, LogExt, NewRecord};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 184;
const RECORD_BYTES: usize = KEY_BYTES + VALUE_BYTES;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().position(|argument| argument == name).map(|at| at + 1);
    let seconds = after("--seconds").and_then(|at| arguments.get(at)?.parse().ok()).unwrap_or(5);
    let duration = Duration::from_secs(seconds);
    let only = after("--only").and_then(|at| arguments.get(at));
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let folder =
        tempfile::tempdir_in(std::env::var_os("TIDINGS_BENCH_DIR").unwrap_or_else(|| "/var/tmp".into())).unwrap();
    let mut results: Vec<Value> = Vec::new();
    let mut run = |name: &str, measure: &mut dyn FnMut(&Path) -> Value| {
        if only.is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        let directory = folder.path().join(name.replace(' ', "-"));
        std::fs::create_dir_all(&directory).unwrap();
        let mut result = measure(&directory);
        result["what"] = name.into();
        if !as_json {
            println!("{}", line(&result));
        }
        results.push(result);
        std::fs::remove_dir_all(&directory).unwrap();
    };
    run("windows", &mut |directory| windows(directory, duration, 2, 2_000, 1));
    run("windows in calls of 20", &mut |directory| windows(directory, duration, 2, 200, 20));
    run("tasks", &mut |directory| tasks(directory, duration, 1_000));
    run("one by one", &mut |directory| windows(directory, duration, 1, 1, 1));
    for batch in [1, 500, 2_000] {
        run(&format!("raw write+fdatasync of {batch}"), &mut |directory| raw(directory, duration, batch));
        run(&format!("fjall batches of {batch}"), &mut |directory| fjall(directory, duration, batch));
    }
    run("latency at 5000 a second", &mut |directory| paced(directory, duration, 5_000));
    run("latency at 50000 a second", &mut |directory| paced(directory, duration, 50_000));
    run("read from memory", &mut |directory| read(directory, 1_000_000, true));
    run("read from files", &mut |directory| read(directory, 2_000_000, false));
    if as_json {
        println!("{}", serde_json::to_string_pretty(&results).unwrap());
    }
}

fn line(result: &Value) -> String {
    let object = result.as_object().unwrap();
    let figures = object.iter().filter(|(name, _)| *name != "what").map(|(name, figure)| match figure.as_f64() {
        Some(number) if number >= 100.0 => format!("{name} {number:.0}"),
        Some(number) => format!("{name} {number:.2}"),
        None => format!("{name} {figure}"),
    });
    format!("{:32} {}", result["what"].as_str().unwrap(), figures.collect::<Vec<_>>().join(" · "))
}

fn open(directory: &Path, set: impl FnOnce(&mut EmbeddedConfig)) -> Arc<EmbeddedLog> {
    let mut config = EmbeddedConfig { directory: directory.join("log"), ..EmbeddedConfig::default() };
    set(&mut config);
    Arc::new(EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap())
}

fn new_record(number: u64) -> NewRecord {
    static VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&number.to_le_bytes());
    let value = Bytes::copy_from_slice(&VALUE);
    NewRecord { topic: Topic::Events, partition: (number % 2) as u32, key: Bytes::copy_from_slice(&key), value }
}

/// What the log and the process did while records were appended.
fn appended(log: &EmbeddedLog, records: u64, took: Duration, cpu: Duration) -> Value {
    let stats = log.stats();
    json!({
        "records_per_second": records as f64 / took.as_secs_f64(),
        "records_per_commit": stats.records_total as f64 / stats.commits_total as f64,
        "commit_us_mean": stats.commit_latency_us_sum as f64 / stats.commits_total as f64,
        "cpu_us_per_record": cpu.as_micros() as f64 / records as f64,
    })
}

/// CPU time of this process, of all threads (from /proc, in ticks of 10 ms).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>();
    Duration::from_millis(ticks * 10)
}

/// `threads` appenders, each with `window` calls of `batch` records in flight.
fn windows(directory: &Path, duration: Duration, threads: u64, window: usize, batch: u64) -> Value {
    let log = open(directory, |_| {});
    let (started, cpu, sent) = (Instant::now(), cpu_time(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (answer, answered) = mpsc::channel();
                let mut in_flight = 0;
                while started.elapsed() < duration {
                    while in_flight < window {
                        let first = sent.fetch_add(batch, Ordering::Relaxed);
                        let answer = answer.clone();
                        let records = (first..first + batch).map(new_record).collect();
                        log.append_with(
                            records,
                            Box::new(move |result| answer.send(result.is_ok()).unwrap_or_default()),
                        );
                        in_flight += 1;
                    }
                    assert!(answered.recv().unwrap());
                    in_flight -= 1;
                    while let Ok(fine) = answered.try_recv() {
                        assert!(fine);
                        in_flight -= 1;
                    }
                }
                for _ in 0..in_flight {
                    assert!(answered.recv().unwrap());
                }
            });
        }
    });
    appended(&log, sent.into_inner(), started.elapsed(), cpu_time() - cpu)
}

/// `count` async tasks, each of which appends one record and waits, over and over.
fn tasks(directory: &Path, duration: Duration, count: u64) -> Value {
    let log = open(directory, |_| {});
    let (started, cpu, sent) = (Instant::now(), cpu_time(), Arc::new(AtomicU64::new(0)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let (log, sent) = (Arc::clone(&log), Arc::clone(&sent));
                tokio::spawn(async move {
                    while started.elapsed() < duration {
                        let number = sent.fetch_add(1, Ordering::Relaxed);
                        log.append(vec![new_record(number)]).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    appended(&log, sent.load(Ordering::Relaxed), started.elapsed(), cpu_time() - cpu)
}

/// What the disk itself does: batches of the same bytes, written and synced, round and round in a file that is written.
fn raw(directory: &Path, duration: Duration, batch: u64) -> Value {
    const FILE_BYTES: usize = 64 * 1024 * 1024;
    let file = File::options().create_new(true).read(true).write(true).open(directory.join("raw")).unwrap();
    file.write_all_at(&vec![1; FILE_BYTES], 0).unwrap();
    file.sync_all().unwrap();
    let bytes = vec![7; (batch as usize * (RECORD_BYTES + 8)).next_multiple_of(4096)];
    let (started, mut batches, mut position) = (Instant::now(), 0_u64, 0);
    while started.elapsed() < duration {
        if position + bytes.len() > FILE_BYTES {
            position = 0;
        }
        file.write_all_at(&bytes, position as u64).unwrap();
        file.sync_data().unwrap();
        position += bytes.len();
        batches += 1;
    }
    let took = started.elapsed().as_secs_f64();
    json!({
        "records_per_second": (batches * batch) as f64 / took,
        "commit_us_mean": took * 1e6 / batches as f64,
    })
}

/// fjall, in batches of the same size by one writer, synced after each.
fn fjall(directory: &Path, duration: Duration, batch: u64) -> Value {
    let database = fjall::Database::builder(directory.join("fjall")).open().unwrap();
    let keyspace = database.keyspace("log", fjall::KeyspaceCreateOptions::default).unwrap();
    let (started, cpu, mut offset) = (Instant::now(), cpu_time(), 0_u64);
    while started.elapsed() < duration {
        let mut writes = database.batch().durability(Some(fjall::PersistMode::SyncData));
        for _ in 0..batch {
            let record = new_record(offset);
            let mut value = Vec::with_capacity(RECORD_BYTES);
            value.extend_from_slice(&record.key);
            value.extend_from_slice(&record.value);
            writes.insert(&keyspace, offset.to_be_bytes(), value);
            offset += 1;
        }
        writes.commit().unwrap();
    }
    let took = started.elapsed().as_secs_f64();
    json!({
        "records_per_second": offset as f64 / took,
        "commit_us_mean": took * 1e6 / (offset / batch) as f64,
        "cpu_us_per_record": (cpu_time() - cpu).as_micros() as f64 / offset as f64,
    })
}

/// One record at each tick, whether or not those before are acknowledged; the time from the tick to the acknowledgement.
fn paced(directory: &Path, duration: Duration, rate: u64) -> Value {
    let log = open(directory, |_| {});
    let count = rate * duration.as_secs();
    let (answer, answered) = mpsc::channel();
    let (started, cpu) = (Instant::now(), cpu_time());
    for number in 0..count {
        let due = started + Duration::from_nanos(number * 1_000_000_000 / rate);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        let answer = answer.clone();
        let on_appended = move |result: Result<_, _>| {
            result.unwrap();
            answer.send(due.elapsed()).unwrap_or_default();
        };
        log.append_with(vec![new_record(number)], Box::new(on_appended));
    }
    drop(answer);
    let mut latencies: Vec<Duration> = answered.iter().collect();
    latencies.sort_unstable();
    let us = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1e3;
    let stats = log.stats();
    json!({
        "p50_us": us(0.5),
        "p99_us": us(0.99),
        "max_us": us(1.0),
        "records_per_commit": count as f64 / stats.commits_total as f64,
        "cpu_us_per_record": (cpu_time() - cpu).as_micros() as f64 / count as f64,
    })
}

/// One reader from the start to the end of a partition: while it is all in memory, or after it is all in files.
fn read(directory: &Path, count: u64, from_memory: bool) -> Value {
    let log = open(directory, |config| {
        config.tail_cache_bytes_max = if from_memory { 1024 * 1024 * 1024 } else { 0 };
    });
    let (answer, answered) = mpsc::channel();
    for first in (0..count).step_by(1_000) {
        let record = |number| NewRecord { partition: 0, ..new_record(number) };
        let answer = answer.clone();
        let on_appended = move |result: Result<_, _>| answer.send(result.is_ok()).unwrap_or_default();
        log.append_with((first..first + 1_000).map(record).collect(), Box::new(on_appended));
        assert!(answered.recv().unwrap());
    }
    let log = if from_memory {
        log
    } else {
        // The segment being filled is split when the log is opened again.
        drop(log);
        let log = open(directory, |config| config.tail_cache_bytes_max = 0);
        log.maintain().unwrap();
        log
    };
    let started = Instant::now();
    let mut reader = log.reader(Topic::Events, 0, 0).unwrap();
    let (mut records, mut seen) = (Vec::new(), 0);
    while reader.position() < count {
        reader.poll(1024 * 1024, &mut records).unwrap();
        seen += records.len() as u64;
        records.clear();
    }
    assert_eq!(seen, count);
    let took = started.elapsed().as_secs_f64();
    json!({
        "records_per_second": count as f64 / took,
        "mib_per_second": (count as usize * RECORD_BYTES) as f64 / took / 1024.0 / 1024.0,
    })
}

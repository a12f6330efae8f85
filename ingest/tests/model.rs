//! The embedded log against an obviously right model (a list for each partition), under random appends, reopenings,
//! splits, retention, power losses and failing disks. `TIDINGS_SEED` repeats a run's choices, `TIDINGS_MODEL_RUNS` sets how
//! many runs.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use bytes::Bytes;
use support::disk::{Operation, SimulatedDisk};
use support::{PATIENCE, Random, TestClock, read_from};
use tidings_ingest::embedded::config::Retention;
use tidings_ingest::{AppendError, EmbeddedConfig, EmbeddedLog, Log, NewRecord};
use tidings_schemas::clock::SystemEntropy;
use tidings_schemas::topics::Topic;

type Where = (Topic, u32);

const WHERE: [Where; 5] =
    [(Topic::Events, 0), (Topic::Events, 1), (Topic::Signals, 0), (Topic::Inbox, 1), (Topic::Directory, 0)];

struct Run {
    random: Random,
    disk: SimulatedDisk,
    clock: Arc<TestClock>,
    config: EmbeddedConfig,
    log: Option<EmbeddedLog>,
    /// What is acknowledged, from offset 0 on.
    model: BTreeMap<Where, Vec<Bytes>>,
    /// What the log said was perhaps written, and no later commit has ruled out.
    unknown: Vec<Vec<NewRecord>>,
    answer: Sender<(u64, Result<Vec<u64>, AppendError>)>,
    answered: Receiver<(u64, Result<Vec<u64>, AppendError>)>,
    in_flight: BTreeMap<u64, Vec<NewRecord>>,
    next_call: u64,
    refused: u64,
    resurrected: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let retention = Retention { age_seconds: Some(60), partition_bytes: None };
        let small = Retention { age_seconds: None, partition_bytes: Some(10_000) };
        let config = EmbeddedConfig {
            directory: PathBuf::from("/log"),
            journal_segment_bytes: random.pick(&[16 * 1024, 64 * 1024, 512 * 1024]),
            partition_segment_bytes: random.pick(&[1_000, 64_000, 1_000_000]),
            tail_cache_bytes_max: random.pick(&[0, 10_000, 1_000_000]),
            retention: [(Topic::Signals, retention), (Topic::Inbox, small)]
                .map(|(topic, retention)| (topic.name().to_owned(), retention))
                .into(),
            ..EmbeddedConfig::default()
        };
        let (answer, answered) = mpsc::channel();
        let mut run = Self {
            disk: SimulatedDisk::new(random.next()),
            random,
            clock: Arc::new(TestClock::new()),
            config,
            log: None,
            model: WHERE.map(|place| (place, Vec::new())).into(),
            unknown: Vec::new(),
            answer,
            answered,
            in_flight: BTreeMap::new(),
            next_call: 0,
            refused: 0,
            resurrected: 0,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        let disk = Arc::new(self.disk.clone());
        let clock: Arc<TestClock> = Arc::clone(&self.clock);
        self.log = Some(EmbeddedLog::open_on(disk, &self.config, clock, Arc::new(SystemEntropy)).unwrap());
    }

    fn log(&self) -> &EmbeddedLog {
        self.log.as_ref().unwrap()
    }

    fn send(&mut self) {
        let count = self.random.pick(&[1, 1, 2, 7]);
        let records: Vec<NewRecord> = (0..count)
            .map(|index| {
                let (topic, partition) = self.random.pick(&WHERE);
                let mut value = format!("{}:{index}:", self.next_call).into_bytes();
                let length = self.random.pick(&[0, 20, 200, 5_000]);
                value.resize(value.len() + length, b'.');
                NewRecord { topic, partition, key: Bytes::new(), value: value.into() }
            })
            .collect();
        let (call, answer) = (self.next_call, self.answer.clone());
        self.next_call += 1;
        self.in_flight.insert(call, records.clone());
        self.log().append_with(records, Box::new(move |result| answer.send((call, result)).unwrap_or_default()));
    }

    fn take_answers(&mut self) {
        while !self.in_flight.is_empty() {
            let (call, result) = self.answered.recv_timeout(PATIENCE).unwrap();
            let records = self.in_flight.remove(&call).unwrap();
            match result {
                Ok(offsets) => {
                    self.unknown.clear();
                    for (record, offset) in records.into_iter().zip(offsets) {
                        let model = self.model.get_mut(&(record.topic, record.partition)).unwrap();
                        assert_eq!(offset, model.len() as u64, "offsets follow on");
                        model.push(record.value);
                    }
                }
                Err(AppendError::Unknown { .. }) => self.unknown.push(records),
                Err(AppendError::Unavailable { .. }) => self.refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What is in the log is what the model has; after a restart, also what was perhaps written, whole.
    fn check(&mut self, restarted: bool) {
        let groups = (0..self.unknown.len()).flat_map(|from| (from + 1..=self.unknown.len()).map(move |to| from..to));
        let mut extras: Vec<BTreeMap<Where, Vec<Bytes>>> = vec![BTreeMap::new()];
        if restarted {
            extras.extend(groups.map(|group| {
                let mut extra: BTreeMap<Where, Vec<Bytes>> = BTreeMap::new();
                for record in self.unknown[group].iter().flatten() {
                    extra.entry((record.topic, record.partition)).or_default().push(record.value.clone());
                }
                extra
            }));
        }
        for (place, model) in &mut self.model {
            let log = self.log.as_ref().unwrap();
            let range = log.range(place.0, place.1).unwrap();
            let stored = read_from(log, place.0, place.1, range.start);
            assert!(range.end >= model.len() as u64, "{place:?}: acknowledged records are gone, {range:?}");
            if place.0 != Topic::Signals && place.0 != Topic::Inbox {
                assert_eq!(range.start, 0, "{place:?} has no retention");
            }
            // Retention may have dropped records beyond the acknowledged ones, too: these go by their number alone.
            extras.retain(|extra| {
                let expected = model.iter().chain(extra.get(place).into_iter().flatten());
                let first = stored.first().map_or(range.end, |record| record.offset);
                let kept: Vec<&Bytes> = expected.skip(usize::try_from(first).unwrap()).collect();
                let all = model.len() + extra.get(place).map_or(0, Vec::len);
                all as u64 == range.end && kept.into_iter().eq(stored.iter().map(|record| &record.value))
            });
            assert!(
                !extras.is_empty(),
                "{place:?}: neither the acknowledged records nor these and one whole commit more"
            );
        }
        let extra = extras.swap_remove(0);
        self.resurrected += u64::from(!extra.is_empty());
        for (place, values) in extra {
            self.model.get_mut(&place).unwrap().extend(values);
        }
    }

    fn restart(&mut self) {
        self.take_answers();
        self.open();
        self.check(true);
        self.unknown.clear();
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..40 => {
                self.send();
                self.take_answers();
            }
            40..60 => {
                for _ in 0..self.random.below(30) {
                    self.send();
                }
                if self.random.once_in(2) {
                    self.take_answers();
                }
            }
            60..66 => {
                let operations = [
                    Operation::Create,
                    Operation::Rename,
                    Operation::Remove,
                    Operation::SyncDirectory,
                    Operation::Write,
                    Operation::Sync,
                    Operation::Allocate,
                ];
                let some: Vec<_> =
                    operations.into_iter().filter(|_| self.random.once_in(3)).map(|one| (one, 2)).collect();
                self.disk.fail(&some);
            }
            66..76 => self.disk.fail(&[]),
            76..82 => {
                // Fails if the disk does.
                let _ = self.log().maintain();
            }
            82..86 => self.clock.advance_ms(40_000),
            86..92 => {
                self.take_answers();
                self.check(false);
            }
            92..95 => {
                self.disk.fail(&[]);
                self.log = None;
                self.restart();
            }
            _ => {
                let disk = self.disk.lose_power();
                // What it still tries to write fails; its callers are told so.
                self.log = None;
                self.disk = disk;
                self.restart();
            }
        }
    }
}

#[test]
fn the_log_is_what_the_model_says_through_power_losses_and_failing_disks() {
    let seed = support::seed();
    let runs = support::setting("TIDINGS_MODEL_RUNS", 120);
    let (mut records, mut refused, mut resurrected) = (0, 0, 0);
    for number in 0..runs {
        println!("run {number}: seed {}", seed.wrapping_add(number));
        let mut run = Run::new(seed.wrapping_add(number));
        for _ in 0..150 {
            run.step();
        }
        run.disk.fail(&[]);
        run.take_answers();
        run.check(false);
        records += run.model.values().map(Vec::len).sum::<usize>();
        refused += run.refused;
        resurrected += run.resurrected;
    }
    println!("{records} records, {refused} calls refused, {resurrected} unknown ones found after a restart");
    assert!(records > 0 && refused > 0);
}

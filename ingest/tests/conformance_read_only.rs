//! A log that another writes, read beside it, does what every log must: with files as configured, and with tiny ones that
//! are filled, split and used again while it reads.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use tempfile::TempDir;
use tidings_ingest::conformance::Fixture;
use tidings_ingest::log::OnAppended;
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log, LogError, LogReader, NewRecord, OffsetRange, ReadOnlyLog};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

/// Appends through one, reads through the other.
struct Beside {
    writer: EmbeddedLog,
    reader: ReadOnlyLog,
}

impl Log for Beside {
    fn log_id(&self) -> u128 {
        assert_eq!(self.reader.log_id(), self.writer.log_id());
        self.reader.log_id()
    }

    fn partitions(&self, topic: Topic) -> u32 {
        self.reader.partitions(topic)
    }

    fn append_with(&self, records: Vec<NewRecord>, on_appended: OnAppended) {
        self.writer.append_with(records, on_appended);
    }

    fn range(&self, topic: Topic, partition: u32) -> Result<OffsetRange, LogError> {
        self.reader.range(topic, partition)
    }

    fn reader(&self, topic: Topic, partition: u32, from: u64) -> Result<Box<dyn LogReader>, LogError> {
        self.reader.reader(topic, partition, from)
    }
}

struct ReadBeside {
    config: EmbeddedConfig,
    log: Option<Arc<Beside>>,
    _directory: TempDir,
}

impl ReadBeside {
    fn new(set: impl FnOnce(&mut EmbeddedConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = EmbeddedConfig { directory: directory.path().join("log"), ..EmbeddedConfig::default() };
        set(&mut config);
        let mut fixture = Self { config, log: None, _directory: directory };
        fixture.reopen();
        fixture
    }
}

impl Fixture for ReadBeside {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone().unwrap()
    }

    fn reopen(&mut self) {
        self.log = None;
        let writer = EmbeddedLog::open(&self.config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
        let reader = ReadOnlyLog::open(&self.config.directory).unwrap();
        self.log = Some(Arc::new(Beside { writer, reader }));
    }
}

mod as_configured {
    fn make() -> super::ReadBeside {
        super::ReadBeside::new(|config| config.journal_segment_bytes = 8 * 1024 * 1024)
    }

    tidings_ingest::conformance_tests!(make);
}

mod with_tiny_files {
    fn make() -> super::ReadBeside {
        super::ReadBeside::new(|config| {
            config.journal_segment_bytes = 32 * 1024;
            config.partition_segment_bytes = 2 * 1024;
            config.tail_cache_bytes_max = 0;
        })
    }

    tidings_ingest::conformance_tests!(make);
}

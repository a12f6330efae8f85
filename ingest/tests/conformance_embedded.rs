//! The embedded log does what every log must: with its own file sizes, and with tiny ones, so that the same cases go
//! through many segments, splits and files.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use tempfile::TempDir;
use tidings_ingest::conformance::Fixture;
use tidings_ingest::{EmbeddedConfig, EmbeddedLog, Log};
use tidings_schemas::clock::{SystemClock, SystemEntropy};

struct Embedded {
    config: EmbeddedConfig,
    log: Option<Arc<EmbeddedLog>>,
    _directory: TempDir,
}

impl Embedded {
    fn new(set: impl FnOnce(&mut EmbeddedConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = EmbeddedConfig { directory: directory.path().join("log"), ..EmbeddedConfig::default() };
        set(&mut config);
        let mut fixture = Self { config, log: None, _directory: directory };
        fixture.reopen();
        fixture
    }
}

impl Fixture for Embedded {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone().unwrap()
    }

    fn reopen(&mut self) {
        self.log = None;
        let log = EmbeddedLog::open(&self.config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
        self.log = Some(Arc::new(log));
    }
}

mod as_configured {
    fn make() -> super::Embedded {
        super::Embedded::new(|config| config.journal_segment_bytes = 8 * 1024 * 1024)
    }

    tidings_ingest::conformance_tests!(make);
}

mod with_tiny_files_and_no_memory {
    fn make() -> super::Embedded {
        super::Embedded::new(|config| {
            config.journal_segment_bytes = 32 * 1024;
            config.partition_segment_bytes = 2 * 1024;
            config.tail_cache_bytes_max = 0;
        })
    }

    tidings_ingest::conformance_tests!(make);
}

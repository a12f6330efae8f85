//! Which log is written: a data folder, or Kafka.

use std::{path::PathBuf, sync::Arc, sync::mpsc, time::Duration};

use tidings_ingest::{AppendError, EmbeddedLog, KafkaLog, Log, NewRecord, PartitionCounts};
use tidings_schemas::clock::{SystemClock, SystemEntropy};

use super::exit::{Code, Failure, WithCode};
use crate::config::Settings;

/// How long an append may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often an append that the log refuses for now is tried again, and the pause between.
const RETRIES_MAX: u32 = 100;
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A log that records are appended to.
pub struct Target {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where it is, for people.
    pub place: String,
}

impl Target {
    /// The log in a data folder, which no process may have open.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn folder(settings: &Settings, data: &std::path::Path) -> Result<Self, Failure> {
        let mut config = settings.log.clone();
        config.directory = data.join("log");
        let log = EmbeddedLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        Ok(Self { log: Arc::new(log.code(Code::Target)?), place: data.display().to_string() })
    }

    /// The log on Kafka; it is made if it is not there, with these partitions unless others are set.
    ///
    /// # Errors
    /// It cannot be opened, or has other partitions.
    pub fn kafka(settings: &Settings, partitions: Option<PartitionCounts>) -> Result<Self, Failure> {
        let mut config = settings.kafka.clone();
        config.partitions = config.partitions.or(partitions);
        let log = KafkaLog::open(&config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let place = format!("Kafka {} ({}*)", config.brokers, config.topic_prefix);
        Ok(Self { log: Arc::new(log.code(Code::Target)?), place })
    }

    /// Appends, and waits until it is durable; tries again while the log has no room or no connection.
    ///
    /// # Errors
    /// It cannot be written, or nobody knows.
    pub fn append(&self, records: &[NewRecord]) -> Result<Vec<u64>, Failure> {
        for _ in 0..RETRIES_MAX {
            let (answer, answered) = mpsc::channel();
            self.log.append_with(
                records.to_vec(),
                Box::new(move |result| {
                    // Who waits may have given up.
                    let _ = answer.send(result);
                }),
            );
            match answered.recv_timeout(PATIENCE) {
                Ok(Ok(offsets)) => return Ok(offsets),
                Ok(Err(AppendError::Full | AppendError::Unavailable { .. })) => {
                    std::thread::park_timeout(RETRY_INTERVAL);
                }
                Ok(Err(error)) => return Err(error).code(Code::Target),
                Err(_) => break,
            }
        }
        Err(Failure::new(Code::Target, "the target takes no records (run it again when it does: it goes on there)"))
    }
}

/// Which log to write, from the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TargetArgs {
    /// Write the log in this data folder.
    #[arg(long, value_name = "DIR", required_unless_present = "brokers", conflicts_with = "brokers")]
    pub data: Option<PathBuf>,
    /// Write the log on these Kafka brokers.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub brokers: Option<String>,
    /// A TOML file with settings, as for `tidings up`.
    #[arg(long, value_name = "FILE", env = "TIDINGS_CONFIG")]
    pub config: Option<PathBuf>,
    /// One setting, over file and environment (such as kafka.topic_prefix=…); may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

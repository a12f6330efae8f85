//! Which log is read: a data folder, also while `tidings up` runs on it, or Kafka.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tidings_ingest::{BulkLog, KafkaLog, Log, LogError, ReadOnlyLog};

use super::exit::{Code, Failure, WithCode};
use crate::config::{LogKind, Settings, SettingsArgs};

/// Which log to read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SourceArgs {
    /// Read the log in this data folder. Takes no lock and changes nothing: `tidings up` may be running on it.
    #[arg(long, value_name = "DIR", conflicts_with = "brokers")]
    pub data: Option<PathBuf>,
    /// Read the log on these Kafka brokers. Makes nothing there.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub brokers: Option<String>,
    /// A TOML file with settings, as for `tidings up`.
    #[arg(long, value_name = "FILE", env = "TIDINGS_CONFIG")]
    pub config: Option<PathBuf>,
    /// One setting, over file and environment (such as kafka.topic_prefix=…); may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// A log that is open to be read only.
pub struct Source {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where it is, for people.
    pub place: String,
    /// The settings that it was opened with.
    pub settings: Settings,
}

impl SourceArgs {
    /// Opens it. Without `--data` and `--brokers` the settings say where it is.
    ///
    /// # Errors
    /// A setting is wrong; there is no log; it cannot be read.
    pub fn open(&self) -> Result<Source, Failure> {
        let settings = SettingsArgs { config: self.config.clone(), set: self.set.clone(), check: false };
        let mut settings = Settings::read(&settings).code(Code::Usage)?;
        if let Some(data) = &self.data {
            settings.node.log = LogKind::Embedded;
            settings.node.data.clone_from(data);
        }
        if let Some(brokers) = &self.brokers {
            settings.node.log = LogKind::Kafka;
            settings.kafka.brokers.clone_from(brokers);
        }
        let (log, place): (Arc<dyn Log>, _) = match settings.node.log {
            LogKind::Embedded => {
                let directory = settings.node.data.join("log");
                let log = ReadOnlyLog::open(&directory).map_err(|error| not_open(&directory, error))?;
                (Arc::new(log), settings.node.data.display().to_string())
            }
            LogKind::Kafka => {
                let place = format!("Kafka {} ({}*)", settings.kafka.brokers, settings.kafka.topic_prefix);
                (Arc::new(KafkaLog::open_to_read(&settings.kafka)?), place)
            }
        };
        Ok(Source { log, place, settings })
    }
}

/// What is half imported is no log yet, and is not nothing.
fn not_open(directory: &Path, error: LogError) -> Failure {
    match (&error, BulkLog::unfinished(directory)) {
        (LogError::Absent { .. }, Ok(Some(_))) => {
            let what = format!("the import into {} was interrupted, so there is no log yet", directory.display());
            Failure::new(Code::Source, what + " (hint: the same command again goes on with it)")
        }
        _ => error.into(),
    }
}

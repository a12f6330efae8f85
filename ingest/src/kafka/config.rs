//! The Kafka log's settings, and what of them every client of Kafka here has in common.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use serde::{Deserialize, Serialize};
use tidings_schemas::limits;
use tidings_schemas::topics::Topic;

use crate::error::LogError;
use crate::settings::{PartitionCounts, Retention};

/// The environment variable that holds the password when no file does. Not a setting, so that no list of settings shows
/// it.
pub const PASSWORD_VARIABLE: &str = "TIDINGS_KAFKA_PASSWORD";

/// The Kafka log's settings, as an operator writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// The brokers to ask first, `host:port`, separated by commas. They name all the others.
    pub brokers: String,
    /// What the names of all topics and groups begin with: the log of one Tidings among others on the same brokers.
    pub topic_prefix: String,
    /// How many partitions the topics have. Fixed when the log is made; left out: what the log was made with.
    pub partitions: Option<PartitionCounts>,
    /// Copies of each partition, for topics that are made. Left out: 3, or as many as there are brokers if those are
    /// fewer. With 3 or more an append is acknowledged when it is on at least 2.
    pub replication_factor: Option<u16>,
    /// How long records are kept, by topic name without the prefix (`events.v1`); a topic that is not named has its
    /// default. Given to topics when they are made; those that exist are left as they are.
    pub retention: BTreeMap<String, Retention>,
    /// Whether the connection is encrypted (`ssl`, `sasl_ssl`) and who it is shown to the brokers by name and password
    /// (`sasl_plaintext`, `sasl_ssl`).
    pub security_protocol: SecurityProtocol,
    /// The certificates of the authorities that the brokers' certificates are checked with, PEM. Left out: the
    /// system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate shown to the brokers, PEM.
    pub client_certificate_file: Option<PathBuf>,
    /// Its key, PEM, without a passphrase.
    pub client_key_file: Option<PathBuf>,
    /// How name and password are shown.
    pub sasl_mechanism: SaslMechanism,
    /// The name.
    pub username: Option<String>,
    /// A file with the password. Left out: the environment variable TIDINGS_KAFKA_PASSWORD has it.
    pub password_file: Option<PathBuf>,
    /// How long an append may wait for its brokers before its caller is told, in milliseconds.
    pub delivery_timeout_ms: u64,
    /// How long a question to the brokers (the end of a partition, the list of topics) may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// The least time between two requests that append to the same partition, in microseconds. A lone append leaves at
    /// once; what comes while one is on its way, or within this time after it left, goes together in the next. More
    /// spares the brokers under load, less is faster where they have cores to spare.
    pub append_interval_us: u32,
    /// How long a broker holds a fetch for which there is nothing, in milliseconds. A reader that is opened, or was too
    /// slow for its memory, may wait this long until it is part of a fetch.
    pub fetch_wait_ms: u32,
    /// Records of a partition that are fetched ahead of a reader, in bytes.
    pub fetch_ahead_bytes_max: usize,
    /// A process of which its group has heard nothing for this long has lost its partitions, in milliseconds. Not below
    /// the brokers' `group.min.session.timeout.ms`.
    pub session_timeout_ms: u32,
    /// How often a process is heard of, in milliseconds: about a third of that.
    pub heartbeat_interval_ms: u32,
    /// How long a process may take to stop what it did for a partition that another is to take over, in milliseconds.
    pub handover_timeout_ms: u64,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            topic_prefix: "tidings.".to_owned(),
            partitions: None,
            replication_factor: None,
            retention: BTreeMap::new(),
            security_protocol: SecurityProtocol::Plaintext,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            sasl_mechanism: SaslMechanism::ScramSha512,
            username: None,
            password_file: None,
            delivery_timeout_ms: 30_000,
            request_timeout_ms: 10_000,
            append_interval_us: 2_000,
            fetch_wait_ms: 100,
            fetch_ahead_bytes_max: limits::TAIL_CACHE_BYTES_MAX,
            session_timeout_ms: 2_500,
            heartbeat_interval_ms: 800,
            handover_timeout_ms: 3_000,
        }
    }
}

/// How the connection to the brokers is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SecurityProtocol {
    /// Not at all.
    Plaintext,
    /// TLS.
    Ssl,
    /// Name and password, unencrypted.
    SaslPlaintext,
    /// Name and password, over TLS.
    SaslSsl,
}

/// How name and password are shown to the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(inline)]
pub enum SaslMechanism {
    /// As they are.
    #[serde(rename = "plain")]
    Plain,
    /// SCRAM-SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

impl KafkaConfig {
    /// The topic's name on the brokers.
    pub fn topic_name(&self, topic: Topic) -> String {
        format!("{}{}", self.topic_prefix, topic.name())
    }

    /// Which log this is, for messages.
    pub(crate) fn place(&self) -> String {
        format!("Kafka {} with the prefix {:?}", self.brokers, self.topic_prefix)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.max(1))
    }

    pub(crate) fn delivery_timeout(&self) -> Duration {
        Duration::from_millis(self.delivery_timeout_ms.max(1))
    }

    pub(crate) fn append_interval(&self) -> Duration {
        Duration::from_micros(u64::from(self.append_interval_us))
    }

    /// What every client has: where the brokers are and how they are spoken to. The result holds the password: it is
    /// not to be shown.
    pub(crate) fn client(&self) -> Result<ClientConfig, LogError> {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Info);
        let mut set = |key: &str, value: String| {
            client.set(key, value);
        };
        set("bootstrap.servers", self.brokers.clone());
        set("client.id", "tidings".to_owned());
        // A broker that came back is found at once, one that hangs is given up within seconds.
        set("reconnect.backoff.ms", "50".to_owned());
        set("reconnect.backoff.max.ms", "1000".to_owned());
        set("socket.connection.setup.timeout.ms", "5000".to_owned());
        set("socket.timeout.ms", "10000".to_owned());
        set("socket.keepalive.enable", "true".to_owned());
        set("topic.metadata.refresh.interval.ms", "60000".to_owned());
        set("broker.address.family", "any".to_owned());
        let protocol = match self.security_protocol {
            SecurityProtocol::Plaintext => "plaintext",
            SecurityProtocol::Ssl => "ssl",
            SecurityProtocol::SaslPlaintext => "sasl_plaintext",
            SecurityProtocol::SaslSsl => "sasl_ssl",
        };
        set("security.protocol", protocol.to_owned());
        let files = [
            ("ssl.ca.location", "ca_file", &self.ca_file),
            ("ssl.certificate.location", "client_certificate_file", &self.client_certificate_file),
            ("ssl.key.location", "client_key_file", &self.client_key_file),
        ];
        for (key, name, file) in files {
            let Some(file) = file else { continue };
            if let Err(error) = fs::metadata(file) {
                return Err(self.mismatch(format!("kafka.{name} {} cannot be read ({error})", file.display())));
            }
            set(key, file.display().to_string());
        }
        if matches!(self.security_protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl) {
            let mechanism = match self.sasl_mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            set("sasl.mechanism", mechanism.to_owned());
            let username = self.username.clone();
            set("sasl.username", username.ok_or_else(|| self.mismatch("kafka.username is not set".to_owned()))?);
            set("sasl.password", self.password()?);
        }
        Ok(client)
    }

    fn password(&self) -> Result<String, LogError> {
        let password = match &self.password_file {
            Some(file) => fs::read_to_string(file).map_err(|error| {
                self.mismatch(format!("kafka.password_file {} cannot be read ({error})", file.display()))
            })?,
            None => std::env::var(PASSWORD_VARIABLE).map_err(|_| {
                self.mismatch(format!("neither kafka.password_file nor the variable {PASSWORD_VARIABLE} is set"))
            })?,
        };
        Ok(password.trim_end().to_owned())
    }

    pub(crate) fn mismatch(&self, what: String) -> LogError {
        LogError::Mismatch { place: self.place(), what, hint: "see the settings of [kafka]: `tidings config`" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_comes_from_its_file_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "hush-hush\n").unwrap();
        let config = KafkaConfig {
            security_protocol: SecurityProtocol::SaslSsl,
            username: Some("tidings".to_owned()),
            password_file: Some(file),
            ..KafkaConfig::default()
        };
        assert_eq!(config.client().unwrap().get("sasl.password"), Some("hush-hush"));
        let shown = format!("{config:?} {:?} {}", config.client().unwrap(), serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("hush-hush"), "{shown}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let no_user = KafkaConfig { security_protocol: SecurityProtocol::SaslSsl, ..KafkaConfig::default() };
        assert!(no_user.client().unwrap_err().to_string().contains("kafka.username"));
        let no_password = KafkaConfig {
            username: Some("tidings".to_owned()),
            password_file: Some(folder.path().join("absent")),
            ..no_user
        };
        assert!(no_password.client().unwrap_err().to_string().contains("kafka.password_file"));
        let no_authority = KafkaConfig { ca_file: Some(folder.path().join("absent")), ..KafkaConfig::default() };
        assert!(no_authority.client().unwrap_err().to_string().contains("kafka.ca_file"));
    }
}

//! TLS, and names with passwords: what is right is let in, what is wrong is refused with the reason.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, and they measure time")]

#[path = "support/broker.rs"]
mod broker;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use broker::Brokers;
use bytes::Bytes;
use tidings_ingest::kafka::config::{SaslMechanism, SecurityProtocol};
use tidings_ingest::{Groups as _, KafkaConfig, KafkaLog, Log, LogError, NewRecord, WaitingReader};
use tidings_schemas::clock::{SystemClock, SystemEntropy};
use tidings_schemas::topics::Topic;

const PATIENCE: Duration = Duration::from_secs(30);

fn open(config: &KafkaConfig) -> Result<KafkaLog, LogError> {
    KafkaLog::open(config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
}

fn use_it(config: &KafkaConfig) {
    let log = open(config).unwrap_or_else(|error| panic!("{error}"));
    let (answer, answered) = mpsc::channel();
    let record =
        NewRecord { topic: Topic::Events, partition: 0, key: Bytes::new(), value: Bytes::from_static(b"safe") };
    log.append_with(vec![record], Box::new(move |result| answer.send(result).unwrap_or_default()));
    let offset = answered.recv_timeout(PATIENCE).unwrap().unwrap()[0];
    let mut reader = WaitingReader::new(log.reader(Topic::Events, 0, offset).unwrap());
    let mut records = Vec::new();
    assert_eq!(reader.poll(1024, &mut records, PATIENCE).unwrap(), 1);
    assert_eq!(records[0].value, "safe");
    let membership = log.join("edges", &[Topic::Deliveries]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut assigned = membership.assigned();
        let waiting = assigned.wait_for(|assigned| assigned.partitions.len() == 4);
        tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    });
    membership.leave();
}

fn refused(config: &KafkaConfig, reasons: &[&str]) {
    let started = Instant::now();
    let error = open(config).err().expect("it must not be let in").to_string();
    assert!(reasons.iter().any(|reason| error.contains(reason)), "{error}");
    assert!(!error.contains("not the password"), "{error}");
    assert!(started.elapsed() < PATIENCE);
}

#[test]
#[ignore = "needs Kafka: ./ops/test kafka"]
fn only_who_knows_the_password_over_a_connection_that_is_checked_is_let_in() {
    let brokers = Brokers::start("secure", 1, 70, &["--secure"]);
    let (host, port) = brokers.bootstrap.rsplit_once(':').unwrap();
    let secure_port = port.parse::<u16>().unwrap() + 20;
    let config = KafkaConfig {
        brokers: format!("{host}:{secure_port}"),
        security_protocol: SecurityProtocol::SaslSsl,
        ca_file: Some(brokers.file("tls/ca.pem")),
        client_certificate_file: Some(brokers.file("tls/client.pem")),
        client_key_file: Some(brokers.file("tls/client.key")),
        username: Some("tidings".to_owned()),
        password_file: Some(brokers.file("tls/password")),
        request_timeout_ms: 5_000,
        ..broker::settings(&brokers)
    };
    use_it(&config);
    use_it(&KafkaConfig { sasl_mechanism: SaslMechanism::Plain, ..config.clone() });

    let wrong = brokers.file("tls/wrong");
    std::fs::write(&wrong, "not the password").unwrap();
    refused(
        &KafkaConfig { password_file: Some(wrong), ..config.clone() },
        &["Authentication failed", "authentication"],
    );
    // An authority that did not sign the broker's certificate.
    let other = Some(brokers.file("tls/client.pem"));
    refused(&KafkaConfig { ca_file: other, ..config.clone() }, &["certificate"]);
    // Without TLS at the port that wants it.
    let plain = SecurityProtocol::SaslPlaintext;
    refused(&KafkaConfig { security_protocol: plain, ..config }, &["are kafka.brokers right", "isconnect"]);
}

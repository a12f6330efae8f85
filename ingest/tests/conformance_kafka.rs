//! The log on Kafka does what every log must, on a real broker.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/broker.rs"]
mod broker;

use std::sync::Arc;

use tidings_ingest::conformance::Fixture;
use tidings_ingest::{KafkaConfig, KafkaLog, Log};

struct OnKafka {
    config: KafkaConfig,
    log: Option<Arc<KafkaLog>>,
}

impl Fixture for OnKafka {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone().unwrap()
    }

    fn reopen(&mut self) {
        self.log = None;
        self.log = Some(Arc::new(broker::open(&self.config)));
    }
}

mod on_one_broker {
    fn make() -> super::OnKafka {
        use tidings_ingest::conformance::Fixture as _;
        let mut fixture = super::OnKafka { config: super::broker::settings(super::broker::shared()), log: None };
        fixture.reopen();
        fixture
    }

    tidings_ingest::conformance_tests!(
        #[ignore = "needs Kafka: ./ops/test kafka"]
        make
    );
}

//! What is the same in every client of Kafka here: where its messages go, and what its errors are called.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::stats::{Counters, add};
use crate::error::LogError;

/// Passes on what a client has to say.
pub(crate) struct Context {
    /// Which client, for messages.
    what: &'static str,
    counters: Arc<Counters>,
    /// What it last complained about: why a question to the brokers has had no answer.
    last_error: Mutex<Option<String>>,
}

impl Context {
    pub(crate) fn new(what: &'static str, counters: Arc<Counters>) -> Self {
        Self { what, counters, last_error: Mutex::default() }
    }

    fn note(&self, complaint: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(complaint.to_owned());
    }

    /// The error of a call that had no answer, with the reason if one is known.
    pub(crate) fn unavailable(&self, error: &KafkaError) -> LogError {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let code = error.rdkafka_error_code();
        let is_vague = matches!(
            code,
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::AllBrokersDown
            )
        );
        let reason = match last {
            Some(last) if is_vague => format!("{error}: {last} (are kafka.brokers right, and do they run?)"),
            _ => format!("{error}"),
        };
        LogError::Unavailable { reason: reason.into() }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.what;
        if facility == "FAIL" {
            // Some lost connections are told here only.
            self.note(message);
        }
        match level {
            // These come again by themselves or turn up as the error of a call: nobody must act on the line alone.
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(client, facility, "kafka: {message}");
            }
            // What is unusual among the settings is so on purpose.
            _ if facility == "CONFWARN" => tracing::debug!(client, facility, "kafka: {message}"),
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(client, facility, "kafka: {message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(client, facility, "kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        add(&self.counters.client_errors, 1);
        tracing::info!(client = self.what, %error, "kafka: {reason}");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            // What each of them said came before, and says more.
            return;
        }
        self.note(reason);
    }
}

impl ConsumerContext for Context {}

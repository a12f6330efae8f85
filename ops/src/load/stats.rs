//! What the load measures: latencies in HDR histograms, and counts.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart, in microseconds: five minutes.
const LATENCY_US_MAX: u64 = 300_000_000;

/// A latency histogram that many may record into.
#[derive(Debug)]
pub struct Latencies(Mutex<Histogram<u64>>);

/// A histogram's figures, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[allow(missing_docs, reason = "percentiles of the name")]
pub struct Percentiles {
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .unwrap_or_else(|_| unreachable!("a range and three digits that the histogram allows"));
        Self(Mutex::new(histogram))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX).min(LATENCY_US_MAX);
        if let Ok(mut histogram) = self.0.lock() {
            histogram.saturating_record(micros);
        }
    }

    /// The figures so far.
    #[allow(clippy::cast_precision_loss, reason = "microseconds below 2^53")]
    pub fn percentiles(&self) -> Percentiles {
        let Ok(histogram) = self.0.lock() else { return Percentiles::default() };
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}

/// Everything one run counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// From a message's due time to `sent`.
    pub acknowledged: Latencies,
    /// From a direct message's due time to the recipient's socket.
    pub direct: Latencies,
    /// From a group message's due time to each member's socket.
    pub group: Latencies,
    /// From a group message's due time to the last member's socket.
    pub group_last: Latencies,
    /// Messages handed to their sender's connection.
    pub sends: AtomicU64,
    /// `sent` replies.
    pub sent: AtomicU64,
    /// Messages that arrived at others than their senders.
    pub deliveries: AtomicU64,
    /// Receipts sent.
    pub receipts: AtomicU64,
    /// Receipt updates that arrived.
    pub receipt_updates: AtomicU64,
    /// Messages refused for good.
    pub rejected: AtomicU64,
    /// Refusals that were tried again.
    pub retries: AtomicU64,
    /// Connections lost and made again, by what ended them.
    pub reconnects: Mutex<BTreeMap<String, u64>>,
}

/// Reasons that are told apart. More are counted together.
const REASONS_MAX: usize = 32;

impl Stats {
    /// A connection was lost, and is made again.
    pub fn reconnected(&self, reason: &str) {
        let Ok(mut reconnects) = self.reconnects.lock() else { return };
        let is_known = reconnects.contains_key(reason) || reconnects.len() < REASONS_MAX;
        *reconnects.entry(if is_known { reason } else { "others" }.to_owned()).or_default() += 1;
    }
}

/// The run's progress for one message: how many of the others still wait for it.
#[derive(Debug)]
pub struct Outstanding {
    waiting: Vec<AtomicU16>,
    missing: AtomicU64,
}

impl Outstanding {
    /// From how many wait for each message.
    pub fn new(recipients: impl Iterator<Item = u16>) -> Self {
        let waiting: Vec<AtomicU16> = recipients.map(AtomicU16::new).collect();
        let missing = waiting.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum();
        Self { waiting, missing: AtomicU64::new(missing) }
    }

    /// One more has message `index`. Whether that was the last one.
    pub fn arrived(&self, index: u64) -> bool {
        let Some(count) = usize::try_from(index).ok().and_then(|index| self.waiting.get(index)) else { return false };
        let before = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
        if before.is_ok() {
            self.missing.fetch_sub(1, Ordering::Relaxed);
        }
        before == Ok(1)
    }

    /// Nobody waits for it any more: it was refused.
    pub fn cancelled(&self, index: u64) {
        if let Some(count) = usize::try_from(index).ok().and_then(|index| self.waiting.get(index)) {
            self.missing.fetch_sub(u64::from(count.swap(0, Ordering::Relaxed)), Ordering::Relaxed);
        }
    }

    /// Deliveries still to come.
    pub fn missing(&self) -> u64 {
        self.missing.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_what_was_recorded() {
        let latencies = Latencies::default();
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        let found = latencies.percentiles();
        assert_eq!(found.count, 1000);
        assert!((found.p50_ms - 500.0).abs() < 1.0 && (found.p99_ms - 990.0).abs() < 1.5, "{found:?}");
    }

    #[test]
    fn the_last_recipient_is_known() {
        let outstanding = Outstanding::new([2, 1].into_iter());
        assert!(!outstanding.arrived(0));
        assert!(outstanding.arrived(0));
        assert!(!outstanding.arrived(0), "a repeat does not count");
        assert_eq!(outstanding.missing(), 1);
        outstanding.cancelled(1);
        assert_eq!(outstanding.missing(), 0);
    }
}

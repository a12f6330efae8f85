//! How a run's result is shown: a table for people, JSON for programs.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{hops::Hop, messages::Run, stats::Percentiles};

/// A run's figures.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "named after what they count")]
pub struct Summary {
    pub rate: f64,
    pub seconds: f64,
    pub users: usize,
    pub sends: u64,
    pub sent: u64,
    pub rejected: u64,
    pub retries: u64,
    pub deliveries: u64,
    pub missing: u64,
    pub sends_per_second: f64,
    pub deliveries_per_second: f64,
    pub receipts: u64,
    pub receipt_updates: u64,
    pub reconnects: u64,
    /// What ended the connections that were made again.
    pub reconnect_reasons: BTreeMap<String, u64>,
    pub acknowledged: Percentiles,
    pub direct: Percentiles,
    pub group: Percentiles,
    pub group_last: Percentiles,
    pub hops: Vec<Hop>,
}

impl Summary {
    /// Of a run that took `elapsed` from its first to its last due message.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn of(run: &Run, elapsed: Duration) -> Self {
        let stats = &run.stats;
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let reconnect_reasons = stats.reconnects.lock().map(|reasons| reasons.clone()).unwrap_or_default();
        Self {
            rate: run.args.rate,
            seconds,
            users: run.args.users,
            sends: load(&stats.sends),
            sent: load(&stats.sent),
            rejected: load(&stats.rejected),
            retries: load(&stats.retries),
            deliveries: load(&stats.deliveries),
            missing: run.outstanding.missing(),
            sends_per_second: load(&stats.sends) as f64 / seconds,
            deliveries_per_second: load(&stats.deliveries) as f64 / seconds,
            receipts: load(&stats.receipts),
            receipt_updates: load(&stats.receipt_updates),
            reconnects: reconnect_reasons.values().sum(),
            reconnect_reasons,
            acknowledged: stats.acknowledged.percentiles(),
            direct: stats.direct.percentiles(),
            group: stats.group.percentiles(),
            group_last: stats.group_last.percentiles(),
            hops: Vec::new(),
        }
    }

    /// The larger p99 of direct messages and of the last members of groups.
    pub fn p99_ms(&self) -> f64 {
        self.direct.p99_ms.max(self.group_last.p99_ms)
    }

    /// Whether everything came, in time.
    pub fn holds(&self, p99_ms_max: f64) -> bool {
        self.missing == 0 && self.rejected == 0 && self.p99_ms() <= p99_ms_max
    }
}

/// Prints it.
pub fn show(summary: &Summary, json: bool) -> Result<()> {
    if json {
        outln!("{}", serde_json::to_string_pretty(summary).context("cannot encode the summary")?);
        return Ok(());
    }
    outln!("{} users, {:.0} messages/s asked for, {:.1} s\n", summary.users, summary.rate, summary.seconds);
    outln!("sent         {:>10}  {:>10.0}/s", summary.sends, summary.sends_per_second);
    outln!("acknowledged {:>10}  ({} refused, {} tried again)", summary.sent, summary.rejected, summary.retries);
    outln!("delivered    {:>10}  {:>10.0}/s", summary.deliveries, summary.deliveries_per_second);
    outln!("missing      {:>10}", summary.missing);
    outln!("receipts     {:>10}  ({} updates)", summary.receipts, summary.receipt_updates);
    outln!("reconnects   {:>10}", summary.reconnects);
    summary.reconnect_reasons.iter().for_each(|(reason, count)| outln!("{count:>23}  {reason}"));
    outln!("");
    outln!(
        "{:<34}{:>9}{:>9}{:>9}{:>9}{:>9}{:>11}",
        "latency from the due time, ms",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "count"
    );
    for (name, latencies) in [
        ("acknowledged to the sender", summary.acknowledged),
        ("direct, to the recipient", summary.direct),
        ("group, to each member", summary.group),
        ("group, to the last member", summary.group_last),
    ] {
        if latencies.count > 0 {
            outln!(
                "{name:<34}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>11}",
                latencies.p50_ms,
                latencies.p90_ms,
                latencies.p99_ms,
                latencies.p999_ms,
                latencies.max_ms,
                latencies.count
            );
        }
    }
    if !summary.hops.is_empty() {
        outln!("\n{:<34}{:>9}{:>9}{:>9}{:>11}", "latency of each hop, ms", "p50", "p99", "mean", "count");
        for Hop { hop, count, p50_ms, p99_ms, mean_ms } in &summary.hops {
            outln!("{hop:<34}{p50_ms:>9.2}{p99_ms:>9.2}{mean_ms:>9.2}{count:>11}");
        }
    }
    Ok(())
}

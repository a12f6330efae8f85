//! Where a message's time goes: the servers' own histograms, read before and after a run.
//!
//! A message's way is a chain of hops, each measured by who does it: the edge's append to `events`, the conversations
//! stage's turn, its append of what follows, and so on. Hops overlap (a stage's turn for one message, the append of the one
//! before), so they do not add up to the whole to the millisecond; they say where to look.

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::client::{Api, Server};

/// A hop: its name for people, the histogram, and the label that must be there.
const HOPS: [(&str, &str, &str); 6] = [
    ("edge: events durable", "tidings_edge_append_seconds", ""),
    ("conversations: read and decided", "tidings_dataflow_lag_seconds", "stage=\"conversations\""),
    ("conversations: all of it durable", "tidings_dataflow_append_seconds", "stage=\"conversations\""),
    ("recipients: read and routed", "tidings_dataflow_lag_seconds", "stage=\"recipients\""),
    ("recipients: all of it durable", "tidings_dataflow_append_seconds", "stage=\"recipients\""),
    ("deliveries: read by the edge", "tidings_edge_delivery_lag_seconds", ""),
];

/// One hop's figures, in milliseconds: quantiles as Prometheus computes them, to the width of a bucket.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "named after what they are")]
pub struct Hop {
    pub hop: &'static str,
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub mean_ms: f64,
}

/// The hops' histograms of all processes at one moment, in the order of [`HOPS`].
#[derive(Debug, Clone, Default)]
pub struct Snapshot(Vec<Buckets>);

/// A histogram: how many were at most so long, by ascending seconds.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets {
    at_most: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

impl Snapshot {
    /// Reads `/metrics` of these processes. Of none: nothing is measured.
    pub async fn take(processes: &[Server]) -> Result<Self> {
        let mut all = vec![Buckets::default(); HOPS.len()];
        for process in processes {
            let text = Api::new(process.clone()).text("/metrics").await.context("cannot read the metrics")?;
            for (buckets, (_, histogram, label)) in all.iter_mut().zip(HOPS) {
                buckets.add(&text, histogram, label)?;
            }
        }
        Ok(Self(all))
    }

    /// What was measured since an earlier one.
    pub fn since(&self, before: &Self) -> Vec<Hop> {
        let hops = self.0.iter().zip(&before.0).zip(HOPS);
        hops.filter_map(|((after, before), (name, ..))| after.minus(before).hop(name)).collect()
    }
}

impl Buckets {
    /// Adds a process' histogram, from its metrics as text. (<https://prometheus.io/docs/instrumenting/exposition_formats/>)
    fn add(&mut self, text: &str, histogram: &str, label: &str) -> Result<()> {
        for line in text.lines().filter(|line| line.starts_with(histogram) && line.contains(label)) {
            let Some((series, value)) = line.rsplit_once(' ') else { bail!("no metric: {line}") };
            let value: f64 = value.parse().with_context(|| format!("no metric: {line}"))?;
            let rest = &series[histogram.len()..];
            if rest.starts_with("_sum") {
                self.sum += value;
            } else if rest.starts_with("_count") {
                self.count += value;
            } else if rest.starts_with("_bucket") {
                let bound = rest.split_once("le=\"").and_then(|(_, bound)| bound.split_once('"'));
                let Some((bound, _)) = bound else { bail!("a bucket without a bound: {line}") };
                let bound = match bound {
                    "+Inf" => f64::INFINITY,
                    bound => bound.parse().with_context(|| format!("no metric: {line}"))?,
                };
                match self.at_most.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                    Some((_, count)) => *count += value,
                    None => self.at_most.push((bound, value)),
                }
            }
        }
        self.at_most.sort_by(|one, other| one.0.total_cmp(&other.0));
        Ok(())
    }

    /// A process that started anew in between has counted from 0: its part is left out.
    fn minus(&self, before: &Self) -> Self {
        let earlier = |bound: f64| before.at_most.iter().find(|(known, _)| known.total_cmp(&bound).is_eq());
        let since =
            |(bound, count): &(f64, f64)| (*bound, (count - earlier(*bound).map_or(0.0, |(_, count)| *count)).max(0.0));
        Self {
            at_most: self.at_most.iter().map(since).collect(),
            sum: (self.sum - before.sum).max(0.0),
            count: (self.count - before.count).max(0.0),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    fn hop(&self, hop: &'static str) -> Option<Hop> {
        (self.count > 0.0).then(|| Hop {
            hop,
            count: self.count as u64,
            p50_ms: self.quantile(0.5) * 1000.0,
            p99_ms: self.quantile(0.99) * 1000.0,
            mean_ms: self.sum / self.count * 1000.0,
        })
    }

    /// As Prometheus' `histogram_quantile`: evenly spread within a bucket; past the last bound, that bound.
    fn quantile(&self, quantile: f64) -> f64 {
        let rank = quantile * self.count;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in self.at_most.iter().copied() {
            if bound.is_infinite() {
                break;
            }
            if count >= rank && count > below {
                return low + (bound - low) * (rank - below) / (count - below);
            }
            (low, below) = (bound, count);
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE tidings_dataflow_lag_seconds histogram
tidings_dataflow_lag_seconds_sum{stage=\"recipients\"} 0.5
tidings_dataflow_lag_seconds_count{stage=\"recipients\"} 100
tidings_dataflow_lag_seconds_bucket{le=\"0.001\",stage=\"recipients\"} 0
tidings_dataflow_lag_seconds_bucket{le=\"0.003\",stage=\"recipients\"} 80
tidings_dataflow_lag_seconds_bucket{le=\"+Inf\",stage=\"recipients\"} 100
tidings_dataflow_lag_seconds_count{stage=\"conversations\"} 7
";

    fn read(processes: u32) -> Buckets {
        let mut buckets = Buckets::default();
        for _ in 0..processes {
            buckets.add(TEXT, "tidings_dataflow_lag_seconds", "stage=\"recipients\"").unwrap();
        }
        buckets
    }

    #[test]
    fn a_hop_is_what_came_between_two_looks_at_all_processes() {
        let hop = read(3).minus(&read(1)).hop("a").unwrap();
        assert_eq!(hop.count, 200);
        assert!((hop.mean_ms - 5.0).abs() < 1e-9);
        // 50 of 80 in the bucket from 1 to 3 ms; the 99th is past the last bound.
        assert!((hop.p50_ms - 2.25).abs() < 1e-9, "{hop:?}");
        assert!((hop.p99_ms - 3.0).abs() < 1e-9, "{hop:?}");
        assert!(read(1).minus(&read(1)).hop("a").is_none());
        assert!(
            Buckets::default().add("tidings_edge_append_seconds_sum x", "tidings_edge_append_seconds", "").is_err()
        );
    }
}

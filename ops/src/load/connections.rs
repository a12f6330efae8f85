//! Idle connections: how fast they are made, and what each costs the server in memory.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tidings_schemas::clock::{Entropy, SystemEntropy};
use tokio::time::{Instant, sleep};

use super::{LoadArgs, accounts, stats::Latencies};
use crate::{
    client::{Api, Server, Socket, socket::Resume},
    progress::Progress,
};

const CONCURRENT_CONNECTS: usize = 64;
/// After the last connect, for buffers of the handshakes to be given back.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize)]
struct Summary {
    connections: usize,
    connects_per_second: f64,
    connect_p50_ms: f64,
    connect_p99_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_bytes_per_connection: Option<f64>,
}

/// Opens `count` connections, each with its `hello`, and holds them.
pub async fn run(args: &LoadArgs, count: usize) -> Result<()> {
    let server = args.server()?;
    let run = format!("{:08x}", SystemEntropy.next_u64() >> 32);
    let users = accounts::obtain(&Api::new(server.clone()), args.users, args.accounts.as_deref(), &run).await?;
    // What the first connection of all costs the server once is not a connection's cost.
    let (first, _) = connect(args, &server, &users[0].token, "load-first").await?;
    let before = args.server_pid.map(pss_bytes).transpose()?;

    let progress = Progress::new("connections", count as u64);
    let latencies = Latencies::default();
    let started = Instant::now();
    let sockets: Vec<Socket> = stream::iter(0..count)
        .map(|number| {
            let (server, users, latencies, progress) = (&server, &users, &latencies, &progress);
            async move {
                let from = Instant::now();
                let device = format!("load-{number}");
                let (socket, _) = connect(args, server, &users[number % users.len()].token, &device).await?;
                latencies.record(from.elapsed());
                progress.advance(1);
                anyhow::Ok(socket)
            }
        })
        .buffer_unordered(CONCURRENT_CONNECTS)
        .try_collect()
        .await?;
    let elapsed = started.elapsed();
    sleep(SETTLE).await;
    let after = args.server_pid.map(pss_bytes).transpose()?;
    let percentiles = latencies.percentiles();
    #[allow(clippy::cast_precision_loss, reason = "below 2^53")]
    let summary = Summary {
        connections: sockets.len(),
        connects_per_second: sockets.len() as f64 / elapsed.as_secs_f64(),
        connect_p50_ms: percentiles.p50_ms,
        connect_p99_ms: percentiles.p99_ms,
        server_bytes_per_connection: before
            .zip(after)
            .map(|(before, after)| after.saturating_sub(before) as f64 / sockets.len() as f64),
    };
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&summary).context("cannot encode the summary")?);
    } else {
        outln!(
            "{} connections, {:.0} connects/s, connect p50 {:.1} ms, p99 {:.1} ms",
            summary.connections,
            summary.connects_per_second,
            summary.connect_p50_ms,
            summary.connect_p99_ms
        );
        if let Some(bytes) = summary.server_bytes_per_connection {
            outln!("server memory for each: {:.2} KiB (growth of Pss)", bytes / 1024.0);
        }
    }
    drop((first, sockets));
    Ok(())
}

async fn connect(
    args: &LoadArgs,
    server: &Server,
    token: &str,
    device: &str,
) -> Result<(Socket, tidings_schemas::client::Welcome)> {
    Socket::connect(server, args.format, token, device, &Resume::default())
        .await
        .with_context(|| format!("device {device} cannot connect"))
}

/// A process's memory, shared pages counted by their share.
fn pss_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .with_context(|| format!("{path} has no Pss"))?;
    Ok(kib * 1024)
}

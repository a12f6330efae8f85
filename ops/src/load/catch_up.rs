//! Catch-up: how long a client that is behind takes, from its `hello`, to have every update that it missed.

use anyhow::{Context, Result, bail};
use hyper::Method;
use serde::Serialize;
use tidings_schemas::{
    client::{self, client_frame::Command, server_frame::Body},
    clock::{Entropy, SystemEntropy},
};
use tokio::time::Instant;

use super::{LoadArgs, accounts, stats::Latencies};
use crate::client::{Api, Socket, socket::Resume};

const ROUNDS: usize = 20;
/// Below the default burst, so that the rate limit stays out of the measurement.
const SENDS_IN_FLIGHT: usize = 32;

#[derive(Debug, Serialize)]
struct Summary {
    messages: usize,
    rounds: usize,
    p50_ms: f64,
    max_ms: f64,
}

/// Sends `behind` messages to a user who is away, then measures the user's return, several times.
pub async fn run(args: &LoadArgs, behind: usize) -> Result<()> {
    let server = args.server()?;
    let api = Api::new(server.clone());
    let run = format!("{:08x}", SystemEntropy.next_u64() >> 32);
    let users = accounts::obtain(&api, 2, args.accounts.as_deref(), &run).await?;
    let (sender, reader) = (&users[0], &users[1]);
    let request = client::CreateConversation {
        kind: client::conversation_kind::Value::Direct.into(),
        member_ids: vec![reader.user_id.clone()],
        ..Default::default()
    };
    let conversation: client::Conversation =
        api.call(Method::POST, "/v1/conversations", &sender.token, Some(&request)).await?;
    let (socket, welcome) =
        Socket::connect(&server, args.format, &reader.token, "catch-up", &Resume::default()).await?;
    socket.close().await;
    let resume = Resume { epoch: welcome.epoch, offset: welcome.offset };

    let (mut socket, _) = Socket::connect(&server, args.format, &sender.token, "catch-up", &Resume::default()).await?;
    let (mut next, mut sent, mut refused) = (0, 0, 0);
    while sent < behind {
        while next < behind + refused && next < sent + refused + SENDS_IN_FLIGHT {
            send(&mut socket, &conversation.conversation_id, &run, next, args.text_bytes).await?;
            next += 1;
        }
        match socket.next().await?.body {
            Some(Body::Sent(_)) => sent += 1,
            Some(Body::Error(error)) if error.retryable => {
                // The refused one is made up for by one more.
                refused += 1;
                let wait = error.retry_after_ms.unwrap_or(100);
                tokio::time::sleep(std::time::Duration::from_millis(wait.into())).await;
            }
            Some(Body::Error(error)) => bail!("{} ({})", error.message, error.code),
            _ => {}
        }
    }
    socket.close().await;

    let latencies = Latencies::default();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let (mut socket, _) = Socket::connect(&server, args.format, &reader.token, "catch-up", &resume).await?;
        let mut messages = 0;
        while messages < behind {
            if let Some(Body::Update(client::Update { kind: Some(client::update::Kind::Message(_)), .. })) =
                socket.next().await.context("the connection broke off in the catch-up")?.body
            {
                messages += 1;
            }
        }
        latencies.record(started.elapsed());
        socket.close().await;
    }
    let percentiles = latencies.percentiles();
    let summary = Summary { messages: behind, rounds: ROUNDS, p50_ms: percentiles.p50_ms, max_ms: percentiles.max_ms };
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&summary).context("cannot encode the summary")?);
    } else {
        outln!(
            "{behind} messages behind: all there {:.1} ms after dialling (median of {ROUNDS}; most {:.1} ms)",
            summary.p50_ms,
            summary.max_ms
        );
    }
    Ok(())
}

async fn send(socket: &mut Socket, conversation_id: &str, run: &str, number: usize, text_bytes: usize) -> Result<()> {
    let command = Command::Send(client::Send {
        conversation_id: conversation_id.to_owned(),
        client_message_id: format!("{run}-{number}"),
        text: "x".repeat(text_bytes),
        ..Default::default()
    });
    socket.send(u32::try_from(number + 1).context("too many messages")?, command).await
}

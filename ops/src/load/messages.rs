//! The main measurement: messages at a rate, end to end from the moment each was due to the recipients' sockets.

use std::{
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::Method;
use tidings_schemas::{
    client,
    clock::{Entropy, SystemEntropy},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    LoadArgs,
    accounts::{self, Account, patiently},
    device::{Device, Job},
    hops::Snapshot,
    plan::Plan,
    record::{Observation, Recorder},
    report::{self, Summary},
    stats::{Outstanding, Stats},
};
use crate::{
    client::{Api, Server},
    progress::Progress,
};

const TICK: Duration = Duration::from_millis(1);
const CONCURRENT_REQUESTS: usize = 16;

/// What every device of a run shares.
#[derive(Debug)]
pub struct Run {
    /// The command line.
    pub args: LoadArgs,
    /// The servers, at least one.
    pub servers: Vec<Server>,
    /// Who sends what when.
    pub plan: Plan,
    /// The server's ids of the plan's conversations.
    pub conversation_ids: Vec<String>,
    /// Every message's text.
    pub text: String,
    /// What was measured.
    pub stats: Stats,
    /// What is still on its way.
    pub outstanding: Outstanding,
    /// For `check`.
    pub recorder: Recorder,
    nonce: u64,
    started: OnceLock<Instant>,
    warmup: u64,
}

impl Run {
    /// A client's id for a message, from which its place in the plan can be read.
    pub fn client_message_id(&self, index: u64) -> String {
        format!("{:08x}-{:04x}-4000-8000-{index:012x}", self.nonce >> 32, (self.nonce >> 16) & 0xffff)
    }

    /// The place in the plan of a message of this run.
    pub fn message_index(&self, client_message_id: &str) -> Option<u64> {
        let (run, index) = client_message_id.rsplit_once('-')?;
        let ours = self.client_message_id(0);
        (run == ours.rsplit_once('-')?.0).then(|| u64::from_str_radix(index, 16).ok())?
    }

    /// How long ago a message was due; nothing in the warm-up.
    pub fn latency(&self, index: u64) -> Option<Duration> {
        let started = self.started.get()?;
        (index >= self.warmup).then(|| Instant::now().saturating_duration_since(*started + self.plan.due(index)))
    }

    /// A recipient has a message.
    pub fn delivered(&self, index: u64, last: bool) {
        let Some(latency) = self.latency(index) else { return };
        if self.plan.conversations[self.plan.message(index).conversation].group {
            self.stats.group.record(latency);
            if last {
                self.stats.group_last.record(latency);
            }
        } else {
            self.stats.direct.record(latency);
        }
    }
}

/// One run at the rate of the arguments, shown on standard output.
pub async fn run(args: &LoadArgs) -> Result<()> {
    let summary = measure(args).await?;
    report::show(&summary, args.json)?;
    if summary.missing > 0 {
        bail!("{} deliveries did not come within {} s after the end", summary.missing, args.drain_seconds);
    }
    Ok(())
}

/// The highest rate whose p99 (direct, or to the last member of a group) is under a bound: doubles until it is not,
/// then halves the gap.
pub async fn find_max(args: &LoadArgs, p99_ms_max: f64) -> Result<()> {
    let mut args = args.clone();
    let (mut good, mut bad): (Option<Summary>, Option<f64>) = (None, None);
    loop {
        let summary = measure(&args).await?;
        let holds = summary.holds(p99_ms_max);
        eprintln!(
            "{:.0}/s: p99 {:.1} ms: {}",
            args.rate,
            summary.p99_ms(),
            if holds { "holds" } else { "does not hold" }
        );
        if holds {
            good = Some(summary);
        } else {
            bad = Some(args.rate);
        }
        let low = good.as_ref().map_or(0.0, |summary| summary.rate);
        args.rate = match bad {
            None => args.rate * 1.5,
            Some(high) if high - low <= low * 0.1 || high < 10.0 => break,
            Some(high) => f64::midpoint(low, high),
        };
        // What a rate that does not hold left behind must not weigh on the next.
        sleep(Duration::from_secs(2)).await;
    }
    match good {
        Some(summary) => report::show(&summary, args.json),
        None => bail!("no rate had a p99 under {p99_ms_max} ms"),
    }
}

async fn measure(args: &LoadArgs) -> Result<Summary> {
    let servers = args.servers()?;
    let hop_processes = args.hop_processes()?;
    let api = Api::new(args.server()?);
    let nonce = SystemEntropy.next_u64();
    let users = accounts::obtain(&api, args.users, args.accounts.as_deref(), &format!("{:08x}", nonce >> 32)).await?;
    let plan = Plan::new(args.users, args.groups, args.group_size, args.group_share, args.rate, args.seed);
    let conversation_ids = make_conversations(&api, &plan, &users).await?;

    let total = plan.count(args.warmup_seconds + args.seconds);
    let outstanding = Outstanding::new((0..total).map(|index| {
        let members = plan.conversations[plan.message(index).conversation].members.len();
        u16::try_from(members - 1).unwrap_or(u16::MAX)
    }));
    let warmup = plan.count(args.warmup_seconds);
    let recorder = Recorder::new(args.record.as_deref())?;
    let run = Arc::new(Run {
        args: args.clone(),
        servers,
        plan,
        conversation_ids,
        text: "x".repeat(args.text_bytes),
        stats: Stats::default(),
        outstanding,
        recorder,
        nonce,
        started: OnceLock::new(),
        warmup,
    });
    for (planned, id) in run.plan.conversations.iter().zip(&run.conversation_ids) {
        let members = planned.members.iter().map(|user| users[*user].user_id.clone()).collect();
        run.recorder.write(&Observation::Conversation { conversation: id.clone(), members })?;
    }

    let (stop, stopped) = watch::channel(false);
    let (ready, mut all_ready) = mpsc::channel::<()>(1);
    let mut devices = JoinSet::new();
    let mut senders = Vec::with_capacity(users.len());
    for (number, account) in users.iter().enumerate() {
        // As many jobs as the plan has messages, at the most.
        let (sender, jobs) = mpsc::unbounded_channel();
        senders.push(sender);
        let device = Device::new(Arc::clone(&run), account.clone(), number as u64);
        devices.spawn(device.work(jobs, ready.clone(), stopped.clone()));
    }
    drop(ready);
    tokio::select! {
        _ = all_ready.recv() => {}
        Some(ended) = devices.join_next() => ended.context("a client failed")?.context("a client could not connect")?,
    }

    let before = Snapshot::take(&hop_processes).await?;
    tokio::select! {
        dispatched = dispatch(&run, &senders, total) => dispatched?,
        Some(ended) = devices.join_next() => ended.context("a client failed")?.context("a client gave up")?,
    }
    let elapsed = run.started.get().map_or(Duration::ZERO, Instant::elapsed);
    drain(&run).await;
    let hops = Snapshot::take(&hop_processes).await?.since(&before);
    stop.send_replace(true);
    while let Some(ended) = devices.join_next().await {
        ended.context("a client failed")?.context("a client gave up")?;
    }
    run.recorder.write(&Observation::End)?;
    run.recorder.finish()?;
    Ok(Summary { hops, ..Summary::of(&run, elapsed) })
}

async fn dispatch(run: &Run, senders: &[mpsc::UnboundedSender<Job>], total: u64) -> Result<()> {
    let progress = Progress::new("messages", total);
    let started = Instant::now();
    run.started.set(started).ok().context("the run was started twice")?;
    for index in 0..total {
        let due = started + run.plan.due(index);
        if due > Instant::now() {
            sleep_until(due.max(Instant::now() + TICK)).await;
            progress.show(false, || {
                format!(
                    "sent {index}/{total}, on their way {}, p99 {:.1} ms",
                    run.stats.sends.load(Ordering::Relaxed).saturating_sub(run.stats.sent.load(Ordering::Relaxed)),
                    run.stats.direct.percentiles().p99_ms.max(run.stats.group_last.percentiles().p99_ms),
                )
            });
        }
        let message = run.plan.message(index);
        senders[message.sender].send(Job { index, conversation: message.conversation }).context("a client is gone")?;
    }
    sleep_until(started + run.plan.due(total)).await;
    Ok(())
}

async fn drain(run: &Run) {
    let until = Instant::now() + Duration::from_secs_f64(run.args.drain_seconds);
    let acknowledged = || {
        run.stats.sent.load(Ordering::Relaxed) + run.stats.rejected.load(Ordering::Relaxed)
            >= run.stats.sends.load(Ordering::Relaxed)
    };
    while Instant::now() < until && !(run.outstanding.missing() == 0 && acknowledged()) {
        sleep(Duration::from_millis(20)).await;
    }
    // The last receipts are still to be sent.
    sleep(Duration::from_millis(2 * run.args.receipt_interval_ms)).await;
}

async fn make_conversations(api: &Api, plan: &Plan, users: &[Account]) -> Result<Vec<String>> {
    let progress = &Progress::new("conversations", plan.conversations.len() as u64);
    stream::iter(plan.conversations.iter().enumerate())
        .map(|(number, planned)| async move {
            let kind = if planned.group {
                client::conversation_kind::Value::Group
            } else {
                client::conversation_kind::Value::Direct
            };
            let request = client::CreateConversation {
                kind: kind.into(),
                title: if planned.group { format!("load group {number}") } else { String::new() },
                member_ids: planned.members[1..].iter().map(|user| users[*user].user_id.clone()).collect(),
            };
            let token = &users[planned.members[0]].token;
            let made: client::Conversation =
                patiently(|| api.call(Method::POST, "/v1/conversations", token, Some(&request)))
                    .await
                    .context("cannot make a conversation")?;
            progress.advance(1);
            Ok(made.conversation_id)
        })
        .buffered(CONCURRENT_REQUESTS)
        .try_collect()
        .await
}

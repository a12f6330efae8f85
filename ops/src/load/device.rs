//! One connection of the load: a client that sends what it is told to, acknowledges what it gets, and comes back with
//! resume when the connection breaks.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Result, anyhow};
use tidings_schemas::client::{
    self, ServerFrame, client_frame::Command, server_frame::Body, update::Kind as UpdateKind,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{accounts::Account, messages::Run, plan::SplitMix, record::Observation, unacknowledged::Unacknowledged};
use crate::client::{
    Socket,
    socket::{Closed, Resume},
};

const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(50);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// A message to send.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Its place in the plan.
    pub index: u64,
    /// The conversation's index.
    pub conversation: usize,
}

/// A connection's task.
pub struct Device {
    run: Arc<Run>,
    account: Account,
    device_id: String,
    /// Which server to go to next.
    server: usize,
    silence_max: Duration,
    resume: Resume,
    request: u32,
    unacknowledged: Unacknowledged,
    /// Conversation → the newest seq that no receipt has covered.
    unreceipted: HashMap<String, u64>,
    receipts_due: Option<Instant>,
    random: SplitMix,
}

enum Next {
    Frame(Box<ServerFrame>),
    Lost(String),
    Job(Job),
    Timer,
    Stop,
}

impl Device {
    /// For one user.
    pub fn new(run: Arc<Run>, account: Account, number: u64) -> Self {
        let mut random = SplitMix(run.args.seed ^ number);
        let server = random.below(run.servers.len());
        let silence_max = Duration::from_secs_f64(run.args.silence_seconds);
        let device_id = format!("load-{number}");
        Self {
            run,
            account,
            device_id,
            server,
            silence_max,
            resume: Resume::default(),
            request: 0,
            unacknowledged: Unacknowledged::default(),
            unreceipted: HashMap::new(),
            receipts_due: None,
            random,
        }
    }

    /// Connects, says so, and works until told to stop.
    pub async fn work(
        mut self,
        mut jobs: mpsc::UnboundedReceiver<Job>,
        ready: mpsc::Sender<()>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let mut socket = self.connect().await?;
        drop(ready);
        let mut heartbeat_at = Instant::now() + tidings_schemas::limits::HEARTBEAT_INTERVAL;
        loop {
            let retry_at = self.unacknowledged.next_at(Instant::now());
            let silent_at = socket.heard_at() + self.silence_max;
            let wake_at =
                [Some(heartbeat_at), self.receipts_due, retry_at, Some(silent_at)].into_iter().flatten().min();
            let next = tokio::select! {
                biased;
                frame = socket.next() => match frame {
                    Ok(frame) => Next::Frame(Box::new(frame)),
                    Err(error) => match error.downcast_ref::<Closed>() {
                        Some(closed) if !closed.may_come_back() => return Err(error),
                        _ => Next::Lost(format!("{error:#}")),
                    },
                },
                Some(job) = jobs.recv() => Next::Job(job),
                () = sleep_until(wake_at.unwrap_or(heartbeat_at)) => Next::Timer,
                _ = stop.wait_for(|stop| *stop) => Next::Stop,
            };
            let kept = match next {
                Next::Frame(frame) => self.handle(*frame),
                Next::Lost(reason) => Err(anyhow!(reason)),
                Next::Job(job) => self.begin(&mut socket, job).await,
                Next::Timer => {
                    let now = Instant::now();
                    // Pings have come meanwhile, perhaps: they wake nobody.
                    if now >= socket.heard_at() + self.silence_max {
                        Err(anyhow!("nothing came for {:?}", self.silence_max))
                    } else if now >= heartbeat_at {
                        heartbeat_at = now + tidings_schemas::limits::HEARTBEAT_INTERVAL;
                        socket.send(0, Command::Heartbeat(client::Heartbeat::default())).await
                    } else {
                        self.work_off(&mut socket, now).await
                    }
                }
                Next::Stop => break,
            };
            if let Err(error) = kept {
                self.run.stats.reconnected(&format!("{error:#}"));
                // One that fails its clients may not answer for long: to another, if there is one.
                self.server += 1;
                socket = self.connect().await?;
            }
        }
        socket.close().await;
        Ok(())
    }

    /// Connects, with back-off and jitter for as long as it takes, and sends again what no reply has come for.
    async fn connect(&mut self) -> Result<Socket> {
        let mut delay = RECONNECT_DELAY_MIN;
        let mut tries = 0_u32;
        loop {
            let run = Arc::clone(&self.run);
            let server = &run.servers[self.server % run.servers.len()];
            let connecting =
                Socket::connect(server, run.args.format, &self.account.token, &self.device_id, &self.resume);
            let connected = match timeout(self.silence_max, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(anyhow!("no welcome in time")),
            };
            self.server += 1;
            match connected {
                Ok((mut socket, welcome)) => {
                    self.server -= 1;
                    self.welcomed(&welcome)?;
                    if self.send_again(&mut socket).await.is_ok() {
                        return Ok(socket);
                    }
                }
                Err(error) => {
                    tries += 1;
                    let is_final = error.downcast_ref::<Closed>().is_some_and(|closed| !closed.may_come_back());
                    if is_final || tries > 600 {
                        return Err(error);
                    }
                    tracing::debug!(%error, "connecting again");
                }
            }
            #[allow(clippy::cast_possible_truncation, reason = "a jitter in milliseconds")]
            let jitter = self.random.below(delay.as_millis() as usize + 1) as u64;
            tokio::time::sleep(delay / 2 + Duration::from_millis(jitter) / 2).await;
            delay = (delay * 2).min(RECONNECT_DELAY_MAX);
        }
    }

    fn welcomed(&mut self, welcome: &client::Welcome) -> Result<()> {
        let first = self.resume.epoch.is_empty();
        if first || welcome.resync_required {
            self.resume = Resume { epoch: welcome.epoch.clone(), offset: welcome.offset };
        }
        if self.run.recorder.is_on() {
            self.run.recorder.write(&Observation::Connected {
                device: self.device_id.clone(),
                user: self.account.user_id.clone(),
                epoch: welcome.epoch.clone(),
                after: self.resume.offset,
            })?;
        }
        Ok(())
    }

    async fn send_again(&mut self, socket: &mut Socket) -> Result<()> {
        self.unacknowledged.start_over();
        for job in self.unacknowledged.due(Instant::now()) {
            self.send(socket, job).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, socket: &mut Socket, job: Job) -> Result<()> {
        self.run.stats.sends.fetch_add(1, Ordering::Relaxed);
        if self.run.recorder.is_on() {
            self.run.recorder.write(&Observation::Send {
                client_message: self.run.client_message_id(job.index),
                conversation: self.run.conversation_ids[job.conversation].clone(),
                user: self.account.user_id.clone(),
            })?;
        }
        if self.unacknowledged.add(job) { self.send(socket, job).await } else { Ok(()) }
    }

    async fn send(&mut self, socket: &mut Socket, job: Job) -> Result<()> {
        self.request = self.request.wrapping_add(1).max(1);
        self.unacknowledged.carried(job, self.request);
        let command = Command::Send(client::Send {
            conversation_id: self.run.conversation_ids[job.conversation].clone(),
            client_message_id: self.run.client_message_id(job.index),
            text: self.run.text.clone(),
            ..Default::default()
        });
        socket.send(self.request, command).await
    }

    async fn work_off(&mut self, socket: &mut Socket, now: Instant) -> Result<()> {
        self.send_receipts(socket, now).await?;
        for job in self.unacknowledged.due(now) {
            self.run.stats.retries.fetch_add(1, Ordering::Relaxed);
            self.send(socket, job).await?;
        }
        Ok(())
    }

    async fn send_receipts(&mut self, socket: &mut Socket, now: Instant) -> Result<()> {
        if self.receipts_due.is_none_or(|due| due > now) {
            return Ok(());
        }
        self.receipts_due = None;
        for (conversation_id, seq) in std::mem::take(&mut self.unreceipted) {
            self.run.stats.receipts.fetch_add(1, Ordering::Relaxed);
            let receipt = client::SendReceipt { conversation_id, delivered_seq: seq, seen_seq: seq };
            socket.send(0, Command::Receipt(receipt)).await?;
        }
        Ok(())
    }

    fn handle(&mut self, frame: ServerFrame) -> Result<()> {
        match frame.body {
            Some(Body::Update(update)) => self.updated(update),
            Some(Body::Sent(sent)) => self.sent(frame.id, &sent.message.unwrap_or_default()),
            Some(Body::Error(error)) => self.refused(frame.id, &error),
            // The verdict comes later, as an update or a rejection: until then it counts as not acknowledged.
            Some(Body::Queued(_)) => {
                self.unacknowledged.taken(frame.id.unwrap_or_default());
                Ok(())
            }
            Some(Body::Rejected(rejected)) => {
                let index = self.run.message_index(&rejected.client_message_id);
                match index.and_then(|index| self.unacknowledged.message_decided(index)) {
                    Some(job) => self.rejected(job, rejected.error.unwrap_or_default().code),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn sent(&mut self, request: Option<u32>, message: &client::Message) -> Result<()> {
        match self.unacknowledged.decided(request.unwrap_or_default()) {
            Some(job) => self.acknowledged(job, message),
            None => Ok(()),
        }
    }

    fn acknowledged(&self, job: Job, message: &client::Message) -> Result<()> {
        self.run.stats.sent.fetch_add(1, Ordering::Relaxed);
        if let Some(latency) = self.run.latency(job.index) {
            self.run.stats.acknowledged.record(latency);
        }
        if self.run.recorder.is_on() {
            self.run.recorder.write(&Observation::Sent {
                client_message: message.client_message_id.clone(),
                conversation: message.conversation_id.clone(),
                message: message.message_id.clone(),
                seq: message.seq,
            })?;
        }
        Ok(())
    }

    fn refused(&mut self, request: Option<u32>, error: &client::Error) -> Result<()> {
        let request = request.unwrap_or_default();
        if error.retryable {
            let retry_after = error.retry_after_ms.map(|millis| Duration::from_millis(millis.into()));
            if self.unacknowledged.refused(request, retry_after, Instant::now(), &mut self.random) {
                return Ok(());
            }
        } else if let Some(job) = self.unacknowledged.decided(request) {
            return self.rejected(job, error.code.clone());
        }
        tracing::debug!(code = error.code, message = error.message, "an error");
        Ok(())
    }

    fn rejected(&self, job: Job, code: String) -> Result<()> {
        self.run.stats.rejected.fetch_add(1, Ordering::Relaxed);
        self.run.outstanding.cancelled(job.index);
        if self.run.recorder.is_on() {
            let client_message = self.run.client_message_id(job.index);
            self.run.recorder.write(&Observation::Rejected { client_message, code })?;
        }
        Ok(())
    }

    fn updated(&mut self, update: client::Update) -> Result<()> {
        self.resume.offset = self.resume.offset.max(update.offset);
        let recording = self.run.recorder.is_on();
        match update.kind {
            Some(UpdateKind::Message(message)) => self.message(update.offset, message, recording),
            Some(UpdateKind::Receipt(receipt)) => {
                self.run.stats.receipt_updates.fetch_add(1, Ordering::Relaxed);
                if recording {
                    self.run.recorder.write(&Observation::Receipt {
                        device: self.device_id.clone(),
                        offset: update.offset,
                        conversation: receipt.conversation_id,
                        user: receipt.user_id,
                        cursors: [
                            receipt.delivered_seq,
                            receipt.seen_seq,
                            receipt.delivered_to_all_seq,
                            receipt.seen_by_all_seq,
                        ],
                    })?;
                }
                Ok(())
            }
            _ if recording => {
                let other = Observation::Other { device: self.device_id.clone(), offset: update.offset };
                self.run.recorder.write(&other)
            }
            _ => Ok(()),
        }
    }

    fn message(&mut self, offset: u64, message: client::Message, recording: bool) -> Result<()> {
        let index = self.run.message_index(&message.client_message_id);
        if message.sender_id == self.account.user_id {
            // As good as `sent`; after `queued`, it is all that comes.
            if let Some(job) = index.and_then(|index| self.unacknowledged.message_decided(index)) {
                self.acknowledged(job, &message)?;
            }
        } else {
            self.run.stats.deliveries.fetch_add(1, Ordering::Relaxed);
            if let Some(index) = index {
                let last = self.run.outstanding.arrived(index);
                self.run.delivered(index, last);
            }
            if self.run.args.receipt_interval_ms > 0 {
                let seq = self.unreceipted.entry(message.conversation_id.clone()).or_default();
                *seq = message.seq.max(*seq);
                self.receipts_due
                    .get_or_insert_with(|| Instant::now() + Duration::from_millis(self.run.args.receipt_interval_ms));
            }
        }
        if recording {
            self.run.recorder.write(&Observation::Message {
                device: self.device_id.clone(),
                offset,
                conversation: message.conversation_id,
                seq: message.seq,
                message: message.message_id,
                client_message: message.client_message_id,
            })?;
        }
        Ok(())
    }
}

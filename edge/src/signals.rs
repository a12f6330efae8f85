//! What is true only for a while: sessions, signs of life, presence watches, typing. One record for each partition of
//! users holds what all clients of this edge said since the last one.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message as _;
use tidings_ingest::{AppendError, Log, NewRecord};
use tidings_schemas::{
    clock::{Clock, Entropy},
    ids::{ConversationId, SessionId, UserId, pack_user_ids},
    limits::{HEARTBEAT_INTERVAL, SIGNALS_PENDING_MAX, VERDICT_TIMEOUT},
    topics::{Topic, user_partition},
    wire::{self, signal::Body},
};
use tokio::sync::oneshot;

use crate::{
    error::ApiError,
    leases::EdgeIdentity,
    metrics::Metrics,
    outbox::{Outbox, Pending},
};

/// Bytes of signals in one record: well below what the log takes.
const RECORD_BYTES: usize = 1024 * 1024;
/// Presence questions that wait for their answer. Over: `unavailable`.
const QUERIES_PENDING_MAX: usize = 16_384;

/// The signals of one edge.
pub struct Signals {
    outboxes: Vec<Arc<Outbox<PendingSignals>>>,
    queries: Mutex<HashMap<u64, oneshot::Sender<wire::PresenceAnswer>>>,
    next_query: AtomicU64,
    context: Arc<Context>,
}

struct Context {
    identity: EdgeIdentity,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    partitions: Vec<PartitionHealth>,
}

/// When a record of the partition last became durable, and whether it was so long before that the recipients stage may
/// have taken this edge for dead.
struct PartitionHealth {
    appended_at_ms: AtomicU64,
    was_silent: AtomicBool,
}

#[derive(Default)]
struct PendingSignals {
    signals: VecDeque<wire::Signal>,
    /// 24 bytes each.
    heartbeats: Vec<u8>,
    tick: bool,
}

impl Signals {
    /// Signals of a run of the edge, which starts now.
    pub fn new(
        log: &Arc<dyn Log>,
        identity: EdgeIdentity,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        metrics: Arc<Metrics>,
    ) -> Self {
        let count = log.partitions(Topic::Signals);
        let now = millis(clock.monotonic());
        let partitions = (0..count)
            .map(|_| PartitionHealth { appended_at_ms: AtomicU64::new(now), was_silent: AtomicBool::new(false) })
            .collect();
        let context = Arc::new(Context { identity, clock, metrics, partitions });
        let outbox = |partition| Outbox::new(Arc::clone(log), partition, Arc::clone(&context));
        Self {
            outboxes: (0..count).map(outbox).collect(),
            queries: Mutex::default(),
            next_query: AtomicU64::new(entropy.next_u64()),
            context,
        }
    }

    /// A connection said `hello`. May be said again: the stage answers again.
    pub fn session_opened(&self, user: UserId, session: SessionId, device_id: &str) {
        let body =
            wire::SessionOpened { user_id: Some(user.into()), session_id: session.0, device_id: device_id.to_owned() };
        self.push(self.partition(user), Body::SessionOpened(body));
    }

    /// A session ended; `clean`: its client said goodbye.
    pub fn session_closed(&self, user: UserId, session: SessionId, clean: bool) {
        let body = wire::SessionClosed { user_id: Some(user.into()), session_id: session.0, clean };
        self.push(self.partition(user), Body::SessionClosed(body));
    }

    /// A sign of life, which leaves with the next tick.
    pub fn heartbeat(&self, user: UserId, session: SessionId) {
        let Some(outbox) = self.outboxes.get(self.partition(user) as usize) else { return };
        outbox.with(|pending| {
            if pending.heartbeats.len() > 2 * RECORD_BYTES {
                return self.context.metrics.dropped("heartbeats_full");
            }
            pending.heartbeats.extend_from_slice(&user.to_bytes());
            pending.heartbeats.extend_from_slice(&session.0.to_be_bytes());
        });
    }

    /// A session wants to know when these come and go, or no longer.
    pub fn watch(&self, session: SessionId, users: &[UserId], watch: bool) {
        for (partition, user_ids) in self.by_partition(users) {
            let body = wire::WatchPresence { session_id: session.0, user_ids };
            self.push(partition, if watch { Body::WatchPresence(body) } else { Body::UnwatchPresence(body) });
        }
    }

    /// A session that is not there (any more) was told of `watched`: its watches among the users of that partition end.
    /// So one whose end was lost, because the log took nothing for long, goes at the first thing that it is told.
    pub fn forget_watcher(&self, session: SessionId, watched: UserId) {
        let body = wire::WatchPresence { session_id: session.0, user_ids: Bytes::new() };
        self.push(self.partition(watched), Body::UnwatchPresence(body));
    }

    /// A user is typing; `recipients` are those to tell.
    pub fn typing(&self, conversation: ConversationId, user: UserId, recipients: &[UserId]) {
        for (partition, recipient_ids) in self.by_partition(recipients) {
            if self.is_full(partition) {
                self.context.metrics.dropped("typing_signals_full");
                continue;
            }
            let body =
                wire::Typing { conversation_id: Some(conversation.into()), user_id: Some(user.into()), recipient_ids };
            self.push(partition, Body::Typing(body));
        }
    }

    /// Asks once whether a user is online.
    ///
    /// # Errors
    /// `unavailable`: no answer in time, or too many ask.
    pub async fn presence(&self, user: UserId) -> Result<wire::PresenceAnswer, ApiError> {
        let request_id = self.next_query.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
            if queries.len() >= QUERIES_PENDING_MAX {
                queries.retain(|_, waiting| !waiting.is_closed());
            }
            if queries.len() >= QUERIES_PENDING_MAX {
                return Err(no_answer());
            }
            queries.insert(request_id, sender);
        }
        let body = wire::PresenceQuery { request_id, user_id: Some(user.into()) };
        self.push(self.partition(user), Body::PresenceQuery(body));
        let answer = tokio::time::timeout(VERDICT_TIMEOUT, receiver).await;
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).remove(&request_id);
        answer.ok().and_then(Result::ok).ok_or_else(no_answer)
    }

    /// Passes an answer on to who asked.
    pub fn answered(&self, answer: wire::PresenceAnswer) {
        let waiting = self.queries.lock().unwrap_or_else(PoisonError::into_inner).remove(&answer.request_id);
        if let Some(waiting) = waiting {
            // Who asked may have left.
            let _ = waiting.send(answer);
        }
    }

    /// Once a second: a record for each partition, with nothing in it if need be. Returns the partitions whose stage may
    /// have taken this edge for dead, because its records did not get through for long: their sessions are to be opened
    /// again.
    pub fn tick(&self) -> Vec<u32> {
        let mut waiting = 0;
        for outbox in &self.outboxes {
            outbox.with(|pending| pending.tick = true);
            waiting += outbox.look(|pending| pending.signals.len());
        }
        self.context.metrics.signals_pending.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        (0..)
            .zip(&self.context.partitions)
            .filter(|(_, health)| health.was_silent.swap(false, Ordering::Relaxed))
            .map(|(partition, _)| partition)
            .collect()
    }

    /// The partition of a user's signals.
    pub fn partition(&self, user: UserId) -> u32 {
        user_partition(user, u32::try_from(self.outboxes.len()).unwrap_or(u32::MAX))
    }

    fn by_partition(&self, users: &[UserId]) -> Vec<(u32, Bytes)> {
        let mut sorted: Vec<(u32, UserId)> = users.iter().map(|user| (self.partition(*user), *user)).collect();
        sorted.sort_unstable();
        sorted.dedup();
        sorted
            .chunk_by(|one, other| one.0 == other.0)
            .filter_map(|chunk| Some((chunk.first()?.0, pack_user_ids(chunk.iter().map(|(_, user)| *user)))))
            .collect()
    }

    fn is_full(&self, partition: u32) -> bool {
        let outbox = self.outboxes.get(partition as usize);
        outbox.is_none_or(|outbox| outbox.look(|pending| pending.signals.len() >= SIGNALS_PENDING_MAX))
    }

    fn push(&self, partition: u32, body: Body) {
        let Some(outbox) = self.outboxes.get(partition as usize) else { return };
        outbox.with(|pending| {
            // The bound of what the others refuse at, once more: sessions and their ends go on being taken as long as
            // possible, because a lost one is a user who seems offline, or online until the heartbeats are missed.
            if pending.signals.len() < 2 * SIGNALS_PENDING_MAX {
                pending.signals.push_back(wire::Signal { body: Some(body) });
            } else {
                self.context.metrics.dropped("signals_full");
            }
        });
    }
}

impl Pending for PendingSignals {
    type Taken = wire::SignalRecord;
    type Context = Context;

    fn take(&mut self) -> Option<wire::SignalRecord> {
        if self.signals.is_empty() && !self.tick {
            return None;
        }
        let mut signals = Vec::new();
        let mut bytes = 0;
        if mem::take(&mut self.tick) && !self.heartbeats.is_empty() {
            bytes += self.heartbeats.len();
            signals.push(wire::Signal { body: Some(Body::Heartbeats(mem::take(&mut self.heartbeats).into())) });
        }
        while bytes < RECORD_BYTES {
            let Some(signal) = self.signals.pop_front() else { break };
            bytes += signal.encoded_len();
            signals.push(signal);
        }
        Some(wire::SignalRecord { signals, ..Default::default() })
    }

    fn record(taken: &mut wire::SignalRecord, partition: u32, context: &Context) -> NewRecord {
        taken.edge_id = context.identity.edge_id;
        taken.edge_run = context.identity.run;
        taken.stamped_at_ms = context.clock.now_ms();
        NewRecord { topic: Topic::Signals, partition, key: Bytes::new(), value: taken.encode_to_vec().into() }
    }

    fn appended(_taken: wire::SignalRecord, partition: u32, context: &Context) {
        let Some(health) = context.partitions.get(partition as usize) else { return };
        let now = millis(context.clock.monotonic());
        let before = health.appended_at_ms.swap(now, Ordering::Relaxed);
        if now.saturating_sub(before) > millis(HEARTBEAT_INTERVAL) {
            health.was_silent.store(true, Ordering::Relaxed);
        }
    }

    fn refused(&mut self, taken: wire::SignalRecord, error: AppendError, context: &Context) {
        tracing::warn!(%error, "signals wait for the log");
        for signal in taken.signals.into_iter().rev() {
            // What is only of the moment is not worth keeping.
            if matches!(signal.body, Some(Body::Typing(_) | Body::PresenceQuery(_))) {
                context.metrics.dropped("signals_refused");
            } else {
                self.signals.push_front(signal);
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn no_answer() -> ApiError {
    ApiError::unavailable("presence is not known at the moment: try again")
}

//! Delivered and seen receipts, spaced out: the first of a conversation goes at once, what follows within the interval is
//! merged and goes together. All that are due in one partition are one record. A storm of receipts in a group is a few
//! records a second.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message as _;
use tidings_ingest::{AppendError, Log, NewRecord};
use tidings_schemas::{
    client,
    clock::Clock,
    ids::{ConversationId, UserId},
    limits::RECEIPTS_PENDING_MAX,
    topics::{Topic, conversation_partition},
    wire,
};
use tokio::{sync::Notify, task::JoinHandle, time::sleep};

use crate::{
    commands::validate,
    error::ApiError,
    membership::Membership,
    metrics::Metrics,
    outbox::{Outbox, Pending},
};

/// Receipts in one record: some 500 KiB.
const RECORD_RECEIPTS_MAX: usize = 8_192;

/// Called once, when the receipt is durable or refused. Must be short.
pub type OnDone = Box<dyn FnOnce(Result<(), ApiError>) + Send>;

/// The receipts of one edge.
pub struct Receipts {
    outboxes: Vec<Arc<Outbox<DueReceipts>>>,
    membership: Arc<Membership>,
    spacing: Mutex<Spacing>,
    interval: Duration,
    first_due: Notify,
    context: Arc<Context>,
}

struct Context {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Receipts whose sender waits.
    pending: AtomicUsize,
}

/// Conversations whose last batch left less than the interval ago.
#[derive(Default)]
struct Spacing {
    waiting: HashMap<ConversationId, Vec<Cursors>>,
    /// All intervals are of equal length, so this is in order.
    due: VecDeque<(Duration, ConversationId)>,
}

/// One user's cursors in one conversation, and who waits for their being durable.
struct Cursors {
    conversation: ConversationId,
    user: UserId,
    delivered_seq: u64,
    seen_seq: u64,
    on_done: Vec<OnDone>,
}

#[derive(Default)]
struct DueReceipts(VecDeque<Cursors>);

impl Receipts {
    /// Receipts that leave each conversation at most once an interval.
    pub fn new(
        log: &Arc<dyn Log>,
        membership: Arc<Membership>,
        interval: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let context = Arc::new(Context { clock, metrics, pending: AtomicUsize::new(0) });
        let outbox = |partition| Outbox::new(Arc::clone(log), partition, Arc::clone(&context));
        Self {
            outboxes: (0..log.partitions(Topic::Events)).map(outbox).collect(),
            membership,
            spacing: Mutex::default(),
            interval,
            first_due: Notify::new(),
            context,
        }
    }

    /// Moves a user's cursors forward. Runs inside the runtime: a membership that is not known yet is looked up on a
    /// task of its own.
    pub fn submit(self: &Arc<Self>, user: UserId, receipt: &client::SendReceipt, on_done: OnDone) {
        let conversation = match checked(receipt) {
            Ok(conversation) => conversation,
            Err(error) => return on_done(Err(error)),
        };
        if self.context.pending.fetch_add(1, Ordering::Relaxed) >= RECEIPTS_PENDING_MAX {
            self.context.pending.fetch_sub(1, Ordering::Relaxed);
            return on_done(Err(ApiError::unavailable("too many receipts wait: try again")));
        }
        let cursors = Cursors {
            conversation,
            user,
            delivered_seq: receipt.delivered_seq.max(receipt.seen_seq),
            seen_seq: receipt.seen_seq,
            on_done: vec![on_done],
        };
        if self.membership.is_known(user, conversation) {
            return self.space(cursors);
        }
        let receipts = Arc::clone(self);
        tokio::spawn(async move {
            match receipts.membership.check(user, conversation).await {
                Ok(()) => receipts.space(cursors),
                Err(error) => receipts.context.done(cursors, &Err(error)),
            }
        });
    }

    /// Lets go what is due, until it is dropped or aborted.
    pub fn start(self: &Arc<Self>) -> JoinHandle<()> {
        let receipts = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                match receipts.next_due() {
                    Some(wait) => sleep(wait).await,
                    None => receipts.first_due.notified().await,
                }
                receipts.release();
            }
        })
    }

    /// How long until the next conversation is due.
    fn next_due(&self) -> Option<Duration> {
        let spacing = self.spacing.lock().unwrap_or_else(PoisonError::into_inner);
        spacing.due.front().map(|(due, _)| due.saturating_sub(self.context.clock.monotonic()))
    }

    fn space(&self, cursors: Cursors) {
        let now = self.context.clock.monotonic();
        let mut spacing = self.spacing.lock().unwrap_or_else(PoisonError::into_inner);
        let conversation = cursors.conversation;
        if let Some(waiting) = spacing.waiting.get_mut(&conversation) {
            match waiting.iter_mut().find(|other| other.user == cursors.user) {
                Some(other) => other.merge(cursors),
                None => waiting.push(cursors),
            }
            return;
        }
        spacing.waiting.insert(conversation, Vec::new());
        spacing.due.push_back((now + self.interval, conversation));
        if spacing.due.len() == 1 {
            self.first_due.notify_one();
        }
        drop(spacing);
        self.append(self.partition(conversation), [cursors]);
    }

    fn release(&self) {
        let now = self.context.clock.monotonic();
        let mut released: Vec<Vec<Cursors>> = self.outboxes.iter().map(|_| Vec::new()).collect();
        {
            let spacing = &mut *self.spacing.lock().unwrap_or_else(PoisonError::into_inner);
            while spacing.due.front().is_some_and(|(due, _)| *due <= now) {
                let Some((_, conversation)) = spacing.due.pop_front() else { break };
                let Some(waiting) = spacing.waiting.get_mut(&conversation) else { continue };
                if waiting.is_empty() {
                    spacing.waiting.remove(&conversation);
                    continue;
                }
                if let Some(released) = released.get_mut(self.partition(conversation) as usize) {
                    released.append(waiting);
                }
                spacing.due.push_back((now + self.interval, conversation));
            }
        }
        for (partition, cursors) in (0..).zip(released) {
            if !cursors.is_empty() {
                self.append(partition, cursors);
            }
        }
        let pending = self.context.pending.load(Ordering::Relaxed);
        self.context.metrics.receipts_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }

    fn append(&self, partition: u32, cursors: impl IntoIterator<Item = Cursors>) {
        if let Some(outbox) = self.outboxes.get(partition as usize) {
            outbox.with(|due| due.0.extend(cursors));
        }
    }

    fn partition(&self, conversation: ConversationId) -> u32 {
        conversation_partition(conversation, u32::try_from(self.outboxes.len()).unwrap_or(u32::MAX))
    }
}

fn checked(receipt: &client::SendReceipt) -> Result<ConversationId, ApiError> {
    let conversation = validate::conversation_id(&receipt.conversation_id)?;
    if receipt.delivered_seq == 0 && receipt.seen_seq == 0 {
        return Err(ApiError::invalid_argument("a receipt needs delivered_seq or seen_seq, or both"));
    }
    Ok(conversation)
}

impl Cursors {
    /// Cursors only move forward.
    fn merge(&mut self, other: Self) {
        self.delivered_seq = self.delivered_seq.max(other.delivered_seq);
        self.seen_seq = self.seen_seq.max(other.seen_seq);
        self.on_done.extend(other.on_done);
    }
}

impl Context {
    fn done(&self, cursors: Cursors, result: &Result<(), ApiError>) {
        self.pending.fetch_sub(cursors.on_done.len(), Ordering::Relaxed);
        for on_done in cursors.on_done {
            on_done(result.clone());
        }
    }
}

impl Pending for DueReceipts {
    type Taken = Vec<Cursors>;
    type Context = Context;

    fn take(&mut self) -> Option<Vec<Cursors>> {
        if self.0.is_empty() {
            return None;
        }
        if self.0.len() <= RECORD_RECEIPTS_MAX {
            return Some(mem::take(&mut self.0).into());
        }
        Some(self.0.drain(..RECORD_RECEIPTS_MAX).collect())
    }

    fn record(taken: &mut Vec<Cursors>, partition: u32, context: &Context) -> NewRecord {
        let receipt = |cursors: &Cursors| wire::Receipt {
            conversation_id: Some(cursors.conversation.into()),
            user_id: Some(cursors.user.into()),
            delivered_seq: cursors.delivered_seq,
            seen_seq: cursors.seen_seq,
        };
        let receipts = wire::Receipts { receipts: taken.iter().map(receipt).collect() };
        let event = wire::Event {
            stamped_at_ms: context.clock.now_ms(),
            body: Some(wire::event::Body::Receipts(receipts)),
            ..Default::default()
        };
        NewRecord { topic: Topic::Events, partition, key: Bytes::new(), value: event.encode_to_vec().into() }
    }

    fn appended(taken: Vec<Cursors>, _partition: u32, context: &Context) {
        for cursors in taken {
            context.done(cursors, &Ok(()));
        }
    }

    fn refused(&mut self, taken: Vec<Cursors>, error: AppendError, context: &Context) {
        // Those behind them, too: nothing would come to try again, and their senders can.
        let result = Err(error.into());
        for cursors in taken.into_iter().chain(self.0.drain(..)) {
            context.done(cursors, &result);
        }
    }
}

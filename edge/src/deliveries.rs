//! Reads this edge's partition of `deliveries` and routes what it says: verdicts to who waits, pushes to sessions.
//!
//! What a push says is encoded once for each format, whatever the number of its recipients here; each one's offset is
//! spliced in when it is copied to the connection's queue. Connections are woken once for each batch read, so that what
//! came together is written together.

use std::{
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use hashbrown::HashSet;
use prost::Message as _;
use tidings_ingest::{AsyncReader, Log, LogError, StoredRecord};
use tidings_schemas::{
    client::{self, server_frame::Body, update::Kind},
    clock::Clock,
    ids::{ConversationId, SessionId, UserId, unpack_user_ids},
    time::Timestamp,
    topics::Topic,
    wire::{self, delivery_record::Body as Delivery, push_item::Content},
};
use tokio::task::JoinHandle;

use crate::{
    metrics::Metrics,
    read::{Reads, convert},
    sessions::{Session, Sessions},
    signals::Signals,
    verdicts::Verdicts,
    websocket::{
        format::{SharedUpdate, notice},
        queue::{Connection, Queued},
    },
};

/// Bytes of deliveries that are routed before connections are woken: enough to batch under load, little enough to keep
/// nobody waiting.
const BATCH_BYTES: usize = 64 * 1024;

/// How long until deliveries that could not be read are tried again: at first, and at the most.
const READ_RETRY_DELAY: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(1);

/// Routes this edge's deliveries.
pub struct Deliveries {
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Who waits for a verdict.
    pub verdicts: Arc<Verdicts>,
    /// Who waits for presence.
    pub signals: Arc<Signals>,
    /// Told what clients have been told.
    pub reads: Arc<Reads>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Connections with something new in their queues, in the order in which it came.
#[derive(Default)]
struct ToWake {
    known: HashSet<usize>,
    connections: Vec<Arc<Connection>>,
}

impl Deliveries {
    /// Reads from the end of the partition as it is now, before any session is opened.
    ///
    /// # Errors
    /// The log has no such partition, or cannot be read.
    pub fn start(self, log: &Arc<dyn Log>, edge_id: u32) -> Result<JoinHandle<()>, LogError> {
        let log = Arc::clone(log);
        let mut reader = AsyncReader::at_end(log.as_ref(), Topic::Deliveries, edge_id)?;
        Ok(tokio::spawn(async move {
            let mut delay = *READ_RETRY_DELAY.start();
            loop {
                match reader.next_batch(BATCH_BYTES).await {
                    Ok(records) => {
                        delay = *READ_RETRY_DELAY.start();
                        // A defect that one record brings to light must not stop all the others: what is lost here the
                        // gap rule reads again.
                        if catch_unwind(AssertUnwindSafe(|| self.route(records))).is_err() {
                            tracing::error!("routing deliveries panicked: this is a defect");
                            self.metrics.dropped("delivery_panicked");
                        }
                        // A batch may be long work; let the connections of this thread write.
                        tokio::task::yield_now().await;
                    }
                    // The reader stands where it stood.
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(%error, "deliveries cannot be read for the moment: tried again");
                        tokio::time::sleep(delay).await;
                        delay = (delay * 2).min(*READ_RETRY_DELAY.end());
                    }
                    Err(error) => {
                        tracing::error!(%error, "deliveries cannot be read: going on at the end of the partition");
                        self.metrics.dropped("deliveries_unreadable");
                        match AsyncReader::at_end_now(log.as_ref(), Topic::Deliveries, edge_id).await {
                            Ok(next) => {
                                reader = next;
                                self.attach_all_again();
                            }
                            Err(error) => tracing::error!(%error, "deliveries cannot be opened"),
                        }
                        tokio::time::sleep(*READ_RETRY_DELAY.end()).await;
                    }
                }
            }
        }))
    }

    /// Pushes were skipped: each session is told the end of its stream anew, and reads from the views what it has not had.
    fn attach_all_again(&self) {
        for session in self.sessions.all() {
            self.signals.session_opened(session.user_id(), session.session_id(), session.device_id());
        }
    }

    fn route(&self, records: Vec<StoredRecord>) {
        let mut to_wake = ToWake::default();
        let now_ms = self.clock.now_ms();
        for record in records {
            match wire::DeliveryRecord::decode(record.value) {
                Ok(wire::DeliveryRecord { source, body: Some(body) }) => {
                    self.deliver(source.unwrap_or_default(), body, &mut to_wake);
                }
                Ok(_) => self.metrics.dropped("delivery_of_unknown_kind"),
                Err(error) => {
                    tracing::error!(%error, offset = record.offset, "a delivery cannot be decoded");
                    self.metrics.dropped("delivery_undecodable");
                }
            }
            let lag_ms = u32::try_from(now_ms.saturating_sub(record.timestamp_ms)).unwrap_or(0);
            self.metrics.delivery_lag_seconds.observe(f64::from(lag_ms) / 1000.0);
        }
        for connection in to_wake.connections {
            connection.wake();
        }
    }

    fn deliver(&self, source: wire::Source, body: Delivery, to_wake: &mut ToWake) {
        match body {
            Delivery::Verdict(verdict) => {
                self.reads.freshness().note_events(&source);
                let Some(outcome) = verdict.outcome else { return self.metrics.dropped("verdict_of_unknown_kind") };
                if let Some(waited) = self.verdicts.decided(verdict.request_id, outcome) {
                    self.metrics.verdict_seconds.observe(waited.as_secs_f64());
                }
            }
            Delivery::Push(push) => {
                self.reads.freshness().note_fanout(&source);
                if let Some(events_source) = &push.events_source {
                    self.reads.freshness().note_events(events_source);
                }
                for item in push.items {
                    self.push(item, to_wake);
                }
            }
            Delivery::Attached(attached) => {
                if let Some(session) = self.sessions.by_id(SessionId(attached.session_id)) {
                    session.attached(attached.offset);
                }
            }
            Delivery::Presence(presence) => self.presence(&presence, to_wake),
            Delivery::Typing(typing) => self.typing(&typing, to_wake),
            Delivery::PresenceAnswer(answer) => self.signals.answered(answer),
        }
    }

    fn push(&self, item: wire::PushItem, to_wake: &mut ToWake) {
        let recipients = unpack_user_ids(&item.user_ids).zip(item.offsets);
        let kind = match item.content {
            // Not the same for all, and more than the record says: read for each.
            Some(Content::Conversation(_)) => {
                return self.sessions.for_users(recipients, |session, offset| session.pushed_to_read(*offset));
            }
            Some(Content::Entry(entry)) => convert::message(&entry, None).map(|message| Some(Kind::Message(message))),
            Some(Content::Change(change)) => {
                convert::changed_message(&change).map(|message| Some(Kind::MessageChanged(message)))
            }
            Some(Content::Receipt(receipt)) => Ok(Some(Kind::Receipt(convert::receipt(&receipt)))),
            // A kind of a newer version: the offset counts all the same.
            None => Ok(None),
        };
        match kind {
            Ok(kind) => {
                let update = Arc::new(SharedUpdate::new(kind));
                self.sessions.for_users(recipients, |session, offset| {
                    if session.pushed(*offset, &update) {
                        wake_later(to_wake, session);
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "a push cannot be decoded; its recipients read it from the views");
                self.metrics.dropped("push_undecodable");
                self.sessions.for_users(recipients, |session, offset| session.pushed_to_read(*offset));
            }
        }
    }

    fn presence(&self, presence: &wire::Presence, to_wake: &mut ToWake) {
        let last_seen_at_ms = presence.last_seen_at_ms;
        let frame = notice(Body::Presence(client::Presence {
            user_id: presence.user_id.map(|id| UserId::from(id).to_string()).unwrap_or_default(),
            online: presence.online,
            last_seen_at: (last_seen_at_ms != 0).then(|| Timestamp::from_millis(last_seen_at_ms)),
        }));
        for session_id in &presence.session_ids {
            let Some(session) = self.sessions.by_id(SessionId(*session_id)) else {
                if let Some(user) = presence.user_id {
                    self.signals.forget_watcher(SessionId(*session_id), user.into());
                }
                continue;
            };
            if session.connection().push_droppable(&frame, "presence_slow_consumer") == Queued::Yes {
                wake_later(to_wake, &session);
            }
        }
    }

    fn typing(&self, typing: &wire::TypingNotice, to_wake: &mut ToWake) {
        let frame = notice(Body::Typing(client::Typing {
            conversation_id: typing.conversation_id.map(|id| ConversationId::from(id).to_string()).unwrap_or_default(),
            user_id: typing.user_id.map(|id| UserId::from(id).to_string()).unwrap_or_default(),
        }));
        let recipients = unpack_user_ids(&typing.recipient_ids).map(|user| (user, ()));
        self.sessions.for_users(recipients, |session, ()| {
            if session.is_welcomed()
                && session.connection().push_droppable(&frame, "typing_slow_consumer") == Queued::Yes
            {
                wake_later(to_wake, session);
            }
        });
    }
}

fn wake_later(to_wake: &mut ToWake, session: &Arc<Session>) {
    let connection = session.connection();
    if to_wake.known.insert(Arc::as_ptr(connection).addr()) {
        to_wake.connections.push(Arc::clone(connection));
    }
}

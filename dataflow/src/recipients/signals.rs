//! Takes signals in: sessions, heartbeats, watches, typing, presence queries.

use prost::Message;
use tidings_ingest::StoredRecord;
use tidings_schemas::{
    ids::{UserId, unpack_user_ids},
    limits::STAMP_SKEW_MAX,
    wire::{self, delivery_record, signal},
};

use super::{
    RecipientsShard,
    batch::{Piece, Transition, Typing},
    presence::{PresenceChange, Run, Sign},
    users::Slot,
    watches::WatchChange,
};

/// A heartbeat in a packed list: user (16 bytes) and session (8), big-endian.
const HEARTBEAT_BYTES: usize = 24;

/// Whose record is being taken in, and from where.
#[derive(Clone, Copy)]
struct Origin {
    edge_id: u32,
    offset: u64,
}

impl RecipientsShard {
    /// Takes one record of `signals` in.
    pub(super) fn take_signals(&mut self, record: &StoredRecord) {
        let Ok(signals) = wire::SignalRecord::decode(record.value.clone()) else {
            self.counts.undecodable += 1;
            return;
        };
        if signals.edge_id >= self.edge_count {
            self.counts.unknown_edges += 1;
            return;
        }
        let skew_ms = i64::try_from(STAMP_SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
        let stamp_ms = signals
            .stamped_at_ms
            .clamp(record.timestamp_ms.saturating_sub(skew_ms), record.timestamp_ms.saturating_add(skew_ms));
        let origin = Origin { edge_id: signals.edge_id, offset: record.offset };

        let mut changes = std::mem::take(&mut self.presence_changes);
        let run = self.presence.hear(origin.edge_id, signals.edge_run, stamp_ms, &mut self.users, &mut changes);
        if run == Run::New {
            self.change_watches(|watches, changes| watches.end_edge(origin.edge_id, changes));
        }
        self.apply(origin, &mut changes);
        if run == Run::Past {
            self.counts.past_runs += 1;
        } else {
            for signal in signals.signals {
                self.take_signal(origin, signal, &mut changes);
            }
        }
        self.presence_changes = changes;
    }

    fn take_signal(&mut self, origin: Origin, signal: wire::Signal, changes: &mut Vec<PresenceChange>) {
        match signal.body {
            Some(signal::Body::SessionOpened(opened)) => {
                let Some(user) = opened.user_id else { return self.count_incomplete() };
                let slot = self.users.slot(user.into());
                self.sign_of_life(origin, slot, opened.session_id, true, changes);
            }
            Some(signal::Body::SessionClosed(closed)) => {
                let Some(user) = closed.user_id else { return self.count_incomplete() };
                if let Some(slot) = self.users.find(user.into()) {
                    let Self { presence, users, .. } = self;
                    presence.close_session(slot, closed.session_id, origin.edge_id, closed.clean, users, changes);
                    self.apply(origin, changes);
                }
                if self.watches.edge_of(closed.session_id) == Some(origin.edge_id) {
                    self.change_watches(|watches, changes| watches.end_session(closed.session_id, changes));
                }
            }
            Some(signal::Body::Heartbeats(heartbeats)) => {
                for heartbeat in heartbeats.as_chunks::<HEARTBEAT_BYTES>().0 {
                    let Some((user, session)) = heartbeat.split_first_chunk::<16>() else { continue };
                    let Some((session, _)) = session.split_first_chunk::<8>() else { continue };
                    let slot = self.users.slot(UserId::from_bytes(*user));
                    self.sign_of_life(origin, slot, u64::from_be_bytes(*session), false, changes);
                }
            }
            Some(signal::Body::WatchPresence(watch)) => {
                for user in unpack_user_ids(&watch.user_ids) {
                    self.watch(origin, watch.session_id, user);
                }
            }
            Some(signal::Body::UnwatchPresence(watch)) => self.unwatch(origin, &watch),
            Some(signal::Body::Typing(typing)) => self.take_typing(origin, typing),
            Some(signal::Body::PresenceQuery(query)) => {
                let Some(user) = query.user_id else { return self.count_incomplete() };
                let (online, last_seen_at_ms) = self.presence_of(user.into());
                let answer =
                    wire::PresenceAnswer { request_id: query.request_id, user_id: Some(user), online, last_seen_at_ms };
                self.deliver(origin, delivery_record::Body::PresenceAnswer(answer));
            }
            None => self.counts.unknown_signals += 1,
        }
    }

    /// A session is there, and says so. It is attached if it asks for that, or if it is new to the shard.
    fn sign_of_life(
        &mut self,
        origin: Origin,
        slot: Slot,
        session_id: u64,
        is_opening: bool,
        changes: &mut Vec<PresenceChange>,
    ) {
        let Self { presence, users, .. } = self;
        let sign = presence.sign_of_life(slot, session_id, origin.edge_id, users, changes);
        match sign {
            Sign::Known if !is_opening => {}
            Sign::Known | Sign::Opened => self.answer_attached(origin, slot, session_id),
            Sign::Refused => self.counts.sessions_refused += 1,
        }
        self.apply(origin, changes);
    }

    fn answer_attached(&mut self, origin: Origin, slot: Slot, session_id: u64) {
        let attached = wire::Attached {
            user_id: Some(self.users.id(slot).into()),
            session_id,
            offset: self.users.last_offset(slot),
        };
        self.deliver(origin, delivery_record::Body::Attached(attached));
    }

    fn watch(&mut self, origin: Origin, session_id: u64, user: UserId) {
        let mut is_watched = false;
        self.change_watches(|watches, changes| {
            is_watched = watches.watch(session_id, origin.edge_id, user, changes);
        });
        if !is_watched {
            self.counts.watches_refused += 1;
            return;
        }
        let (online, last_seen_at_ms) = self.presence_of(user);
        let presence =
            wire::Presence { user_id: Some(user.into()), online, last_seen_at_ms, session_ids: vec![session_id] };
        self.deliver(origin, delivery_record::Body::Presence(presence));
    }

    /// Ends the watches named, or, if none is named, all of the session.
    fn unwatch(&mut self, origin: Origin, watch: &wire::WatchPresence) {
        if watch.user_ids.is_empty() {
            if self.watches.edge_of(watch.session_id) == Some(origin.edge_id) {
                self.change_watches(|watches, changes| watches.end_session(watch.session_id, changes));
            }
            return;
        }
        for user in unpack_user_ids(&watch.user_ids) {
            self.change_watches(|watches, changes| watches.unwatch(watch.session_id, origin.edge_id, user, changes));
        }
    }

    fn take_typing(&mut self, origin: Origin, notice: wire::Typing) {
        let first_question = self.routing.next_question();
        for user in unpack_user_ids(&notice.recipient_ids) {
            self.routing.ask(self.users.find(user));
        }
        self.batch.pieces.push(Piece::Typing(Typing { offset: origin.offset, notice, first_question }));
    }

    /// Whether the user is online, and the last sign of life (0: never).
    fn presence_of(&self, user: UserId) -> (bool, i64) {
        self.users.find(user).map_or((false, 0), |slot| (self.presence.is_online(slot), self.users.last_seen_ms(slot)))
    }

    /// Hands presence's changes to the dataflow.
    fn apply(&mut self, origin: Origin, changes: &mut Vec<PresenceChange>) {
        for change in changes.drain(..) {
            match change {
                PresenceChange::Route { slot, edge_id, difference } => {
                    self.routing.change_route(slot, edge_id, difference);
                }
                PresenceChange::Transition { slot, online } => {
                    let user_id = self.users.id(slot);
                    let transition = u32::try_from(self.batch.transitions.len()).unwrap_or(u32::MAX);
                    self.routing.transition(user_id, transition);
                    let last_seen_ms = self.users.last_seen_ms(slot);
                    self.batch.transitions.push(Transition { offset: origin.offset, user_id, online, last_seen_ms });
                    self.batch.pieces.push(Piece::Transition(transition));
                    self.counts.transitions += 1;
                }
            }
        }
    }

    /// Changes watches, and hands the changes to the dataflow.
    fn change_watches(&mut self, change: impl FnOnce(&mut super::watches::Watches, &mut Vec<WatchChange>)) {
        change(&mut self.watches, &mut self.watch_changes);
        for change in self.watch_changes.drain(..) {
            self.routing.change_watch(change);
        }
    }

    /// Answers the edge.
    fn deliver(&mut self, origin: Origin, body: delivery_record::Body) {
        let source = wire::Source { partition: self.id.partition, offset: origin.offset };
        let value = self.batch.put(&wire::DeliveryRecord { source: Some(source), body: Some(body) });
        self.batch.pieces.push(Piece::Ready { edge_id: origin.edge_id, value });
    }

    fn count_incomplete(&mut self) {
        self.counts.unknown_signals += 1;
    }
}

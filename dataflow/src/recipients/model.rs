//! The recipients stage in plain words: ordinary maps, one record at a time, nothing incremental. What the dataflow
//! must give, record for record and byte for byte.
//!
//! It says the same as the stage, in the simplest way, and shares no code with it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::{
    ids::{UserId, pack_user_ids, unpack_user_ids},
    limits::{PRESENCE_WATCHES_MAX, SESSIONS_PER_USER_MAX, STAMP_SKEW_MAX},
    topics::Topic,
    wire::{self, delivery_record, entry, fanout_item, inbox_item, push_item, signal},
};

use super::RecipientsConfig;

#[derive(Debug, Clone)]
struct Session {
    user: UserId,
    edge_id: u32,
    last_sign_ms: i64,
}

#[derive(Debug, Clone, Default)]
struct User {
    last_offset: u64,
    last_seen_ms: i64,
    online: bool,
    /// The latest deadline that sessions which ended have left.
    lingering_until_ms: i64,
}

#[derive(Debug, Clone)]
struct Edge {
    run: u64,
    heard_at_ms: i64,
    silent: bool,
}

/// The whole state of a shard.
#[derive(Debug, Clone)]
pub struct RecipientsModel {
    partition: u32,
    edge_count: u32,
    timeout_ms: i64,
    grace_ms: i64,
    now_ms: i64,
    watermarks: BTreeMap<u32, u64>,
    users: BTreeMap<UserId, User>,
    /// By user and session id.
    sessions: BTreeMap<(UserId, u64), Session>,
    edges: BTreeMap<u32, Edge>,
    /// (watched user, edge, watching session).
    watches: BTreeSet<(UserId, u32, u64)>,
}

impl RecipientsModel {
    /// An empty shard.
    pub fn new(partition: u32, edge_count: u32, config: &RecipientsConfig) -> Self {
        Self {
            partition,
            edge_count,
            timeout_ms: config.timeout_ms(),
            grace_ms: config.grace_ms(),
            now_ms: 0,
            watermarks: BTreeMap::new(),
            users: BTreeMap::new(),
            sessions: BTreeMap::new(),
            edges: BTreeMap::new(),
            watches: BTreeSet::new(),
        }
    }

    /// Takes a record in, and gives all that follows from it.
    pub fn take(&mut self, topic: Topic, record: &StoredRecord) -> Vec<NewRecord> {
        match topic {
            Topic::Fanout => self.take_fanout(record),
            Topic::Signals => self.take_signals(record),
            _ => Vec::new(),
        }
    }

    // ---- fan-out ----

    fn take_fanout(&mut self, stored: &StoredRecord) -> Vec<NewRecord> {
        let Ok(record) = wire::FanoutRecord::decode(&stored.value[..]) else { return Vec::new() };
        let Some(events_source) = record.source else { return Vec::new() };
        if self.watermarks.get(&events_source.partition).is_some_and(|newest| events_source.offset <= *newest) {
            return Vec::new();
        }
        self.watermarks.insert(events_source.partition, events_source.offset);
        let source = wire::Source { partition: self.partition, offset: stored.offset };

        // Each item's recipients with their new offsets.
        let numbered: Vec<Vec<(UserId, u64)>> = record
            .items
            .iter()
            .map(|item| {
                unpack_user_ids(&item.user_ids)
                    .map(|user| {
                        let state = self.users.entry(user).or_default();
                        state.last_offset += 1;
                        (user, state.last_offset)
                    })
                    .collect()
            })
            .collect();

        let inbox = wire::InboxRecord {
            source: Some(source),
            at_ms: record.at_ms,
            items: record.items.iter().zip(&numbered).map(|(item, numbered)| inbox_item(item, numbered)).collect(),
            events_source: Some(events_source),
        };
        let mut out = vec![self.outgoing(Topic::Inbox, self.partition, &inbox)];

        for edge_id in 0..self.edge_count {
            let items: Vec<wire::PushItem> = record
                .items
                .iter()
                .zip(&numbered)
                .filter_map(|(item, numbered)| self.push_item(edge_id, item, numbered))
                .collect();
            if !items.is_empty() {
                let push = wire::Push { items, at_ms: record.at_ms, events_source: Some(events_source) };
                out.push(self.delivery(edge_id, source, delivery_record::Body::Push(push)));
            }
        }

        let items: Vec<wire::NotificationItem> =
            record.items.iter().filter_map(|item| self.notification_item(item)).collect();
        if !items.is_empty() {
            let record = wire::NotificationRecord { source: Some(source), at_ms: record.at_ms, items };
            out.push(self.outgoing(Topic::Notifications, self.partition, &record));
        }
        out
    }

    fn has_session(&self, user: UserId, on_edge: Option<u32>) -> bool {
        self.sessions
            .values()
            .any(|session| session.user == user && on_edge.is_none_or(|edge_id| session.edge_id == edge_id))
    }

    fn push_item(&self, edge_id: u32, item: &wire::FanoutItem, numbered: &[(UserId, u64)]) -> Option<wire::PushItem> {
        let there: Vec<bool> = numbered.iter().map(|(user, _)| self.has_session(*user, Some(edge_id))).collect();
        if !there.contains(&true) {
            return None;
        }
        let mut places = there.iter().copied();
        let content = item.content.clone().map(|content| match content {
            fanout_item::Content::Entry(entry) => push_item::Content::Entry(entry),
            fanout_item::Content::Change(change) => push_item::Content::Change(change),
            fanout_item::Content::Receipt(receipt) => push_item::Content::Receipt(receipt),
            fanout_item::Content::Conversation(mut state) => {
                state.members.retain(|_| places.next() == Some(true));
                push_item::Content::Conversation(state)
            }
        });
        let recipients = || numbered.iter().zip(&there).filter(|(_, there)| **there).map(|(numbered, _)| numbered);
        Some(wire::PushItem {
            user_ids: pack_user_ids(recipients().map(|(user, _)| *user)),
            offsets: recipients().map(|(_, offset)| *offset).collect(),
            content,
        })
    }

    fn notification_item(&self, item: &wire::FanoutItem) -> Option<wire::NotificationItem> {
        let Some(fanout_item::Content::Entry(entry)) = &item.content else { return None };
        let Some(entry::Content::Event(_)) = entry.content else { return None };
        let sender = entry.sender_id.map(UserId::from);
        let absent: Vec<UserId> = unpack_user_ids(&item.user_ids)
            .filter(|user| Some(*user) != sender && !self.has_session(*user, None))
            .collect();
        if absent.is_empty() {
            return None;
        }
        Some(wire::NotificationItem {
            user_ids: pack_user_ids(absent),
            entry: Some(reference(entry.conversation_id, entry.seq, entry.message_id)),
            sender_id: entry.sender_id,
        })
    }

    // ---- signals ----

    fn take_signals(&mut self, stored: &StoredRecord) -> Vec<NewRecord> {
        let Ok(record) = wire::SignalRecord::decode(&stored.value[..]) else { return Vec::new() };
        if record.edge_id >= self.edge_count {
            return Vec::new();
        }
        let source = wire::Source { partition: self.partition, offset: stored.offset };
        let skew_ms = STAMP_SKEW_MAX.as_millis() as i64;
        let stamp_ms = record.stamped_at_ms.clamp(stored.timestamp_ms - skew_ms, stored.timestamp_ms + skew_ms);
        let tick_before = self.now_ms.div_euclid(1000);
        self.now_ms = self.now_ms.max(stamp_ms);

        let known_run = self.edges.get(&record.edge_id).map(|edge| edge.run);
        let is_past = known_run.is_some_and(|run| run > record.edge_run);
        if !is_past {
            if known_run != Some(record.edge_run) {
                self.watches.retain(|(_, edge_id, _)| *edge_id != record.edge_id);
                self.drop_sessions_of(record.edge_id);
            }
            let edge = Edge { run: record.edge_run, heard_at_ms: self.now_ms, silent: false };
            self.edges.insert(record.edge_id, edge);
        }

        let mut out = Vec::new();
        if self.now_ms.div_euclid(1000) > tick_before {
            self.tick(source, &mut out);
        }
        if !is_past {
            for signal in record.signals {
                self.take_signal(source, record.edge_id, signal, &mut out);
            }
        }
        out
    }

    /// Whether a deadline has come. Deadlines are rounded up to whole seconds.
    fn is_due(&self, deadline_ms: i64) -> bool {
        (deadline_ms + 999).div_euclid(1000) <= self.now_ms.div_euclid(1000)
    }

    fn drop_sessions_of(&mut self, edge_id: u32) {
        let gone: Vec<(UserId, u64)> =
            self.sessions.iter().filter(|(_, session)| session.edge_id == edge_id).map(|(key, _)| *key).collect();
        for (user, session_id) in gone {
            self.end_session(user, session_id, false);
        }
    }

    fn end_session(&mut self, user: UserId, session_id: u64, clean: bool) {
        let Some(session) = self.sessions.remove(&(user, session_id)) else { return };
        let state = self.users.entry(user).or_default();
        let until_ms = if clean { self.now_ms + self.grace_ms } else { session.last_sign_ms + self.timeout_ms };
        state.lingering_until_ms = state.lingering_until_ms.max(until_ms);
        if clean {
            state.last_seen_ms = self.now_ms;
        }
        self.settle(user);
    }

    /// A user who is offline without a session has nothing left of the ones before.
    fn settle(&mut self, user: UserId) {
        let has_session = self.has_session(user, None);
        let state = self.users.entry(user).or_default();
        if !state.online && !has_session {
            state.lingering_until_ms = 0;
        }
    }

    fn tick(&mut self, source: wire::Source, out: &mut Vec<NewRecord>) {
        let newly_silent: Vec<u32> = self
            .edges
            .iter()
            .filter(|(_, edge)| !edge.silent && self.is_due(edge.heard_at_ms + self.timeout_ms))
            .map(|(edge_id, _)| *edge_id)
            .collect();
        for edge_id in newly_silent {
            self.drop_sessions_of(edge_id);
            if let Some(edge) = self.edges.get_mut(&edge_id) {
                edge.silent = true;
            }
        }
        let online: Vec<UserId> = self.users.iter().filter(|(_, state)| state.online).map(|(user, _)| *user).collect();
        for user in online {
            let open = self.sessions.iter().filter(|((owner, _), _)| *owner == user);
            let deadlines = open.map(|(_, session)| session.last_sign_ms + self.timeout_ms);
            let latest = deadlines.chain([self.users[&user].lingering_until_ms]).max();
            if latest.is_some_and(|deadline_ms| self.is_due(deadline_ms)) {
                self.transition(user, false, source, out);
                self.settle(user);
            }
        }
    }

    fn transition(&mut self, user: UserId, online: bool, source: wire::Source, out: &mut Vec<NewRecord>) {
        let state = self.users.entry(user).or_default();
        state.online = online;
        let last_seen_at_ms = state.last_seen_ms;
        for edge_id in 0..self.edge_count {
            let session_ids: Vec<u64> = self
                .watches
                .iter()
                .filter(|(watched, on_edge, _)| *watched == user && *on_edge == edge_id)
                .map(|(_, _, session_id)| *session_id)
                .collect();
            if !session_ids.is_empty() {
                let user_id = Some(user.into());
                let presence = wire::Presence { user_id, online, last_seen_at_ms, session_ids };
                out.push(self.delivery(edge_id, source, delivery_record::Body::Presence(presence)));
            }
        }
    }

    fn take_signal(&mut self, source: wire::Source, edge_id: u32, signal: wire::Signal, out: &mut Vec<NewRecord>) {
        match signal.body {
            Some(signal::Body::SessionOpened(opened)) => {
                let Some(user) = opened.user_id else { return };
                self.sign_of_life(source, edge_id, user.into(), opened.session_id, true, out);
            }
            Some(signal::Body::SessionClosed(closed)) => {
                let Some(user) = closed.user_id.map(UserId::from) else { return };
                let is_here = |session: &Session| session.edge_id == edge_id;
                if self.sessions.get(&(user, closed.session_id)).is_some_and(is_here) {
                    self.end_session(user, closed.session_id, closed.clean);
                }
                self.watches.retain(|(_, edge, session)| (*edge, *session) != (edge_id, closed.session_id));
            }
            Some(signal::Body::Heartbeats(packed)) => {
                for heartbeat in packed.chunks_exact(24) {
                    let (user, session) = heartbeat.split_at(16);
                    let user = UserId::from_bytes(user.try_into().unwrap_or_default());
                    let session_id = u64::from_be_bytes(session.try_into().unwrap_or_default());
                    self.sign_of_life(source, edge_id, user, session_id, false, out);
                }
            }
            Some(signal::Body::WatchPresence(watch)) => {
                for user in unpack_user_ids(&watch.user_ids) {
                    self.watch(source, edge_id, watch.session_id, user, out);
                }
            }
            Some(signal::Body::UnwatchPresence(watch)) => {
                let users: BTreeSet<UserId> = unpack_user_ids(&watch.user_ids).collect();
                self.watches.retain(|(user, edge, session)| {
                    (*edge, *session) != (edge_id, watch.session_id)
                        || !(watch.user_ids.is_empty() || users.contains(user))
                });
            }
            Some(signal::Body::Typing(typing)) => self.typing(source, &typing, out),
            Some(signal::Body::PresenceQuery(query)) => {
                let Some(user) = query.user_id else { return };
                let state = self.users.get(&user.into()).cloned().unwrap_or_default();
                let answer = wire::PresenceAnswer {
                    request_id: query.request_id,
                    user_id: Some(user),
                    online: state.online,
                    last_seen_at_ms: state.last_seen_ms,
                };
                out.push(self.delivery(edge_id, source, delivery_record::Body::PresenceAnswer(answer)));
            }
            None => {}
        }
    }

    fn sign_of_life(
        &mut self,
        source: wire::Source,
        edge_id: u32,
        user: UserId,
        session_id: u64,
        is_opening: bool,
        out: &mut Vec<NewRecord>,
    ) {
        let before = self.sessions.get(&(user, session_id)).map(|session| session.edge_id);
        let sessions_of_user = self.sessions.keys().filter(|(owner, _)| *owner == user).count();
        if before.is_none() && sessions_of_user >= SESSIONS_PER_USER_MAX {
            return;
        }
        self.sessions.insert((user, session_id), Session { user, edge_id, last_sign_ms: self.now_ms });
        let state = self.users.entry(user).or_default();
        state.last_seen_ms = self.now_ms;
        let (offset, was_online) = (state.last_offset, state.online);
        if is_opening || before != Some(edge_id) {
            let attached = wire::Attached { user_id: Some(user.into()), session_id, offset };
            out.push(self.delivery(edge_id, source, delivery_record::Body::Attached(attached)));
        }
        if !was_online {
            self.transition(user, true, source, out);
        }
    }

    fn watch(&mut self, source: wire::Source, edge_id: u32, session_id: u64, user: UserId, out: &mut Vec<NewRecord>) {
        // A session is on one edge: what it watched from another is over.
        self.watches.retain(|(_, edge, session)| *session != session_id || *edge == edge_id);
        let watched = self.watches.iter().filter(|(_, _, session)| *session == session_id).count();
        if !self.watches.contains(&(user, edge_id, session_id)) && watched >= PRESENCE_WATCHES_MAX {
            return;
        }
        self.watches.insert((user, edge_id, session_id));
        let state = self.users.get(&user).cloned().unwrap_or_default();
        let presence = wire::Presence {
            user_id: Some(user.into()),
            online: state.online,
            last_seen_at_ms: state.last_seen_ms,
            session_ids: vec![session_id],
        };
        out.push(self.delivery(edge_id, source, delivery_record::Body::Presence(presence)));
    }

    fn typing(&self, source: wire::Source, typing: &wire::Typing, out: &mut Vec<NewRecord>) {
        for edge_id in 0..self.edge_count {
            let there: Vec<UserId> =
                unpack_user_ids(&typing.recipient_ids).filter(|user| self.has_session(*user, Some(edge_id))).collect();
            if !there.is_empty() {
                let notice = wire::TypingNotice {
                    conversation_id: typing.conversation_id,
                    user_id: typing.user_id,
                    recipient_ids: pack_user_ids(there),
                };
                out.push(self.delivery(edge_id, source, delivery_record::Body::Typing(notice)));
            }
        }
    }

    // ---- records ----

    fn delivery(&self, edge_id: u32, source: wire::Source, body: delivery_record::Body) -> NewRecord {
        let record = wire::DeliveryRecord { source: Some(source), body: Some(body) };
        self.outgoing(Topic::Deliveries, edge_id, &record)
    }

    fn outgoing(&self, topic: Topic, partition: u32, message: &impl Message) -> NewRecord {
        NewRecord { topic, partition, key: Bytes::new(), value: message.encode_to_vec().into() }
    }
}

fn inbox_item(item: &wire::FanoutItem, numbered: &[(UserId, u64)]) -> wire::InboxItem {
    let reference = item.content.clone().map(|content| match content {
        fanout_item::Content::Entry(entry) => {
            inbox_item::Reference::Entry(reference(entry.conversation_id, entry.seq, entry.message_id))
        }
        fanout_item::Content::Change(change) => {
            inbox_item::Reference::Change(reference(change.conversation_id, change.seq, change.message_id))
        }
        fanout_item::Content::Receipt(receipt) => inbox_item::Reference::Receipt(receipt),
        fanout_item::Content::Conversation(state) => {
            inbox_item::Reference::Conversation(state.conversation_id.unwrap_or_default())
        }
    });
    wire::InboxItem {
        user_ids: pack_user_ids(numbered.iter().map(|(user, _)| *user)),
        offsets: numbered.iter().map(|(_, offset)| *offset).collect(),
        reference,
    }
}

fn reference(conversation_id: Option<wire::Id>, seq: u64, message_id: Option<wire::Id>) -> wire::EntryReference {
    wire::EntryReference { conversation_id, seq, message_id }
}

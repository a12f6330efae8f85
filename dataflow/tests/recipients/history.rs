//! Random histories of `fanout` and `signals`, with everything in them that can go wrong.

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tidings_ingest::StoredRecord;
use tidings_schemas::{
    ids::{UserId, pack_user_ids},
    topics::Topic,
    wire::{self, entry, fanout_item, signal},
};

pub(crate) const EDGES: u32 = 3;
pub(crate) const PARTITION: u32 = 5;
const EVENTS_PARTITIONS: u32 = 3;
const START_MS: i64 = 1_700_000_000_000;

/// A record and where it stands.
pub(crate) type Step = (Topic, StoredRecord);

/// A session that some edge has opened (and perhaps forgotten).
#[derive(Clone, Copy)]
struct Opened {
    user: UserId,
    session: u64,
    edge: u32,
}

pub(crate) struct History {
    random: StdRng,
    users: Vec<UserId>,
    sessions: Vec<Opened>,
    runs: [u64; EDGES as usize],
    events_next: [u64; EVENTS_PARTITIONS as usize],
    /// Fan-out records that may be repeated.
    past: Vec<Bytes>,
    now_ms: i64,
    next_fanout: u64,
    next_signals: u64,
}

impl History {
    /// The history of a seed.
    pub(crate) fn steps(seed: u64, length: usize) -> Vec<Step> {
        let mut random = StdRng::seed_from_u64(seed);
        let users = (0..random.random_range(3..40)).map(|_| UserId::random(random.random())).collect();
        let mut history = Self {
            random,
            users,
            sessions: Vec::new(),
            runs: [1; EDGES as usize],
            events_next: [0; EVENTS_PARTITIONS as usize],
            past: Vec::new(),
            now_ms: START_MS,
            next_fanout: 0,
            next_signals: 0,
        };
        let mut steps = Vec::new();
        while steps.len() < length {
            history.pass_time();
            match history.random.random_range(0..100) {
                0..40 => steps.push(history.fanout()),
                40..44 => history.repeat(&mut steps),
                44 => steps.push(history.damaged()),
                _ => steps.push(history.signals()),
            }
        }
        steps
    }

    fn pass_time(&mut self) {
        self.now_ms += match self.random.random_range(0..200) {
            0 => 70_000,
            1..4 => 20_000,
            4..30 => 1_000,
            30..100 => self.random.random_range(0..400),
            _ => 0,
        };
    }

    fn user(&mut self) -> UserId {
        *self.users.choose(&mut self.random).unwrap()
    }

    /// Some users, ascending, no repeats.
    fn some_users(&mut self) -> Vec<UserId> {
        let share = self.random.random_range(0.0..1.0);
        let mut users = self.users.clone();
        users.retain(|_| self.random.random_bool(share));
        users.sort_unstable();
        users
    }

    fn id(&mut self) -> Option<wire::Id> {
        Some(wire::Id { high: self.random.random_range(0..5), low: self.random.random() })
    }

    fn number(&mut self) -> u64 {
        match self.random.random_range(0..4) {
            0 => 0,
            1 => self.random.random(),
            _ => self.random.random_range(0..300),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.random.random_range(0..200);
        (0..length).map(|_| self.random.random::<u8>()).collect::<Vec<u8>>().into()
    }

    fn stored(&mut self, topic: Topic, value: Bytes) -> Step {
        let next = if topic == Topic::Fanout { &mut self.next_fanout } else { &mut self.next_signals };
        let offset = *next;
        *next += 1;
        (topic, StoredRecord { offset, timestamp_ms: self.now_ms, key: Bytes::new(), value })
    }

    fn fanout(&mut self) -> Step {
        let partition = self.random.random_range(0..EVENTS_PARTITIONS);
        let next = &mut self.events_next[partition as usize];
        *next += self.random.random_range(1..3);
        let source = Some(wire::Source { partition, offset: *next - 1 });
        let items = (0..self.random.random_range(0..4)).map(|_| self.item()).collect();
        let value: Bytes = wire::FanoutRecord { source, at_ms: self.now_ms, items }.encode_to_vec().into();
        self.past.push(value.clone());
        if self.past.len() > 20 {
            self.past.remove(0);
        }
        self.stored(Topic::Fanout, value)
    }

    fn item(&mut self) -> wire::FanoutItem {
        let users = self.some_users();
        let content = match self.random.random_range(0..8) {
            0 => {
                let receipt = wire::ReceiptUpdate {
                    conversation_id: self.id(),
                    user_id: self.id(),
                    delivered_seq: self.number(),
                    seen_seq: self.number(),
                    delivered_to_all_seq: self.number(),
                    seen_by_all_seq: self.number(),
                };
                Some(fanout_item::Content::Receipt(receipt))
            }
            1 => {
                let members = users
                    .iter()
                    .map(|user| wire::MemberState { user_id: Some((*user).into()), role: 2, ..Default::default() })
                    .collect();
                let state = wire::ConversationState {
                    conversation_id: self.id(),
                    kind: 2,
                    title: "a group".into(),
                    last_seq: self.number(),
                    members,
                    direct_user_ids: vec![wire::Id { high: 1, low: 2 }],
                    ..Default::default()
                };
                Some(fanout_item::Content::Conversation(state))
            }
            2 => {
                let change = wire::Change {
                    conversation_id: self.id(),
                    seq: self.number(),
                    message_id: self.id(),
                    sender_id: self.id(),
                    event: self.bytes(),
                    text: "edited".into(),
                    edited_at_ms: self.now_ms,
                    by: self.id(),
                    ..Default::default()
                };
                Some(fanout_item::Content::Change(change))
            }
            kind => {
                let sender = if self.random.random_bool(0.8) { Some(self.user().into()) } else { self.id() };
                let content = match kind {
                    3 => None,
                    4 => Some(entry::Content::Membership(wire::Membership { action: 2, ..Default::default() })),
                    _ => Some(entry::Content::Event(self.bytes())),
                };
                let entry = wire::Entry {
                    conversation_id: self.id(),
                    seq: self.number(),
                    message_id: self.id(),
                    sender_id: sender,
                    sent_at_ms: self.now_ms,
                    content,
                };
                Some(fanout_item::Content::Entry(entry))
            }
        };
        wire::FanoutItem { user_ids: pack_user_ids(users), content }
    }

    /// What another owner of the conversations shard, or a restarted one, writes once more.
    fn repeat(&mut self, steps: &mut Vec<Step>) {
        if self.past.is_empty() {
            return;
        }
        let from = self.random.random_range(0..self.past.len());
        let repeats = self.past[from..].to_vec();
        for value in repeats {
            steps.push(self.stored(Topic::Fanout, value));
        }
    }

    fn damaged(&mut self) -> Step {
        let topic = if self.random.random_bool(0.5) { Topic::Fanout } else { Topic::Signals };
        let value = match self.random.random_range(0..3) {
            // An item whose length goes past its end.
            0 => Bytes::from_static(&[0x1a, 0x7f, 0x01]),
            // A field key of wire type 7.
            1 => Bytes::from_static(&[0x0f, 0x01]),
            _ => Bytes::from_static(&[0xff; 11]),
        };
        self.stored(topic, value)
    }

    fn signals(&mut self) -> Step {
        let mut edge_id = self.random.random_range(0..EDGES);
        if self.random.random_bool(0.02) {
            self.runs[edge_id as usize] += 1;
            self.sessions.retain(|opened| opened.edge != edge_id);
        }
        let mut edge_run = self.runs[edge_id as usize];
        match self.random.random_range(0..100) {
            0 => edge_id = EDGES + 1,
            1 => edge_run -= 1,
            _ => {}
        }
        let skew_ms = match self.random.random_range(0..20) {
            0 => self.random.random_range(-200_000..200_000),
            _ => self.random.random_range(-300..300),
        };
        let signals = (0..self.random.random_range(0..5)).map(|_| self.signal(edge_id)).collect();
        let record = wire::SignalRecord { edge_id, edge_run, stamped_at_ms: self.now_ms + skew_ms, signals };
        self.stored(Topic::Signals, record.encode_to_vec().into())
    }

    fn signal(&mut self, edge: u32) -> wire::Signal {
        let here: Vec<Opened> = self.sessions.iter().filter(|opened| opened.edge == edge).copied().collect();
        let known = here.choose(&mut self.random).copied();
        // Now and then one that is on another edge, or nowhere.
        let any = if self.random.random_bool(0.05) { self.sessions.choose(&mut self.random).copied() } else { known };
        let session_id = any.map_or(99, |opened| opened.session);
        let body = match (self.random.random_range(0..12), any) {
            (0..3, _) => self.open(edge),
            (3..5, Some(Opened { user, session, .. })) => {
                self.sessions.retain(|opened| opened.session != session);
                let clean = self.random.random_bool(0.5);
                let closed = wire::SessionClosed { user_id: Some(user.into()), session_id: session, clean };
                signal::Body::SessionClosed(closed)
            }
            (5..7, _) => {
                let share = self.random.random_range(0.0..1.0);
                let mut packed = Vec::new();
                for opened in here.into_iter().chain(any) {
                    if self.random.random_bool(share) {
                        packed.extend_from_slice(&opened.user.to_bytes());
                        packed.extend_from_slice(&opened.session.to_be_bytes());
                    }
                }
                signal::Body::Heartbeats(packed.into())
            }
            (7 | 8, _) => {
                let mut users = self.some_users();
                users.push(UserId(self.random.random_range(0..3)));
                let user_ids = pack_user_ids(users);
                signal::Body::WatchPresence(wire::WatchPresence { session_id, user_ids })
            }
            (9, _) => {
                let users = if self.random.random_bool(0.2) { Vec::new() } else { self.some_users() };
                let user_ids = pack_user_ids(users);
                signal::Body::UnwatchPresence(wire::WatchPresence { session_id, user_ids })
            }
            (10, _) => {
                let mut users = self.some_users();
                users.push(UserId(self.random.random_range(0..3)));
                let recipient_ids = pack_user_ids(users);
                let user_id = Some(self.user().into());
                signal::Body::Typing(wire::Typing { conversation_id: self.id(), user_id, recipient_ids })
            }
            (11, _) => {
                let query = wire::PresenceQuery { request_id: self.number(), user_id: Some(self.user().into()) };
                signal::Body::PresenceQuery(query)
            }
            _ => return wire::Signal { body: None },
        };
        wire::Signal { body: Some(body) }
    }

    fn open(&mut self, edge: u32) -> signal::Body {
        let again = self.sessions.choose(&mut self.random).copied();
        let (user, session) = match again {
            Some(opened) if self.random.random_bool(0.1) => (opened.user, opened.session),
            _ => (self.user(), self.random.random()),
        };
        self.sessions.retain(|opened| opened.session != session);
        self.sessions.push(Opened { user, session, edge });
        let opened = wire::SessionOpened { user_id: Some(user.into()), session_id: session, device_id: "phone".into() };
        signal::Body::SessionOpened(opened)
    }
}

//! What the recipients stage does, told as stories: sessions, presence, routing, notifications.

#![allow(clippy::unwrap_used, reason = "a test: a panic is a failure")]

use bytes::Bytes;
use prost::Message;
use tidings_dataflow::{
    recipients::{RecipientsConfig, RecipientsShard},
    shard::{Intake, SavedState, Shard},
};
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::{
    ids::{UserId, pack_user_ids, unpack_user_ids},
    limits::SESSIONS_PER_USER_MAX,
    topics::Topic,
    wire::{self, delivery_record::Body, entry, fanout_item, signal},
};
use timely::worker::Worker;

const ANN: UserId = UserId(0xa);
const BOB: UserId = UserId(0xb);
const START_MS: i64 = 1_700_000_000_000;
const HERE: u32 = 0;
const THERE: u32 = 1;

/// A shard, two edges, and a clock that both follow.
struct Scene<'w> {
    worker: &'w mut Worker,
    shard: Box<RecipientsShard>,
    now_ms: i64,
    runs: [u64; 2],
    next: [u64; 2],
}

/// What came out: a delivery with its edge, or another record.
#[derive(Debug, PartialEq)]
enum Out {
    Delivery(u32, Body),
    Inbox(wire::InboxRecord),
    Notification(wire::NotificationRecord),
}

fn scene(play: impl FnOnce(&mut Scene<'_>) + Send + Sync + 'static) {
    timely::execute_directly(move |worker| {
        let config = RecipientsConfig::default();
        let shard = RecipientsShard::build(worker, 0, 2, &config, &SavedState::default()).unwrap();
        let mut scene = Scene { worker, shard: Box::new(shard), now_ms: START_MS, runs: [1; 2], next: [0; 2] };
        play(&mut scene);
        scene.shard.close(scene.worker);
    });
}

impl Scene<'_> {
    fn take(&mut self, topic: Topic, value: Bytes) -> Vec<Out> {
        let next = &mut self.next[usize::from(topic == Topic::Fanout)];
        let record = StoredRecord { offset: *next, timestamp_ms: self.now_ms, key: Bytes::new(), value };
        *next += 1;
        let mut out = Vec::new();
        self.shard.run(self.worker, vec![Intake { topic, records: vec![record] }], &mut out).unwrap();
        out.into_iter().map(read).collect()
    }

    fn signal(&mut self, edge_id: u32, bodies: Vec<signal::Body>) -> Vec<Out> {
        let signals = bodies.into_iter().map(|body| wire::Signal { body: Some(body) }).collect();
        let edge_run = self.runs[edge_id as usize];
        let record = wire::SignalRecord { edge_id, edge_run, stamped_at_ms: self.now_ms, signals };
        self.take(Topic::Signals, record.encode_to_vec().into())
    }

    /// Lets seconds pass, in each of which both edges show that they live.
    fn wait(&mut self, seconds: u32) -> Vec<Out> {
        let mut out = Vec::new();
        for _ in 0..seconds {
            self.now_ms += 1000;
            out.extend(self.signal(HERE, Vec::new()));
            out.extend(self.signal(THERE, Vec::new()));
        }
        out
    }

    fn open(&mut self, edge_id: u32, user: UserId, session_id: u64) -> Vec<Out> {
        let opened = wire::SessionOpened { user_id: Some(user.into()), session_id, device_id: String::new() };
        self.signal(edge_id, vec![signal::Body::SessionOpened(opened)])
    }

    fn close(&mut self, edge_id: u32, user: UserId, session_id: u64, clean: bool) -> Vec<Out> {
        let closed = wire::SessionClosed { user_id: Some(user.into()), session_id, clean };
        self.signal(edge_id, vec![signal::Body::SessionClosed(closed)])
    }

    fn heartbeat(&mut self, edge_id: u32, user: UserId, session_id: u64) -> Vec<Out> {
        let packed = [&user.to_bytes()[..], &session_id.to_be_bytes()].concat();
        self.signal(edge_id, vec![signal::Body::Heartbeats(packed.into())])
    }

    fn watch(&mut self, edge_id: u32, session_id: u64, user: UserId) -> Vec<Out> {
        let user_ids = pack_user_ids([user]);
        self.signal(edge_id, vec![signal::Body::WatchPresence(wire::WatchPresence { session_id, user_ids })])
    }

    /// A message of Ann's to these users.
    fn message(&mut self, users: &[UserId]) -> Vec<Out> {
        let content = entry::Content::Event(Bytes::from_static(b"an event"));
        self.entry(users, content)
    }

    fn entry(&mut self, users: &[UserId], content: entry::Content) -> Vec<Out> {
        let entry = wire::Entry {
            conversation_id: Some(wire::Id { high: 1, low: 1 }),
            seq: 7,
            message_id: Some(wire::Id { high: 2, low: 2 }),
            sender_id: Some(ANN.into()),
            sent_at_ms: self.now_ms,
            content: Some(content),
        };
        let content = Some(fanout_item::Content::Entry(entry));
        let items = vec![wire::FanoutItem { user_ids: pack_user_ids(users.iter().copied()), content }];
        let source = Some(wire::Source { partition: 0, offset: self.next[1] });
        self.take(Topic::Fanout, wire::FanoutRecord { source, at_ms: self.now_ms, items }.encode_to_vec().into())
    }
}

fn read(record: NewRecord) -> Out {
    let value = record.value;
    match record.topic {
        Topic::Inbox => Out::Inbox(wire::InboxRecord::decode(value).unwrap()),
        Topic::Notifications => Out::Notification(wire::NotificationRecord::decode(value).unwrap()),
        _ => Out::Delivery(record.partition, wire::DeliveryRecord::decode(value).unwrap().body.unwrap()),
    }
}

/// Each presence that was told: to which edge, about whom, whether online, last seen, to which sessions.
fn presences(out: &[Out]) -> Vec<(u32, UserId, bool, i64, Vec<u64>)> {
    let told = |out: &Out| match out {
        Out::Delivery(edge, Body::Presence(presence)) => {
            let user = UserId::from(presence.user_id.unwrap());
            Some((*edge, user, presence.online, presence.last_seen_at_ms, presence.session_ids.clone()))
        }
        _ => None,
    };
    out.iter().filter_map(told).collect()
}

/// Each push: to which edge, and its users with their offsets.
fn pushes(out: &[Out]) -> Vec<(u32, Vec<(UserId, u64)>)> {
    let pushed = |out: &Out| match out {
        Out::Delivery(edge, Body::Push(push)) => {
            let item = &push.items[0];
            Some((*edge, unpack_user_ids(&item.user_ids).zip(item.offsets.iter().copied()).collect()))
        }
        _ => None,
    };
    out.iter().filter_map(pushed).collect()
}

fn notified(out: &[Out]) -> Vec<UserId> {
    let users = |out: &Out| match out {
        Out::Notification(record) => unpack_user_ids(&record.items[0].user_ids).collect(),
        _ => Vec::new(),
    };
    out.iter().flat_map(users).collect()
}

fn attached(out: &[Out]) -> Vec<(u32, UserId, u64, u64)> {
    let attached = |out: &Out| match out {
        Out::Delivery(edge, Body::Attached(attached)) => {
            Some((*edge, UserId::from(attached.user_id.unwrap()), attached.session_id, attached.offset))
        }
        _ => None,
    };
    out.iter().filter_map(attached).collect()
}

#[test]
fn a_session_is_attached_at_the_offset_after_which_everything_is_pushed() {
    scene(|scene| {
        let before = scene.message(&[ANN, BOB]);
        assert_eq!(pushes(&before), []);
        assert_eq!(attached(&scene.open(HERE, BOB, 1)), [(HERE, BOB, 1, 1)]);
        assert_eq!(pushes(&scene.message(&[ANN, BOB])), [(HERE, vec![(BOB, 2)])]);
        assert_eq!(attached(&scene.open(THERE, ANN, 2)), [(THERE, ANN, 2, 2)]);
        assert_eq!(pushes(&scene.message(&[ANN, BOB])), [(HERE, vec![(BOB, 3)]), (THERE, vec![(ANN, 3)])]);
    });
}

#[test]
fn two_devices_get_a_push_on_each_edge_and_one_on_the_same() {
    scene(|scene| {
        scene.open(HERE, BOB, 1);
        scene.open(HERE, BOB, 2);
        scene.open(THERE, BOB, 3);
        assert_eq!(pushes(&scene.message(&[BOB])), [(HERE, vec![(BOB, 1)]), (THERE, vec![(BOB, 1)])]);
        scene.close(HERE, BOB, 1, true);
        scene.close(THERE, BOB, 3, true);
        assert_eq!(pushes(&scene.message(&[BOB])), [(HERE, vec![(BOB, 2)])]);
        scene.close(HERE, BOB, 2, true);
        assert_eq!(pushes(&scene.message(&[BOB])), []);
    });
}

#[test]
fn a_reconnect_within_the_grace_shows_no_flicker() {
    scene(|scene| {
        scene.open(THERE, ANN, 9);
        scene.watch(THERE, 9, BOB);
        let online = scene.open(HERE, BOB, 1);
        assert_eq!(presences(&online), [(THERE, BOB, true, START_MS, vec![9])]);
        let mut quiet = scene.close(HERE, BOB, 1, true);
        quiet.extend(scene.wait(9));
        quiet.extend(scene.open(HERE, BOB, 2));
        quiet.extend(scene.wait(20));
        assert_eq!(presences(&quiet), []);
    });
}

#[test]
fn a_goodbye_is_offline_after_the_grace() {
    scene(|scene| {
        scene.watch(THERE, 9, BOB);
        scene.open(HERE, BOB, 1);
        scene.wait(3);
        scene.close(HERE, BOB, 1, true);
        assert_eq!(presences(&scene.wait(9)), []);
        assert_eq!(presences(&scene.wait(1)), [(THERE, BOB, false, START_MS + 3000, vec![9])]);
        assert_eq!(presences(&scene.wait(60)), []);
    });
}

#[test]
fn a_broken_connection_is_offline_after_two_missed_heartbeats() {
    scene(|scene| {
        scene.watch(THERE, 9, BOB);
        scene.open(HERE, BOB, 1);
        scene.wait(25);
        scene.heartbeat(HERE, BOB, 1);
        scene.wait(5);
        scene.close(HERE, BOB, 1, false);
        assert_eq!(presences(&scene.wait(44)), []);
        assert_eq!(presences(&scene.wait(1)), [(THERE, BOB, false, START_MS + 25_000, vec![9])]);
    });
}

#[test]
fn a_session_without_a_sign_of_life_is_offline_but_still_gets_its_updates() {
    scene(|scene| {
        scene.watch(THERE, 9, BOB);
        scene.open(HERE, BOB, 1);
        assert_eq!(presences(&scene.wait(50)), [(THERE, BOB, false, START_MS, vec![9])]);
        assert_eq!(pushes(&scene.message(&[BOB])), [(HERE, vec![(BOB, 1)])]);
        let back = scene.heartbeat(HERE, BOB, 1);
        assert_eq!(presences(&back), [(THERE, BOB, true, START_MS + 50_000, vec![9])]);
    });
}

#[test]
fn an_edge_that_starts_anew_has_lost_its_sessions_and_watches() {
    scene(|scene| {
        scene.open(HERE, BOB, 1);
        scene.watch(HERE, 1, ANN);
        scene.runs[HERE as usize] = 2;
        scene.signal(HERE, Vec::new());
        let out = scene.message(&[BOB]);
        assert_eq!((pushes(&out), notified(&out)), (vec![], vec![BOB]));
        assert_eq!(presences(&scene.open(THERE, ANN, 2)), []);
        // What the earlier run still sends is of sessions that are gone.
        scene.runs[HERE as usize] = 1;
        assert_eq!(scene.open(HERE, BOB, 3), []);
    });
}

#[test]
fn a_silent_edge_loses_its_routes_and_gets_them_back_with_the_heartbeats() {
    scene(|scene| {
        scene.open(HERE, BOB, 1);
        for _ in 0..50 {
            scene.now_ms += 1000;
            scene.signal(THERE, Vec::new());
        }
        assert_eq!(pushes(&scene.message(&[BOB])), []);
        assert_eq!(attached(&scene.heartbeat(HERE, BOB, 1)), [(HERE, BOB, 1, 1)]);
        assert_eq!(pushes(&scene.message(&[BOB])), [(HERE, vec![(BOB, 2)])]);
    });
}

#[test]
fn a_watch_is_answered_at_once_and_ends_with_its_session() {
    scene(|scene| {
        assert_eq!(presences(&scene.watch(HERE, 9, BOB)), [(HERE, BOB, false, 0, vec![9])]);
        assert_eq!(presences(&scene.open(THERE, BOB, 1)), [(HERE, BOB, true, START_MS, vec![9])]);
        // No user is named: all watches of the session end.
        let none = wire::WatchPresence { session_id: 9, user_ids: Bytes::new() };
        scene.signal(HERE, vec![signal::Body::UnwatchPresence(none)]);
        scene.close(THERE, BOB, 1, true);
        assert_eq!(presences(&scene.wait(20)), []);
    });
}

#[test]
fn presence_can_be_asked_for() {
    scene(|scene| {
        scene.open(HERE, BOB, 1);
        let query = |user: UserId| {
            let query = wire::PresenceQuery { request_id: 5, user_id: Some(user.into()) };
            vec![signal::Body::PresenceQuery(query)]
        };
        let answer = |user: UserId, online, last_seen_at_ms| {
            let user_id = Some(user.into());
            let answer = wire::PresenceAnswer { request_id: 5, user_id, online, last_seen_at_ms };
            vec![Out::Delivery(THERE, Body::PresenceAnswer(answer))]
        };
        assert_eq!(scene.signal(THERE, query(BOB)), answer(BOB, true, START_MS));
        assert_eq!(scene.signal(THERE, query(UserId(77))), answer(UserId(77), false, 0));
    });
}

#[test]
fn typing_goes_to_those_with_a_session() {
    scene(|scene| {
        scene.open(HERE, BOB, 1);
        let typing = wire::Typing {
            conversation_id: Some(wire::Id { high: 1, low: 1 }),
            user_id: Some(ANN.into()),
            recipient_ids: pack_user_ids([BOB, UserId(77)]),
        };
        let notice = wire::TypingNotice {
            conversation_id: typing.conversation_id,
            user_id: typing.user_id,
            recipient_ids: pack_user_ids([BOB]),
        };
        let out = scene.signal(THERE, vec![signal::Body::Typing(typing)]);
        assert_eq!(out, [Out::Delivery(HERE, Body::Typing(notice))]);
    });
}

#[test]
fn those_without_a_session_are_notified_of_messages_and_of_nothing_of_their_own() {
    scene(|scene| {
        scene.open(HERE, BOB, 1);
        assert_eq!(notified(&scene.message(&[ANN, BOB, UserId(0xc)])), [UserId(0xc)]);
        assert_eq!(notified(&scene.message(&[ANN, BOB])), []);
        let membership = entry::Content::Membership(wire::Membership::default());
        assert_eq!(notified(&scene.entry(&[ANN, BOB, UserId(0xc)], membership)), []);
    });
}

#[test]
fn a_user_has_only_so_many_sessions() {
    scene(|scene| {
        for session in 0..SESSIONS_PER_USER_MAX as u64 {
            assert_eq!(attached(&scene.open(HERE, BOB, session)).len(), 1);
        }
        assert_eq!(scene.open(HERE, BOB, 1_000), []);
        scene.close(HERE, BOB, 3, true);
        assert_eq!(attached(&scene.open(HERE, BOB, 1_000)).len(), 1);
    });
}

/// A field that no schema of today has.
const UNKNOWN: &[u8] = &[0xfa, 0x3f, 0x03, b'n', b'e', b'w'];

fn delimited(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

/// The push item that a fan-out item with this content field becomes, as bytes, and the inbox record.
fn pushed_bytes(scene: &mut Scene<'_>, content: &[u8]) -> (Vec<u8>, wire::InboxRecord) {
    scene.open(HERE, BOB, 1);
    let item = [delimited(1, &BOB.to_bytes()), content.to_vec()].concat();
    let source = wire::Source { partition: 0, offset: scene.next[1] }.encode_to_vec();
    let value = [delimited(1, &source), delimited(3, &item)].concat();
    let record = StoredRecord { offset: scene.next[1], timestamp_ms: 0, key: Bytes::new(), value: value.into() };
    scene.next[1] += 1;
    let mut out = Vec::new();
    let intake = vec![Intake { topic: Topic::Fanout, records: vec![record] }];
    scene.shard.run(scene.worker, intake, &mut out).unwrap();
    let Out::Inbox(inbox) = read(out.remove(0)) else { panic!("no inbox record") };
    (out.remove(0).value.to_vec(), inbox)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_field_that_the_schema_does_not_know_survives() {
    scene(|scene| {
        let entry = [wire::Entry { seq: 7, ..Default::default() }.encode_to_vec(), UNKNOWN.to_vec()].concat();
        let content = delimited(10, &entry);
        let (push, inbox) = pushed_bytes(scene, &content);
        assert!(contains(&push, &content));
        assert_eq!(inbox.items[0].offsets, [1]);
        assert!(inbox.items[0].reference.is_some());
    });
}

#[test]
fn an_item_of_a_kind_that_the_schema_does_not_know_is_numbered_and_passed_on() {
    scene(|scene| {
        let content = delimited(15, b"something new");
        let (push, inbox) = pushed_bytes(scene, &content);
        assert!(contains(&push, &content));
        assert_eq!(inbox.items[0].offsets, [1]);
        assert_eq!(inbox.items[0].reference, None);
    });
}

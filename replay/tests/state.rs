//! The past against the plain model of the stage, at random moments of random histories that the production host has made,
//! from checkpoints and from the log's beginning; and who was online against what the signals say.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../dataflow/tests/conversations/history.rs"]
mod history;
mod support;

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng};
use support::{Held, checkpoints_of, host_config, made};
use tidings_dataflow::{
    checkpoints::{CheckpointStore, open_folder},
    conversations::{ConversationsConfig, model::Model, saved},
};
use tidings_ingest::{Log, StoredRecord};
use tidings_replay::{
    Scan,
    state::{AsOf, Checkpoints, Moment, Past, Standing, Start, StateError, last::last_entries, names},
};
use tidings_schemas::{
    ids::{ConversationId, UserId},
    topics::{Partitions, Topic},
    wire,
};

const PARTITIONS: Partitions = Partitions { conversations: 2, recipients: 2, edges: 4, directory: 1 };

fn config() -> ConversationsConfig {
    ConversationsConfig { group_members_max: 25, ..Default::default() }
}

fn events(log: &dyn Log, partition: u32) -> Vec<StoredRecord> {
    Scan::new(log, Topic::Events, partition, 0..u64::MAX).unwrap().map(Result::unwrap).collect()
}

/// The plain model, with the events before `end` in it.
fn model(log: &dyn Log, partition: u32, end: u64) -> Model {
    let mut model = Model::new(PARTITIONS, partition, config().group_members_max);
    for record in events(log, partition).iter().filter(|record| record.offset < end) {
        model.apply(record);
    }
    model
}

fn assert_same(standing: &Standing, model: &Model) {
    let mut found = BTreeMap::new();
    for conversation in saved::conversations(&standing.state) {
        let conversation = conversation.unwrap();
        assert_eq!(saved::conversation(&standing.state, conversation.id).unwrap().as_ref(), Some(&conversation));
        found.insert(conversation.id, conversation);
    }
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), model.conversations().collect::<Vec<_>>());
    for (id, found) in found {
        let roles: Vec<_> = found.members.iter().map(|member| (member.user, member.role)).collect();
        assert_eq!(roles, model.members(id));
        let cursor = |member: &saved::SavedMember| (member.user, member.delivered_seq, member.seen_seq);
        assert_eq!(found.members.iter().map(cursor).collect::<Vec<_>>(), model.cursors(id));
        assert_eq!((found.last_seq, Some((&found.title[..], found.deleted))), (model.last_seq(id), model.title(id)));
    }
}

fn past<'a>(
    log: &'a dyn Log,
    checkpoints: Option<&'a Checkpoints>,
    moment: Moment,
    config: &'a tidings_dataflow::host::HostConfig,
) -> Past<'a> {
    Past { log, config, checkpoints, as_of: AsOf::find(log, moment).unwrap(), told: &|_| {} }
}

/// The newest entry of each conversation before `end`, by reading all of the timeline.
fn said_last(
    log: &dyn Log,
    partition: u32,
    end: u64,
) -> HashMap<ConversationId, (u64, wire::Entry, Option<wire::Change>)> {
    let mut entries: HashMap<(ConversationId, u64), wire::Entry> = HashMap::new();
    let mut changes: HashMap<(ConversationId, u64), wire::Change> = HashMap::new();
    for record in Scan::new(log, Topic::Timeline, partition, 0..u64::MAX).unwrap().map(Result::unwrap) {
        let record = wire::TimelineRecord::decode(record.value).unwrap();
        if record.source.unwrap_or_default().offset >= end {
            continue;
        }
        for entry in record.entries {
            entries.insert((entry.conversation_id.unwrap().into(), entry.seq), entry);
        }
        if let Some(change) = record.change {
            changes.insert((change.conversation_id.unwrap().into(), change.seq), change);
        }
    }
    let mut last = HashMap::new();
    for ((id, seq), entry) in entries {
        let newest: &mut (u64, _, _) = last.entry(id).or_insert((0, wire::Entry::default(), None));
        if seq > newest.0 {
            *newest = (seq, entry, changes.get(&(id, seq)).cloned());
        }
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_what_the_plain_model_says() {
    let (folder, log) = made(3, 200, true).await;
    let store = CheckpointStore::new(open_folder(&checkpoints_of(folder.path())).unwrap(), log.log_id());
    let checkpoints = Checkpoints::new(store, tokio::runtime::Handle::current());
    let config = host_config();
    let compared = tokio::task::spawn_blocking(move || {
        let mut random = StdRng::seed_from_u64(5);
        let log = &*log;
        let (mut from_checkpoints, mut of_later_checkpoints) = (0, 0);
        for _ in 0..40 {
            let offset = random.random_range(0..600);
            let moment = Moment::Record { topic: Topic::Events, partition: 0, offset };
            let at_ms = events(log, 0)[usize::try_from(offset).unwrap()].timestamp_ms;
            for checkpoints in [None, Some(&checkpoints)] {
                let past = past(log, checkpoints, moment, &config);
                let standing = past.standing(0).unwrap();
                assert_eq!(standing.end, offset + 1, "just behind the record");
                assert_same(&standing, &model(log, 0, offset + 1));
                let other = past.standing(1).unwrap();
                let later = events(log, 1).iter().position(|record| record.timestamp_ms > at_ms);
                assert_eq!(other.end, later.map_or(600, |later| later as u64), "the same time elsewhere");
                assert_same(&other, &model(log, 1, other.end));
                match standing.start {
                    Start::Checkpoint { offset: from, .. } => {
                        assert!(checkpoints.is_some() && from <= offset + 1 && standing.taken == offset + 1 - from);
                        from_checkpoints += 1;
                    }
                    Start::Beginning => of_later_checkpoints += usize::from(checkpoints.is_some()),
                }
                let expected = said_last(log, 0, standing.end);
                let wanted = expected.iter().map(|(id, (seq, _, _))| (*id, *seq)).collect();
                let found = last_entries(log, 0, standing.end, &wanted, &|_| {}).unwrap();
                assert_eq!(found.len(), expected.len());
                for (id, (_, entry, change)) in expected {
                    assert_eq!((&found[&id].entry, &found[&id].change), (&entry, &change));
                }
            }
        }
        (from_checkpoints, of_later_checkpoints)
    });
    let (from_checkpoints, of_later_checkpoints) = compared.await.unwrap();
    assert!(from_checkpoints > 20, "{from_checkpoints} of 40 began with a checkpoint");
    assert!(from_checkpoints + of_later_checkpoints == 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_beginning_the_past_needs_a_checkpoint() {
    let (folder, log) = made(1, 200, true).await;
    let mut kept = Held::of(&*log);
    kept.starts.insert((Topic::Events, 0), 150);
    let store = CheckpointStore::new(open_folder(&checkpoints_of(folder.path())).unwrap(), kept.log_id());
    let elsewhere = Checkpoints::new(store, tokio::runtime::Handle::current());
    let config = host_config();
    tokio::task::spawn_blocking(move || {
        let noted = std::sync::Mutex::new(0);
        let told = |what| {
            if matches!(what, tidings_replay::state::Told::Unusable { .. }) {
                *noted.lock().unwrap() += 1;
            }
        };
        let as_of = AsOf::find(&kept, Moment::Now).unwrap();
        let past = Past { log: &kept, config: &config, checkpoints: Some(&elsewhere), as_of, told: &told };
        // They are of another log: that is said, and they are not used.
        let error = past.standing(0).unwrap_err();
        assert!(matches!(error, StateError::NotKept { partition: 0, kept: 150 }), "{error}");
        assert!(*noted.lock().unwrap() > 0);
        assert_same(&past.standing(1).unwrap(), &model(&*log, 1, 200));
    })
    .await
    .unwrap();
}

#[test]
fn the_last_edit_before_the_moment_counts() {
    let mut log = Held::default();
    let id = ConversationId(7);
    let about = Some(wire::Id::from(id));
    let edit = |text: &str| {
        let change = wire::Change { conversation_id: about, seq: 1, text: text.to_owned(), ..Default::default() };
        wire::TimelineRecord { change: Some(change), ..Default::default() }
    };
    let entry = wire::Entry { conversation_id: about, seq: 1, ..Default::default() };
    let first = wire::TimelineRecord { entries: vec![entry], ..Default::default() };
    let nothing = wire::TimelineRecord::default();
    let mut push = |offset, record: wire::TimelineRecord, id: ConversationId| {
        let source = Some(wire::Source { partition: 0, offset });
        let record = wire::TimelineRecord { source, ..record };
        log.push(Topic::Timeline, 0, 1, &id.to_bytes(), record.encode_to_vec());
    };
    let repeated = first.clone();
    push(0, first, id);
    // More than is read at a time.
    (1..6_000).for_each(|offset| push(offset, nothing.clone(), ConversationId(8)));
    for (offset, text) in [(6_000, "one"), (6_001, "two"), (6_002, "three")] {
        push(offset, edit(text), id);
    }
    // Long after, another owner of the shard repeats some, the entry too.
    (6_003..11_000).for_each(|offset| push(offset, nothing.clone(), ConversationId(8)));
    push(0, repeated, id);
    (1..5_000).for_each(|offset| push(offset, nothing.clone(), ConversationId(8)));
    push(6_001, edit("two"), id);
    let wanted = HashMap::from([(id, 1)]);
    for (end, expected) in
        [(6_000, None), (6_001, Some("one")), (6_002, Some("two")), (6_003, Some("three")), (20_000, Some("three"))]
    {
        let found = last_entries(&log, 0, end, &wanted, &|_| {}).unwrap();
        assert_eq!(found[&id].change.as_ref().map(|change| &change.text[..]), expected, "{end}");
    }
}

#[test]
fn a_moment_is_found_though_the_clock_steps_back() {
    let mut log = Held::default();
    for at_ms in [1_000, 5_000, 2_000, 3_000, 6_000, 4_000] {
        log.push(Topic::Events, 0, at_ms, b"", Vec::new());
    }
    let end = |moment, topic, partition| AsOf::find(&log, moment).unwrap().end(&log, topic, partition).unwrap();
    for (at_ms, expected) in [(0, 0), (1_000, 1), (3_500, 1), (5_000, 4), (6_000, 6), (9_000, 6)] {
        assert_eq!(end(Moment::At(at_ms), Topic::Events, 0), expected, "{at_ms}");
    }
    assert_eq!(end(Moment::Now, Topic::Events, 0), 6);
    let record = Moment::Record { topic: Topic::Events, partition: 0, offset: 2 };
    assert_eq!(end(record, Topic::Events, 0), 3);
    let missing = Moment::Record { topic: Topic::Events, partition: 0, offset: 6 };
    assert!(AsOf::find(&log, missing).is_err(), "it has not happened yet");
}

const EDGE: u32 = 1;

/// An edge's record of a second.
fn beat(log: &mut Held, at_ms: i64, partition: u32, signals: Vec<wire::signal::Body>) {
    let signals = signals.into_iter().map(|body| wire::Signal { body: Some(body) }).collect();
    let record = wire::SignalRecord { edge_id: EDGE, edge_run: 1, stamped_at_ms: at_ms, signals };
    log.push(Topic::Signals, partition, at_ms, b"", record.encode_to_vec());
}

fn opened(user: UserId, session_id: u64) -> wire::signal::Body {
    wire::signal::Body::SessionOpened(wire::SessionOpened {
        user_id: Some(user.into()),
        session_id,
        ..Default::default()
    })
}

fn alive(user: UserId, session: u64) -> wire::signal::Body {
    wire::signal::Body::Heartbeats([&user.to_bytes()[..], &session.to_be_bytes()].concat().into())
}

/// Ann is there from second 1 to 100, when she says goodbye; Bob comes at 10 and is never heard again. A record a second.
fn signals(ann: UserId, bob: UserId) -> Held {
    let mut log = Held::default();
    let start_ms = 1_800_000_000_000;
    for second in 0..200 {
        let mut signals = Vec::new();
        match second {
            1 => signals.push(opened(ann, 11)),
            10 => signals.push(opened(bob, 12)),
            100 => signals.push(wire::signal::Body::SessionClosed(wire::SessionClosed {
                user_id: Some(ann.into()),
                session_id: 11,
                clean: true,
            })),
            2..100 if second % 25 == 0 => signals.push(alive(ann, 11)),
            _ => {}
        }
        beat(&mut log, start_ms + second * 1_000, 0, signals);
    }
    log
}

/// Who was online, whether that is all, by second.
fn online_at(log: &Held, second: i64) -> (Vec<UserId>, bool) {
    let config = host_config();
    let past = past(log, None, Moment::At(1_800_000_000_000 + second * 1_000), &config);
    let present = past.present(0).unwrap();
    let mut online: Vec<UserId> = present.online().map(|user| user.unwrap().id).collect();
    online.sort_unstable();
    (online, present.is_complete)
}

#[test]
fn who_was_online_is_known_as_far_as_signals_are_kept() {
    let (ann, bob) = (UserId(1), UserId(2));
    let mut log = signals(ann, bob);
    // A session that gives no sign of life counts for 50 s, one that said goodbye for 10 s.
    let table: [(i64, &[UserId]); 7] =
        [(0, &[]), (5, &[ann]), (20, &[ann, bob]), (59, &[ann, bob]), (62, &[ann]), (105, &[ann]), (112, &[])];
    for (second, expected) in table {
        assert_eq!(online_at(&log, second), (expected.to_vec(), true), "second {second}");
    }
    // What is before second 40 is gone: Ann shows with her next sign of life; after 50 s all is known again.
    log.starts.insert((Topic::Signals, 0), 40);
    for (second, expected, is_complete) in
        [(30, &[][..], false), (45, &[], false), (51, &[ann], false), (95, &[ann], true), (150, &[], true)]
    {
        assert_eq!(online_at(&log, second), (expected.to_vec(), is_complete), "second {second}, from 40 on");
    }
}

#[test]
fn the_first_to_claim_a_name_has_it() {
    let mut log = Held::default();
    for (user, username) in [(1_u128, "ann"), (2, "bob"), (3, "ann")] {
        let registered = wire::RegisterUser {
            user_id: Some(UserId(user).into()),
            username: username.to_owned(),
            ..Default::default()
        };
        let body = Some(wire::directory_record::Body::RegisterUser(registered));
        let record = wire::DirectoryRecord { stamped_at_ms: 1, body };
        log.push(Topic::Directory, 0, 1, username.as_bytes(), record.encode_to_vec());
    }
    assert_eq!(names::user_of(&log, "Ann", &|_| {}).unwrap(), Some(UserId(1)));
    assert_eq!(names::user_of(&log, "eve", &|_| {}).unwrap(), None);
    let names = names::names_of(&log, &[UserId(1), UserId(2), UserId(9)].into(), &|_| {}).unwrap();
    assert_eq!(names, HashMap::from([(UserId(1), "ann".to_owned()), (UserId(2), "bob".to_owned())]));
}

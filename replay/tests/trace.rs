//! Lives of messages of random histories, held against what reading all of the log says: through restarts that repeat
//! everything, and of messages whose ids say nothing.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../dataflow/tests/conversations/history.rs"]
mod history;
mod support;

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use support::{Held, made};
use tidings_dataflow::conversations::ConversationsConfig;
use tidings_ingest::{Log, StoredRecord};
use tidings_replay::{
    Scan,
    trace::{Asked, Trace, TraceError, Verdict, trace},
};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId, unpack_user_ids},
    topics::{Partitions, Topic, conversation_partition},
    wire::{self, inbox_item},
};

const PARTITIONS: Partitions = Partitions { conversations: 2, recipients: 2, edges: 4, directory: 1 };

fn config() -> ConversationsConfig {
    ConversationsConfig { group_members_max: 25, ..Default::default() }
}

fn all(log: &dyn Log, topic: Topic, partition: u32) -> Vec<StoredRecord> {
    Scan::new(log, topic, partition, 0..u64::MAX).unwrap().map(Result::unwrap).collect()
}

/// The timeline of a partition without repeats: the place and the record.
fn timeline(log: &dyn Log, partition: u32) -> Vec<(u64, wire::TimelineRecord)> {
    let mut next = 0;
    let mut found = Vec::new();
    for record in all(log, Topic::Timeline, partition) {
        let decoded = wire::TimelineRecord::decode(record.value).unwrap();
        if decoded.source.unwrap().offset >= next {
            next = decoded.source.unwrap().offset + 1;
            found.push((record.offset, decoded));
        }
    }
    found
}

/// Of each event, whom its entries reached: the user's offset and the place in the inbox, the first of each.
type Reached = HashMap<(u32, u64, u64), BTreeMap<UserId, (u32, u64, u64)>>;

fn reached(log: &dyn Log) -> Reached {
    let mut reached = Reached::new();
    for partition in 0..PARTITIONS.recipients {
        for record in all(log, Topic::Inbox, partition) {
            let decoded = wire::InboxRecord::decode(record.value).unwrap();
            let event = decoded.events_source.unwrap();
            for item in decoded.items {
                let Some(inbox_item::Reference::Entry(entry)) = item.reference else { continue };
                for (user, offset) in unpack_user_ids(&item.user_ids).zip(&item.offsets) {
                    let users = reached.entry((event.partition, event.offset, entry.seq)).or_default();
                    users.entry(user).or_insert((partition, record.offset, *offset));
                }
            }
        }
    }
    reached
}

/// When a cursor came to a message, as reading on from it says: delivered, seen.
fn moved(
    timeline: &[(u64, wire::TimelineRecord)],
    from: u64,
    (conversation, seq): (wire::Id, u64),
    user: UserId,
) -> (Option<u64>, Option<u64>) {
    let mut found = (None, None);
    for (_, record) in timeline.iter().filter(|(offset, _)| *offset >= from) {
        let source = record.source.unwrap().offset;
        for cursors in &record.cursor_moves {
            if (cursors.conversation_id, cursors.user_id) == (Some(conversation), Some(user.into())) {
                found.0 = found.0.or((cursors.delivered_seq >= seq).then_some(source));
                found.1 = found.1.or((cursors.seen_seq >= seq).then_some(source));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_are_what_the_whole_log_says() {
    let (_folder, log) = made(3, 200, false).await;
    tokio::task::spawn_blocking(move || {
        let log = &*log;
        let reached = reached(log);
        let (mut traced, mut searched, mut recipients, mut seen) = (0, 0, 0, 0);
        for partition in 0..PARTITIONS.conversations {
            let events = all(log, Topic::Events, partition);
            let timeline = timeline(log, partition);
            assert!(all(log, Topic::Timeline, partition).len() > timeline.len() + 300, "there are repeats");
            for (place, record) in timeline.iter().step_by(3) {
                let source = record.source.unwrap();
                for entry in &record.entries {
                    let id = MessageId::from(entry.message_id.unwrap());
                    let conversation = Some(ConversationId::from(entry.conversation_id.unwrap()));
                    let has_place = id.position().is_some_and(|(_, offset)| offset & !(1 << 57) == source.offset);
                    // These histories do not keep to the partitions that their conversations would have.
                    let is_home =
                        |id: &ConversationId| conversation_partition(*id, PARTITIONS.conversations) == partition;
                    let conversation = conversation.filter(|id| !has_place && is_home(id));
                    let asked = Asked::Message { id, conversation };
                    let life = trace(log, asked, &|_| {}).unwrap();
                    traced += 1;
                    searched += usize::from(!has_place);
                    assert_eq!(life.source, source);
                    assert_eq!(life.verdict, Verdict::Accepted(entry.clone()));
                    assert_eq!(life.event.as_ref().unwrap().1, events[usize::try_from(source.offset).unwrap()]);
                    assert_eq!(life.timeline.unwrap().offset, *place);
                    let empty = BTreeMap::new();
                    let expected = reached.get(&(source.partition, source.offset, entry.seq)).unwrap_or(&empty);
                    for (user, (partition, offset, number)) in expected {
                        let (inbox, found) = life.recipients[user].inbox.unwrap();
                        assert_eq!((inbox.partition, inbox.offset, found), (*partition, *offset, *number));
                    }
                    let in_inbox = life.recipients.values().filter(|recipient| recipient.inbox.is_some()).count();
                    assert_eq!(in_inbox, expected.len());
                    recipients += in_inbox;
                    for (user, recipient) in &life.recipients {
                        let about = (entry.conversation_id.unwrap(), entry.seq);
                        let expected = moved(&timeline, *place, about, *user);
                        let at = |moved: Option<tidings_replay::trace::Moved>| moved.map(|moved| moved.source.offset);
                        assert_eq!((at(recipient.delivered), at(recipient.seen)), expected, "{user} {id}");
                        seen += usize::from(expected.1.is_some() && !recipient.is_sender);
                    }
                }
            }
        }
        assert!(
            traced > 100 && searched > 0 && recipients > 300 && seen > 50,
            "{traced} {searched} {recipients} {seen}"
        );
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_kept_is_said() {
    let (_folder, log) = made(1, 150, false).await;
    tokio::task::spawn_blocking(move || {
        let mut log = Held::of(&*log);
        let is_early =
            |record: &wire::TimelineRecord| record.source.unwrap().offset < 100 && !record.entries.is_empty();
        let (_, record) = timeline(&log, 0).into_iter().rev().find(|(_, record)| is_early(record)).unwrap();
        let entry = &record.entries[0];
        let asked = Asked::Message { id: entry.message_id.unwrap().into(), conversation: None };
        let whole = trace(&log, asked, &|_| {}).unwrap();
        assert!(whole.not_kept.is_empty() && !whole.recipients.is_empty() && !whole.fanout.is_empty());

        // Derived by a machine whose clock goes after.
        for ((topic, _), records) in &mut log.records {
            if matches!(topic, Topic::Fanout | Topic::Inbox) {
                records.iter_mut().for_each(|record| record.timestamp_ms -= 30_000);
            }
        }
        let late = trace(&log, asked, &|_| {}).unwrap();
        assert_eq!((late.fanout.len(), late.recipients.len()), (whole.fanout.len(), whole.recipients.len()));
        for (user, recipient) in &late.recipients {
            let offset =
                |found: &tidings_replay::trace::Recipient| found.inbox.map(|(place, number)| (place.offset, number));
            assert_eq!(offset(recipient), offset(&whole.recipients[user]));
        }

        // Without its fan-out, the inbox still says for whom it was.
        for partition in 0..PARTITIONS.recipients {
            log.starts.insert((Topic::Fanout, partition), log.records[&(Topic::Fanout, partition)].len() as u64);
        }
        let later = trace(&log, asked, &|_| {}).unwrap();
        assert_eq!((later.not_kept, later.fanout.len()), (vec![Topic::Fanout], 0));
        let places =
            |life: &Trace| life.recipients.iter().map(|(user, found)| (*user, found.inbox)).collect::<Vec<_>>();
        assert_eq!(places(&trace(&log, asked, &|_| {}).unwrap()), places(&late));

        // Without its event and its timeline nobody knows it.
        log.starts.insert((Topic::Events, 0), 140);
        let found = trace(&log, asked, &|_| {}).unwrap();
        assert!(found.event.is_none() && found.verdict == whole.verdict, "the timeline has it");
        log.starts.insert((Topic::Timeline, 0), 140);
        assert!(matches!(trace(&log, asked, &|_| {}), Err(TraceError::Unknown { .. })));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_made_no_entry_is_traced_by_its_place_and_what_is_not_there_is_said() {
    let (_folder, log) = made(1, 150, false).await;
    tokio::task::spawn_blocking(move || {
        let log = &*log;
        let refused = timeline(log, 0).into_iter().find_map(|(_, record)| Some((record.source?, record.refusal?)));
        let (source, refusal) = refused.unwrap();
        let asked = Asked::Event { partition: source.partition, offset: source.offset };
        let life = trace(log, asked, &|_| {}).unwrap();
        assert_eq!((life.verdict, life.message_id), (Verdict::Refused(refusal), None));
        assert!(life.recipients.is_empty() && life.changes.is_empty());

        // The place of an event that is no such message, and one that is not there.
        for id in [
            MessageId::from_position(1, 0, 3),
            MessageId::from_position(1, 0, 5_000),
            MessageId::from_position(1, 9, 0),
        ] {
            let error = trace(log, Asked::Message { id, conversation: None }, &|_| {}).unwrap_err();
            assert!(matches!(error, TraceError::Unknown { .. }), "{error}");
        }
        assert!(trace(log, Asked::Event { partition: 0, offset: 5_000 }, &|_| {}).is_err());
        assert!(trace(log, Asked::Event { partition: 9, offset: 0 }, &|_| {}).is_err());
    })
    .await
    .unwrap();
}

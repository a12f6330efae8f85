//! What every implementation of the [`Archive`] port must do, as functions over one: each uses partitions and
//! conversations of its own, so all may run on the same archive, which must have been migrated.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that panics has failed")]

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId, pack_user_ids},
    topics::Topic,
    wire,
};

use super::{
    rows::RowSet,
    store::{Archive, Batch, EntriesQuery, SourceOffsets, SourceRange},
};

/// A conversation of a test's own.
pub fn conversation(number: u128) -> ConversationId {
    ConversationId::random(0xc0_0000 + number)
}

/// The entry of a send, at [`at_ms`] of its `seq`.
pub fn entry(conversation: ConversationId, seq: u64, send: &wire::Send) -> wire::Entry {
    let sender = UserId::random(7);
    let event = wire::Event {
        conversation_id: Some(conversation.into()),
        actor_id: Some(sender.into()),
        stamped_at_ms: at_ms(seq),
        body: Some(wire::event::Body::Send(send.clone())),
        ..Default::default()
    };
    let mut event = event.encode_to_vec();
    // A field that this program does not know: it must come back.
    event.extend_from_slice(&[0xfa, 0x3f, 0x03, 0x00, 0xff, 0x01]);
    wire::Entry {
        conversation_id: Some(conversation.into()),
        seq,
        message_id: Some(message(conversation, seq).into()),
        sender_id: Some(sender.into()),
        sent_at_ms: at_ms(seq),
        content: Some(wire::entry::Content::Event(event.into())),
    }
}

/// The id of the message that [`entry`] makes.
pub fn message(conversation: ConversationId, seq: u64) -> MessageId {
    MessageId(conversation.0 ^ (u128::from(seq) << 8))
}

/// A send of a text.
pub fn text(text: &str) -> wire::Send {
    wire::Send { client_message_id: format!("client {text}"), text: text.to_owned(), ..Default::default() }
}

/// A change of an entry: an edit to `text`, or the deletion if there is none.
pub fn change(entry: &wire::Entry, text: Option<&str>, at_ms: i64) -> wire::Change {
    let event = match &entry.content {
        Some(wire::entry::Content::Event(event)) if text.is_some() => event.clone(),
        _ => Bytes::new(),
    };
    wire::Change {
        conversation_id: entry.conversation_id,
        seq: entry.seq,
        message_id: entry.message_id,
        sender_id: entry.sender_id,
        sent_at_ms: entry.sent_at_ms,
        event,
        text: text.unwrap_or_default().to_owned(),
        edited_at_ms: if text.is_some() { at_ms } else { 0 },
        deleted_at_ms: if text.is_some() { 0 } else { at_ms },
        by: entry.sender_id,
    }
}

/// The time of entry `seq`, in milliseconds: `seq` seconds into 2090, so that no retention drops it.
pub fn at_ms(seq: u64) -> i64 {
    3_786_912_000_000 + i64::try_from(seq).unwrap_or_default() * 1_000
}

/// The batch of a `timeline` partition's records from `first` on, whose sources have the same offsets.
pub fn timeline_batch(partition: u32, first: u64, records: &[wire::TimelineRecord]) -> Arc<Batch> {
    let mut rows = RowSet::default();
    for (offset, record) in (first..).zip(records) {
        let source = Some(wire::Source { partition, offset });
        rows.push_timeline(&wire::TimelineRecord { source, ..record.clone() });
    }
    let end = first + records.len() as u64;
    Arc::new(Batch { ranges: vec![range(Topic::Timeline, partition, first, end)], rows: rows.take() })
}

/// The range of records `first..end`, whose sources have the same offsets.
pub fn range(topic: Topic, partition: u32, first: u64, end: u64) -> SourceRange {
    let source = SourceOffsets { from: first, to: end };
    SourceRange { topic, partition, first_offset: first, end_offset: end, source }
}

fn record(entry: &wire::Entry) -> wire::TimelineRecord {
    wire::TimelineRecord { at_ms: entry.sent_at_ms, entries: vec![entry.clone()], ..Default::default() }
}

/// No `seq` at all.
const NONE: [u64; 0] = [];

fn all(conversation: ConversationId) -> EntriesQuery {
    EntriesQuery { conversation, seqs: 0..=u64::MAX, newest_first: false, limit: 1_000 }
}

/// Bringing the schema up to date a second time changes nothing.
pub async fn migrating_again_changes_nothing(archive: &dyn Archive) {
    archive.migrate().await.unwrap();
    archive.migrate().await.unwrap();
}

/// An entry of any kind comes back as it was, to the byte.
pub async fn entries_come_back_as_they_were(archive: &dyn Archive) {
    let conversation = conversation(1);
    let user = |number| Some(wire::Id::from(UserId::random(number)));
    let odd = "emoji 🎉, quote ' and \" and \\, tab\t, newline\n, zero \0, right-to-left \u{202e}, end";
    let media = wire::Send {
        attachments: vec![
            wire::Attachment {
                media_id: "m1".into(),
                content_type: "image/png".into(),
                name: odd.into(),
                size: 5,
                width: 1,
                height: 2,
            },
            wire::Attachment::default(),
        ],
        reply_to: Some(message(conversation, 1).into()),
        ..text("with a picture")
    };
    let encrypted = wire::Encrypted { ciphertext: (0..=255_u8).collect::<Vec<_>>().into(), ..Default::default() };
    let created = wire::Membership {
        action: wire::MembershipAction::Created.into(),
        by: user(1),
        title: odd.to_owned(),
        member_ids: (1..200).filter_map(user).collect(),
        kind: wire::ConversationKind::Group.into(),
        ..Default::default()
    };
    let role = wire::Membership {
        action: wire::MembershipAction::Role.into(),
        user_id: user(2),
        by: user(1),
        role: wire::Role::Admin.into(),
        ..Default::default()
    };
    let membership = |seq, membership| wire::Entry {
        content: Some(wire::entry::Content::Membership(membership)),
        ..entry(conversation, seq, &wire::Send::default())
    };
    let unreadable = wire::Entry {
        content: Some(wire::entry::Content::Event(Bytes::from_static(b"\xff\xff of a later version"))),
        ..entry(conversation, 7, &wire::Send::default())
    };
    let entries = [
        membership(1, created),
        entry(conversation, 2, &text(odd)),
        entry(conversation, 3, &media),
        entry(conversation, 4, &wire::Send { encrypted: Some(encrypted), ..Default::default() }),
        membership(5, role),
        entry(conversation, 6, &text(&"long ".repeat(3_000))),
        unreadable,
    ];
    let records: Vec<_> = entries.iter().map(record).collect();
    archive.insert(timeline_batch(101, 0, &records)).await.unwrap();
    assert_eq!(archive.entries(all(conversation)).await.unwrap(), entries);
    for entry in &entries {
        let found = archive.entry_by_message_id(conversation, message(conversation, entry.seq)).await.unwrap();
        assert_eq!(found.as_ref(), Some(entry));
    }
    assert_eq!(archive.entry_by_message_id(conversation, MessageId(1)).await.unwrap(), None);
}

/// Ranges, orders and limits are kept to, and no other conversation shows.
pub async fn reads_keep_to_their_range(archive: &dyn Archive) {
    let (conversation, other) = (conversation(2), conversation(3));
    let mut records = Vec::new();
    for seq in 1..=300 {
        records.push(record(&entry(conversation, seq, &text("ours"))));
        records.push(record(&entry(other, seq, &text("theirs"))));
    }
    archive.insert(timeline_batch(102, 0, &records[..250])).await.unwrap();
    archive.insert(timeline_batch(102, 250, &records[250..])).await.unwrap();
    let read = async |seqs, newest_first, limit| -> Vec<u64> {
        let query = EntriesQuery { conversation, seqs, newest_first, limit };
        archive.entries(query).await.unwrap().iter().map(|entry| entry.seq).collect()
    };
    assert_eq!(read(1..=300, false, 50).await, (1..=50).collect::<Vec<_>>());
    assert_eq!(read(1..=300, true, 50).await, (251..=300).rev().collect::<Vec<_>>());
    assert_eq!(read(100..=103, true, 50).await, [103, 102, 101, 100]);
    assert_eq!(read(300..=u64::MAX, false, 50).await, [300]);
    assert_eq!(read(301..=u64::MAX, false, 50).await, NONE);
    assert_eq!(read(0..=u64::MAX, false, 0).await, NONE);
}

/// The change that stands is the deletion, else the newest edit.
pub async fn the_change_that_stands_is_read(archive: &dyn Archive) {
    let conversation = conversation(4);
    let entries: Vec<_> = (1..=4).map(|seq| entry(conversation, seq, &text("first"))).collect();
    let changes = [
        change(&entries[1], Some("second"), at_ms(10)),
        change(&entries[1], Some("third"), at_ms(10)),
        change(&entries[2], Some("second"), at_ms(11)),
        change(&entries[2], None, at_ms(12)),
        change(&entries[2], Some("after its deletion"), at_ms(13)),
        change(&entries[3], None, at_ms(14)),
    ];
    let mut records: Vec<_> = entries.iter().map(record).collect();
    records.extend(
        changes.iter().map(|change| wire::TimelineRecord { change: Some(change.clone()), ..Default::default() }),
    );
    archive.insert(timeline_batch(103, 0, &records)).await.unwrap();
    let mut found = archive.changes_for(conversation, &[1, 2, 3, 4, 5]).await.unwrap();
    found.sort_by_key(|change| change.seq);
    assert_eq!(found, [changes[1].clone(), changes[3].clone(), changes[5].clone()]);
    assert_eq!(archive.changes_for(conversation, &[]).await.unwrap(), []);
    assert_eq!(archive.changes_for(conversation, &[1]).await.unwrap(), []);
}

/// A recipient's updates come back in order, whatever they refer to.
pub async fn updates_come_back_in_order(archive: &dyn Archive) {
    let (ann, bob) = (UserId::random(0xa001), UserId::random(0xb001));
    let about = wire::EntryReference {
        conversation_id: Some(conversation(5).into()),
        seq: 9,
        message_id: Some(MessageId(99).into()),
    };
    let receipt = wire::ReceiptUpdate { seen_seq: 4, conversation_id: about.conversation_id, ..Default::default() };
    use wire::{inbox_item::Reference as Item, inbox_row::Reference as Row};
    let references = [
        (Item::Entry(about), Row::Entry(about)),
        (Item::Change(about), Row::Change(about)),
        (Item::Receipt(receipt), Row::Receipt(receipt)),
        (Item::Conversation(conversation(5).into()), Row::Conversation(conversation(5).into())),
    ];
    let mut rows = RowSet::default();
    let mut expected = Vec::new();
    for (offset, (item, row)) in (1_u64..).zip(references) {
        let events_source = Some(wire::Source { partition: 3, offset: offset * 10 });
        let item = wire::InboxItem {
            user_ids: pack_user_ids([ann, bob]),
            offsets: vec![offset, offset + 1_000],
            reference: Some(item),
        };
        rows.push_inbox(&wire::InboxRecord {
            at_ms: at_ms(offset),
            items: vec![item],
            events_source,
            ..Default::default()
        });
        expected.push((offset, wire::InboxRow { at_ms: at_ms(offset), events_source, reference: Some(row) }));
    }
    let batch = Batch { ranges: vec![range(Topic::Inbox, 104, 0, 4)], rows: rows.take() };
    archive.insert(Arc::new(batch)).await.unwrap();
    assert_eq!(archive.inbox(ann, 0..=u64::MAX, 100).await.unwrap(), expected);
    assert_eq!(archive.inbox(ann, 2..=3, 100).await.unwrap(), expected[1..3]);
    assert_eq!(archive.inbox(ann, 2..=100, 1).await.unwrap(), expected[1..2]);
    let bobs = archive.inbox(bob, 0..=u64::MAX, 100).await.unwrap();
    assert!(bobs.iter().map(|(offset, _)| *offset).eq(1_001..=1_004));
}

/// Progress is where the last insert ended, for each partition; also when no row follows from the records.
pub async fn progress_follows_the_inserts(archive: &dyn Archive) {
    let of = async |topic, partition| {
        let progress = archive.progress().await.unwrap();
        progress.into_iter().find(|progress| (progress.topic, progress.partition) == (topic, partition))
    };
    assert_eq!(of(Topic::Timeline, 105).await, None);
    let nothing = wire::TimelineRecord::default();
    archive.insert(timeline_batch(105, 0, &[nothing.clone(), nothing.clone()])).await.unwrap();
    archive.insert(timeline_batch(105, 2, &[nothing])).await.unwrap();
    let two = [range(Topic::Inbox, 105, 0, 7), range(Topic::Inbox, 106, 0, 9)];
    archive.insert(Arc::new(Batch { ranges: two.to_vec(), rows: Vec::new() })).await.unwrap();
    for (topic, partition, next) in [(Topic::Timeline, 105, 3), (Topic::Inbox, 105, 7), (Topic::Inbox, 106, 9)] {
        let progress = of(topic, partition).await.unwrap();
        assert_eq!((progress.next_offset, progress.next_source_offset, progress.planned), (next, next, None));
        assert_eq!(archive.next_source_offset(topic, partition), next);
    }
}

/// A batch that is inserted again, or a record that is inserted again in another batch, shows once.
pub async fn repeats_show_once(archive: &dyn Archive) {
    let conversation = conversation(6);
    let entries: Vec<_> = (1..=20).map(|seq| entry(conversation, seq, &text("once"))).collect();
    let records: Vec<_> = entries.iter().map(record).collect();
    for _ in 0..3 {
        archive.insert(timeline_batch(107, 0, &records[..10])).await.unwrap();
    }
    archive.insert(timeline_batch(107, 10, &records[5..])).await.unwrap();
    assert_eq!(archive.entries(all(conversation)).await.unwrap(), entries);
}

/// The content of a deleted message goes from its rows, and that of what a user wrote; the rows stay, and those of others
/// are what they were.
pub async fn erased_content_is_gone(archive: &dyn Archive) {
    let (conversation, by_another) = (conversation(8), UserId::random(77));
    let entries: Vec<wire::Entry> = (1..=4)
        .map(|seq| {
            let mut entry = entry(conversation, seq, &text(&format!("number {seq}")));
            if seq == 4 {
                entry.sender_id = Some(by_another.into());
            }
            entry
        })
        .collect();
    let changed = |change| wire::TimelineRecord { change: Some(change), ..Default::default() };
    let mut records: Vec<wire::TimelineRecord> = entries.iter().map(record).collect();
    records.push(changed(change(&entries[0], Some("edited"), at_ms(10))));
    records.push(changed(change(&entries[0], None, at_ms(11))));
    records.push(changed(change(&entries[1], Some("edited, too"), at_ms(12))));
    archive.insert(timeline_batch(9, 0, &records)).await.unwrap();

    let rows = |found: Vec<super::erasure::ErasedTable>, table: &str| {
        found.into_iter().filter(|of| of.table == table).map(|of| of.rows).sum::<u64>()
    };
    assert!(rows(archive.erase(&[]).await.unwrap(), "timeline_entries") >= 1);
    assert!(rows(archive.erase(&[by_another]).await.unwrap(), "timeline_entries") >= 1);
    for users in [&[][..], &[by_another]] {
        let again = archive.erase(users).await.unwrap();
        assert!(again.iter().all(|of| of.rows == 0), "there is nothing left: {again:?}");
    }
    let found = archive.entries(all(conversation)).await.unwrap();
    let emptied = |entry: &wire::Entry| wire::Entry { content: None, ..entry.clone() };
    assert_eq!(found, [emptied(&entries[0]), entries[1].clone(), entries[2].clone(), emptied(&entries[3])]);
    let changes = archive.changes_for(conversation, &[1, 2]).await.unwrap();
    assert_eq!(changes[0].deleted_at_ms, at_ms(11));
    assert_eq!(changes[1], change(&entries[1], Some("edited, too"), at_ms(12)));
}

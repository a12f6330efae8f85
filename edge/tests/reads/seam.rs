//! One list, wherever its parts are kept.

use prost::Message as _;
use tidings_edge::{
    error::ErrorCode,
    read::{MessagesFrom, Reads},
};
use tidings_schemas::{
    client::update,
    ids::MessageId,
    limits::ENTRIES_TAIL_MAX,
    wire::{self, event::Body},
};

use crate::world::{ANN, BOB, GROUP, World, send};

/// More than the views keep, so that the oldest have left them: they keep at the most twice the tail.
const SENT: u64 = 2 * ENTRIES_TAIL_MAX + 300;
const LAST: u64 = SENT + 1;

/// All seqs, page by page.
async fn all_seqs(reads: &Reads, mut from: MessagesFrom) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let page = reads.messages(BOB, GROUP, from, 170).await.unwrap();
        seqs.extend(page.messages.iter().map(|message| message.seq));
        match page.next {
            Some(next) => from = MessagesFrom::Place(next),
            None => return seqs,
        }
    }
}

fn first() -> MessagesFrom {
    MessagesFrom::Place(tidings_edge::read::page_token::MessagesPlace::After(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_cross_the_seam_in_both_directions() {
    let world = World::start();
    world.group(SENT).await;
    let reads = world.reads(u64::MAX, 0);
    assert_eq!(all_seqs(&reads, MessagesFrom::Newest).await, (1..=LAST).rev().collect::<Vec<_>>());
    assert_eq!(all_seqs(&reads, first()).await, (1..=LAST).collect::<Vec<_>>());

    // Without a history, and where retention has taken the oldest, the list ends where it ends.
    let tail = all_seqs(&Reads::new(world.views.clone(), None, world.partitions()), MessagesFrom::Newest).await;
    let oldest = *tail.last().unwrap();
    assert!((ENTRIES_TAIL_MAX..2 * ENTRIES_TAIL_MAX).contains(&(tail.len() as u64)), "{}", tail.len());
    assert_eq!(tail, (oldest..=LAST).rev().collect::<Vec<_>>());
    let kept = all_seqs(&world.reads(u64::MAX, 100), MessagesFrom::Newest).await;
    assert_eq!(kept, (100..=LAST).rev().collect::<Vec<_>>());
    assert_eq!(all_seqs(&world.reads(u64::MAX, 100), first()).await, (100..=LAST).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_behind_is_unavailable_and_never_a_gap() {
    let world = World::start();
    world.group(SENT).await;
    let reads = world.reads(50, 0);
    let newest = reads.messages(BOB, GROUP, MessagesFrom::Newest, 170).await;
    assert_eq!(newest.unwrap().messages.len(), 170, "the newest are in the views");
    let mut from = MessagesFrom::Newest;
    let error = loop {
        match reads.messages(BOB, GROUP, from, 170).await {
            Ok(page) => from = MessagesFrom::Place(page.next.expect("the list does not end here")),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code, ErrorCode::Unavailable);
    let error = reads.messages(BOB, GROUP, first(), 170).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert_eq!(reads.updates(BOB, 0, None, 500).await.unwrap_err().code, ErrorCode::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_message_is_found_with_what_became_of_it() {
    let world = World::start();
    world.group(SENT).await;
    let reads = world.reads(u64::MAX, 0);
    let old = reads.entry(GROUP, 5).await.unwrap().unwrap().entry.unwrap();
    let id = MessageId::from(old.message_id.unwrap());
    let Some(wire::entry::Content::Event(event)) = old.content else { panic!("it was a send") };
    let target = wire::Target {
        message_id: Some(id.into()),
        seq: 5,
        sender_id: Some(ANN.into()),
        event,
        sent_at_ms: old.sent_at_ms,
    };
    let edit = wire::EditMessage { target: Some(target), text: "edited".to_owned() };
    world.events([(ANN, Body::EditMessage(edit))]).await;

    assert_eq!(reads.message(GROUP, 5).await.unwrap().unwrap().text, "edited");
    let found = reads.entry_by_message_id(GROUP, id).await.unwrap().unwrap();
    assert_eq!((found.entry.unwrap().seq, found.change.unwrap().text.as_str()), (5, "edited"));
    assert_eq!(reads.message(GROUP, LAST + 1).await.unwrap(), None);
    assert_eq!(reads.entry_by_message_id(GROUP, MessageId::from_position(1, 2, 3)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_resolved_wherever_their_entries_are() {
    let world = World::start();
    world.group(SENT).await;
    let reads = world.reads(u64::MAX, 0);
    let mut texts = Vec::new();
    let mut last = 0;
    // Each of Ann's messages is an update of Bob's, and so are her own cursor's moves; `created` is two.
    let end = 2 + 2 * SENT;
    while last < end {
        let page = reads.updates(BOB, last, Some(end), 1_000).await.unwrap();
        assert!(!page.resync_required && page.last_offset >= end);
        for update in page.updates {
            assert_eq!(update.offset, last + 1);
            last = update.offset;
            if let Some(update::Kind::Message(message)) = update.kind {
                texts.push(message.text);
            }
        }
    }
    let expected = std::iter::once(String::new()).chain((2..=LAST).map(|seq| format!("message {seq}")));
    assert!(texts.into_iter().eq(expected));

    let gone = world.reads(u64::MAX, 100).updates(BOB, 0, None, 50).await.unwrap();
    assert!(gone.resync_required && gone.updates.is_empty(), "what it refers to is no longer kept");
    let none = Reads::new(world.views.clone(), None, world.partitions()).updates(BOB, 0, None, 50).await.unwrap();
    assert!(none.resync_required);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_never_older_than_what_the_edge_has_told() {
    let world = World::start();
    world.group(1).await;
    let reads = world.reads(u64::MAX, 0);
    let partition = tidings_schemas::topics::conversation_partition(GROUP, world.partitions().conversations);
    let offset = world.events([(ANN, send("one more", "hello"))]).await;
    reads.freshness().note_events(&wire::Source { partition, offset });
    assert_eq!(reads.conversation_for(BOB, GROUP).await.unwrap().last_seq, 3);
    // Told of something that the views will never have: the read waits, and says so in the end.
    reads.freshness().note_events(&wire::Source { partition, offset: offset + 1_000 });
    let started = tokio::time::Instant::now();
    assert_eq!(reads.conversation_for(BOB, GROUP).await.unwrap_err().code, ErrorCode::Unavailable);
    assert!(started.elapsed() >= tidings_schemas::limits::VIEW_WAIT_TIMEOUT);
}

/// A message is deleted after the page that it is on was read: it does not come out of memory.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_does_not_come_out_of_the_cache() {
    let world = World::start();
    world.group(SENT).await;
    let reads = world.cached_reads();
    let place = MessagesFrom::Place(tidings_edge::read::page_token::MessagesPlace::Before(120));
    let page = async || reads.messages(BOB, GROUP, place, 50).await.unwrap().messages;
    let before = page().await;
    assert_eq!(before, page().await);
    let (deleted, edited) = (&before[3], &before[5]);
    assert!(deleted.deleted_at.is_none() && !deleted.text.is_empty());
    let target = |message: &tidings_schemas::client::Message| {
        let message_id = message.message_id.parse::<MessageId>().unwrap();
        Some(wire::Target {
            message_id: Some(message_id.into()),
            seq: message.seq,
            sender_id: Some(ANN.into()),
            event: wire::Event::default().encode_to_vec().into(),
            sent_at_ms: message.sent_at.map(|at| at.millis()).unwrap_or_default(),
        })
    };
    world
        .events([
            (ANN, Body::DeleteMessage(wire::DeleteMessage { target: target(deleted), erasure: false })),
            (ANN, Body::EditMessage(wire::EditMessage { target: target(edited), text: "edited".to_owned() })),
        ])
        .await;
    let after = page().await;
    assert!(after[3].deleted_at.is_some() && after[3].text.is_empty(), "{:?}", after[3]);
    assert_eq!(after[5].text, "edited");
    assert_eq!(after.len(), before.len());
}

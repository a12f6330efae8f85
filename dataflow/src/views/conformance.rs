//! What every store of the views must do. Each check takes a [`Factory`], starts with an empty store of its own, and
//! panics with what is wrong. They are to be run on a runtime of several threads: some race a writer with readers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "checks panic: that is how they tell")]

use std::{ops::Bound, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits::{VIEW_SCAN_ROWS_MAX, VIEW_SORT_BYTES_MAX},
    topics::Topic,
    views::{Key, Move, Position, Scan, Table, ViewError, ViewStore, Write, last_inbox_offset},
};

/// Makes the stores to be checked.
#[async_trait]
pub trait Factory: Sync {
    /// An empty store.
    async fn create(&self) -> Arc<dyn ViewStore>;
    /// The same store, closed and opened again.
    async fn reopen(&self, store: Arc<dyn ViewStore>) -> Arc<dyn ViewStore>;
}

const OWNER: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

fn key(table: Table, owner: u128, sort: &[u8]) -> Key {
    Key { table, owner, sort: Bytes::copy_from_slice(sort) }
}

fn put(key: &Key, value: &'static [u8]) -> Write {
    Write::Put(key.clone(), Bytes::from_static(value))
}

fn all(table: Table, owner: u128) -> Scan {
    Scan { table, owner, from: Bound::Unbounded, to: Bound::Unbounded, reverse: false, limit: VIEW_SCAN_ROWS_MAX }
}

fn step(topic: Topic, partition: u32, from: u64, to: u64) -> Move {
    Move { topic, partition, from, to }
}

async fn sorts(store: &dyn ViewStore, scan: Scan) -> Vec<Vec<u8>> {
    store.scan(scan).await.unwrap().into_iter().map(|(sort, _)| sort.to_vec()).collect()
}

/// A row that was put is there, in the order asked; one that was not is none; the last write stands.
pub async fn gets_what_was_put(factory: &dyn Factory) {
    let store = factory.create().await;
    let [one, other, absent] = [b"1", b"2", b"3"].map(|sort| key(Table::Members, OWNER, sort));
    store.apply(vec![put(&one, b"a"), put(&other, b"")], vec![]).await.unwrap();
    let keys = [absent.clone(), other.clone(), one.clone(), one.clone()];
    let empty = Some(Bytes::new());
    let a = Some(Bytes::from_static(b"a"));
    assert_eq!(store.get(&keys).await.unwrap(), [None, empty, a.clone(), a]);
    store
        .apply(vec![put(&one, b"b"), Write::Delete(other.clone()), Write::Delete(absent.clone())], vec![])
        .await
        .unwrap();
    assert_eq!(store.get(&[one, other, absent]).await.unwrap(), [Some(Bytes::from_static(b"b")), None, None]);
    assert_eq!(store.get(&[]).await.unwrap(), []);
}

/// Writes of one batch are applied in their order, also to the same row.
pub async fn applies_writes_in_order(factory: &dyn Factory) {
    let store = factory.create().await;
    let keys: Vec<Key> = (0..4_u8).map(|sort| key(Table::Entries, OWNER, &[sort])).collect();
    let [twice, deleted, returned, trimmed] = keys.as_slice() else { unreachable!() };
    let writes = vec![
        put(twice, b"first"),
        put(twice, b"second"),
        put(deleted, b"x"),
        Write::Delete(deleted.clone()),
        put(returned, b"x"),
        Write::DeleteBelow(key(Table::Entries, OWNER, &[9])),
        put(returned, b"again"),
        put(twice, b"third"),
        put(trimmed, b"x"),
        Write::Delete(trimmed.clone()),
        put(trimmed, b"kept"),
    ];
    store.apply(writes, vec![]).await.unwrap();
    let expected = [
        Some(Bytes::from_static(b"third")),
        None,
        Some(Bytes::from_static(b"again")),
        Some(Bytes::from_static(b"kept")),
    ];
    assert_eq!(store.get(&keys).await.unwrap(), expected);
    let store = factory.reopen(store).await;
    assert_eq!(store.get(&keys).await.unwrap(), expected);
}

/// Owners and tables do not see each other's rows, whatever the bytes of their keys.
pub async fn keeps_owners_and_tables_apart(factory: &dyn Factory) {
    let store = factory.create().await;
    let owners = [0, 1, OWNER, OWNER + 1, u128::MAX - 1, u128::MAX];
    let mut writes = Vec::new();
    for table in Table::ALL {
        for owner in owners {
            for sort in [&b""[..], &[0], &[0xff; 16]] {
                let value = Bytes::from(format!("{table:?} {owner} {sort:?}"));
                writes.push(Write::Put(key(table, owner, sort), value));
            }
        }
    }
    store.apply(writes, vec![]).await.unwrap();
    for table in Table::ALL {
        for owner in owners {
            let rows = store.scan(all(table, owner)).await.unwrap();
            let expected: Vec<(Bytes, Bytes)> = [&b""[..], &[0], &[0xff; 16]]
                .iter()
                .map(|sort| (Bytes::copy_from_slice(sort), Bytes::from(format!("{table:?} {owner} {sort:?}"))))
                .collect();
            assert_eq!(rows, expected, "{table:?} {owner}");
        }
    }
    store.apply(vec![Write::DeleteBelow(key(Table::Inbox, OWNER, &[0xff; 32]))], vec![]).await.unwrap();
    assert_eq!(sorts(&*store, all(Table::Inbox, OWNER)).await.len(), 0);
    for owner in [OWNER - 1, OWNER + 1].into_iter().filter(|owner| owners.contains(owner)) {
        assert_eq!(sorts(&*store, all(Table::Inbox, owner)).await.len(), 3);
    }
    assert_eq!(sorts(&*store, all(Table::MessageIndex, OWNER)).await.len(), 3);
}

/// A scan keeps to its bounds, its direction and its limit.
pub async fn scans_between_bounds(factory: &dyn Factory) {
    let store = factory.create().await;
    let numbers: Vec<u64> = (0..200).map(|n| n * 3).collect();
    let user = UserId(OWNER);
    let writes = numbers.iter().map(|n| Write::Put(Key::inbox(user, *n), Bytes::copy_from_slice(&n.to_be_bytes())));
    store.apply(writes.collect(), vec![]).await.unwrap();
    let bound = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    let bounds = |n: u64| [Bound::Included(bound(n)), Bound::Excluded(bound(n))];
    let within = |n: u64, from: &Bound<Bytes>, to: &Bound<Bytes>| {
        let n = bound(n);
        let above = match from {
            Bound::Included(from) => n >= *from,
            Bound::Excluded(from) => n > *from,
            Bound::Unbounded => true,
        };
        above
            && match to {
                Bound::Included(to) => n <= *to,
                Bound::Excluded(to) => n < *to,
                Bound::Unbounded => true,
            }
    };
    let edges = || [0_u64, 1, 299, 300, 301, 597, 600, u64::MAX].into_iter().flat_map(bounds).chain([Bound::Unbounded]);
    for from in edges() {
        for to in edges() {
            for (reverse, limit) in [(false, 7), (true, 7), (false, 1_000), (true, 1_000), (false, 0)] {
                let scan =
                    Scan { table: Table::Inbox, owner: OWNER, from: from.clone(), to: to.clone(), reverse, limit };
                let mut expected: Vec<u64> = numbers.iter().copied().filter(|n| within(*n, &from, &to)).collect();
                if reverse {
                    expected.reverse();
                }
                expected.truncate(limit);
                let found: Vec<u64> = store
                    .scan(scan.clone())
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|(sort, value)| {
                        assert_eq!(sort, value);
                        u64::from_be_bytes(value.as_ref().try_into().unwrap())
                    })
                    .collect();
                assert_eq!(found, expected, "{scan:?}");
            }
        }
    }
    assert_eq!(last_inbox_offset(&*store, user).await.unwrap(), 597);
    assert_eq!(last_inbox_offset(&*store, UserId(OWNER + 1)).await.unwrap(), 0);
}

/// Sort keys are any bytes, ordered as bytes; the longest and the empty one, too. One over the limit is refused whole.
pub async fn takes_any_sort_bytes(factory: &dyn Factory) {
    let store = factory.create().await;
    let mut expected: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
    expected.extend([
        vec![],
        vec![0, 0],
        vec![0xff; 3],
        b"{tag}:*?[a]\r\n ".to_vec(),
        vec![0x80, 0, 0xff, 0],
        vec![b'z'; VIEW_SORT_BYTES_MAX],
        "ζώα 🦀".as_bytes().to_vec(),
    ]);
    let writes = expected.iter().map(|sort| Write::Put(key(Table::Usernames, OWNER, sort), Bytes::from(sort.clone())));
    store.apply(writes.collect(), vec![]).await.unwrap();
    expected.sort();
    assert_eq!(sorts(&*store, all(Table::Usernames, OWNER)).await, expected);
    let keys: Vec<Key> = expected.iter().map(|sort| key(Table::Usernames, OWNER, sort)).collect();
    let values: Vec<Vec<u8>> =
        store.get(&keys).await.unwrap().into_iter().map(|value| value.unwrap().to_vec()).collect();
    assert_eq!(values, expected);

    let too_long = key(Table::Usernames, OWNER, &[b'z'; VIEW_SORT_BYTES_MAX + 1]);
    let beside = key(Table::Users, OWNER, b"");
    let refused = store.apply(vec![put(&beside, b"x"), put(&too_long, b"x")], vec![]).await;
    assert!(refused.is_err());
    assert_eq!(store.get(&[beside]).await.unwrap(), [None]);
}

/// Values of all sizes come back as they were.
pub async fn keeps_values_of_any_size(factory: &dyn Factory) {
    let store = factory.create().await;
    let values: Vec<Bytes> = [0_usize, 1, 20, 21, 4_095, 4_096, 70_000, 1_000_000]
        .into_iter()
        .map(|size| (0..size).map(|index| (index * 31 % 251) as u8).collect())
        .collect();
    let keys: Vec<Key> = (0..values.len()).map(|n| Key::entry(ConversationId(OWNER), n as u64)).collect();
    let writes = keys.iter().cloned().zip(values.iter().cloned()).map(|(key, value)| Write::Put(key, value));
    store.apply(writes.collect(), vec![]).await.unwrap();
    let store = factory.reopen(store).await;
    let found: Vec<Bytes> = store.get(&keys).await.unwrap().into_iter().map(Option::unwrap).collect();
    assert_eq!(found, values);
}

/// `DeleteBelow` removes what is below, of that owner alone, and nothing at or above; rows of the same batch, too.
pub async fn deletes_below(factory: &dyn Factory) {
    let store = factory.create().await;
    let (ann, bob) = (ConversationId(1), ConversationId(2));
    for round in 0..5_u64 {
        let mut writes: Vec<Write> = Vec::new();
        for seq in round * 1_000..(round + 1) * 1_000 {
            writes.push(put(&Key::entry(ann, seq), b"x"));
            writes.push(put(&Key::entry(bob, seq), b"x"));
        }
        writes.push(Write::DeleteBelow(Key::entry(ann, round * 1_000 + 700)));
        store.apply(writes, vec![]).await.unwrap();
        let left = sorts(&*store, all(Table::Entries, ann.0)).await;
        let expected: Vec<Vec<u8>> =
            (round * 1_000 + 700..(round + 1) * 1_000).map(|seq| seq.to_be_bytes().to_vec()).collect();
        assert_eq!(left, expected, "round {round}");
    }
    assert_eq!(sorts(&*store, all(Table::Entries, bob.0)).await.len(), 5_000);
    store.apply(vec![Write::DeleteBelow(Key::entry(ann, 0))], vec![]).await.unwrap();
    assert_eq!(sorts(&*store, all(Table::Entries, ann.0)).await.len(), 300);
    let store = factory.reopen(store).await;
    assert_eq!(sorts(&*store, all(Table::Entries, ann.0)).await.len(), 300);
}

/// Positions begin at 0, move with their batch, and are back after a reopening.
pub async fn keeps_positions(factory: &dyn Factory) {
    let store = factory.create().await;
    assert_eq!(store.position(Topic::Timeline, 3).await.unwrap(), 0);
    let row = Key::user(UserId(1));
    let moves =
        vec![step(Topic::Timeline, 3, 0, 7), step(Topic::Events, 3, 0, 9), step(Topic::Inbox, 70_000, 0, u64::MAX)];
    store.apply(vec![put(&row, b"x")], moves).await.unwrap();
    let store = factory.reopen(store).await;
    assert_eq!(store.position(Topic::Timeline, 3).await.unwrap(), 7);
    assert_eq!(store.position(Topic::Events, 3).await.unwrap(), 9);
    assert_eq!(store.position(Topic::Inbox, 70_000).await.unwrap(), u64::MAX);
    assert_eq!(store.position(Topic::Inbox, 3).await.unwrap(), 0);
    store.apply(vec![], vec![step(Topic::Timeline, 3, 7, 8)]).await.unwrap();
    assert_eq!(store.position(Topic::Timeline, 3).await.unwrap(), 8);
    assert_eq!(store.get(&[row]).await.unwrap(), [Some(Bytes::from_static(b"x"))]);
}

/// A batch from elsewhere than where the views stand changes nothing, and says where they stand; one that was applied is
/// not applied again.
pub async fn refuses_a_batch_from_elsewhere(factory: &dyn Factory) {
    const HUGE: u64 = (1 << 53) + 1;
    let store = factory.create().await;
    let row = Key::user(UserId(1));
    let apply = async |value, moves| store.apply(vec![put(&row, value)], moves).await;
    apply(b"1", vec![step(Topic::Timeline, 3, 0, HUGE), step(Topic::Events, 3, 0, 9)]).await.unwrap();
    // Too early, too late, and by less than a number with a fraction can tell; alone and beside one that fits.
    for from in [0, 8, HUGE - 1, HUGE + 1, u64::MAX] {
        for others in [vec![], vec![step(Topic::Events, 3, 9, 10)], vec![step(Topic::Inbox, 0, 0, 1)]] {
            let moves = [others.clone(), vec![step(Topic::Timeline, 3, from, HUGE + 5)], others].concat();
            match apply(b"2", moves).await {
                Err(ViewError::Overtaken { topic: Topic::Timeline, partition: 3, expected, found }) => {
                    assert_eq!((expected, found), (from, HUGE));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let never = apply(b"2", vec![step(Topic::Timeline, 4, 1, 2)]).await;
    assert!(matches!(never, Err(ViewError::Overtaken { expected: 1, found: 0, .. })), "{never:?}");
    assert_eq!(store.get(std::slice::from_ref(&row)).await.unwrap(), [Some(Bytes::from_static(b"1"))]);
    for (topic, partition, next_offset) in
        [(Topic::Timeline, 3, HUGE), (Topic::Events, 3, 9), (Topic::Inbox, 0, 0), (Topic::Timeline, 4, 0)]
    {
        assert_eq!(store.position(topic, partition).await.unwrap(), next_offset, "{topic:?}/{partition}");
        let stands = |next_offset| vec![Position { topic, partition, next_offset }];
        store.confirm(stands(next_offset), true).await.unwrap();
        let elsewhere = store.confirm(stands(next_offset + 1), true).await;
        assert!(matches!(elsewhere, Err(ViewError::Overtaken { found, .. }) if found == next_offset), "{elsewhere:?}");
    }
    apply(b"3", vec![step(Topic::Timeline, 3, HUGE, HUGE + 5)]).await.unwrap();
    assert_eq!(store.get(&[row]).await.unwrap(), [Some(Bytes::from_static(b"3"))]);
}

/// Of several that apply from the same position at once, one does.
pub async fn lets_one_of_many_apply(factory: &dyn Factory) {
    const ROUNDS: u64 = 50;
    let store = factory.create().await;
    for round in 0..ROUNDS {
        let owners = (0..4_u64).map(|owner| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let row = Key::entry(ConversationId(OWNER), owner);
                let writes = vec![Write::Put(row, Bytes::copy_from_slice(&round.to_be_bytes()))];
                store.apply(writes, vec![step(Topic::Timeline, 0, round, round + 1)]).await.is_ok()
            })
        });
        let mut applied = 0;
        for owner in owners.collect::<Vec<_>>() {
            applied += u64::from(owner.await.unwrap());
        }
        assert_eq!(applied, 1, "round {round}");
        let rows = store.scan(all(Table::Entries, OWNER)).await.unwrap();
        let of_round = rows.iter().filter(|(_, value)| value.as_ref() == round.to_be_bytes()).count();
        assert_eq!(of_round, 1, "round {round}");
    }
}

/// A reader sees a batch whole or not at all.
pub async fn shows_batches_whole(factory: &dyn Factory) {
    const ROUNDS: u64 = 300;
    let store = factory.create().await;
    let keys: Vec<Key> = (0..100_u64).map(|n| Key::user(UserId(u128::from(n) << 64))).collect();
    let writer = {
        let (store, keys) = (Arc::clone(&store), keys.clone());
        tokio::spawn(async move {
            for round in 1..=ROUNDS {
                let value = Bytes::copy_from_slice(&round.to_be_bytes());
                let writes = keys.iter().map(|key| Write::Put(key.clone(), value.clone()));
                store.apply(writes.collect(), vec![step(Topic::Directory, 0, round - 1, round)]).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let mut round = 0;
    while round < ROUNDS {
        let published = store.position(Topic::Directory, 0).await.unwrap();
        let values = store.get(&keys).await.unwrap();
        assert!(values.iter().all(|value| *value == values[0]), "a batch was seen in part");
        round = values[0].as_ref().map_or(0, |value| u64::from_be_bytes(value.as_ref().try_into().unwrap()));
        assert!(round >= published, "position {published} was published before its rows: round {round}");
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

/// One who waits is woken by the batch that passes the offset, and by none before; or when the time is up.
pub async fn wakes_who_waits(factory: &dyn Factory) {
    const LONG: Duration = Duration::from_secs(60);
    let store = factory.create().await;
    let late = store.wait_past(Topic::Fanout, 1, 0, Duration::from_millis(20)).await;
    assert!(matches!(late, Err(ViewError::Unavailable(_))), "{late:?}");

    let waiters: Vec<_> = (0..50_u64)
        .map(|offset| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store.wait_past(Topic::Fanout, 1, offset, LONG).await.unwrap();
                let position = store.position(Topic::Fanout, 1).await.unwrap();
                assert!(position > offset, "woken at {position} for {offset}");
            })
        })
        .collect();
    for next_offset in 1..=50 {
        tokio::task::yield_now().await;
        let other = step(Topic::Fanout, 0, (next_offset - 1) * 1_000, next_offset * 1_000);
        store.apply(vec![], vec![other, step(Topic::Fanout, 1, next_offset - 1, next_offset)]).await.unwrap();
    }
    for waiter in waiters {
        waiter.await.unwrap();
    }
    store.wait_past(Topic::Fanout, 1, 49, Duration::ZERO).await.unwrap();
    let store = factory.reopen(store).await;
    store.wait_past(Topic::Fanout, 1, 49, LONG).await.unwrap();
    let late = store.wait_past(Topic::Fanout, 1, 50, Duration::from_millis(20)).await;
    assert!(matches!(late, Err(ViewError::Unavailable(_))), "{late:?}");
}

/// A thousand rows are read in one call, also when they are many and spread.
pub async fn reads_many(factory: &dyn Factory) {
    let store = factory.create().await;
    let conversation = ConversationId(OWNER);
    let keys: Vec<Key> = (0..20_000_u128).map(|n| Key::message_index(conversation, MessageId(n * n))).collect();
    for chunk in keys.chunks(1_000) {
        store.apply(chunk.iter().map(|key| put(key, b"x")).collect(), vec![]).await.unwrap();
    }
    let wanted: Vec<Key> = keys.iter().step_by(20).cloned().collect();
    assert!(store.get(&wanted).await.unwrap().iter().all(Option::is_some));
    assert_eq!(store.scan(all(Table::MessageIndex, OWNER)).await.unwrap().len(), VIEW_SCAN_ROWS_MAX);
    let beyond = Scan { limit: usize::MAX, ..all(Table::MessageIndex, OWNER) };
    assert_eq!(store.scan(beyond).await.unwrap().len(), VIEW_SCAN_ROWS_MAX);
}

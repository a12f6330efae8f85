//! Batches of views' rows that are always the same, and what must be there after so many of them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings_dataflow::views::store::FjallViews;
use tidings_schemas::{
    topics::Topic,
    views::{Key, Move, Scan, Table, ViewError, ViewStore, Write},
};

const OWNERS: u128 = 5;
const TABLES: [Table; 3] = [Table::Inbox, Table::Entries, Table::Members];
/// What the batches move, together with `events`, at their partition 1.
pub(crate) const TOPIC: Topic = Topic::Timeline;

/// The rows.
pub(crate) type Model = BTreeMap<(Table, u128, Vec<u8>), Vec<u8>>;

/// Batch `number`, always the same.
pub(crate) fn batch(number: u64) -> Vec<Write> {
    let mut random = StdRng::seed_from_u64(number);
    (0..random.random_range(1..60))
        .map(|index: u64| {
            let table = TABLES[random.random_range(0..TABLES.len())];
            let owner = random.random_range(0..OWNERS) << 60;
            let key = |sort: u64| Key { table, owner, sort: Bytes::copy_from_slice(&sort.to_be_bytes()) };
            let recent = number.saturating_sub(random.random_range(0..50)) * 100;
            match random.random_range(0..20) {
                0 => Write::DeleteBelow(key(recent)),
                1..3 => Write::Delete(key(recent + random.random_range(0..20))),
                _ => {
                    let value: Vec<u8> = (0..random.random_range(0..200)).map(|_| random.random()).collect();
                    Write::Put(key(number * 100 + index % 20), value.into())
                }
            }
        })
        .collect()
}

fn apply_to_model(model: &mut Model, writes: Vec<Write>) {
    for write in writes {
        match write {
            Write::Put(key, value) => {
                model.insert((key.table, key.owner, key.sort.to_vec()), value.to_vec());
            }
            Write::Delete(key) => {
                model.remove(&(key.table, key.owner, key.sort.to_vec()));
            }
            Write::DeleteBelow(key) => {
                model.retain(|(table, owner, sort), _| {
                    (*table, *owner) != (key.table, key.owner) || sort.as_slice() >= key.sort.as_ref()
                });
            }
        }
    }
}

/// All rows of a store.
pub(crate) async fn rows(store: &FjallViews) -> Model {
    let mut rows = Model::new();
    for table in TABLES {
        for owner in (0..OWNERS).map(|owner| owner << 60) {
            let mut from = Bound::Unbounded;
            loop {
                let scan = Scan { table, owner, from, to: Bound::Unbounded, reverse: false, limit: 1_000 };
                let page = store.scan(scan).await.unwrap();
                let Some((last, _)) = page.last().cloned() else { break };
                rows.extend(page.into_iter().map(|(sort, value)| ((table, owner, sort.to_vec()), value.to_vec())));
                from = Bound::Excluded(last);
            }
        }
    }
    rows
}

/// Applies batch `number`.
pub(crate) async fn apply(store: &FjallViews, number: u64) -> Result<(), ViewError> {
    let moves = [TOPIC, Topic::Events].map(|topic| Move { topic, partition: 1, from: number, to: number + 1 });
    store.apply(batch(number), moves.to_vec()).await
}

/// The position, after checking that the rows are those of as many batches.
pub(crate) async fn check(store: &FjallViews, model: &mut Model, modelled: &mut u64, context: &str) -> u64 {
    let position = store.position(TOPIC, 1).await.unwrap();
    assert_eq!(
        store.position(Topic::Events, 1).await.unwrap(),
        position,
        "{context}: the positions of one batch differ"
    );
    if position < *modelled {
        (*modelled, *model) = (0, Model::new());
    }
    while *modelled < position {
        apply_to_model(model, batch(*modelled));
        *modelled += 1;
    }
    let found = rows(store).await;
    assert!(found == *model, "{context}: at position {position} there are {} rows, not {}", found.len(), model.len());
    position
}

//! Rows' and positions' keys as bytes: the table (1 byte), the owner (16, big-endian), the sort. Positions have the
//! table 0, then the topic (1 byte) and the partition (4, big-endian).

use std::ops::Bound;

use bytes::Bytes;
use fjall::UserKey;
use tidings_schemas::{
    limits::VIEW_SORT_BYTES_MAX,
    topics::Topic,
    views::{Key, Table, ViewError},
};

/// Table and owner.
const PREFIX_BYTES: usize = 17;
const POSITIONS: u8 = 0;
/// What most keys need: a sort of 16 bytes.
const INLINE_BYTES: usize = PREFIX_BYTES + 16;

fn prefix(table: u8, owner: u128) -> [u8; PREFIX_BYTES] {
    let mut bytes = [table; PREFIX_BYTES];
    bytes[1..].copy_from_slice(&owner.to_be_bytes());
    bytes
}

fn with_sort(table: Table, owner: u128, sort: &[u8]) -> UserKey {
    let prefix = prefix(table as u8, owner);
    let length = PREFIX_BYTES + sort.len();
    if length <= INLINE_BYTES {
        let mut bytes = [0; INLINE_BYTES];
        bytes[..PREFIX_BYTES].copy_from_slice(&prefix);
        bytes[PREFIX_BYTES..length].copy_from_slice(sort);
        UserKey::from(&bytes[..length])
    } else {
        UserKey::from([&prefix, sort].concat())
    }
}

/// The key of a row.
pub(super) fn row(key: &Key) -> UserKey {
    with_sort(key.table, key.owner, &key.sort)
}

/// Refuses a key that is too long to be kept.
pub(super) fn check(key: &Key) -> Result<(), ViewError> {
    if key.sort.len() <= VIEW_SORT_BYTES_MAX {
        return Ok(());
    }
    Err(ViewError::Corrupt(format!("a sort key of {} bytes is over {VIEW_SORT_BYTES_MAX}", key.sort.len())))
}

/// The sort part of a row's key.
pub(super) fn sort_of(key: &[u8]) -> &[u8] {
    key.get(PREFIX_BYTES..).unwrap_or_default()
}

/// The keys of one owner's rows between two sorts; nothing when no row can lie between them.
pub(super) fn range(
    table: Table,
    owner: u128,
    from: &Bound<Bytes>,
    to: &Bound<Bytes>,
) -> Option<(Bound<UserKey>, Bound<UserKey>)> {
    let key = |sort: &Bytes| with_sort(table, owner, sort);
    let lower = match from {
        Bound::Included(sort) => Bound::Included(key(sort)),
        Bound::Excluded(sort) => Bound::Excluded(key(sort)),
        Bound::Unbounded => Bound::Included(with_sort(table, owner, &[])),
    };
    let upper = match to {
        Bound::Included(sort) => Bound::Included(key(sort)),
        Bound::Excluded(sort) => Bound::Excluded(key(sort)),
        Bound::Unbounded => match owner.checked_add(1) {
            Some(next) => Bound::Excluded(with_sort(table, next, &[])),
            None => Bound::Excluded(UserKey::from([table as u8 + 1])),
        },
    };
    let empty = match (&lower, &upper) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    };
    (!empty).then_some((lower, upper))
}

/// Where an owner's rows begin.
pub(super) fn owner_bytes(table: Table, owner: u128) -> Vec<u8> {
    prefix(table as u8, owner).to_vec()
}

/// Where a table begins.
pub(super) fn first_owner(table: Table) -> UserKey {
    UserKey::from([table as u8])
}

/// Where the rows of the next owner, in this table or the next, begin.
pub(super) fn next_owner(table: Table, owner: u128) -> UserKey {
    match owner.checked_add(1) {
        Some(next) => UserKey::from(prefix(table as u8, next)),
        None => UserKey::from([table as u8 + 1]),
    }
}

/// The table and the owner of a row's key.
pub(super) fn owner_of(key: &[u8]) -> Option<(Table, u128)> {
    let prefix = key.first_chunk::<PREFIX_BYTES>()?;
    let table = Table::ALL.into_iter().find(|table| *table as u8 == prefix[0])?;
    Some((table, u128::from_be_bytes(*prefix[1..].first_chunk()?)))
}

/// The key of a partition's position.
pub(super) fn position(topic: Topic, partition: u32) -> UserKey {
    let mut bytes = [POSITIONS; 6];
    bytes[1] = topic as u8;
    bytes[2..].copy_from_slice(&partition.to_be_bytes());
    UserKey::from(bytes)
}

/// All positions' keys.
pub(super) fn positions() -> std::ops::Range<UserKey> {
    UserKey::from([POSITIONS])..UserKey::from([POSITIONS + 1])
}

/// The topic and the partition of a position's key.
pub(super) fn position_of(key: &[u8]) -> Option<(Topic, u32)> {
    let [POSITIONS, topic, partition @ ..] = key else { return None };
    let topic = *Topic::ALL.get(usize::from(*topic))?;
    Some((topic, u32::from_be_bytes(partition.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back() {
        for topic in Topic::ALL {
            assert_eq!(position_of(&position(topic, 70_000)), Some((topic, 70_000)));
        }
    }

    #[test]
    fn an_owner_s_range_ends_before_the_next_owner() {
        let (_, upper) = range(Table::Inbox, u128::MAX, &Bound::Unbounded, &Bound::Unbounded).unwrap();
        assert_eq!(upper, Bound::Excluded(UserKey::from([Table::Inbox as u8 + 1])));
        let (lower, _) = range(Table::Inbox, 1, &Bound::Unbounded, &Bound::Unbounded).unwrap();
        assert_eq!(lower, Bound::Included(with_sort(Table::Inbox, 1, &[])));
    }
}

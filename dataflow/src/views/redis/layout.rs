//! Names of keys, and rows as members of a sorted set.
//!
//! All rows of one owner in one table are the members of one sorted set, all with the score 0, so that Redis orders them
//! by their bytes. A member is the row's sort key, encoded so that it says where it ends and keeps its order, and then
//! the value. So a row is stored once, and a range of rows is a range of members.
//!
//! The encoding: the sort key in groups of eight bytes, the last one filled up with zeros; behind each group a byte, which
//! is 9 when another group follows, else how many bytes of the group count. Eight bytes cost nine, sixteen eighteen. The
//! last byte of an encoding is at most 8, so that with one more it lies right behind all members of its row.

use std::ops::Bound;

use bytes::Bytes;
use tidings_schemas::{
    ids::ConversationId,
    limits::VIEW_SORT_BYTES_MAX,
    topics::Topic,
    views::{Key, Table, ViewError},
};

const GROUP: usize = 8;
const MORE: u8 = 9;

/// The names of all keys of one log's views.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    /// The views' own key: whose they are, where they stand, which partitions are whole.
    pub(super) views: String,
    /// Where moved positions are told.
    pub(super) channel: String,
    /// In a database where views are built anew: of which log.
    pub(super) rebuild: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |what| format!("{prefix}:{what}");
        Self { prefix: prefix.to_owned(), views: name("views"), channel: name("moved"), rebuild: name("rebuild") }
    }

    /// The key that holds the rows of an owner.
    pub(super) fn rows(&self, table: Table, owner: u128) -> String {
        // Every owner is 128 bits, shown as an id.
        format!("{}:{}:{{{}}}", self.prefix, table.name(), ConversationId(owner))
    }

    /// What all names begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the keys of all rows match.
    pub(super) fn all_rows(&self) -> String {
        format!("{}:*:{{*}}", self.prefix)
    }
}

/// The field of a partition's position in the views' own key.
pub(super) fn position_field(topic: Topic, partition: u32) -> String {
    format!("{}/{partition}", topic.name())
}

/// The field that says that a partition has been at the log's end.
pub(super) fn whole_field(topic: Topic, partition: u32) -> String {
    format!("whole/{}/{partition}", topic.name())
}

/// The partition of a position's field.
pub(super) fn position_of(field: &str) -> Option<(Topic, u32)> {
    let (topic, partition) = field.split_once('/')?;
    Some((Topic::from_name(topic)?, partition.parse().ok()?))
}

/// Refuses a key that is too long to be kept.
pub(super) fn check(key: &Key) -> Result<(), ViewError> {
    if key.sort.len() <= VIEW_SORT_BYTES_MAX {
        return Ok(());
    }
    Err(ViewError::Corrupt(format!("a sort key of {} bytes is over {VIEW_SORT_BYTES_MAX}", key.sort.len())))
}

/// A sort key, encoded, behind the mark of a bound (or behind nothing), and with room for what follows.
fn encoded(mark: &[u8], sort: &[u8], room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(mark.len() + (sort.len() / GROUP + 1) * (GROUP + 1) + room);
    bytes.extend_from_slice(mark);
    let mut rest = sort;
    while rest.len() > GROUP {
        let (group, others) = rest.split_at(GROUP);
        bytes.extend_from_slice(group);
        bytes.push(MORE);
        rest = others;
    }
    bytes.extend_from_slice(rest);
    bytes.resize(bytes.len() + GROUP - rest.len(), 0);
    bytes.push(u8::try_from(rest.len()).unwrap_or(MORE));
    bytes
}

/// Behind all members of the row with this encoding.
fn behind(mut encoded: Vec<u8>) -> Vec<u8> {
    if let Some(last) = encoded.last_mut() {
        *last += 1;
    }
    encoded
}

/// The member that a row is.
pub(super) fn member(sort: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = encoded(b"", sort, value.len());
    bytes.extend_from_slice(value);
    bytes
}

/// The bounds between which a row's member lies, if there is one.
pub(super) fn of_row(sort: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (encoded(b"[", sort, 0), behind(encoded(b"(", sort, 0)))
}

/// The bound below which the members of all rows before this one lie.
pub(super) fn below(sort: &[u8]) -> Vec<u8> {
    encoded(b"(", sort, 0)
}

/// The bounds of a range, lower and upper.
pub(super) fn range(from: &Bound<Bytes>, to: &Bound<Bytes>) -> (Vec<u8>, Vec<u8>) {
    let lower = match from {
        Bound::Included(sort) => encoded(b"[", sort, 0),
        Bound::Excluded(sort) => behind(encoded(b"[", sort, 0)),
        Bound::Unbounded => b"-".to_vec(),
    };
    let upper = match to {
        Bound::Included(sort) => behind(encoded(b"(", sort, 0)),
        Bound::Excluded(sort) => encoded(b"(", sort, 0),
        Bound::Unbounded => b"+".to_vec(),
    };
    (lower, upper)
}

/// A member's sort key and value.
pub(super) fn row_of(member: Bytes) -> Result<(Bytes, Bytes), ViewError> {
    let corrupt = || ViewError::Corrupt("a member of a sorted set that is no row".to_owned());
    let mut sort = Vec::new();
    for group in member.chunks(GROUP + 1) {
        let Some((mark, group)) = group.split_last().filter(|(_, group)| group.len() == GROUP) else {
            return Err(corrupt());
        };
        match *mark {
            MORE => sort.extend_from_slice(group),
            count => {
                let end = (sort.len() / GROUP + 1) * (GROUP + 1);
                sort.extend_from_slice(group.get(..usize::from(count)).ok_or_else(corrupt)?);
                // What stands in the member as it stood in the key need not be copied.
                let sort = if sort.len() <= GROUP { member.slice(..sort.len()) } else { sort.into() };
                return Ok((sort, member.slice(end..)));
            }
        }
    }
    Err(corrupt())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_keep_their_order_and_come_back(
            one in proptest::collection::vec(prop_oneof![Just(0_u8), Just(9), Just(255), any::<u8>()], 0..40),
            other in proptest::collection::vec(prop_oneof![Just(0_u8), Just(9), Just(255), any::<u8>()], 0..40),
            value in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let member_of_one = member(&one, &value);
            prop_assert_eq!(
                row_of(member_of_one.clone().into()).unwrap(),
                (Bytes::from(one.clone()), Bytes::from(value.clone()))
            );
            if one != other {
                let member_of_other = member(&other, b"\xff\xff");
                prop_assert_eq!(one.cmp(&other), member_of_one.cmp(&member_of_other));
            }
            // Redis compares what stands behind the mark.
            let (lower, upper) = of_row(&other);
            let within = member_of_one.as_slice() >= &lower[1..] && member_of_one.as_slice() < &upper[1..];
            prop_assert_eq!(within, one == other);
        }
    }

    #[test]
    fn what_is_no_row_is_said() {
        for bytes in [&b""[..], b"12345678", b"12345678\x0a", b"12345678\x09", b"12345678\x091234567"] {
            assert!(row_of(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_position_s_field_comes_back() {
        for topic in Topic::ALL {
            assert_eq!(position_of(&position_field(topic, 70_000)), Some((topic, 70_000)));
        }
        assert_eq!(position_of("identity"), None);
        assert_eq!(position_of("whole/inbox.v1/0"), None);
    }
}

//! The least cursors of a group's members, kept over the *multiset of cursor values*: a receipt costs what the
//! distinct values of the group cost, not what its members cost.

use std::ops::{Add, Mul, Neg};

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};
use tidings_schemas::{
    ids::{ConversationId, UserId},
    wire,
};

/// Which of a member's two cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum CursorKind {
    Delivered,
    Seen,
}

/// Who stands at a cursor value: how many, and the sum of their ids. So where one alone stands, the sum is that one,
/// and the reduction never has to look at the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub(super) struct Holders {
    count: i64,
    /// The wrapping sum of the ids, in two halves (16 bytes less than aligned to 16).
    sum_high: u64,
    sum_low: u64,
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
impl Holders {
    /// One member.
    pub(super) fn one(user: UserId) -> Self {
        Self { count: 1, sum_high: (user.0 >> 64) as u64, sum_low: user.0 as u64 }
    }

    fn sum(self) -> u128 {
        (u128::from(self.sum_high) << 64) | u128::from(self.sum_low)
    }

    fn with(count: i64, sum: u128) -> Self {
        Self { count, sum_high: (sum >> 64) as u64, sum_low: sum as u64 }
    }
}

impl Add for Holders {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::with(self.count.wrapping_add(other.count), self.sum().wrapping_add(other.sum()))
    }
}

impl Neg for Holders {
    type Output = Self;
    fn neg(self) -> Self {
        Self::with(self.count.wrapping_neg(), self.sum().wrapping_neg())
    }
}

impl Mul<isize> for Holders {
    type Output = Self;
    fn mul(self, times: isize) -> Self {
        Self::with(self.count.wrapping_mul(times as i64), self.sum().wrapping_mul(times as i128 as u128))
    }
}

impl IsZero for Holders {
    fn is_zero(&self) -> bool {
        self.count == 0 && self.sum_high == 0 && self.sum_low == 0
    }
}

impl Semigroup for Holders {
    fn plus_equals(&mut self, other: &Self) {
        *self = *self + *other;
    }
}

impl Monoid for Holders {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Holders {
    fn negate(&mut self) {
        *self = -*self;
    }
}

/// The least and the second least of one kind of cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct LeastTwo {
    least: u64,
    holders: u32,
    /// The least of the others' values; `least` itself where several hold it or there are no others.
    next: u64,
    /// Who alone holds the least; zero where several do.
    sole_holder: UserId,
}

impl LeastTwo {
    /// From the values of a multiset, ascending.
    fn of(mut values: impl Iterator<Item = (u64, Holders)>) -> Option<Self> {
        let (least, holders) = values.next()?;
        let count = u32::try_from(holders.count).unwrap_or(0);
        let next = if count == 1 { values.next().map_or(least, |(value, _)| value) } else { least };
        let sole_holder = if count == 1 { UserId(holders.sum()) } else { UserId::default() };
        Some(Self { least, holders: count, next, sole_holder })
    }

    /// «All the others» as this member sees them.
    fn view_of(&self, member: UserId) -> u64 {
        if self.holders == 1 && self.sole_holder == member { self.next } else { self.least }
    }

    /// Whether anybody's view may differ between the two.
    fn moves_a_view(&self, after: &Self) -> bool {
        self.least != after.least || self.sole_holder != after.sole_holder || self.next != after.next
    }

    fn to_wire(self) -> wire::LeastTwo {
        wire::LeastTwo { least: self.least, holders: self.holders, next: self.next }
    }
}

/// The least cursors of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Minima {
    delivered: LeastTwo,
    seen: LeastTwo,
}

impl Minima {
    /// From the multiset of a group's cursor values, ascending by kind and value.
    pub(super) fn of(values: &[(&(CursorKind, u64), Holders)]) -> Option<Self> {
        let delivered = values.partition_point(|((kind, _), _)| *kind == CursorKind::Delivered);
        let value = |((_, value), holders): &(&(CursorKind, u64), Holders)| (*value, *holders);
        Some(Self {
            delivered: LeastTwo::of(values[..delivered].iter().map(value))?,
            seen: LeastTwo::of(values[delivered..].iter().map(value))?,
        })
    }

    /// What all the others have been delivered, and have seen, as this member sees them.
    pub(super) fn views_of(&self, member: UserId) -> (u64, u64) {
        (self.delivered.view_of(member), self.seen.view_of(member))
    }

    /// Whether anybody's view may differ between the two.
    pub(super) fn moves_a_view(&self, after: &Self) -> bool {
        self.delivered.moves_a_view(&after.delivered) || self.seen.moves_a_view(&after.seen)
    }

    /// As the timeline carries them.
    pub(super) fn to_wire(self, conversation: ConversationId) -> wire::CursorMinima {
        wire::CursorMinima {
            conversation_id: Some(conversation.into()),
            delivered: Some(self.delivered.to_wire()),
            seen: Some(self.seen.to_wire()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minima(cursors: &[(u128, u64)]) -> LeastTwo {
        let mut values = std::collections::BTreeMap::<u64, Holders>::new();
        for (user, value) in cursors {
            values.entry(*value).or_default().plus_equals(&Holders::one(UserId(*user)));
        }
        LeastTwo::of(values.into_iter()).unwrap()
    }

    #[test]
    fn the_sole_holder_of_the_least_sees_the_next() {
        let found = minima(&[(u128::MAX, 3), (7, 5), (8, 9)]);
        assert_eq!([u128::MAX, 7, 8].map(|user| found.view_of(UserId(user))), [5, 3, 3]);
    }

    #[test]
    fn several_holders_see_one_another() {
        let found = minima(&[(1, 3), (2, 3), (3, 9)]);
        assert_eq!([1, 2, 3].map(|user| found.view_of(UserId(user))), [3, 3, 3]);
    }

    #[test]
    fn holders_come_and_go_without_a_trace() {
        let (ann, bob) = (Holders::one(UserId(u128::MAX)), Holders::one(UserId(5)));
        let mut holders = ann + bob;
        holders.plus_equals(&-ann);
        assert_eq!(holders, bob);
        assert_eq!(bob * -2 + bob + bob, Holders::default());
        assert!((bob + -bob).is_zero());
    }
}

//! What a run has taken in and not yet given out. Its buffers are kept from run to run.

use std::ops::Range;

use bytes::Bytes;
use tidings_schemas::{ids::UserId, topics::Topic};

use super::{
    frames::{EntryFrame, FanoutFrame, ItemFrame},
    routing::Found,
};

/// An item of a fan-out record, and what its recipients were given.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) frame: ItemFrame,
    /// Of an entry or a change.
    pub(super) entry: EntryFrame,
    /// Of a conversation's state: its `Id` message.
    pub(super) conversation: Range<u32>,
    /// Whether absent recipients are to be notified of it.
    pub(super) is_message: bool,
    /// The recipients, as they are counted in the run.
    pub(super) recipients: Range<usize>,
}

/// A fan-out record that was taken in.
#[derive(Debug)]
pub(super) struct Fanout {
    pub(super) value: Bytes,
    pub(super) offset: u64,
    pub(super) frame: FanoutFrame,
    /// Its items among those of the run.
    pub(super) items: Range<usize>,
    /// Its inbox record in the run's output.
    pub(super) inbox: Range<usize>,
}

/// A user came online or went offline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transition {
    /// The position of the signals record that it follows from.
    pub(super) offset: u64,
    pub(super) user_id: UserId,
    pub(super) online: bool,
    pub(super) last_seen_ms: i64,
}

/// Somebody types.
#[derive(Debug)]
pub(super) struct Typing {
    pub(super) offset: u64,
    pub(super) notice: tidings_schemas::wire::Typing,
    /// For each recipient the lookup that says where, or none for a user that the shard has never met.
    pub(super) lookups: Vec<Option<u32>>,
}

/// Something that the run gives out, in order.
#[derive(Debug)]
pub(super) enum Piece {
    Fanout(Fanout),
    Transition(u32),
    Typing(Typing),
    /// A delivery that needed no lookup: to which edge, and where it stands in the run's output.
    Ready {
        edge_id: u32,
        value: Range<usize>,
    },
}

/// A record to append, while its value still stands in the run's output.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) topic: Topic,
    pub(super) partition: u32,
    pub(super) value: Range<usize>,
}

/// The buffers of a run.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) pieces: Vec<Piece>,
    /// The values of all records to append, one after the other.
    pub(super) output: Vec<u8>,
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) items: Vec<Item>,
    pub(super) item_frames: Vec<ItemFrame>,
    /// For each recipient of the run, the offset in the recipient's stream, and the lookup that says where.
    pub(super) offsets: Vec<u64>,
    pub(super) lookups: Vec<u32>,
    /// How many lookups were made.
    pub(super) lookup_count: u32,
    pub(super) transitions: Vec<Transition>,
    pub(super) found: Found,
    pub(super) routes: RouteIndex,
}

impl Batch {
    /// Empties what a run has left, keeping the room.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.outgoing.clear();
        self.items.clear();
        self.offsets.clear();
        self.lookups.clear();
        self.lookup_count = 0;
        self.transitions.clear();
        self.found.routes.clear();
        self.found.watching.clear();
    }
}

/// The edges that each lookup found.
#[derive(Debug, Default)]
pub(super) struct RouteIndex {
    /// Where each lookup's edges begin; one more than there are lookups.
    starts: Vec<u32>,
    edges: Vec<u32>,
}

impl RouteIndex {
    /// Sorts what was found by lookup (counting: the lookups are dense).
    #[allow(clippy::cast_possible_truncation, reason = "a run has far fewer than 2^32 recipients")]
    pub(super) fn build(&mut self, lookup_count: u32, found: &[(u32, u32)]) {
        self.starts.clear();
        self.starts.resize(lookup_count as usize + 1, 0);
        self.edges.clear();
        self.edges.resize(found.len(), 0);
        for (lookup, _) in found {
            self.starts[*lookup as usize] += 1;
        }
        let mut end = 0;
        for start in &mut self.starts {
            end += *start;
            *start = end;
        }
        // Each lookup's place moves down from its end to its start as its edges are put in.
        for (lookup, edge_id) in found {
            let place = &mut self.starts[*lookup as usize];
            *place -= 1;
            self.edges[*place as usize] = *edge_id;
        }
    }

    /// The edges with a session of the user that the lookup asked for.
    #[inline]
    pub(super) fn of(&self, lookup: u32) -> &[u32] {
        let (start, end) = (self.starts[lookup as usize], self.starts[lookup as usize + 1]);
        &self.edges[start as usize..end as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_gives_each_lookup_its_edges() {
        let mut index = RouteIndex::default();
        index.build(4, &[(2, 7), (0, 5), (2, 6)]);
        assert_eq!(index.of(0), [5]);
        assert!(index.of(1).is_empty());
        let mut edges = index.of(2).to_vec();
        edges.sort_unstable();
        assert_eq!(edges, [6, 7]);
        assert!(index.of(3).is_empty());
    }
}

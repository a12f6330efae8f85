//! What a run has taken in and not yet given out. Its buffers are kept from run to run.

use std::ops::Range;

use bytes::Bytes;
use tidings_schemas::{ids::UserId, topics::Topic};

use super::{
    frames::{EntryFrame, FanoutFrame, ItemFrame},
    users::Slot,
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
    /// The question about the first recipient; those about the others follow.
    pub(super) first_question: u32,
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
    /// The question about the first recipient; those about the others follow.
    pub(super) first_question: u32,
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
    /// The records, and the guessed slots of their recipients, that are being numbered together.
    pub(super) group: Vec<Fanout>,
    pub(super) guesses: Vec<Slot>,
    /// For each recipient of the run, the offset in the recipient's stream.
    pub(super) offsets: Vec<u64>,
    pub(super) transitions: Vec<Transition>,
}

impl Batch {
    /// Empties what a run has left, keeping the room.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.outgoing.clear();
        self.items.clear();
        self.offsets.clear();
        self.transitions.clear();
    }
}

//! What admission decided about an event: all that the sink needs besides who is told.

use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    wire,
};

use super::{decode::Origin, fanout::Slot, refusals::Refusal, registry::Member};

/// The decision about one event.
#[derive(Debug)]
pub(super) struct Decision {
    /// The dataflow's time: the offset plus one.
    pub(super) time: u64,
    /// The shard's clock at the event.
    pub(super) at_ms: i64,
    pub(super) origin: Option<Origin>,
    pub(super) outcome: Outcome,
}

/// What became of an event.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing: it could not be read, or this version does not know it.
    Nothing,
    Refused(Box<Refused>),
    Repeated(Box<wire::Duplicate>),
    Sent(Sent),
    Changed(Box<wire::Change>),
    Receipts(Vec<ReceiptMove>),
    /// What was asked for is so already.
    Stands(Box<Standing>),
    Regrouped(Box<Regrouped>),
}

#[derive(Debug)]
pub(super) struct Refused {
    pub(super) conversation: Option<ConversationId>,
    pub(super) actor: Option<UserId>,
    pub(super) refusal: Refusal,
    pub(super) client_message_id: String,
}

/// An accepted message.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) conversation: ConversationId,
    pub(super) seq: u64,
    pub(super) message_id: MessageId,
    pub(super) sender: UserId,
}

/// Cursors that a batch of receipts moved: as they are after all of it.
#[derive(Debug)]
pub(super) struct ReceiptMove {
    pub(super) conversation: ConversationId,
    pub(super) slot: Slot,
    pub(super) member: Member,
    pub(super) seen_moved: bool,
    /// In a direct chat: the other one.
    pub(super) other: Option<Member>,
}

/// A conversation as it stands for one member.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) slot: Slot,
    pub(super) state: wire::ConversationState,
    pub(super) actor: Member,
    pub(super) other: Option<Member>,
}

/// A conversation that was created, changed or deleted.
#[derive(Debug)]
pub(super) struct Regrouped {
    pub(super) conversation: ConversationId,
    pub(super) slot: Slot,
    pub(super) actor: UserId,
    pub(super) entries: Vec<wire::Entry>,
    /// As it stands after the event, without members.
    pub(super) state: wire::ConversationState,
    /// Its members after the event, ascending.
    pub(super) members: Vec<Member>,
    /// Those who left by it.
    pub(super) gone: Vec<Member>,
    /// Those who came by it.
    pub(super) added: Vec<UserId>,
    /// Those whose membership or role it changed.
    pub(super) touched: Vec<UserId>,
    /// Whether the actor's cursors moved.
    pub(super) actor_moved: bool,
}

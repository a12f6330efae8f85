//! What an event tells its recipients, in the order in which each recipient's offsets are given: entries, the change,
//! receipts, the conversation.

use std::collections::BTreeMap;

use tidings_schemas::{ids::pack_user_ids, wire};

use crate::conversations::fanout::Recipient;

/// What is told.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Entry(wire::Entry),
    Change(wire::Change),
    Receipt(wire::ReceiptUpdate),
    /// Its `members` are the recipients' own states, in their order.
    Conversation(wire::ConversationState),
}

/// What is told, and to whom.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Ascending.
    pub(super) recipients: Vec<Recipient>,
    content: Content,
}

impl Item {
    pub(super) fn new(recipients: Vec<Recipient>, content: Content) -> Self {
        Self { recipients, content }
    }

    pub(super) fn is_receipt(&self, update: &wire::ReceiptUpdate) -> bool {
        matches!(&self.content, Content::Receipt(own) if own == update)
    }

    /// Receipts stand after entries and changes and before conversations, ordered by what they say.
    fn rank(&self) -> (u8, [u128; 2], [u64; 4]) {
        match &self.content {
            Content::Entry(_) => (0, [0; 2], [0; 4]),
            Content::Change(_) => (1, [0; 2], [0; 4]),
            Content::Receipt(receipt) => (
                2,
                [receipt.conversation_id, receipt.user_id].map(|id| id.map_or(0, number)),
                [receipt.delivered_seq, receipt.seen_seq, receipt.delivered_to_all_seq, receipt.seen_by_all_seq],
            ),
            Content::Conversation(_) => (3, [0; 2], [0; 4]),
        }
    }
}

fn number(id: wire::Id) -> u128 {
    (u128::from(id.high) << 64) | u128::from(id.low)
}

/// The items of each partition that has any. Receipts that say the same are one item.
pub(super) fn gather(mut items: Vec<Item>) -> BTreeMap<u32, Vec<wire::FanoutItem>> {
    items.sort_by_key(Item::rank);
    items.dedup_by(|later, first| {
        let same = matches!((&first.content, &later.content), (Content::Receipt(one), Content::Receipt(other)) if one == other);
        if same {
            first.recipients.append(&mut later.recipients);
            first.recipients.sort_unstable();
            first.recipients.dedup();
        }
        same
    });
    let mut by_partition = BTreeMap::<u32, Vec<wire::FanoutItem>>::new();
    for Item { recipients, content } in items {
        let mut start = 0;
        for of_partition in recipients.chunk_by(|one, other| one.partition == other.partition) {
            let content = match &content {
                Content::Entry(entry) => wire::fanout_item::Content::Entry(entry.clone()),
                Content::Change(change) => wire::fanout_item::Content::Change(change.clone()),
                Content::Receipt(receipt) => wire::fanout_item::Content::Receipt(*receipt),
                Content::Conversation(state) => {
                    let members = state.members[start..start + of_partition.len()].to_vec();
                    wire::fanout_item::Content::Conversation(for_members(state, members))
                }
            };
            start += of_partition.len();
            by_partition.entry(of_partition[0].partition).or_default().push(wire::FanoutItem {
                user_ids: pack_user_ids(of_partition.iter().map(|recipient| recipient.user())),
                content: Some(content),
            });
        }
    }
    by_partition
}

/// A conversation with the states of other members. (Not by struct update: that would copy all the members first.)
fn for_members(state: &wire::ConversationState, members: Vec<wire::MemberState>) -> wire::ConversationState {
    wire::ConversationState {
        conversation_id: state.conversation_id,
        kind: state.kind,
        title: state.title.clone(),
        member_count: state.member_count,
        last_seq: state.last_seq,
        deleted: state.deleted,
        created_at_ms: state.created_at_ms,
        members,
        direct_user_ids: state.direct_user_ids.clone(),
    }
}

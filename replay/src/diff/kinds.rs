//! In which ways the outcome of an event differs between two sides.

use std::collections::BTreeSet;

use prost::Message;
use serde::Serialize;
use tidings_ingest::NewRecord;
use tidings_schemas::{
    ids::{UserId, unpack_user_ids},
    topics::Topic,
    wire::{self, fanout_item, inbox_item},
};

use super::Derived;

/// A way in which an event's outcome differs. An event may differ in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was accepted, and would be refused.
    NewlyRefused,
    /// It was refused, and would be accepted.
    NewlyAccepted,
    /// It would be refused for another reason.
    RefusedOtherwise,
    /// It would be taken for a repeat.
    NewlyRepeated,
    /// It would no longer be taken for a repeat.
    NoLongerRepeated,
    /// Its entry would have another `seq`: something before it would come out differently.
    Renumbered,
    /// Its entry, edit or deletion would be another.
    Entry,
    /// The conversation would stand otherwise after it.
    Conversation,
    /// Members' cursors would stand otherwise after it.
    Cursors,
    /// Something else of its timeline record.
    Timeline,
    /// Others would be told.
    FanoutRecipients,
    /// The same would be told something else.
    Fanout,
    /// The same would be told the same, with other numbers.
    FanoutNumbers,
    /// Others would find it in their inbox.
    InboxRecipients,
    /// The same would find something else there.
    Inbox,
    /// The same would find the same, at other offsets of theirs or with another `seq`.
    InboxNumbers,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 16] = [
        Self::NewlyRefused,
        Self::NewlyAccepted,
        Self::RefusedOtherwise,
        Self::NewlyRepeated,
        Self::NoLongerRepeated,
        Self::Renumbered,
        Self::Entry,
        Self::Conversation,
        Self::Cursors,
        Self::Timeline,
        Self::FanoutRecipients,
        Self::Fanout,
        Self::FanoutNumbers,
        Self::InboxRecipients,
        Self::Inbox,
        Self::InboxNumbers,
    ];

    /// Whether only the numbers differ that things get: what follows from something else that comes out differently.
    pub fn is_numbers(self) -> bool {
        matches!(self, Self::Renumbered | Self::FanoutNumbers | Self::InboxNumbers)
    }

    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NewlyRefused => "newly_refused",
            Self::NewlyAccepted => "newly_accepted",
            Self::RefusedOtherwise => "refused_otherwise",
            Self::NewlyRepeated => "newly_repeated",
            Self::NoLongerRepeated => "no_longer_repeated",
            Self::Renumbered => "renumbered",
            Self::Entry => "entry",
            Self::Conversation => "conversation",
            Self::Cursors => "cursors",
            Self::Timeline => "timeline",
            Self::FanoutRecipients => "fanout_recipients",
            Self::Fanout => "fanout",
            Self::InboxRecipients => "inbox_recipients",
            Self::FanoutNumbers => "fanout_numbers",
            Self::Inbox => "inbox",
            Self::InboxNumbers => "inbox_numbers",
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NewlyRefused => "was accepted, would be refused",
            Self::NewlyAccepted => "was refused, would be accepted",
            Self::RefusedOtherwise => "would be refused for another reason",
            Self::NewlyRepeated => "would be taken for a repeat",
            Self::NoLongerRepeated => "would no longer be taken for a repeat",
            Self::Renumbered => "would have another seq, by what comes before it",
            Self::Entry => "its entry, edit or deletion would be another",
            Self::Conversation => "the conversation would stand otherwise after it",
            Self::Cursors => "members' cursors would stand otherwise after it",
            Self::Timeline => "something else of its timeline record",
            Self::FanoutRecipients => "others would be told",
            Self::Fanout => "the same would be told something else",
            Self::InboxRecipients => "others would find it in their inbox",
            Self::FanoutNumbers => "the same would be told the same, with other numbers",
            Self::Inbox => "the same would find something else in their inbox",
            Self::InboxNumbers => "the same would find the same, at other offsets or with another seq",
        }
    }

    /// The topic that it is about.
    pub fn topic(self) -> Topic {
        match self {
            Self::FanoutRecipients | Self::Fanout | Self::FanoutNumbers => Topic::Fanout,
            Self::InboxRecipients | Self::Inbox | Self::InboxNumbers => Topic::Inbox,
            _ => Topic::Timeline,
        }
    }
}

/// All ways in which the outcome of an event differs.
pub fn kinds(before: &Derived, after: &Derived) -> Vec<Kind> {
    if before.records == after.records {
        return Vec::new();
    }
    let mut kinds = Vec::new();
    let of = |derived: &Derived, topic| -> Vec<NewRecord> {
        derived.records.iter().filter(|record| record.topic == topic).cloned().collect()
    };
    for topic in [Topic::Timeline, Topic::Fanout, Topic::Inbox] {
        let (before, after) = (of(before, topic), of(after, topic));
        if before == after {
            continue;
        }
        match topic {
            Topic::Timeline => kinds.extend(timeline_kinds(&before, &after)),
            Topic::Fanout => kinds.push(fanout_kind(&before, &after)),
            _ => kinds.extend(inbox_kind(&before, &after)),
        }
    }
    kinds
}

#[derive(PartialEq, Eq)]
enum Outcome {
    Refused,
    Repeated,
    Accepted,
}

fn outcome(record: &wire::TimelineRecord) -> Outcome {
    match (&record.refusal, &record.duplicate) {
        (Some(_), _) => Outcome::Refused,
        (_, Some(_)) => Outcome::Repeated,
        _ => Outcome::Accepted,
    }
}

fn timeline_kinds(before: &[NewRecord], after: &[NewRecord]) -> Vec<Kind> {
    let decoded = |records: &[NewRecord]| {
        records.first().and_then(|record| wire::TimelineRecord::decode(record.value.clone()).ok())
    };
    let (Some(before), Some(after)) = (decoded(before), decoded(after)) else { return vec![Kind::Timeline] };
    match (outcome(&before), outcome(&after)) {
        (Outcome::Refused, Outcome::Refused) => return vec![Kind::RefusedOtherwise],
        (Outcome::Refused, _) => return vec![Kind::NewlyAccepted],
        (_, Outcome::Refused) => return vec![Kind::NewlyRefused],
        (Outcome::Accepted, Outcome::Repeated) => return vec![Kind::NewlyRepeated],
        (Outcome::Repeated, Outcome::Accepted) => return vec![Kind::NoLongerRepeated],
        _ => {}
    }
    let mut kinds = Vec::new();
    if (&before.entries, &before.change, &before.duplicate) != (&after.entries, &after.change, &after.duplicate) {
        let unnumbered = |record: &wire::TimelineRecord| {
            let mut record = record.clone();
            record.entries.iter_mut().for_each(|entry| entry.seq = 0);
            record.change.iter_mut().for_each(|change| change.seq = 0);
            record.duplicate.iter_mut().for_each(|duplicate| duplicate.seq = 0);
            (record.entries, record.change, record.duplicate)
        };
        let is_number = unnumbered(&before) == unnumbered(&after);
        kinds.push(if is_number { Kind::Renumbered } else { Kind::Entry });
    }
    if before.conversation != after.conversation {
        let mut both = [before.conversation.clone(), after.conversation.clone()];
        both.iter_mut().flatten().for_each(unnumber_state);
        // Where only numbers differ, the entries say so.
        if both[0] != both[1] || kinds.is_empty() {
            kinds.push(Kind::Conversation);
        }
    }
    if (&before.cursor_moves, &before.cursor_minima) != (&after.cursor_moves, &after.cursor_minima) && kinds.is_empty()
    {
        kinds.push(Kind::Cursors);
    }
    if kinds.is_empty() {
        kinds.push(Kind::Timeline);
    }
    kinds
}

/// Takes out what follows from how many entries there are.
fn unnumber_state(state: &mut wire::ConversationState) {
    state.last_seq = 0;
    for member in &mut state.members {
        let (user_id, role) = (member.user_id, member.role);
        *member = wire::MemberState { user_id, role, ..Default::default() };
    }
}

/// A receipt without how far it goes.
fn unnumbered_receipt(receipt: &wire::ReceiptUpdate) -> wire::ReceiptUpdate {
    let (conversation_id, user_id) = (receipt.conversation_id, receipt.user_id);
    wire::ReceiptUpdate { conversation_id, user_id, ..Default::default() }
}

fn fanout_kind(before: &[NewRecord], after: &[NewRecord]) -> Kind {
    let items = |records: &[NewRecord]| -> Vec<wire::FanoutItem> {
        let records = records.iter().filter_map(|record| wire::FanoutRecord::decode(record.value.clone()).ok());
        records.flat_map(|record| record.items).collect()
    };
    let recipients = |items: &[wire::FanoutItem]| -> BTreeSet<UserId> {
        items.iter().flat_map(|item| unpack_user_ids(&item.user_ids).collect::<Vec<_>>()).collect()
    };
    let unnumbered = |mut items: Vec<wire::FanoutItem>| {
        for item in &mut items {
            match &mut item.content {
                Some(fanout_item::Content::Entry(entry)) => entry.seq = 0,
                Some(fanout_item::Content::Change(change)) => change.seq = 0,
                Some(fanout_item::Content::Receipt(receipt)) => *receipt = unnumbered_receipt(receipt),
                Some(fanout_item::Content::Conversation(state)) => unnumber_state(state),
                None => {}
            }
        }
        items
    };
    let (before, after) = (items(before), items(after));
    if recipients(&before) != recipients(&after) {
        Kind::FanoutRecipients
    } else if unnumbered(before) == unnumbered(after) {
        Kind::FanoutNumbers
    } else {
        Kind::Fanout
    }
}

/// Where a record of the inbox comes from differs with whatever came before in `fanout`, and is no difference of its own.
fn inbox_kind(before: &[NewRecord], after: &[NewRecord]) -> Option<Kind> {
    type Found = Vec<(UserId, u64, Option<inbox_item::Reference>)>;
    let found = |records: &[NewRecord]| -> Found {
        let records = records.iter().filter_map(|record| wire::InboxRecord::decode(record.value.clone()).ok());
        let each = |item: wire::InboxItem| {
            let reference = item.reference;
            let both = unpack_user_ids(&item.user_ids).zip(item.offsets);
            both.map(|(user, offset)| (user, offset, reference)).collect::<Vec<_>>()
        };
        records.flat_map(|record| record.items).flat_map(each).collect()
    };
    let unnumbered = |(user, _, reference): &(UserId, u64, Option<inbox_item::Reference>)| {
        let reference = reference.map(|reference| match reference {
            inbox_item::Reference::Entry(entry) => {
                inbox_item::Reference::Entry(wire::EntryReference { seq: 0, ..entry })
            }
            inbox_item::Reference::Change(change) => {
                inbox_item::Reference::Change(wire::EntryReference { seq: 0, ..change })
            }
            inbox_item::Reference::Receipt(receipt) => inbox_item::Reference::Receipt(unnumbered_receipt(&receipt)),
            conversation @ inbox_item::Reference::Conversation(_) => conversation,
        });
        (*user, reference)
    };
    let (before, after) = (found(before), found(after));
    let users = |found: &Found| found.iter().map(|(user, _, _)| *user).collect::<BTreeSet<_>>();
    if before == after {
        None
    } else if users(&before) != users(&after) {
        Some(Kind::InboxRecipients)
    } else if before.iter().map(unnumbered).eq(after.iter().map(unnumbered)) {
        Some(Kind::InboxNumbers)
    } else {
        Some(Kind::Inbox)
    }
}

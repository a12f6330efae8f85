//! Entries of a conversation: one by its place or its id, and pages of them. The newest are in the views; what is older
//! than the views' tail comes from the history. Both hold every `seq` without a gap, so a gap between what was asked for
//! and what came says exactly which part to ask the other for.

use std::{
    collections::HashMap,
    ops::{Bound, RangeInclusive},
};

use bytes::Bytes;
use tidings_schemas::{
    client,
    ids::{ConversationId, MessageId, UserId},
    views::{Key, Scan, Table, ViewError},
    wire,
};

use super::{Order, Reads, conversations::message_of, decode, first, page_token::MessagesPlace};
use crate::error::ApiError;

/// Where a page of messages begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessagesFrom {
    /// At the newest, going back.
    Newest,
    /// Next to a seq, in the direction of the place.
    Place(MessagesPlace),
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagesPage {
    /// In the order of the direction asked for.
    pub messages: Vec<client::Message>,
    /// Where the next page in that direction begins; `None`: there is nothing more.
    pub next: Option<MessagesPlace>,
}

impl Reads {
    /// An entry and what became of it, wherever it is kept; `None`: there is none with this seq, or no longer.
    ///
    /// # Errors
    /// `unavailable`: the views or the history do not answer.
    pub async fn entry(&self, conversation: ConversationId, seq: u64) -> Result<Option<wire::EntryRow>, ApiError> {
        self.wait_conversation(conversation).await?;
        let row: Option<wire::EntryRow> = first(self.views.get(&[Key::entry(conversation, seq)]).await?, "entry")?;
        if row.is_some() {
            return Ok(row);
        }
        Ok(self.older_entries(conversation, seq..=seq, Order::OldestFirst, 1).await?.pop())
    }

    /// An entry and what became of it by its message id; `None`: there is none in this conversation, or no longer.
    ///
    /// # Errors
    /// `unavailable`: the views or the history do not answer.
    pub async fn entry_by_message_id(
        &self,
        conversation: ConversationId,
        message: MessageId,
    ) -> Result<Option<wire::EntryRow>, ApiError> {
        self.wait_conversation(conversation).await?;
        let seq = self.views.get(&[Key::message_index(conversation, message)]).await?.into_iter().next().flatten();
        if let Some(seq) = seq {
            return self.entry(conversation, seq_of(&seq)?).await;
        }
        let Some(history) = &self.history else {
            return Ok(None);
        };
        match history.entry_by_message_id(conversation, message).await? {
            Some(entry) => Ok(self.with_changes(conversation, vec![entry]).await?.pop()),
            None => Ok(None),
        }
    }

    /// A message as it stands; `None`: there is none with this seq, or no longer.
    ///
    /// # Errors
    /// `unavailable`: the views or the history do not answer.
    pub async fn message(&self, conversation: ConversationId, seq: u64) -> Result<Option<client::Message>, ApiError> {
        match self.entry(conversation, seq).await? {
            Some(row) => message_of(&row),
            None => Ok(None),
        }
    }

    /// A page of what was said while the user was a member, for a present member.
    ///
    /// # Errors
    /// `not_found`: there is no such conversation, or it was deleted. `not_a_member`. `unavailable`: the views or the
    /// history do not answer, or the history has not yet got what left the views.
    pub async fn messages(
        &self,
        user: UserId,
        conversation: ConversationId,
        from: MessagesFrom,
        limit: usize,
    ) -> Result<MessagesPage, ApiError> {
        self.wait_conversation(conversation).await?;
        let (row, member) = self.membership(user, conversation).await?;
        let (wanted, order) = match from {
            MessagesFrom::Newest => (1..=row.last_seq, Order::NewestFirst),
            MessagesFrom::Place(MessagesPlace::Before(seq)) => {
                (1..=row.last_seq.min(seq.saturating_sub(1)), Order::NewestFirst)
            }
            MessagesFrom::Place(MessagesPlace::After(seq)) => {
                (seq.saturating_add(1)..=row.last_seq, Order::OldestFirst)
            }
        };
        let mut ranges = visible_ranges(&member, wanted);
        if order == Order::NewestFirst {
            ranges.reverse();
        }

        let mut messages = Vec::with_capacity(limit.min(64));
        let mut next = None;
        for range in ranges {
            if messages.len() == limit {
                break;
            }
            let (begin, end) = (*range.start(), *range.end());
            let rows = self.entries(conversation, range, order, limit - messages.len()).await?;
            for row in &rows {
                messages.extend(message_of(row)?);
            }
            let reached = rows.last().and_then(|row| row.entry.as_ref()).map(|entry| entry.seq);
            next = match (reached, order) {
                (Some(seq), Order::NewestFirst) if seq > begin => Some(MessagesPlace::Before(seq)),
                (Some(seq), Order::OldestFirst) if seq < end => Some(MessagesPlace::After(seq)),
                _ => None,
            };
        }
        // A page that is not full reached the end of what there is, or of what is still kept.
        if messages.len() < limit {
            next = None;
        } else if next.is_none() {
            next = self.place_in_next_stay(&member, row.last_seq, &messages, order);
        }
        Ok(MessagesPage { messages, next })
    }

    /// Where to go on when a full page ended exactly with a stay.
    fn place_in_next_stay(
        &self,
        member: &wire::MemberRow,
        last_seq: u64,
        messages: &[client::Message],
        order: Order,
    ) -> Option<MessagesPlace> {
        let seq = messages.last()?.seq;
        let (rest, place) = match order {
            Order::NewestFirst => (1..=seq.saturating_sub(1), MessagesPlace::Before(seq)),
            Order::OldestFirst => (seq.saturating_add(1)..=last_seq, MessagesPlace::After(seq)),
        };
        (!visible_ranges(member, rest).is_empty()).then_some(place)
    }

    /// Entries in a range of seqs, first from where they are newest kept. Fewer than asked for: the rest is gone by
    /// retention.
    async fn entries(
        &self,
        conversation: ConversationId,
        range: RangeInclusive<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<wire::EntryRow>, ApiError> {
        let (begin, end) = (*range.start(), *range.end());
        let scan = Scan {
            table: Table::Entries,
            owner: conversation.0,
            from: Bound::Included(Bytes::copy_from_slice(&begin.to_be_bytes())),
            to: Bound::Included(Bytes::copy_from_slice(&end.to_be_bytes())),
            reverse: order == Order::NewestFirst,
            limit,
        };
        let mut rows = Vec::new();
        for (_, value) in self.views.scan(scan).await? {
            rows.extend(decode::<wire::EntryRow>(Some(value), "entry")?);
        }
        let seq = |row: Option<&wire::EntryRow>| row.and_then(|row| row.entry.as_ref()).map(|entry| entry.seq);
        match order {
            Order::NewestFirst => {
                let below = seq(rows.last()).unwrap_or(end.saturating_add(1));
                if rows.len() < limit && below > begin {
                    let missing = begin..=below - 1;
                    let older = self.older_entries(conversation, missing, order, limit - rows.len()).await?;
                    rows.extend(older);
                }
                Ok(rows)
            }
            Order::OldestFirst => {
                let below = seq(rows.first()).unwrap_or(end.saturating_add(1));
                if below > begin {
                    let mut older = self.older_entries(conversation, begin..=below - 1, order, limit).await?;
                    older.extend(rows);
                    older.truncate(limit);
                    return Ok(older);
                }
                Ok(rows)
            }
        }
    }

    /// Entries from the history, with what became of them.
    pub(super) async fn older_entries(
        &self,
        conversation: ConversationId,
        range: RangeInclusive<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<wire::EntryRow>, ApiError> {
        let Some(history) = &self.history else {
            return Ok(Vec::new());
        };
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let end = *range.end();
        let length = end - range.start() + 1;
        let entries = history.entries(conversation, range, order, limit).await?;
        // What retention takes, it takes from the old end: a lack at the new end means that the history is behind.
        let newest = match order {
            Order::NewestFirst => entries.first(),
            Order::OldestFirst if (entries.len() as u64) < length.min(limit as u64) => entries.last(),
            Order::OldestFirst => return self.with_changes(conversation, entries).await,
        };
        if newest.is_none_or(|entry| entry.seq < end) {
            self.check_history_has(conversation, end).await?;
        }
        self.with_changes(conversation, entries).await
    }

    /// Refuses when the history has not yet got an entry that left the views.
    async fn check_history_has(&self, conversation: ConversationId, seq: u64) -> Result<(), ApiError> {
        let Some(history) = &self.history else {
            return Ok(());
        };
        // The next entry that the views still hold came later, so a history that has passed it has had this one.
        let scan = Scan {
            table: Table::Entries,
            owner: conversation.0,
            from: Bound::Excluded(Bytes::copy_from_slice(&seq.to_be_bytes())),
            to: Bound::Unbounded,
            reverse: false,
            limit: 1,
        };
        let Some((_, value)) = self.views.scan(scan).await?.pop() else {
            return Ok(());
        };
        let row = decode::<wire::EntryRow>(Some(value), "entry")?;
        let message = row.and_then(|row| row.entry).and_then(|entry| entry.message_id).map(MessageId::from);
        let Some((partition, offset)) = message.and_then(MessageId::position) else {
            return Ok(());
        };
        if history.next_events_offset(partition).await? < offset {
            return Err(ApiError::unavailable("older history is still being written: try again"));
        }
        Ok(())
    }

    /// Entries of the history with the changes to them.
    async fn with_changes(
        &self,
        conversation: ConversationId,
        entries: Vec<wire::Entry>,
    ) -> Result<Vec<wire::EntryRow>, ApiError> {
        let Some(history) = self.history.as_ref().filter(|_| !entries.is_empty()) else {
            return Ok(Vec::new());
        };
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
        let changes = history.changes(conversation, &seqs).await?;
        let mut changes: HashMap<u64, wire::Change> = changes.into_iter().map(|change| (change.seq, change)).collect();
        Ok(entries
            .into_iter()
            .map(|entry| {
                let change = changes.remove(&entry.seq);
                wire::EntryRow { entry: Some(entry), change }
            })
            .collect())
    }
}

/// The parts of a range of seqs that fall into a member's stays, oldest first.
fn visible_ranges(member: &wire::MemberRow, wanted: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
    let past = member.past_stays.iter().map(|stay| (stay.joined_seq, stay.left_seq));
    past.chain([(member.joined_seq, u64::MAX)])
        .map(|(joined, left)| joined.max(*wanted.start())..=left.min(*wanted.end()))
        .filter(|range| !range.is_empty())
        .collect()
}

fn seq_of(value: &Bytes) -> Result<u64, ViewError> {
    let bytes = <[u8; 8]>::try_from(value.as_ref());
    bytes.map(u64::from_be_bytes).map_err(|_| ViewError::Corrupt("message index".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_in_a_stay_is_visible() {
        let member = wire::MemberRow {
            joined_seq: 20,
            past_stays: vec![wire::Stay { joined_seq: 1, left_seq: 5 }, wire::Stay { joined_seq: 10, left_seq: 12 }],
            ..Default::default()
        };
        assert_eq!(visible_ranges(&member, 1..=30), [1..=5, 10..=12, 20..=30]);
        assert_eq!(visible_ranges(&member, 4..=11), [4..=5, 10..=11]);
        assert_eq!(visible_ranges(&member, 13..=19), [] as [RangeInclusive<u64>; 0]);
        assert_eq!(visible_ranges(&member, RangeInclusive::new(1, 0)), [] as [RangeInclusive<u64>; 0]);
    }
}

//! A user's update stream, read back: the inbox's numbered references, resolved to what they stand for now. A thousand
//! updates are a handful of calls to the views, not a thousand.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tidings_schemas::{
    client::{self, update},
    ids::{ConversationId, UserId},
    limits::{ARCHIVE_READ_ROWS_MAX, UPDATES_PAGE_ITEMS_MAX, VIEW_WAIT_TIMEOUT},
    time::Timestamp,
    topics::{Topic, user_partition},
    views::{Key, Scan, Table, ViewError, last_inbox_offset},
    wire::{self, inbox_row::Reference},
};

use super::{Order, Reads, conversations::message_of, convert, decode};
use crate::error::ApiError;

/// Entries that the history is asked for although they are not wanted, between two that are: fewer calls against more
/// rows.
const HISTORY_GAP_MAX: u64 = 64;
/// Entries that the history is asked for in one call.
const HISTORY_RUN_MAX: u64 = ARCHIVE_READ_ROWS_MAX as u64;
/// Calls of the history at once, for one page.
const HISTORY_CALLS_MAX: usize = 4;

/// A part of a user's update stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Updates {
    /// Offsets ascending by one, the first one after what was asked for.
    pub updates: Vec<client::Update>,
    /// The end of the stream in the views.
    pub last_offset: u64,
    /// The stream cannot be continued from there: it is older than what is kept, or not of this stream. The client reads
    /// conversations and messages anew.
    pub resync_required: bool,
}

impl Reads {
    /// The end of a user's update stream: 0 when there is nothing in it yet.
    ///
    /// # Errors
    /// `unavailable`: the views do not answer or are behind.
    pub async fn last_offset(&self, user: UserId) -> Result<u64, ApiError> {
        let partition = user_partition(user, self.partitions.recipients);
        self.freshness.wait_fanout(self.views.as_ref(), partition).await?;
        Ok(last_inbox_offset(self.views.as_ref(), user).await?)
    }

    /// Updates after an offset, up to an offset if one is given (then it waits until the views have it), at most `limit`.
    ///
    /// # Errors
    /// `unavailable`: the views or the history do not answer or are behind.
    pub async fn updates(
        &self,
        user: UserId,
        after: u64,
        up_to: Option<u64>,
        limit: usize,
    ) -> Result<Updates, ApiError> {
        let last_offset = match up_to {
            Some(offset) => self.wait_offset(user, offset).await?,
            None => self.last_offset(user).await?,
        };
        if after > last_offset {
            return Ok(Updates { last_offset, resync_required: true, ..Updates::default() });
        }
        let end = up_to.map_or(last_offset, |offset| offset.min(last_offset));
        let limit = limit.min(UPDATES_PAGE_ITEMS_MAX);
        let Some(rows) = self.inbox_rows(user, after + 1, end, limit).await? else {
            return Ok(Updates { last_offset, resync_required: true, ..Updates::default() });
        };
        self.wait_sources(&rows).await?;
        match self.resolve(user, rows).await? {
            Some(updates) => Ok(Updates { updates, last_offset, resync_required: false }),
            None => Ok(Updates { last_offset, resync_required: true, ..Updates::default() }),
        }
    }

    /// Waits until the views have a user's stream up to an offset that is known to exist. Gives its end.
    async fn wait_offset(&self, user: UserId, offset: u64) -> Result<u64, ApiError> {
        let partition = user_partition(user, self.partitions.recipients);
        let reached = async {
            loop {
                // What is missing is in a record that is applied after this position.
                let position = self.views.position(Topic::Fanout, partition).await?;
                let last_offset = last_inbox_offset(self.views.as_ref(), user).await?;
                if last_offset >= offset {
                    return Ok(last_offset);
                }
                self.views.wait_past(Topic::Fanout, partition, position, VIEW_WAIT_TIMEOUT).await?;
            }
        };
        match tokio::time::timeout(VIEW_WAIT_TIMEOUT, reached).await {
            Ok(reached) => reached,
            Err(_) => Err(ViewError::Unavailable(format!("the inbox is not at offset {offset} in time")).into()),
        }
    }

    /// The rows from `begin` to `end`, at most `limit`, dense. `None`: the oldest of them are no longer kept.
    async fn inbox_rows(
        &self,
        user: UserId,
        begin: u64,
        end: u64,
        limit: usize,
    ) -> Result<Option<Vec<(u64, wire::InboxRow)>>, ApiError> {
        if begin > end || limit == 0 {
            return Ok(Some(Vec::new()));
        }
        let scan = Scan {
            table: Table::Inbox,
            owner: user.0,
            from: Bound::Included(Bytes::copy_from_slice(&begin.to_be_bytes())),
            to: Bound::Included(Bytes::copy_from_slice(&end.to_be_bytes())),
            reverse: false,
            limit,
        };
        let mut rows = Vec::new();
        for (sort, value) in self.views.scan(scan).await? {
            let offset = <[u8; 8]>::try_from(sort.as_ref()).map(u64::from_be_bytes);
            let offset = offset.map_err(|_| ViewError::Corrupt("the key of an update".to_owned()))?;
            rows.extend(decode::<wire::InboxRow>(Some(value), "update")?.map(|row| (offset, row)));
        }
        let kept_from = rows.first().map_or(end.saturating_add(1), |(offset, _)| *offset);
        if kept_from > begin {
            let Some(history) = &self.history else {
                return Ok(None);
            };
            let mut older = history.inbox(user, begin..=kept_from - 1, limit).await?;
            older.extend(rows);
            older.truncate(limit);
            rows = older;
        }
        let is_dense = (begin..).zip(&rows).all(|(expected, (offset, _))| expected == *offset);
        Ok((is_dense && !rows.is_empty()).then_some(rows))
    }

    /// Waits until the views hold what the rows refer to.
    async fn wait_sources(&self, rows: &[(u64, wire::InboxRow)]) -> Result<(), ApiError> {
        let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
        for source in rows.iter().filter_map(|(_, row)| row.events_source.as_ref()) {
            let offset = newest.entry(source.partition).or_default();
            *offset = source.offset.max(*offset);
        }
        for (partition, offset) in newest {
            self.views.wait_past(Topic::Events, partition, offset, VIEW_WAIT_TIMEOUT).await?;
        }
        Ok(())
    }

    /// What the rows stand for now. `None`: something that they refer to is no longer kept.
    async fn resolve(
        &self,
        user: UserId,
        rows: Vec<(u64, wire::InboxRow)>,
    ) -> Result<Option<Vec<client::Update>>, ApiError> {
        let entries = self.referred_entries(&rows).await?;
        let conversations: BTreeSet<ConversationId> = rows
            .iter()
            .filter_map(|(_, row)| match &row.reference {
                Some(Reference::Conversation(id)) => Some(ConversationId::from(*id)),
                _ => None,
            })
            .collect();
        let conversations: Vec<ConversationId> = conversations.into_iter().collect();
        let states = self.conversations_as_they_stand(user, &conversations).await?;
        let states: HashMap<ConversationId, client::Conversation> =
            conversations.into_iter().zip(states).filter_map(|(id, state)| Some((id, state?))).collect();

        let mut updates = Vec::with_capacity(rows.len());
        for (offset, row) in rows {
            let kind = match row.reference {
                Some(Reference::Entry(reference)) => match entries.get(&place(&reference)) {
                    Some(entry) => message_of(entry)?.map(update::Kind::Message),
                    None => return Ok(None),
                },
                Some(Reference::Change(reference)) => match entries.get(&place(&reference)) {
                    Some(entry) => message_of(entry)?.map(update::Kind::MessageChanged),
                    None => return Ok(None),
                },
                Some(Reference::Receipt(receipt)) => Some(update::Kind::Receipt(convert::receipt(&receipt))),
                Some(Reference::Conversation(id)) => {
                    let id = ConversationId::from(id);
                    let state = states.get(&id).cloned().unwrap_or_else(|| gone(id, row.at_ms));
                    Some(update::Kind::Conversation(state))
                }
                // A kind of a newer version: the offset counts all the same.
                None => None,
            };
            updates.push(client::Update { offset, kind });
        }
        Ok(Some(updates))
    }

    /// The entries that the rows refer to, from the views and, where these no longer have them, from the history.
    async fn referred_entries(
        &self,
        rows: &[(u64, wire::InboxRow)],
    ) -> Result<HashMap<(ConversationId, u64), wire::EntryRow>, ApiError> {
        let wanted: BTreeSet<(ConversationId, u64)> = rows
            .iter()
            .filter_map(|(_, row)| match &row.reference {
                Some(Reference::Entry(reference) | Reference::Change(reference)) => Some(place(reference)),
                _ => None,
            })
            .collect();
        let keys: Vec<Key> = wanted.iter().map(|(conversation, seq)| Key::entry(*conversation, *seq)).collect();
        let mut entries = HashMap::with_capacity(wanted.len());
        let mut missing: Vec<(ConversationId, u64)> = Vec::new();
        for (place, value) in wanted.into_iter().zip(self.views.get(&keys).await?) {
            match decode::<wire::EntryRow>(value, "entry")? {
                Some(row) => {
                    entries.insert(place, row);
                }
                None => missing.push(place),
            }
        }
        let calls = runs(&missing).into_iter().map(|(conversation, begin, end)| async move {
            let limit = usize::try_from(end - begin + 1).unwrap_or(usize::MAX);
            let rows = self.older_entries(conversation, begin..=end, Order::OldestFirst, limit).await?;
            Ok::<_, ApiError>((conversation, rows))
        });
        let mut calls = stream::iter(calls).buffer_unordered(HISTORY_CALLS_MAX);
        while let Some((conversation, rows)) = calls.try_next().await? {
            for row in rows {
                if let Some(seq) = row.entry.as_ref().map(|entry| entry.seq) {
                    entries.insert((conversation, seq), row);
                }
            }
        }
        Ok(entries)
    }
}

fn place(reference: &wire::EntryReference) -> (ConversationId, u64) {
    (reference.conversation_id.map(ConversationId::from).unwrap_or_default(), reference.seq)
}

/// Places in ascending order as ranges of seqs, each of one conversation, bounded and without a wide gap in it.
fn runs(places: &[(ConversationId, u64)]) -> Vec<(ConversationId, u64, u64)> {
    let mut runs: Vec<(ConversationId, u64, u64)> = Vec::new();
    for (conversation, seq) in places {
        match runs.last_mut() {
            Some((last, begin, end))
                if last == conversation && seq - *end <= HISTORY_GAP_MAX && seq - *begin < HISTORY_RUN_MAX =>
            {
                *end = *seq;
            }
            _ => runs.push((*conversation, *seq, *seq)),
        }
    }
    runs
}

/// A conversation that the views no longer know.
fn gone(conversation: ConversationId, at_ms: i64) -> client::Conversation {
    client::Conversation {
        conversation_id: conversation.to_string(),
        deleted: true,
        last_activity_at: Some(Timestamp::from_millis(at_ms)),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_bounded_span_small_gaps_and_never_two_conversations() {
        let (one, two) = (ConversationId(1), ConversationId(2));
        let far = 5 + HISTORY_GAP_MAX + 1;
        assert_eq!(
            runs(&[(one, 1), (one, 2), (one, 5), (one, far), (two, far)]),
            [(one, 1, 5), (one, far, far), (two, far, far)],
        );
        assert_eq!(runs(&[]), []);
        let many: Vec<_> = (1..=HISTORY_RUN_MAX + 1).map(|seq| (one, seq)).collect();
        assert_eq!(runs(&many), [(one, 1, HISTORY_RUN_MAX), (one, HISTORY_RUN_MAX + 1, HISTORY_RUN_MAX + 1)]);
    }
}

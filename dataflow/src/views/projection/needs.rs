//! The rows that a batch of steps reads or changes: found at hand, or read from the store in one go.

use std::{collections::BTreeSet, ops::Bound};

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use prost::Message;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits::{ENTRIES_TAIL_MAX, VIEW_SCAN_ROWS_MAX, VIEW_TRIM_ROWS},
    views::{Key, Scan, Table, ViewError, ViewStore},
    wire,
};

use super::{
    frames::{EntryHead, EntryRowFrame},
    recent::{IdMap, Recent},
    step::{DirectoryStep, EraseStep, Step, TimelineStep},
};

/// A row, and whether it differs from the store's.
#[derive(Debug)]
pub(super) struct Slot<R> {
    pub(super) row: Option<R>,
    pub(super) is_changed: bool,
}

impl<R> Slot<R> {
    fn stored(row: Option<R>) -> Self {
        Self { row, is_changed: false }
    }

    /// The row, to be changed; a new one where there is none.
    pub(super) fn change(&mut self, new: impl FnOnce() -> R) -> &mut R {
        self.is_changed = true;
        self.row.get_or_insert_with(new)
    }
}

/// The rows at hand between batches.
pub(super) struct Cache {
    pub(super) conversations: Recent<ConversationId, wire::ConversationRow>,
    pub(super) members: Recent<(ConversationId, UserId), wire::MemberRow>,
}

impl Cache {
    /// Of at most `rows_max` rows.
    pub(super) fn new(rows_max: usize) -> Self {
        let conversations_max = rows_max / 4;
        Self { conversations: Recent::new(conversations_max), members: Recent::new(rows_max - conversations_max) }
    }
}

/// The rows of one batch.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) conversations: IdMap<ConversationId, Slot<wire::ConversationRow>>,
    pub(super) members: IdMap<(ConversationId, UserId), Slot<wire::MemberRow>>,
    /// Those that a change is about. Other entries are only ever put.
    pub(super) entries: IdMap<(ConversationId, u64), Slot<EntryRowFrame>>,
    /// Those who register, whose password or tokens end, or who are erased.
    pub(super) users: IdMap<UserId, Slot<wire::UserRow>>,
    /// Who holds the names that are claimed.
    pub(super) usernames: HashMap<String, Option<UserId>>,
    /// Entries below the seq leave the tail, and the marks of these messages with them.
    pub(super) trims: HashMap<ConversationId, Trim>,
}

/// The part of a conversation's entries that leaves the tail.
pub(super) struct Trim {
    pub(super) below_seq: u64,
    pub(super) messages: Vec<MessageId>,
}

/// If a tail of `tail_max` is trimmed when it gets its row `number` (1, 2, 3 …): the first number that is kept.
pub(super) fn trim_below(number: u64, tail_max: u64) -> Option<u64> {
    (number > tail_max && number.is_multiple_of(VIEW_TRIM_ROWS)).then(|| number - tail_max + 1)
}

/// An id of a record, or none where the record lacks it.
pub(super) fn conversation_of(id: Option<wire::Id>) -> Option<ConversationId> {
    id.map(ConversationId::from)
}

impl Rows {
    /// The rows that the steps need, from the cache and the store.
    pub(super) async fn load(steps: &[Step], cache: &mut Cache, views: &dyn ViewStore) -> Result<Self, ViewError> {
        let mut rows = Self::default();
        let mut missing = Vec::new();
        let mut ended = HashSet::new();
        for step in steps {
            match step {
                Step::Timeline(step) => rows.want_timeline(step, cache, &mut missing, &mut ended),
                Step::Directory(DirectoryStep::Register(row)) => {
                    if rows.usernames.insert(row.username.clone(), None).is_none() {
                        missing.push(Missing::Username(row.username.clone()));
                    }
                }
                Step::Directory(DirectoryStep::Credentials(step)) => {
                    if let hashbrown::hash_map::Entry::Vacant(slot) = rows.users.entry(step.user) {
                        slot.insert(Slot::stored(None));
                        missing.push(Missing::User(step.user));
                    }
                }
                Step::Directory(DirectoryStep::Erase(EraseStep { user, .. })) => {
                    if let hashbrown::hash_map::Entry::Vacant(slot) = rows.users.entry(*user) {
                        slot.insert(Slot::stored(None));
                        missing.push(Missing::User(*user));
                    }
                }
                Step::Inbox(_) => {}
            }
        }
        rows.read_missing(missing, views).await?;
        for conversation in ended {
            rows.read_members(conversation, cache, views).await?;
        }
        rows.read_trimmed(steps, views).await?;
        Ok(rows)
    }

    /// Hands the rows back to the cache, once they are in the store.
    pub(super) fn keep(self, cache: &mut Cache) {
        for (id, slot) in self.conversations {
            if let Some(row) = slot.row {
                cache.conversations.put(id, row);
            }
        }
        for (id, slot) in self.members {
            if let Some(row) = slot.row {
                cache.members.put(id, row);
            }
        }
    }

    fn want_timeline(
        &mut self,
        step: &TimelineStep,
        cache: &mut Cache,
        missing: &mut Vec<Missing>,
        ended: &mut HashSet<ConversationId>,
    ) {
        for entry in &step.entries {
            let Some(conversation) = conversation_of(entry.head.conversation_id) else { continue };
            self.want_conversation(conversation, cache, missing);
            if let Some(below_seq) = trim_below(entry.head.seq, ENTRIES_TAIL_MAX) {
                let trim = self.trims.entry(conversation).or_insert(Trim { below_seq, messages: Vec::new() });
                trim.below_seq = trim.below_seq.max(below_seq);
            }
        }
        for minima in &step.cursor_minima {
            if let Some(conversation) = conversation_of(minima.conversation_id) {
                self.want_conversation(conversation, cache, missing);
            }
        }
        for cursors in &step.cursor_moves {
            if let (Some(conversation), Some(user)) = (conversation_of(cursors.conversation_id), cursors.user_id) {
                self.want_member(conversation, user.into(), cache, missing);
            }
        }
        if let Some(state) = &step.conversation
            && let Some(conversation) = conversation_of(state.conversation_id)
        {
            self.want_conversation(conversation, cache, missing);
            for user in state.members.iter().filter_map(|member| member.user_id) {
                self.want_member(conversation, user.into(), cache, missing);
            }
            if state.deleted {
                ended.insert(conversation);
            }
        }
        if let Some(change) = &step.change
            && let Some(conversation) = conversation_of(change.head.conversation_id)
        {
            let place = (conversation, change.head.seq);
            if let hashbrown::hash_map::Entry::Vacant(slot) = self.entries.entry(place) {
                slot.insert(Slot::stored(None));
                missing.push(Missing::Entry(place));
            }
        }
    }

    fn want_conversation(&mut self, id: ConversationId, cache: &mut Cache, missing: &mut Vec<Missing>) {
        if let hashbrown::hash_map::Entry::Vacant(slot) = self.conversations.entry(id) {
            let row = cache.conversations.take(&id);
            if row.is_none() {
                missing.push(Missing::Conversation(id));
            }
            slot.insert(Slot::stored(row));
        }
    }

    fn want_member(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        cache: &mut Cache,
        missing: &mut Vec<Missing>,
    ) {
        let id = (conversation, user);
        if let hashbrown::hash_map::Entry::Vacant(slot) = self.members.entry(id) {
            let row = cache.members.take(&id);
            if row.is_none() {
                missing.push(Missing::Member(id));
            }
            slot.insert(Slot::stored(row));
        }
    }

    async fn read_missing(&mut self, missing: Vec<Missing>, views: &dyn ViewStore) -> Result<(), ViewError> {
        if missing.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = missing.iter().map(Missing::key).collect();
        for (missing, value) in missing.into_iter().zip(views.get(&keys).await?) {
            let Some(value) = value else { continue };
            match missing {
                Missing::Conversation(id) => {
                    self.conversations.insert(id, Slot::stored(Some(decode(value, "conversation")?)));
                }
                Missing::Member(id) => {
                    self.members.insert(id, Slot::stored(Some(decode(value, "member")?)));
                }
                Missing::Entry(place) => {
                    self.entries.insert(place, Slot::stored(Some(decode(value, "entry")?)));
                }
                Missing::User(user) => {
                    self.users.insert(user, Slot::stored(Some(decode(value, "user")?)));
                }
                Missing::Username(name) => {
                    let user: [u8; 16] = value
                        .as_ref()
                        .try_into()
                        .map_err(|_| ViewError::Corrupt("the holder of a user name".to_owned()))?;
                    self.usernames.insert(name, Some(UserId::from_bytes(user)));
                }
            }
        }
        Ok(())
    }

    /// All members of a conversation that ends.
    async fn read_members(
        &mut self,
        conversation: ConversationId,
        cache: &mut Cache,
        views: &dyn ViewStore,
    ) -> Result<(), ViewError> {
        let stored = read_all(Table::Members, conversation, Bound::Unbounded, views).await?;
        for (sort, value) in stored {
            let user: [u8; 16] =
                sort.as_ref().try_into().map_err(|_| ViewError::Corrupt("the key of a member".to_owned()))?;
            let id = (conversation, UserId::from_bytes(user));
            if let hashbrown::hash_map::Entry::Vacant(slot) = self.members.entry(id) {
                drop(cache.members.take(&id));
                slot.insert(Slot::stored(Some(decode(value, "member")?)));
            }
        }
        Ok(())
    }

    /// The message ids of the entries that leave the tails: those stored, and those of this very batch.
    async fn read_trimmed(&mut self, steps: &[Step], views: &dyn ViewStore) -> Result<(), ViewError> {
        if self.trims.is_empty() {
            return Ok(());
        }
        for (conversation, trim) in &mut self.trims {
            let below = Bound::Excluded(Bytes::copy_from_slice(&trim.below_seq.to_be_bytes()));
            for (_, value) in read_all(Table::Entries, *conversation, below, views).await? {
                let row: EntryRowFrame = decode(value, "entry")?;
                let head: EntryHead = decode(row.entry.unwrap_or_default(), "entry")?;
                trim.messages.extend(head.message_id.map(MessageId::from));
            }
        }
        let batch = steps.iter().filter_map(|step| match step {
            Step::Timeline(step) => Some(&step.entries),
            _ => None,
        });
        for entry in batch.flatten() {
            let trim = conversation_of(entry.head.conversation_id).and_then(|id| self.trims.get_mut(&id));
            if let Some(trim) = trim.filter(|trim| entry.head.seq < trim.below_seq) {
                trim.messages.extend(entry.head.message_id.map(MessageId::from));
            }
        }
        let repeats_gone: fn(&mut Trim) = |trim| {
            let distinct: BTreeSet<MessageId> = trim.messages.drain(..).collect();
            trim.messages.extend(distinct);
        };
        self.trims.values_mut().for_each(repeats_gone);
        Ok(())
    }
}

/// A row that is not at hand.
enum Missing {
    Conversation(ConversationId),
    Member((ConversationId, UserId)),
    Entry((ConversationId, u64)),
    User(UserId),
    Username(String),
}

impl Missing {
    fn key(&self) -> Key {
        match self {
            Self::Conversation(id) => Key::conversation(*id),
            Self::Member((conversation, user)) => Key::member(*conversation, *user),
            Self::Entry((conversation, seq)) => Key::entry(*conversation, *seq),
            Self::User(user) => Key::user(*user),
            Self::Username(name) => Key::username(name),
        }
    }
}

/// All of an owner's rows up to a bound, page by page.
async fn read_all(
    table: Table,
    owner: ConversationId,
    to: Bound<Bytes>,
    views: &dyn ViewStore,
) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
    let mut rows = Vec::new();
    let mut from = Bound::Unbounded;
    loop {
        let scan = Scan { table, owner: owner.0, from, to: to.clone(), reverse: false, limit: VIEW_SCAN_ROWS_MAX };
        let page = views.scan(scan).await?;
        let is_last = page.len() < VIEW_SCAN_ROWS_MAX;
        rows.extend(page);
        match rows.last() {
            Some((sort, _)) if !is_last => from = Bound::Excluded(sort.clone()),
            _ => return Ok(rows),
        }
    }
}

fn decode<R: Message + Default>(value: Bytes, what: &str) -> Result<R, ViewError> {
    R::decode(value).map_err(|error| ViewError::Corrupt(format!("the row of a {what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_trimmed_in_chunks_and_keeps_its_bound() {
        assert_eq!(trim_below(ENTRIES_TAIL_MAX, ENTRIES_TAIL_MAX), None);
        assert_eq!(trim_below(ENTRIES_TAIL_MAX + 1, ENTRIES_TAIL_MAX), None);
        let number = ENTRIES_TAIL_MAX + VIEW_TRIM_ROWS;
        assert_eq!(trim_below(number, ENTRIES_TAIL_MAX), Some(number - ENTRIES_TAIL_MAX + 1));
    }
}

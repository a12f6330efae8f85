//! The views: what the edges read. Their key layout, and the port to the store that holds them (fjall when embedded,
//! Redis in a fleet). Values are the rows of `views.proto`.
//!
//! A key is (table, owner, sort): all rows of one owner in one table are together, ordered by `sort`. So a store needs
//! no more than one ordered map for each owner.
//!
//! In Redis that map is the sorted set `<prefix>:<table>:{<owner, as an id>}`, such as `tidings:inbox:{0190…}`, tagged by
//! its owner; where the views stand is in the hash `<prefix>:views`. docs/STORES.md has all of it.

use std::{ops::Bound, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    ids::{ConversationId, MessageId, UserId},
    topics::Topic,
};

/// A table of the views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Owner conversation, no sort: `ConversationRow`.
    Conversations = 1,
    /// Owner conversation, sort user: `MemberRow`, also of those who left.
    Members = 2,
    /// Owner user, sort conversation: empty. Every conversation that the user is in.
    UserConversations = 3,
    /// Owner conversation, sort seq: `EntryRow`. The newest `ENTRIES_TAIL_MAX`.
    Entries = 4,
    /// Owner conversation, sort message id: the seq, 8 bytes big-endian. As many as `Entries`.
    MessageIndex = 5,
    /// Owner user, sort offset: `InboxRow`. The newest `INBOX_TAIL_MAX`. The stream's end is the last row's offset
    /// ([`last_inbox_offset`]): a row of its own for it would double the writes.
    Inbox = 6,
    /// Owner user, no sort: `UserRow`.
    Users = 8,
    /// Owner the hash of the user name, sort the user name: the user id, 16 bytes. First wins.
    Usernames = 9,
}

/// The key of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The table.
    pub table: Table,
    /// The owner's 128 bits: a user, a conversation or a hash.
    pub owner: u128,
    /// The order among the owner's rows, at most `limits::VIEW_SORT_BYTES_MAX` bytes.
    pub sort: Bytes,
}

impl Key {
    fn new(table: Table, owner: u128, sort: impl AsRef<[u8]>) -> Self {
        Self { table, owner, sort: Bytes::copy_from_slice(sort.as_ref()) }
    }

    /// Of a `ConversationRow`.
    pub fn conversation(conversation: ConversationId) -> Self {
        Self::new(Table::Conversations, conversation.0, [])
    }

    /// Of a `MemberRow`.
    pub fn member(conversation: ConversationId, user: UserId) -> Self {
        Self::new(Table::Members, conversation.0, user.to_bytes())
    }

    /// Of the mark that a user is in a conversation.
    pub fn user_conversation(user: UserId, conversation: ConversationId) -> Self {
        Self::new(Table::UserConversations, user.0, conversation.to_bytes())
    }

    /// Of an `EntryRow`.
    pub fn entry(conversation: ConversationId, seq: u64) -> Self {
        Self::new(Table::Entries, conversation.0, seq.to_be_bytes())
    }

    /// Of a message's seq.
    pub fn message_index(conversation: ConversationId, message: MessageId) -> Self {
        Self::new(Table::MessageIndex, conversation.0, message.to_bytes())
    }

    /// Of an `InboxRow`.
    pub fn inbox(user: UserId, offset: u64) -> Self {
        Self::new(Table::Inbox, user.0, offset.to_be_bytes())
    }

    /// Of a `UserRow`.
    pub fn user(user: UserId) -> Self {
        Self::new(Table::Users, user.0, [])
    }

    /// Of the user id that holds a user name (in its canonical, lower-case form).
    pub fn username(username: &str) -> Self {
        Self::new(Table::Usernames, xxhash_rust::xxh3::xxh3_128(username.as_bytes()), username)
    }
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Conversations,
        Self::Members,
        Self::UserConversations,
        Self::Entries,
        Self::MessageIndex,
        Self::Inbox,
        Self::Users,
        Self::Usernames,
    ];

    /// Its name in keys and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conversations => "conversation",
            Self::Members => "members",
            Self::UserConversations => "conversations",
            Self::Entries => "entries",
            Self::MessageIndex => "messages",
            Self::Inbox => "inbox",
            Self::Users => "user",
            Self::Usernames => "usernames",
        }
    }
}

/// Rows of one owner in one table, between two sort keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The table.
    pub table: Table,
    /// The owner.
    pub owner: u128,
    /// From where.
    pub from: Bound<Bytes>,
    /// To where.
    pub to: Bound<Bytes>,
    /// Largest sort key first.
    pub reverse: bool,
    /// How many rows at the most (at most `limits::VIEW_SCAN_ROWS_MAX`).
    pub limit: usize,
}

/// A change to one row, or to a range of one owner's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a row.
    Put(Key, Bytes),
    /// Removes a row.
    Delete(Key),
    /// Removes the owner's rows with a sort key below the key's.
    DeleteBelow(Key),
}

/// How far a projection has got in a partition: everything below the offset is in the views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The topic that was applied.
    pub topic: Topic,
    /// Its partition.
    pub partition: u32,
    /// The next offset to apply.
    pub next_offset: u64,
}

/// A batch's step in a partition: the batch holds what follows from the records of this range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The topic that was applied.
    pub topic: Topic,
    /// Its partition.
    pub partition: u32,
    /// Where the views must stand for the batch to be right.
    pub from: u64,
    /// Where they stand once it is applied.
    pub to: u64,
}

impl Move {
    /// Where the partition stands after it.
    pub fn end(&self) -> Position {
        Position { topic: self.topic, partition: self.partition, next_offset: self.to }
    }
}

/// What can go wrong with the views' store.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The views do not stand where the caller took them to: another projection has applied in the meantime, or the store
    /// has lost its newest rows. Nothing was changed. Forget what was read, and begin at [`ViewStore::position`].
    #[error("the views of {} partition {partition} stand at {found}, not at {expected} (another projection applies \
             them, or their store was put back)", topic.name())]
    Overtaken {
        /// The topic.
        topic: Topic,
        /// Its partition.
        partition: u32,
        /// Where the caller left it.
        expected: u64,
        /// Where it is.
        found: u64,
    },
    /// The store does not answer, or not in time. Try again.
    #[error("the views are unavailable: {0}")]
    Unavailable(String),
    /// A row that cannot be read: drop the views and rebuild them.
    #[error("the views hold a row that cannot be read: {0} (they can be dropped: they are rebuilt from the log)")]
    Corrupt(String),
}

/// The port to the views' store.
#[async_trait]
pub trait ViewStore: Send + Sync + 'static {
    /// The values of the keys, in their order.
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, ViewError>;

    /// The sort keys and values of a range, in order.
    async fn scan(&self, scan: Scan) -> Result<Vec<(Bytes, Bytes)>, ViewError>;

    /// Applies the writes in order and then moves the positions, atomically: after a crash both are there or neither.
    /// (Durability may lag: a lost suffix is applied again from the log.) If one of the positions is not where the move
    /// says that it comes from, nothing is changed, and that is [`ViewError::Overtaken`]: of two that apply the same
    /// partition, each batch that was made from older rows is refused.
    async fn apply(&self, writes: Vec<Write>, moves: Vec<Move>) -> Result<(), ViewError>;

    /// Checks that the partitions still stand here, else [`ViewError::Overtaken`]. With `at_end` it also says that each has
    /// been applied up to the log's end since the views were begun: a store that outlives its projection and can lose all
    /// its rows answers readers only when that was said of every partition.
    async fn confirm(&self, positions: Vec<Position>, at_end: bool) -> Result<(), ViewError>;

    /// How far the partition has been applied: 0 when nothing was.
    async fn position(&self, topic: Topic, partition: u32) -> Result<u64, ViewError>;

    /// Waits until the partition has been applied past `offset` (position > offset), or until the time is up, which is
    /// `Unavailable`.
    async fn wait_past(&self, topic: Topic, partition: u32, offset: u64, timeout: Duration) -> Result<(), ViewError>;
}

/// The newest offset of a user's update stream in the views: 0 when there is none.
///
/// # Errors
/// As [`ViewStore::scan`]; [`ViewError::Corrupt`] when the row's key is no offset.
pub async fn last_inbox_offset(views: &dyn ViewStore, user: UserId) -> Result<u64, ViewError> {
    let newest = Scan {
        table: Table::Inbox,
        owner: user.0,
        from: Bound::Unbounded,
        to: Bound::Unbounded,
        reverse: true,
        limit: 1,
    };
    match views.scan(newest).await?.first() {
        None => Ok(0),
        Some((sort, _)) => number_of(sort).ok_or_else(|| ViewError::Corrupt("the key of an update".to_owned())),
    }
}

/// The seq or offset that a sort key, or a row of [`Table::MessageIndex`], is.
pub fn number_of(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

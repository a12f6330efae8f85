//! A record, decoded as far as the projection needs it.

use bytes::Bytes;
use prost::Message;
use tidings_ingest::StoredRecord;
use tidings_schemas::{
    limits::VIEW_SORT_BYTES_MAX,
    topics::Topic,
    wire::{self, directory_record::Body},
};

use super::frames::{ChangeHead, EntryHead, InboxFrame, TimelineFrame};

/// What one record asks for.
pub(super) enum Step {
    /// Of `timeline`.
    Timeline(TimelineStep),
    /// Of `inbox`.
    Inbox(InboxFrame),
    /// Of `directory`.
    Directory(DirectoryStep),
}

/// An entry's head, and its bytes.
pub(super) struct EntryStep {
    pub(super) head: EntryHead,
    pub(super) bytes: Bytes,
}

/// A change's head, and its bytes.
pub(super) struct ChangeStep {
    pub(super) head: ChangeHead,
    pub(super) bytes: Bytes,
}

/// A `TimelineRecord`.
pub(super) struct TimelineStep {
    pub(super) entries: Vec<EntryStep>,
    pub(super) change: Option<ChangeStep>,
    pub(super) cursor_moves: Vec<wire::CursorMove>,
    pub(super) cursor_minima: Vec<wire::CursorMinima>,
    pub(super) conversation: Option<wire::ConversationState>,
}

/// A `DirectoryRecord`: a registration.
pub(super) struct DirectoryStep {
    pub(super) user: wire::UserRow,
}

/// Why a record has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skipped {
    /// Its source was applied already: a stage has repeated itself.
    Repeat,
    /// It is not of the schema.
    Undecodable,
    /// It does not say where it came from.
    NoSource,
    /// It came from another partition than its own.
    ForeignSource,
    /// A kind that this version does not know.
    UnknownKind,
    /// A user name too long for a key.
    TooLong,
}

impl Skipped {
    /// The label in the metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Repeat => "repeat",
            Self::Undecodable => "undecodable",
            Self::NoSource => "no_source",
            Self::ForeignSource => "foreign_source",
            Self::UnknownKind => "unknown_kind",
            Self::TooLong => "too_long",
        }
    }
}

/// A record's step and, unless it is of `directory`, its source.
pub(super) fn decode(topic: Topic, record: &StoredRecord) -> Result<(Option<wire::Source>, Step), Skipped> {
    let decoded = match topic {
        Topic::Timeline => timeline(&record.value),
        Topic::Inbox => InboxFrame::decode(record.value.clone()).map(|frame| (frame.source, Step::Inbox(frame))),
        _ => return directory(&record.value).map(|step| (None, Step::Directory(step))),
    };
    let (source, step) = decoded.map_err(|_| Skipped::Undecodable)?;
    source.map(|source| (Some(source), step)).ok_or(Skipped::NoSource)
}

fn timeline(value: &Bytes) -> Result<(Option<wire::Source>, Step), prost::DecodeError> {
    let frame = TimelineFrame::decode(value.clone())?;
    let entry = |bytes: Bytes| EntryHead::decode(bytes.clone()).map(|head| EntryStep { head, bytes });
    let change = |bytes: Bytes| ChangeHead::decode(bytes.clone()).map(|head| ChangeStep { head, bytes });
    let step = TimelineStep {
        entries: frame.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        change: frame.change.map(change).transpose()?,
        cursor_moves: frame.cursor_moves,
        cursor_minima: frame.cursor_minima,
        conversation: frame.conversation,
    };
    Ok((frame.source, Step::Timeline(step)))
}

fn directory(value: &Bytes) -> Result<DirectoryStep, Skipped> {
    let record = wire::DirectoryRecord::decode(value.clone()).map_err(|_| Skipped::Undecodable)?;
    let Some(Body::RegisterUser(register)) = record.body else { return Err(Skipped::UnknownKind) };
    if register.user_id.is_none() || register.username.is_empty() {
        return Err(Skipped::Undecodable);
    }
    if register.username.len() > VIEW_SORT_BYTES_MAX {
        return Err(Skipped::TooLong);
    }
    let user = wire::UserRow {
        user_id: register.user_id,
        username: register.username,
        display_name: register.display_name,
        password_hash: register.password_hash,
        created_at_ms: record.stamped_at_ms,
    };
    Ok(DirectoryStep { user })
}

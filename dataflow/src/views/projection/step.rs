//! A record, decoded as far as the projection needs it.

use bytes::Bytes;
use prost::Message;
use tidings_ingest::StoredRecord;
use tidings_schemas::{
    ids::UserId,
    limits::{STAMP_SKEW_MAX, VIEW_SORT_BYTES_MAX},
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

/// A `DirectoryRecord`.
pub(super) enum DirectoryStep {
    /// A registration: the row to be, if the name is free.
    Register(wire::UserRow),
    /// What becomes of a user's password and tokens.
    Credentials(CredentialsStep),
    /// The end of an account.
    Erase(EraseStep),
}

/// A user who is erased.
#[derive(Clone, Copy)]
pub(super) struct EraseStep {
    pub(super) user: UserId,
    pub(super) at_ms: i64,
}

/// A password's or a token's end.
pub(super) struct CredentialsStep {
    pub(super) user: UserId,
    /// When it was said, bounded by the log's clock.
    pub(super) at_ms: i64,
    /// Tokens issued before end; zero: none for their age.
    pub(super) valid_from_ms: i64,
    /// One token that ends.
    pub(super) token: Option<wire::RevokedToken>,
    /// The new password's hash; empty: it stays.
    pub(super) password_hash: String,
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
    /// A registration of which `tidings erase` has left only that there was one.
    Erased,
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
            Self::Erased => "erased",
        }
    }
}

/// A record's step and, unless it is of `directory`, its source.
pub(super) fn decode(topic: Topic, record: &StoredRecord) -> Result<(Option<wire::Source>, Step), Skipped> {
    let decoded = match topic {
        Topic::Timeline => timeline(&record.value),
        Topic::Inbox => InboxFrame::decode(record.value.clone()).map(|frame| (frame.source, Step::Inbox(frame))),
        _ => return directory(record).map(|step| (None, Step::Directory(step))),
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

fn directory(stored: &StoredRecord) -> Result<DirectoryStep, Skipped> {
    let record = wire::DirectoryRecord::decode(stored.value.clone()).map_err(|_| Skipped::Undecodable)?;
    // An edge whose clock is ahead must not end tokens of the future.
    let skew_ms = i64::try_from(STAMP_SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
    let bounded = |at_ms: i64| at_ms.min(stored.timestamp_ms.saturating_add(skew_ms));
    let credentials = |user: Option<wire::Id>, valid_from_ms, token, password_hash| {
        let user = UserId::from(user.ok_or(Skipped::Undecodable)?);
        let (at_ms, valid_from_ms) = (bounded(record.stamped_at_ms), bounded(valid_from_ms));
        Ok(DirectoryStep::Credentials(CredentialsStep { user, at_ms, valid_from_ms, token, password_hash }))
    };
    match record.body {
        Some(Body::RegisterUser(register)) => registration(register, record.stamped_at_ms),
        Some(Body::RevokeToken(revoke)) => credentials(revoke.user_id, 0, revoke.token, String::new()),
        Some(Body::RevokeTokens(revoke)) => credentials(revoke.user_id, revoke.valid_from_ms, None, String::new()),
        Some(Body::ChangePassword(change)) => {
            credentials(change.user_id, change.tokens_valid_from_ms, None, change.password_hash)
        }
        Some(Body::EraseUser(erase)) => {
            let user = UserId::from(erase.user_id.ok_or(Skipped::Undecodable)?);
            Ok(DirectoryStep::Erase(EraseStep { user, at_ms: bounded(record.stamped_at_ms) }))
        }
        None => Err(Skipped::UnknownKind),
    }
}

fn registration(register: wire::RegisterUser, at_ms: i64) -> Result<DirectoryStep, Skipped> {
    if register.user_id.is_none() {
        return Err(Skipped::Undecodable);
    }
    if register.username.is_empty() {
        return Err(Skipped::Erased);
    }
    if register.username.len() > VIEW_SORT_BYTES_MAX {
        return Err(Skipped::TooLong);
    }
    Ok(DirectoryStep::Register(wire::UserRow {
        user_id: register.user_id,
        username: register.username,
        display_name: register.display_name,
        password_hash: register.password_hash,
        created_at_ms: at_ms,
        ..Default::default()
    }))
}

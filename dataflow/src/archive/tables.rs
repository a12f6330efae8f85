//! The archive's tables, as the inserts and reads see them. Their definition is in `schemas/sql/`.

/// A table that a batch can hold rows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Accepted entries, by conversation.
    TimelineEntries,
    /// Edits and deletions, by conversation.
    MessageChanges,
    /// Moves of members' cursors, by conversation.
    Receipts,
    /// Updates, by recipient.
    InboxEntries,
    /// Sessions that were opened and closed, by user.
    SessionEvents,
}

impl Table {
    /// All of them, in the order in which a batch inserts them.
    pub const ALL: [Self; 5] =
        [Self::TimelineEntries, Self::MessageChanges, Self::Receipts, Self::InboxEntries, Self::SessionEvents];

    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::TimelineEntries => "timeline_entries",
            Self::MessageChanges => "message_changes",
            Self::Receipts => "receipts",
            Self::InboxEntries => "inbox_entries",
            Self::SessionEvents => "session_events",
        }
    }

    /// The columns of a row, in the order in which the row's values are written.
    pub fn columns(self) -> &'static str {
        match self {
            Self::TimelineEntries => {
                "conversation_id, seq, message_id, client_message_id, sender_id, sent_at, kind, text, attachments, \
                 reply_to, membership_action, membership_user_id, membership_by, membership_role, membership_title, \
                 membership_member_ids, conversation_kind, event, source_partition, source_offset"
            }
            Self::MessageChanges => {
                "conversation_id, seq, message_id, sender_id, sent_at, changed_at, changed_by, kind, text, event, \
                 source_partition, source_offset"
            }
            Self::Receipts => {
                "conversation_id, user_id, delivered_seq, seen_seq, moved_at, source_partition, source_offset"
            }
            Self::InboxEntries => {
                "recipient_id, offset, at, kind, conversation_id, seq, message_id, receipt, events_partition, \
                 events_offset"
            }
            Self::SessionEvents => {
                "user_id, session_id, kind, at, device_id, is_clean, edge_id, edge_run, source_partition, source_offset"
            }
        }
    }

    /// The columns that name a row once: the table's sorting key.
    pub fn key(self) -> &'static str {
        match self {
            Self::TimelineEntries => "conversation_id, seq",
            Self::MessageChanges => "conversation_id, seq, source_partition, source_offset",
            Self::Receipts => "conversation_id, user_id, source_partition, source_offset",
            Self::InboxEntries => "recipient_id, offset",
            Self::SessionEvents => "user_id, session_id, kind, source_partition, source_offset",
        }
    }
}

//! From the log's records to the archive's rows, and from rows back to what a reader of history wants.

use bytes::Bytes;
use prost::Message as _;
use tidings_schemas::{
    ids::unpack_user_ids,
    wire::{self, MembershipAction, Role, entry, event, inbox_item, inbox_row, signal},
};

use super::{
    row_binary::{RowBinaryError, RowBinaryReader, RowBinaryWriter},
    store::TableRows,
    tables::Table,
};

/// Rows of every table in the making.
#[derive(Debug, Default)]
pub struct RowSet {
    tables: [(usize, RowBinaryWriter); Table::ALL.len()],
}

impl RowSet {
    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.tables.iter().map(|(count, _)| count).sum()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|(_, writer)| writer.as_bytes().len()).sum()
    }

    /// Takes the rows of every table that has some.
    pub fn take(&mut self) -> Vec<TableRows> {
        let tables = std::mem::take(&mut self.tables);
        let rows = Table::ALL.into_iter().zip(tables).map(|(table, (count, writer))| TableRows {
            table,
            count,
            row_binary: writer.into_bytes().into(),
        });
        rows.filter(|rows| rows.count > 0).collect()
    }

    /// Moves the rows of another set to the end of this one.
    pub fn append(&mut self, other: &mut Self) {
        for ((count, writer), (more, rows)) in self.tables.iter_mut().zip(std::mem::take(&mut other.tables)) {
            *count += more;
            writer.append(&rows);
        }
    }

    fn row(&mut self, table: Table) -> &mut RowBinaryWriter {
        let (count, writer) = &mut self.tables[table as usize];
        *count += 1;
        writer
    }

    /// The rows of a record of `timeline`.
    pub fn push_timeline(&mut self, record: &wire::TimelineRecord) {
        let source = record.source.unwrap_or_default();
        for entry in &record.entries {
            self.push_entry(entry, &source);
        }
        if let Some(change) = &record.change {
            self.push_change(change, &source);
        }
        for cursors in &record.cursor_moves {
            let row = self.row(Table::Receipts);
            row.uuid(id(cursors.conversation_id)).uuid(id(cursors.user_id));
            row.u64(cursors.delivered_seq).u64(cursors.seen_seq).time_ms(record.at_ms);
            row.u32(source.partition).u64(source.offset);
        }
    }

    /// The rows of a record of `inbox`. Offsets beyond the recipients, and recipients beyond the offsets, are none.
    pub fn push_inbox(&mut self, record: &wire::InboxRecord) {
        let events = record.events_source.unwrap_or_default();
        for item in &record.items {
            let (kind, reference, receipt) = match &item.reference {
                Some(inbox_item::Reference::Entry(reference)) => ("entry", *reference, Vec::new()),
                Some(inbox_item::Reference::Change(reference)) => ("change", *reference, Vec::new()),
                Some(inbox_item::Reference::Receipt(receipt)) => {
                    let about = wire::EntryReference { conversation_id: receipt.conversation_id, ..Default::default() };
                    ("receipt", about, receipt.encode_to_vec())
                }
                Some(inbox_item::Reference::Conversation(conversation)) => {
                    let about = wire::EntryReference { conversation_id: Some(*conversation), ..Default::default() };
                    ("conversation", about, Vec::new())
                }
                None => ("unknown", wire::EntryReference::default(), Vec::new()),
            };
            for (recipient, offset) in unpack_user_ids(&item.user_ids).zip(&item.offsets) {
                let row = self.row(Table::InboxEntries);
                row.uuid(recipient.0).u64(*offset).time_ms(record.at_ms).string(kind);
                row.uuid(id(reference.conversation_id)).u64(reference.seq).uuid(id(reference.message_id));
                row.string(&receipt).u32(events.partition).u64(events.offset);
            }
        }
    }

    /// The rows of a record of `signals` at that place: sessions that were opened and closed. Heartbeats, which are as many
    /// as there are seconds, and what else is true for a moment only, make none.
    pub fn push_signals(&mut self, record: &wire::SignalRecord, partition: u32, offset: u64) {
        for signal in &record.signals {
            let (user, session, kind, device, is_clean) = match &signal.body {
                Some(signal::Body::SessionOpened(opened)) => {
                    (opened.user_id, opened.session_id, "opened", opened.device_id.as_str(), false)
                }
                Some(signal::Body::SessionClosed(closed)) => {
                    (closed.user_id, closed.session_id, "closed", "", closed.clean)
                }
                _ => continue,
            };
            let row = self.row(Table::SessionEvents);
            row.uuid(id(user)).u64(session).string(kind).time_ms(record.stamped_at_ms).string(device).bool(is_clean);
            row.u32(record.edge_id).u64(record.edge_run).u32(partition).u64(offset);
        }
    }

    fn push_entry(&mut self, entry: &wire::Entry, source: &wire::Source) {
        let nothing = Bytes::new();
        let event = match &entry.content {
            Some(entry::Content::Event(event)) => event,
            _ => &nothing,
        };
        // An event of a later version may not decode, or be no send: its bytes are kept, and its kind says so.
        let send = match wire::Event::decode(event.clone()) {
            Ok(wire::Event { body: Some(event::Body::Send(send)), .. }) => Some(send),
            _ => None,
        };
        let membership = match &entry.content {
            Some(entry::Content::Membership(membership)) => Some(membership),
            _ => None,
        };
        let kind = match (&send, membership) {
            (_, Some(_)) => "membership",
            (Some(send), _) => kind(send),
            (None, None) => "unknown",
        };
        let send = send.unwrap_or_default();
        // As the archive's own erasure leaves it.
        let event = if send.erased { &nothing } else { event };
        let row = self.row(Table::TimelineEntries);
        row.uuid(id(entry.conversation_id)).u64(entry.seq).uuid(id(entry.message_id));
        row.string(&send.client_message_id).uuid(id(entry.sender_id)).time_ms(entry.sent_at_ms);
        row.string(kind).string(&send.text).length(send.attachments.len());
        for attachment in &send.attachments {
            row.string(&attachment.media_id).string(&attachment.content_type);
            row.string(&attachment.name).u64(attachment.size);
        }
        row.uuid_or_null(send.reply_to.map(|reply_to| id(Some(reply_to))));
        let membership = membership.cloned().unwrap_or_default();
        row.string(action_name(membership.action()));
        row.uuid_or_null(membership.user_id.map(|user| id(Some(user))));
        row.uuid_or_null(membership.by.map(|user| id(Some(user))));
        row.string(role_name(membership.role())).string(&membership.title).length(membership.member_ids.len());
        for member in &membership.member_ids {
            row.uuid(id(Some(*member)));
        }
        row.string(conversation_kind_name(membership.kind())).string(event);
        row.u32(source.partition).u64(source.offset);
    }

    fn push_change(&mut self, change: &wire::Change, source: &wire::Source) {
        let deleted = change.deleted_at_ms != 0;
        let row = self.row(Table::MessageChanges);
        row.uuid(id(change.conversation_id)).u64(change.seq).uuid(id(change.message_id));
        row.uuid(id(change.sender_id)).time_ms(change.sent_at_ms);
        row.time_ms(if deleted { change.deleted_at_ms } else { change.edited_at_ms }).uuid(id(change.by));
        let is_erased = change.text.is_empty() && !deleted;
        row.string(if deleted { "deleted" } else { "edited" }).string(&change.text);
        row.string(if is_erased { &[] } else { &change.event[..] });
        row.u32(source.partition).u64(source.offset);
    }
}

/// The columns that [`read_entry`] reads.
pub const ENTRY_COLUMNS: &str = "conversation_id, seq, message_id, sender_id, sent_at, kind, event, membership_action, \
                                 membership_user_id, membership_by, membership_role, membership_title, \
                                 membership_member_ids, conversation_kind";

/// An entry as it was in the timeline.
pub fn read_entry(row: &mut RowBinaryReader<'_>) -> Result<wire::Entry, RowBinaryError> {
    let mut entry = wire::Entry {
        conversation_id: Some(wire_id(row.uuid()?)),
        seq: row.u64()?,
        message_id: Some(wire_id(row.uuid()?)),
        sender_id: Some(wire_id(row.uuid()?)),
        sent_at_ms: row.time_ms()?,
        content: None,
    };
    let kind = row.text()?;
    let event = Bytes::copy_from_slice(row.bytes()?);
    let mut membership = wire::Membership {
        action: action(row.text()?).into(),
        user_id: row.uuid_or_null()?.map(wire_id),
        by: row.uuid_or_null()?.map(wire_id),
        role: role(row.text()?).into(),
        title: row.text()?.to_owned(),
        ..Default::default()
    };
    for _ in 0..row.length()? {
        membership.member_ids.push(wire_id(row.uuid()?));
    }
    membership.kind = conversation_kind(row.text()?).into();
    entry.content = match kind {
        "membership" => Some(entry::Content::Membership(membership)),
        _ if event.is_empty() => None,
        _ => Some(entry::Content::Event(event)),
    };
    Ok(entry)
}

/// The columns that [`read_change`] reads.
pub const CHANGE_COLUMNS: &str =
    "conversation_id, seq, message_id, sender_id, sent_at, changed_at, changed_by, kind, text, event";

/// A change as it was in the timeline.
pub fn read_change(row: &mut RowBinaryReader<'_>) -> Result<wire::Change, RowBinaryError> {
    let mut change = wire::Change {
        conversation_id: Some(wire_id(row.uuid()?)),
        seq: row.u64()?,
        message_id: Some(wire_id(row.uuid()?)),
        sender_id: Some(wire_id(row.uuid()?)),
        sent_at_ms: row.time_ms()?,
        ..Default::default()
    };
    let changed_at_ms = row.time_ms()?;
    change.by = Some(wire_id(row.uuid()?));
    if row.text()? == "deleted" {
        change.deleted_at_ms = changed_at_ms;
    } else {
        change.edited_at_ms = changed_at_ms;
    }
    change.text = row.text()?.to_owned();
    change.event = Bytes::copy_from_slice(row.bytes()?);
    Ok(change)
}

/// The columns that [`read_inbox`] reads.
pub const INBOX_COLUMNS: &str =
    "offset, at, kind, conversation_id, seq, message_id, receipt, events_partition, events_offset";

/// An update as the views hold it, with its offset.
pub fn read_inbox(row: &mut RowBinaryReader<'_>) -> Result<(u64, wire::InboxRow), RowBinaryError> {
    let offset = row.u64()?;
    let at_ms = row.time_ms()?;
    let kind = row.text()?;
    let conversation = wire_id(row.uuid()?);
    let about = wire::EntryReference {
        conversation_id: Some(conversation),
        seq: row.u64()?,
        message_id: Some(wire_id(row.uuid()?)),
    };
    let receipt = row.bytes()?;
    let reference = match kind {
        "entry" => Some(inbox_row::Reference::Entry(about)),
        "change" => Some(inbox_row::Reference::Change(about)),
        "receipt" => wire::ReceiptUpdate::decode(receipt).ok().map(inbox_row::Reference::Receipt),
        "conversation" => Some(inbox_row::Reference::Conversation(conversation)),
        _ => None,
    };
    let events_source = Some(wire::Source { partition: row.u32()?, offset: row.u64()? });
    Ok((offset, wire::InboxRow { at_ms, events_source, reference }))
}

/// What kind of message a send makes.
fn kind(send: &wire::Send) -> &'static str {
    match send {
        wire::Send { encrypted: Some(_), .. } => "encrypted",
        wire::Send { attachments, .. } if !attachments.is_empty() => "media",
        _ => "text",
    }
}

fn id(id: Option<wire::Id>) -> u128 {
    id.map_or(0, |id| (u128::from(id.high) << 64) | u128::from(id.low))
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
fn wire_id(value: u128) -> wire::Id {
    wire::Id { high: (value >> 64) as u64, low: value as u64 }
}

/// One pair of functions for each enumeration whose names stand in a column.
macro_rules! names {
    ($to_name:ident, $from_name:ident, $type:ty, $unspecified:path, $($value:path => $name:literal),+) => {
        fn $to_name(value: $type) -> &'static str {
            match value {
                $unspecified => "",
                $($value => $name,)+
            }
        }

        fn $from_name(name: &str) -> $type {
            match name {
                $($name => $value,)+
                _ => $unspecified,
            }
        }
    };
}

names!(role_name, role, Role, Role::Unspecified,
    Role::Member => "member", Role::Admin => "admin", Role::Owner => "owner");
names!(action_name, action, MembershipAction, MembershipAction::Unspecified,
    MembershipAction::Created => "created", MembershipAction::Added => "added",
    MembershipAction::Removed => "removed", MembershipAction::Left => "left",
    MembershipAction::Role => "role", MembershipAction::Renamed => "renamed");
names!(conversation_kind_name, conversation_kind, wire::ConversationKind, wire::ConversationKind::Unspecified,
    wire::ConversationKind::Direct => "direct", wire::ConversationKind::Group => "group");

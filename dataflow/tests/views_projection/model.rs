//! What the views must be, said plainly: every record of the log in turn, on ordinary maps.

use std::collections::BTreeMap;

use prost::Message;
use tidings_ingest::StoredRecord;
use tidings_schemas::{
    erasure::emptied_event,
    ids::{ConversationId, MessageId, UserId, unpack_user_ids},
    limits::{
        ENTRIES_TAIL_MAX, INBOX_TAIL_MAX, PAST_STAYS_MAX, REVOKED_TOKENS_MAX, STAMP_SKEW_MAX, VIEW_SORT_BYTES_MAX,
        VIEW_TRIM_ROWS,
    },
    topics::Topic,
    wire::{self, MembershipAction, Role, directory_record::Body, entry::Content, inbox_item, inbox_row},
};

/// All rows.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) conversations: BTreeMap<ConversationId, wire::ConversationRow>,
    pub(crate) members: BTreeMap<(ConversationId, UserId), wire::MemberRow>,
    pub(crate) user_conversations: BTreeMap<(UserId, ConversationId), ()>,
    pub(crate) entries: BTreeMap<(ConversationId, u64), wire::EntryRow>,
    pub(crate) message_index: BTreeMap<(ConversationId, MessageId), u64>,
    pub(crate) inbox: BTreeMap<(UserId, u64), wire::InboxRow>,
    pub(crate) users: BTreeMap<UserId, wire::UserRow>,
    pub(crate) usernames: BTreeMap<String, UserId>,
    watermarks: BTreeMap<(Topic, u32), u64>,
}

impl Model {
    pub(crate) fn apply(&mut self, topic: Topic, partition: u32, record: &StoredRecord) {
        match topic {
            Topic::Timeline => {
                let Ok(timeline) = wire::TimelineRecord::decode(record.value.clone()) else { return };
                if self.is_new(topic, partition, timeline.source) {
                    self.timeline(timeline);
                }
            }
            Topic::Inbox => {
                let Ok(inbox) = wire::InboxRecord::decode(record.value.clone()) else { return };
                if self.is_new(topic, partition, inbox.source) {
                    self.inbox(inbox);
                }
            }
            Topic::Directory => {
                let Ok(directory) = wire::DirectoryRecord::decode(record.value.clone()) else { return };
                self.directory(directory, record.timestamp_ms);
            }
            _ => {}
        }
    }

    fn is_new(&mut self, topic: Topic, partition: u32, source: Option<wire::Source>) -> bool {
        let Some(source) = source.filter(|source| source.partition == partition) else { return false };
        let next = self.watermarks.entry((topic, partition)).or_default();
        let is_new = source.offset >= *next;
        *next = (*next).max(source.offset + 1);
        is_new
    }

    fn timeline(&mut self, record: wire::TimelineRecord) {
        if let Some(state) = &record.conversation {
            self.state(state, &record.entries);
        }
        for entry in record.entries {
            self.entry(entry);
        }
        for cursors in record.cursor_moves {
            let id = (cursors.conversation_id.unwrap().into(), cursors.user_id.unwrap().into());
            if let Some(member) = self.members.get_mut(&id).filter(|member| member.role() != Role::Unspecified) {
                member.delivered_seq = member.delivered_seq.max(cursors.delivered_seq);
                member.seen_seq = member.seen_seq.max(cursors.seen_seq);
            }
        }
        for minima in record.cursor_minima {
            self.conversations.entry(minima.conversation_id.unwrap().into()).or_default().minima = Some(minima);
        }
        if let Some(change) = record.change
            && let Some(row) = self.entries.get_mut(&(change.conversation_id.unwrap().into(), change.seq))
            && row.change.as_ref().is_none_or(|change| change.deleted_at_ms == 0)
        {
            if change.deleted_at_ms != 0
                && let Some(wire::entry::Content::Event(event)) =
                    row.entry.as_mut().and_then(|entry| entry.content.as_mut())
            {
                *event = emptied_event(event);
            }
            row.change = Some(change);
        }
    }

    fn state(&mut self, state: &wire::ConversationState, entries: &[wire::Entry]) {
        let id: ConversationId = state.conversation_id.unwrap().into();
        let row = self.conversations.entry(id).or_default();
        let direct_user_ids = match state.direct_user_ids.as_slice() {
            [] => std::mem::take(&mut row.direct_user_ids),
            users => users.to_vec(),
        };
        *row = wire::ConversationRow {
            conversation_id: state.conversation_id,
            kind: state.kind,
            title: state.title.clone(),
            member_count: state.member_count,
            last_seq: row.last_seq.max(state.last_seq),
            deleted: state.deleted,
            created_at_ms: state.created_at_ms,
            last_activity_at_ms: row.last_activity_at_ms.max(state.created_at_ms),
            minima: row.minima,
            direct_user_ids,
        };
        for member in &state.members {
            let user: UserId = member.user_id.unwrap().into();
            if member.role() == Role::Unspecified {
                let left = entries.iter().find_map(|entry| match &entry.content {
                    Some(Content::Membership(change)) => {
                        let gone = match change.action() {
                            MembershipAction::Removed => change.user_id,
                            MembershipAction::Left => change.user_id.or(change.by),
                            _ => None,
                        };
                        (gone == member.user_id).then_some(entry.seq)
                    }
                    _ => None,
                });
                self.leave(id, user, left.unwrap_or(state.last_seq));
                continue;
            }
            let row = self.members.entry((id, user)).or_default();
            row.user_id = member.user_id;
            row.role = member.role;
            row.joined_seq = member.joined_seq;
            row.delivered_seq = member.delivered_seq;
            row.seen_seq = member.seen_seq;
            self.user_conversations.insert((user, id), ());
        }
        if state.deleted {
            let all: Vec<UserId> = self.members.keys().filter(|(of, _)| *of == id).map(|(_, user)| *user).collect();
            for user in all {
                self.leave(id, user, state.last_seq);
            }
        }
    }

    fn leave(&mut self, id: ConversationId, user: UserId, left_seq: u64) {
        let Some(row) = self.members.get_mut(&(id, user)).filter(|row| row.role() != Role::Unspecified) else { return };
        row.role = 0;
        row.past_stays.push(wire::Stay { joined_seq: row.joined_seq, left_seq });
        let forgotten = row.past_stays.len().saturating_sub(PAST_STAYS_MAX);
        row.past_stays.drain(..forgotten);
        self.user_conversations.remove(&(user, id));
    }

    fn entry(&mut self, entry: wire::Entry) {
        let id: ConversationId = entry.conversation_id.unwrap().into();
        let seq = entry.seq;
        let row = self.conversations.entry(id).or_default();
        row.conversation_id = entry.conversation_id;
        row.last_seq = row.last_seq.max(seq);
        row.last_activity_at_ms = row.last_activity_at_ms.max(entry.sent_at_ms);
        self.message_index.insert((id, entry.message_id.unwrap().into()), seq);
        self.entries.insert((id, seq), wire::EntryRow { entry: Some(entry), change: None });
        if seq > ENTRIES_TAIL_MAX && seq.is_multiple_of(VIEW_TRIM_ROWS) {
            let first_kept = seq - ENTRIES_TAIL_MAX + 1;
            self.entries.retain(|(of, seq), _| *of != id || *seq >= first_kept);
            self.message_index.retain(|(of, _), seq| *of != id || *seq >= first_kept);
        }
    }

    fn inbox(&mut self, record: wire::InboxRecord) {
        for item in record.items {
            let reference = item.reference.map(|reference| match reference {
                inbox_item::Reference::Entry(entry) => inbox_row::Reference::Entry(entry),
                inbox_item::Reference::Change(change) => inbox_row::Reference::Change(change),
                inbox_item::Reference::Receipt(receipt) => inbox_row::Reference::Receipt(receipt),
                inbox_item::Reference::Conversation(id) => inbox_row::Reference::Conversation(id),
            });
            for (user, offset) in unpack_user_ids(&item.user_ids).zip(item.offsets) {
                let row = wire::InboxRow { at_ms: record.at_ms, events_source: record.events_source, reference };
                self.inbox.insert((user, offset), row);
                if offset > INBOX_TAIL_MAX && offset.is_multiple_of(VIEW_TRIM_ROWS) {
                    let first_kept = offset - INBOX_TAIL_MAX + 1;
                    self.inbox.retain(|(of, offset), _| *of != user || *offset >= first_kept);
                }
            }
        }
    }

    fn directory(&mut self, record: wire::DirectoryRecord, appended_at_ms: i64) {
        let latest_ms = appended_at_ms + i64::try_from(STAMP_SKEW_MAX.as_millis()).unwrap();
        let at_ms = record.stamped_at_ms.min(latest_ms);
        match record.body {
            Some(Body::RegisterUser(register)) => self.register(register, record.stamped_at_ms),
            Some(Body::RevokeToken(revoke)) => self.credentials(revoke.user_id, at_ms, |row| {
                let token = revoke.token.unwrap();
                if !row.revoked_tokens.iter().any(|known| known.token_id == token.token_id) {
                    row.revoked_tokens.push(token);
                }
                if row.revoked_tokens.len() > REVOKED_TOKENS_MAX {
                    let oldest = row.revoked_tokens.iter().map(|token| token.issued_at_ms).min().unwrap();
                    row.tokens_valid_from_ms = row.tokens_valid_from_ms.max(oldest + 1);
                }
            }),
            Some(Body::RevokeTokens(revoke)) => self.credentials(revoke.user_id, at_ms, |row| {
                row.tokens_valid_from_ms = row.tokens_valid_from_ms.max(revoke.valid_from_ms.min(latest_ms));
            }),
            Some(Body::ChangePassword(change)) => self.credentials(change.user_id, at_ms, |row| {
                row.password_hash = change.password_hash;
                row.tokens_valid_from_ms = row.tokens_valid_from_ms.max(change.tokens_valid_from_ms.min(latest_ms));
            }),
            Some(Body::EraseUser(erased)) => {
                let user: UserId = erased.user_id.unwrap().into();
                self.usernames.retain(|_, holder| *holder != user);
                let created_at_ms = self.users.get(&user).map_or(0, |row| row.created_at_ms);
                let row = wire::UserRow {
                    user_id: erased.user_id,
                    created_at_ms,
                    tokens_valid_from_ms: i64::MAX,
                    erased_at_ms: at_ms.max(1),
                    ..Default::default()
                };
                self.users.insert(user, row);
            }
            None => {}
        }
    }

    fn credentials(&mut self, user: Option<wire::Id>, at_ms: i64, change: impl FnOnce(&mut wire::UserRow)) {
        let Some(row) = self.users.get_mut(&user.unwrap().into()).filter(|row| row.erased_at_ms == 0) else { return };
        row.revoked_tokens.retain(|token| token.expires_at_ms > at_ms);
        change(row);
        row.revoked_tokens.retain(|token| token.issued_at_ms >= row.tokens_valid_from_ms);
    }

    fn register(&mut self, register: wire::RegisterUser, at_ms: i64) {
        let Some(user) = register.user_id.map(UserId::from) else { return };
        let is_name = (1..=VIEW_SORT_BYTES_MAX).contains(&register.username.len());
        if !is_name || self.usernames.contains_key(&register.username) {
            return;
        }
        self.usernames.insert(register.username.clone(), user);
        let row = wire::UserRow {
            user_id: register.user_id,
            username: register.username,
            display_name: register.display_name,
            password_hash: register.password_hash,
            created_at_ms: at_ms,
            ..Default::default()
        };
        self.users.insert(user, row);
    }
}

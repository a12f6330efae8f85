//! Random records such as the stages and the edges write, and such as they never should.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tidings_ingest::NewRecord;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId, pack_user_ids},
    limits::VIEW_SORT_BYTES_MAX,
    topics::{Partitions, Topic, conversation_partition, user_partition, username_partition},
    wire::{
        self, ConversationKind, MembershipAction, Role, directory_record::Body, entry::Content, inbox_item::Reference,
    },
};

const USERS: u128 = 12;
const CONVERSATIONS: u128 = 6;

#[derive(Default)]
struct Conversation {
    exists: bool,
    last_seq: u64,
    members: BTreeSet<UserId>,
}

/// Makes records, and knows what it made before.
pub(crate) struct Histories {
    random: StdRng,
    partitions: Partitions,
    conversations: BTreeMap<ConversationId, Conversation>,
    next_source: BTreeMap<(Topic, u32), u64>,
    next_offset: BTreeMap<UserId, u64>,
    at_ms: i64,
    recent: BTreeMap<(Topic, u32), Vec<NewRecord>>,
    /// Who claimed a name, by the name's partition.
    registered: BTreeMap<u32, Vec<UserId>>,
}

impl Histories {
    pub(crate) fn new(random: StdRng, partitions: Partitions) -> Self {
        let conversations = (1..=CONVERSATIONS).map(|id| (ConversationId(id << 96 | id), Conversation::default()));
        Self {
            random,
            partitions,
            conversations: conversations.collect(),
            next_source: BTreeMap::new(),
            next_offset: BTreeMap::new(),
            at_ms: 1_700_000_000_000,
            recent: BTreeMap::new(),
            registered: BTreeMap::new(),
        }
    }

    /// Some records, to be appended in one call.
    pub(crate) fn next(&mut self, records_max: usize) -> Vec<NewRecord> {
        let count = self.random.random_range(1..=records_max);
        let mut records = Vec::new();
        while records.len() < count {
            match self.random.random_range(0..100) {
                0..55 => records.push(self.timeline()),
                55..85 => records.push(self.inbox()),
                85..95 => records.push(self.directory()),
                95..98 => records.extend(self.repeats()),
                _ => records.push(self.broken()),
            }
        }
        records
    }

    fn user(&mut self) -> UserId {
        UserId(self.random.random_range(1..=USERS) << 100)
    }

    fn source(&mut self, topic: Topic, partition: u32) -> wire::Source {
        let offset = self.next_source.entry((topic, partition)).or_default();
        let source = wire::Source { partition, offset: *offset };
        // Now and then an event leads to no record: retention has taken it.
        *offset += if self.random.random_ratio(1, 200) { 3 } else { 1 };
        source
    }

    fn record(&mut self, topic: Topic, partition: u32, value: Bytes) -> NewRecord {
        let record = NewRecord { topic, partition, key: Bytes::new(), value };
        let recent = self.recent.entry((topic, partition)).or_default();
        recent.push(record.clone());
        if recent.len() > 30 {
            recent.remove(0);
        }
        record
    }

    /// A stage that restarted says again what it said last.
    fn repeats(&mut self) -> Vec<NewRecord> {
        let partitions: Vec<_> = self.recent.keys().copied().collect();
        let Some(partition) = partitions.choose(&mut self.random) else { return Vec::new() };
        let recent = &self.recent[partition];
        let from = self.random.random_range(0..recent.len());
        recent[from..].to_vec()
    }

    fn broken(&mut self) -> NewRecord {
        let topic = *[Topic::Timeline, Topic::Inbox, Topic::Directory].choose(&mut self.random).unwrap();
        let partition = self.random.random_range(0..self.partitions.of(topic));
        let foreign = Some(wire::Source { partition: partition + 1, offset: 0 });
        let value = match self.random.random_range(0..4) {
            0 => b"not a record of the schema".to_vec(),
            1 => Vec::new(),
            2 => wire::TimelineRecord { source: foreign, at_ms: 1, ..Default::default() }.encode_to_vec(),
            _ => {
                // An entry that is no message, in a record that is one.
                let mut bytes = wire::TimelineRecord { at_ms: 5, ..Default::default() }.encode_to_vec();
                bytes.extend([0x1a, 2, 0x0a, 9]);
                bytes
            }
        };
        NewRecord { topic, partition, key: Bytes::new(), value: value.into() }
    }

    fn timeline(&mut self) -> NewRecord {
        self.at_ms += self.random.random_range(0..50);
        let ids: Vec<ConversationId> = self.conversations.keys().copied().collect();
        // One conversation is so busy that its tail is trimmed.
        let id = if self.random.random_bool(0.6) { ids[0] } else { *ids.choose(&mut self.random).unwrap() };
        let partition = conversation_partition(id, self.partitions.conversations);
        let source = self.source(Topic::Events, partition);
        let mut record = wire::TimelineRecord { source: Some(source), at_ms: self.at_ms, ..Default::default() };
        if !self.conversations[&id].exists {
            self.create(id, &mut record);
        } else {
            match self.random.random_range(0..100) {
                0..60 => self.send(id, &mut record),
                60..70 => self.change(id, &mut record),
                70..85 => self.receipts(id, &mut record),
                85..97 => self.membership(id, &mut record),
                97..98 if id != ids[0] => self.delete(id, &mut record),
                _ => record.refusal = Some(wire::Refusal::default()),
            }
        }
        self.record(Topic::Timeline, partition, record.encode_to_vec().into())
    }

    fn entry(
        &mut self,
        id: ConversationId,
        record: &mut wire::TimelineRecord,
        sender: UserId,
        content: Content,
    ) -> u64 {
        let source = record.source.unwrap();
        let conversation = self.conversations.get_mut(&id).unwrap();
        conversation.last_seq += 1;
        let offset = source.offset * 4 + record.entries.len() as u64;
        record.entries.push(wire::Entry {
            conversation_id: Some(id.into()),
            seq: conversation.last_seq,
            // Stamps of different edges: ids do not quite ascend with `seq`.
            message_id: Some(
                MessageId::from_position(self.at_ms + self.random.random_range(-500..500), source.partition, offset)
                    .into(),
            ),
            sender_id: Some(sender.into()),
            sent_at_ms: self.at_ms,
            content: Some(content),
        });
        conversation.last_seq
    }

    fn state(&self, id: ConversationId, members: Vec<wire::MemberState>) -> wire::ConversationState {
        let conversation = &self.conversations[&id];
        let is_direct = id.0.is_multiple_of(3);
        wire::ConversationState {
            conversation_id: Some(id.into()),
            kind: if is_direct { ConversationKind::Direct } else { ConversationKind::Group }.into(),
            title: format!("title {}", conversation.last_seq),
            member_count: conversation.members.len() as u32,
            last_seq: conversation.last_seq,
            deleted: !conversation.exists,
            created_at_ms: 1_700_000_000_000,
            members,
            direct_user_ids: if is_direct && conversation.last_seq == 1 {
                conversation.members.iter().map(|user| (*user).into()).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn member(&mut self, user: UserId, role: Role, seq: u64) -> wire::MemberState {
        let role = role.into();
        wire::MemberState {
            user_id: Some(user.into()),
            role,
            joined_seq: seq,
            delivered_seq: seq.saturating_sub(1),
            seen_seq: seq.saturating_sub(1),
            ..Default::default()
        }
    }

    fn create(&mut self, id: ConversationId, record: &mut wire::TimelineRecord) {
        let owner = self.user();
        let members: BTreeSet<UserId> =
            std::iter::once(owner).chain((0..4).map(|_| self.user()).collect::<Vec<_>>()).collect();
        let conversation = self.conversations.get_mut(&id).unwrap();
        conversation.exists = true;
        conversation.members = members.clone();
        let membership = wire::Membership { action: MembershipAction::Created.into(), ..Default::default() };
        let seq = self.entry(id, record, owner, Content::Membership(membership));
        let members = members.into_iter().map(|user| self.member(user, Role::Member, seq)).collect();
        record.conversation = Some(self.state(id, members));
    }

    fn send(&mut self, id: ConversationId, record: &mut wire::TimelineRecord) {
        let sender = self.user();
        let text: Vec<u8> = (0..self.random.random_range(0..60)).map(|_| self.random.random()).collect();
        let seq = self.entry(id, record, sender, Content::Event(text.into()));
        let cursors = wire::CursorMove {
            conversation_id: Some(id.into()),
            user_id: Some(sender.into()),
            delivered_seq: seq,
            seen_seq: seq,
        };
        record.cursor_moves.push(cursors);
    }

    fn change(&mut self, id: ConversationId, record: &mut wire::TimelineRecord) {
        let last_seq = self.conversations[&id].last_seq;
        // Mostly recent ones, so that one message is changed several times; sometimes one that has left the tail.
        let first = if self.random.random_bool(0.8) { last_seq.saturating_sub(8).max(1) } else { 1 };
        let is_deletion = self.random.random_bool(0.3);
        record.change = Some(wire::Change {
            conversation_id: Some(id.into()),
            seq: self.random.random_range(first..=last_seq),
            text: if is_deletion { String::new() } else { format!("edited at {}", self.at_ms) },
            edited_at_ms: if is_deletion { 0 } else { self.at_ms },
            deleted_at_ms: if is_deletion { self.at_ms } else { 0 },
            ..Default::default()
        });
    }

    /// Receipts come in batches across the conversations of a partition, also of those who are no members.
    fn receipts(&mut self, id: ConversationId, record: &mut wire::TimelineRecord) {
        let partition = record.source.unwrap().partition;
        let ids: Vec<ConversationId> = self
            .conversations
            .keys()
            .copied()
            .filter(|of| *of == id || conversation_partition(*of, self.partitions.conversations) == partition)
            .collect();
        for id in ids {
            let last_seq = self.conversations[&id].last_seq;
            let delivered_seq = self.random.random_range(0..=last_seq);
            let cursors = wire::CursorMove {
                conversation_id: Some(id.into()),
                user_id: Some(self.user().into()),
                delivered_seq,
                seen_seq: self.random.random_range(0..=delivered_seq),
            };
            record.cursor_moves.push(cursors);
            if self.random.random_bool(0.5) {
                let least = wire::LeastTwo { least: delivered_seq, holders: 2, next: delivered_seq };
                let minima =
                    wire::CursorMinima { conversation_id: Some(id.into()), delivered: Some(least), seen: Some(least) };
                record.cursor_minima.push(minima);
            }
        }
    }

    fn membership(&mut self, id: ConversationId, record: &mut wire::TimelineRecord) {
        let (user, by) = (self.user(), self.user());
        let is_member = self.conversations[&id].members.contains(&user);
        let (action, role) = match (is_member, self.random.random_range(0..4)) {
            (false, _) => (MembershipAction::Added, Role::Member),
            (true, 0) => (MembershipAction::Removed, Role::Unspecified),
            (true, 1) => (MembershipAction::Left, Role::Unspecified),
            (true, 2) => (MembershipAction::Role, Role::Admin),
            (true, _) => (MembershipAction::Renamed, Role::Member),
        };
        let user_id = match action {
            MembershipAction::Left if self.random.random_bool(0.5) => None,
            MembershipAction::Renamed => None,
            _ => Some(user.into()),
        };
        let by = if action == MembershipAction::Left { user } else { by };
        let membership = wire::Membership { action: action.into(), user_id, by: Some(by.into()), ..Default::default() };
        let seq = self.entry(id, record, by, Content::Membership(membership));
        let conversation = self.conversations.get_mut(&id).unwrap();
        match action {
            MembershipAction::Added => _ = conversation.members.insert(user),
            MembershipAction::Removed | MembershipAction::Left => _ = conversation.members.remove(&user),
            _ => {}
        }
        let mut members = Vec::new();
        if action != MembershipAction::Renamed {
            members.push(self.member(user, role, seq));
        }
        if action == MembershipAction::Left {
            // Ownership passes on: one more entry, after the one that says who left.
            let membership = wire::Membership { action: MembershipAction::Role.into(), ..Default::default() };
            self.entry(id, record, by, Content::Membership(membership));
            let heir = self.conversations[&id].members.first().copied();
            members.extend(heir.map(|heir| self.member(heir, Role::Owner, 1)));
        }
        record.conversation = Some(self.state(id, members));
    }

    fn delete(&mut self, id: ConversationId, record: &mut wire::TimelineRecord) {
        let conversation = self.conversations.get_mut(&id).unwrap();
        conversation.exists = false;
        let named = conversation.members.first().copied();
        conversation.members.clear();
        let members = named.map(|user| self.member(user, Role::Unspecified, 0)).into_iter().collect();
        record.conversation = Some(self.state(id, members));
    }

    fn inbox(&mut self) -> NewRecord {
        let partition = self.random.random_range(0..self.partitions.recipients);
        let source = self.source(Topic::Fanout, partition);
        let users: Vec<UserId> = (1..=USERS)
            .map(|user| UserId(user << 100))
            .filter(|user| user_partition(*user, self.partitions.recipients) == partition)
            .collect();
        let mut items = Vec::new();
        // One recipient gets so much that the tail of updates is trimmed.
        let count = if self.random.random_bool(0.1) { 100 } else { self.random.random_range(1..4) };
        for item in 0..count {
            let recipients: Vec<UserId> = if item < 3 {
                users.iter().copied().filter(|_| self.random.random_bool(0.6)).collect()
            } else {
                users.first().copied().into_iter().collect()
            };
            let next = |user: &UserId| {
                let offset = self.next_offset.entry(*user).or_default();
                *offset += 1;
                *offset
            };
            let offsets = recipients.iter().map(next).collect();
            let conversation_id = Some(ConversationId(self.random.random_range(1..=CONVERSATIONS)).into());
            let reference = wire::EntryReference { conversation_id, seq: source.offset, message_id: None };
            let reference = match self.random.random_range(0..5) {
                0 => Some(Reference::Change(reference)),
                1 => {
                    Some(Reference::Receipt(wire::ReceiptUpdate { conversation_id, seen_seq: 7, ..Default::default() }))
                }
                2 => conversation_id.map(Reference::Conversation),
                _ => Some(Reference::Entry(reference)),
            };
            items.push(wire::InboxItem { user_ids: pack_user_ids(recipients), offsets, reference });
        }
        let events_source = Some(wire::Source { partition: 0, offset: source.offset });
        let record = wire::InboxRecord { source: Some(source), at_ms: self.at_ms, items, events_source };
        self.record(Topic::Inbox, partition, record.encode_to_vec().into())
    }

    fn directory(&mut self) -> NewRecord {
        let username = match self.random.random_range(0..20) {
            0 => "x".repeat(VIEW_SORT_BYTES_MAX + 1),
            1 => "x".repeat(VIEW_SORT_BYTES_MAX),
            _ => format!("name-{}", self.random.random_range(0..60)),
        };
        let partition = username_partition(&username, self.partitions.directory);
        let body = match self.random.random_range(0..20) {
            0 => None,
            1..6 => Some(self.register(username)),
            _ => Some(self.credentials(partition)),
        };
        // Now and then an edge's clock is ahead, by far.
        let ahead_ms = if self.random.random_ratio(1, 300) { 1 << 60 } else { 0 };
        let record = wire::DirectoryRecord { stamped_at_ms: self.at_ms + ahead_ms, body };
        self.record(Topic::Directory, partition, record.encode_to_vec().into())
    }

    fn register(&mut self, username: String) -> Body {
        let user = UserId(self.random.random());
        let partition = username_partition(&username, self.partitions.directory);
        self.registered.entry(partition).or_default().push(user);
        Body::RegisterUser(wire::RegisterUser {
            user_id: Some(user.into()),
            username,
            display_name: format!("claim at {}", self.at_ms),
            password_hash: "$argon2id$".to_owned(),
        })
    }

    /// Of somebody who claimed a name in the partition, in vain or not; mostly of the first ones, who have more and more.
    fn credentials(&mut self, partition: u32) -> Body {
        let unknown = UserId(self.random.random());
        let registered = self.registered.get(&partition).map(Vec::as_slice).unwrap_or_default();
        let many = if self.random.random_bool(0.9) { registered.len().min(1) } else { registered.len() };
        let user_id = Some(registered[..many].choose(&mut self.random).copied().unwrap_or(unknown).into());
        let issued_at_ms = self.at_ms - self.random.random_range(0..5_000);
        match self.random.random_range(0..200) {
            0 => Body::RevokeTokens(wire::RevokeTokens { user_id, valid_from_ms: issued_at_ms }),
            1 => Body::ChangePassword(wire::ChangePassword {
                user_id,
                password_hash: format!("changed at {}", self.at_ms),
                tokens_valid_from_ms: issued_at_ms,
            }),
            2 => {
                // For good, so not of the first one.
                let other = registered.get(1..).and_then(|others| others.choose(&mut self.random));
                let user_id = Some(other.copied().unwrap_or(unknown).into());
                Body::RevokeTokens(wire::RevokeTokens { user_id, valid_from_ms: i64::MAX })
            }
            3 => {
                let other = registered.get(1..).and_then(|others| others.choose(&mut self.random));
                let user_id = Some(other.copied().unwrap_or(unknown).into());
                Body::EraseUser(wire::EraseUser { user_id })
            }
            _ => {
                let token = wire::RevokedToken {
                    token_id: Bytes::copy_from_slice(&self.random.random_range(0..500_u128).to_be_bytes()),
                    issued_at_ms,
                    expires_at_ms: issued_at_ms + self.random.random_range(0..1_000_000),
                };
                Body::RevokeToken(wire::RevokeToken { user_id, token: Some(token) })
            }
        }
    }
}

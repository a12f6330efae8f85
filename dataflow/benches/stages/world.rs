//! What the benchmark runs on: users, conversations, and events ready to be taken in.

use bytes::Bytes;
use prost::Message;
use tidings_ingest::StoredRecord;
use tidings_schemas::{
    ids::{ConversationId, UserId},
    wire::{self, ConversationKind, event::Body},
};

/// The moment at which it all happens.
const NOW_MS: i64 = 1_800_000_000_000;

/// A quick generator: the benchmark measures the stages, not the randomness.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    pub(crate) fn id(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}

/// Users and conversations.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) users: Vec<UserId>,
    pub(crate) direct: Vec<(ConversationId, [UserId; 2])>,
    pub(crate) groups: Vec<(ConversationId, Vec<UserId>)>,
}

impl World {
    /// Half of the memberships in direct chats, half in groups of this size.
    pub(crate) fn new(users: usize, memberships: usize, group_size: usize) -> Self {
        let mut random = Random(1);
        let users: Vec<UserId> = (0..users).map(|_| UserId::random(random.id())).collect();
        let mut direct = Vec::with_capacity(memberships / 4);
        while direct.len() < memberships / 4 {
            let (one, other) = (users[random.below(users.len())], users[random.below(users.len())]);
            if one != other {
                direct.push((ConversationId::direct(one, other), [one, other]));
            }
        }
        let groups = (0..memberships / 2 / group_size)
            .map(|_| {
                let mut members: Vec<UserId> = Vec::with_capacity(group_size);
                while members.len() < group_size {
                    let user = users[random.below(users.len())];
                    if !members.contains(&user) {
                        members.push(user);
                    }
                }
                (ConversationId::random(random.id()), members)
            })
            .collect();
        Self { random, users, direct, groups }
    }

    /// The events that create everything.
    pub(crate) fn creations(&self) -> Vec<wire::Event> {
        let create = |id: ConversationId, kind: ConversationKind, members: &[UserId]| {
            event(
                id,
                members[0],
                Body::CreateConversation(wire::CreateConversation {
                    kind: kind.into(),
                    title: String::new(),
                    member_ids: members[1..].iter().map(|user| (*user).into()).collect(),
                }),
            )
        };
        let direct = self.direct.iter().map(|(id, members)| create(*id, ConversationKind::Direct, members));
        let groups = self.groups.iter().map(|(id, members)| create(*id, ConversationKind::Group, members));
        direct.chain(groups).collect()
    }

    /// Messages in random direct chats.
    pub(crate) fn direct_sends(&mut self, count: usize) -> Vec<wire::Event> {
        (0..count)
            .map(|_| {
                let (id, members) = self.direct[self.random.below(self.direct.len())];
                let sender = members[self.random.below(2)];
                self.send(id, sender)
            })
            .collect()
    }

    /// Messages in random groups.
    pub(crate) fn group_sends(&mut self, count: usize) -> Vec<wire::Event> {
        (0..count)
            .map(|_| {
                let group = self.random.below(self.groups.len());
                let member = self.random.below(self.groups[group].1.len());
                let (id, sender) = (self.groups[group].0, self.groups[group].1[member]);
                self.send(id, sender)
            })
            .collect()
    }

    fn send(&mut self, conversation: ConversationId, sender: UserId) -> wire::Event {
        let send = wire::Send {
            client_message_id: UserId::random(self.random.id()).to_string(),
            text: "a message of about the length that messages have, which is not much".to_owned(),
            ..Default::default()
        };
        event(conversation, sender, Body::Send(send))
    }

    /// Each member of a group has seen its end.
    pub(crate) fn receipts(&mut self, batches: usize, receipts: usize) -> Vec<wire::Event> {
        (0..batches)
            .map(|_| {
                let receipts = (0..receipts)
                    .map(|_| {
                        let (id, members) = self.direct[self.random.below(self.direct.len())];
                        wire::Receipt {
                            conversation_id: Some(id.into()),
                            user_id: Some(members[self.random.below(2)].into()),
                            delivered_seq: 0,
                            seen_seq: u64::MAX,
                        }
                    })
                    .collect();
                wire::Event {
                    stamped_at_ms: NOW_MS,
                    body: Some(Body::Receipts(wire::Receipts { receipts })),
                    ..Default::default()
                }
            })
            .collect()
    }

    /// Every n-th user opens a session, on one of four edges.
    pub(crate) fn sessions(&mut self, every: usize) -> Vec<wire::SignalRecord> {
        let users: Vec<UserId> = self.users.iter().copied().step_by(every).collect();
        users
            .chunks(1_000)
            .enumerate()
            .map(|(number, users)| {
                let opened = users.iter().map(|user| {
                    let body = wire::signal::Body::SessionOpened(wire::SessionOpened {
                        user_id: Some((*user).into()),
                        session_id: self.random.next(),
                        device_id: "device".to_owned(),
                    });
                    wire::Signal { body: Some(body) }
                });
                wire::SignalRecord {
                    edge_id: u32::try_from(number % 4).unwrap_or_default(),
                    edge_run: 1,
                    stamped_at_ms: NOW_MS,
                    signals: opened.collect(),
                }
            })
            .collect()
    }
}

fn event(conversation: ConversationId, actor: UserId, body: Body) -> wire::Event {
    wire::Event {
        conversation_id: Some(conversation.into()),
        actor_id: Some(actor.into()),
        stamped_at_ms: NOW_MS,
        origin: Some(wire::Origin { edge_id: 1, request_id: 77_777_777 }),
        body: Some(body),
    }
}

/// Records as they stand in the log from this offset on.
pub(crate) fn stored(records: &[impl Message], from: u64) -> Vec<StoredRecord> {
    (from..).zip(records).map(|(offset, record)| stored_bytes(record.encode_to_vec().into(), offset)).collect()
}

/// A record as it stands in the log.
pub(crate) fn stored_bytes(value: Bytes, offset: u64) -> StoredRecord {
    StoredRecord { offset, timestamp_ms: NOW_MS, key: Bytes::from_static(&[7; 16]), value }
}

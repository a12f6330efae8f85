//! Random histories of one `events` partition: every kind of event, good and bad, from few users in few conversations,
//! so that much of it meets.

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tidings_dataflow::conversations::model::Model;
use tidings_ingest::StoredRecord;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    wire::{self, ConversationKind, Role, event::Body},
};

/// Makes one event after the other.
pub(crate) struct History {
    random: StdRng,
    users: Vec<UserId>,
    conversations: Vec<ConversationId>,
    now_ms: i64,
    next_offset: u64,
    /// Knows who is where, so that most of what is done can be done.
    model: Model,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let user_count = *[3, 6, 12, 40].choose(&mut random).unwrap();
        let model = Model::new(crate::PARTITIONS, 0, crate::config().group_members_max);
        let users = (0..user_count).map(|_| UserId::random(random.random())).collect();
        Self { random, users, conversations: Vec::new(), now_ms: 1_800_000_000_000, next_offset: 0, model }
    }

    /// The next records.
    pub(crate) fn take(&mut self, count: usize) -> Vec<StoredRecord> {
        (0..count)
            .map(|_| {
                let record = self.record();
                self.model.apply(&record);
                record
            })
            .collect()
    }

    fn record(&mut self) -> StoredRecord {
        self.now_ms += match self.random.random_range(0..1_000) {
            0 => 13 * 60 * 60 * 1_000,
            1..10 => -self.random.random_range(0..5_000),
            _ => self.random.random_range(0..50),
        };
        let offset = self.next_offset;
        self.next_offset += 1;
        let timestamp_ms = self.now_ms;
        if self.random.random_ratio(1, 60) {
            let length = self.random.random_range(0..40);
            let value = (0..length).map(|_| self.random.random::<u8>()).collect::<Vec<u8>>();
            return StoredRecord { offset, timestamp_ms, key: Bytes::from_static(b"odd"), value: value.into() };
        }
        let event = self.event();
        let mut value = event.encode_to_vec();
        if self.random.random_ratio(1, 30) {
            // A field that this version does not know.
            value.extend_from_slice(&[0xfa, 0x07, 0x03, b'n', b'e', b'w']);
        }
        let key = event.conversation_id.map(|id| ConversationId::from(id).to_bytes().to_vec()).unwrap_or_default();
        StoredRecord { offset, timestamp_ms, key: key.into(), value: value.into() }
    }

    fn event(&mut self) -> wire::Event {
        let conversation = if self.conversations.is_empty() { None } else { Some(self.conversation()) };
        let actor = match conversation {
            Some(conversation) => self.member(conversation),
            None => self.user(),
        };
        let stamped_at_ms = self.now_ms
            + match self.random.random_range(0..40) {
                0 => 10_000_000,
                1 => -10_000_000,
                _ => self.random.random_range(-300..0),
            };
        let (conversation, body) = self.body(conversation, actor);
        let origin = self.random.random_ratio(4, 5).then(|| wire::Origin {
            edge_id: self.random.random_range(0..5),
            request_id: self.random.random_range(0..3) * self.random.random_range(0..u64::MAX / 3),
        });
        let missing = self.random.random_range(0..100);
        wire::Event {
            conversation_id: conversation.filter(|_| missing != 0).map(wire::Id::from),
            actor_id: (missing != 1 && !matches!(body, Some(Body::Receipts(_)))).then(|| actor.into()),
            stamped_at_ms,
            origin: origin.filter(|_| !matches!(body, Some(Body::Receipts(_)))),
            body: body.filter(|_| missing != 2),
        }
    }

    fn body(&mut self, conversation: Option<ConversationId>, actor: UserId) -> (Option<ConversationId>, Option<Body>) {
        let kind = self.random.random_range(0..100);
        let Some(conversation) = conversation.filter(|_| kind >= 4) else { return self.create(actor) };
        let body = match kind {
            4..44 => Body::Send(self.send()),
            44..64 => return (None, Some(Body::Receipts(self.receipts()))),
            64..70 => {
                let target = self.target(conversation, actor);
                Body::EditMessage(wire::EditMessage { target, text: "edited".into() })
            }
            70..75 => Body::DeleteMessage(wire::DeleteMessage {
                target: self.target(conversation, actor),
                erasure: self.random.random_ratio(1, 5),
            }),
            75..87 => {
                let user = if self.random.random_ratio(2, 3) { self.user() } else { self.member(conversation) };
                let user_id = self.random.random_ratio(49, 50).then(|| user.into());
                let role = *[0, 0, 0, 1, 2, 2, 3, 9].choose(&mut self.random).unwrap();
                Body::PutMember(wire::PutMember { user_id, role })
            }
            87..94 => {
                let user = if self.random.random_bool(0.3) { actor } else { self.member(conversation) };
                let user_id = self.random.random_ratio(49, 50).then(|| user.into());
                Body::RemoveMember(wire::RemoveMember { user_id })
            }
            94..99 => Body::RenameConversation(wire::RenameConversation { title: self.title() }),
            _ => Body::DeleteConversation(wire::DeleteConversation {}),
        };
        (Some(conversation), Some(body))
    }

    fn create(&mut self, actor: UserId) -> (Option<ConversationId>, Option<Body>) {
        let direct = self.random.random_bool(0.4);
        let members = if direct {
            *[1, 1, 1, 1, 0, 2].choose(&mut self.random).unwrap()
        } else {
            self.random.random_range(0..self.users.len() + 2)
        };
        let member_ids: Vec<UserId> = (0..members).map(|_| self.user()).collect();
        let conversation = match (direct, self.random.random_range(0..20), &member_ids[..]) {
            (_, 0, _) if !self.conversations.is_empty() => self.conversation(),
            (true, 2.., [other, ..]) => ConversationId::direct(actor, *other),
            _ => ConversationId::random(self.random.random()),
        };
        if !self.conversations.contains(&conversation) {
            self.conversations.push(conversation);
        }
        let kind = match (self.random.random_range(0..40), direct) {
            (0, _) => 0,
            (1, _) => 7,
            (_, true) => ConversationKind::Direct.into(),
            (_, false) => ConversationKind::Group.into(),
        };
        let create = wire::CreateConversation {
            kind,
            title: self.title(),
            member_ids: member_ids.into_iter().map(wire::Id::from).collect(),
        };
        (Some(conversation), Some(Body::CreateConversation(create)))
    }

    fn send(&mut self) -> wire::Send {
        let client_message_id = match self.random.random_range(0..10) {
            0 => String::new(),
            1..4 => self.random.random_range(0..8).to_string(),
            _ => format!("{:032x}", self.random.random::<u128>()),
        };
        let attachment = wire::Attachment { media_id: "m".into(), size: 7, ..Default::default() };
        wire::Send {
            client_message_id,
            text: "word ".repeat(self.random.random_range(0..40)),
            attachments: vec![attachment; usize::from(self.random.random_ratio(1, 10)) * 2],
            encrypted: None,
            reply_to: self.random.random_ratio(1, 5).then(|| MessageId(self.random.random()).into()),
            message_id: self.random.random_ratio(1, 50).then(|| MessageId(self.random.random()).into()),
            erased: self.random.random_ratio(1, 50),
        }
    }

    fn receipts(&mut self) -> wire::Receipts {
        let count = self.random.random_range(0..12);
        let receipts = (0..count)
            .map(|_| {
                let conversation = self.conversation();
                wire::Receipt {
                    conversation_id: self.random.random_ratio(49, 50).then(|| conversation.into()),
                    user_id: self.random.random_ratio(49, 50).then(|| self.member(conversation).into()),
                    delivered_seq: self.seq(conversation),
                    seen_seq: self.seq(conversation),
                }
            })
            .collect();
        wire::Receipts { receipts }
    }

    fn target(&mut self, conversation: ConversationId, actor: UserId) -> Option<wire::Target> {
        let sender = if self.random.random_bool(0.7) { actor } else { self.user() };
        self.random.random_ratio(39, 40).then(|| wire::Target {
            message_id: self.random.random_ratio(39, 40).then(|| MessageId(self.random.random()).into()),
            seq: self.seq(conversation),
            sender_id: self.random.random_ratio(39, 40).then(|| sender.into()),
            event: Bytes::from_static(b"as it was sent"),
            sent_at_ms: self.now_ms - 1_000,
        })
    }

    fn seq(&mut self, conversation: ConversationId) -> u64 {
        let last_seq = self.model.last_seq(conversation);
        match self.random.random_range(0..12) {
            0 => 0,
            1 => u64::MAX,
            2..5 => self.random.random_range(0..60),
            _ => last_seq.saturating_sub(self.random.random_range(0..6)),
        }
    }

    fn title(&mut self) -> String {
        "ü".repeat(*[0, 1, 20, 128, 129].choose(&mut self.random).unwrap())
    }

    fn user(&mut self) -> UserId {
        *self.users.choose(&mut self.random).unwrap()
    }

    /// Mostly a member, sometimes anybody.
    fn member(&mut self, conversation: ConversationId) -> UserId {
        let members = self.model.members(conversation);
        match members.choose(&mut self.random) {
            Some((member, _)) if self.random.random_ratio(9, 10) => *member,
            _ => self.user(),
        }
    }

    fn conversation(&mut self) -> ConversationId {
        // Most about the newest, so that a few are busy; any of all.
        let recent = self.conversations.len().saturating_sub(6);
        let from = if self.random.random_bool(0.8) { recent } else { 0 };
        let mut chosen = self.conversations[self.random.random_range(from..self.conversations.len())];
        for _ in 0..4 {
            if self.model.members(chosen).is_empty() {
                chosen = self.conversations[self.random.random_range(from..self.conversations.len())];
            }
        }
        chosen
    }
}

/// Roles are numbers in the history; this pins what they mean.
#[test]
fn role_numbers() {
    assert_eq!([Role::Member, Role::Admin, Role::Owner].map(i32::from), [1, 2, 3]);
}

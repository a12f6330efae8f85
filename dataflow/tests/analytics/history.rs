//! A generated history: what some users did in a month, as plain lists (what must come out) and as the records that the
//! stages would have written (what goes in).

use std::sync::Arc;

use prost::Message as _;
use tidings_dataflow::archive::{Archive, Batch, conformance::range, rows::RowSet};
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId, pack_user_ids},
    topics::Topic,
    wire::{self, MembershipAction, Role, signal},
};

pub(crate) const DAY_MS: i64 = 86_400_000;
/// The first day: far enough ahead that no retention drops it. (2090-01-01)
pub(crate) const START_MS: i64 = 3_786_912_000_000;
const USERS: usize = 14;
const DAYS: i64 = 34;

/// A message, as it is at the end.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) conversation: usize,
    pub(crate) seq: u64,
    pub(crate) sender: usize,
    pub(crate) at: i64,
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    pub(crate) edited_at: Option<i64>,
    pub(crate) deleted_at: Option<i64>,
    /// The message that it answers, by its place in the list.
    pub(crate) reply_to: Option<usize>,
    pub(crate) recipients: Vec<Recipient>,
}

/// One recipient of a message.
#[derive(Debug, Clone)]
pub(crate) struct Recipient {
    pub(crate) user: usize,
    pub(crate) delivered_at: Option<i64>,
    pub(crate) seen_at: Option<i64>,
}

/// A time in which a user was in a conversation with one role.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) conversation: usize,
    pub(crate) user: usize,
    pub(crate) role: &'static str,
    pub(crate) since: i64,
    pub(crate) until: Option<i64>,
    pub(crate) joined: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user: usize,
    pub(crate) id: u64,
    pub(crate) opened: i64,
    pub(crate) closed: Option<i64>,
    pub(crate) by: &'static str,
}

#[derive(Debug, Clone)]
struct Member {
    user: usize,
    joined_seq: u64,
    delivered: u64,
    seen: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) is_group: bool,
    pub(crate) title: String,
    last_seq: u64,
    members: Vec<Member>,
}

/// Everything that happened, and the records of it.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) messages: Vec<Message>,
    pub(crate) roles: Vec<Held>,
    pub(crate) sessions: Vec<Session>,
    /// Who did something when: sent, read, opened.
    pub(crate) acts: Vec<(i64, usize, &'static str)>,
    /// Updates: when and to whom.
    pub(crate) updates: Vec<(i64, usize)>,
    timeline: Vec<wire::TimelineRecord>,
    inbox: Vec<wire::InboxRecord>,
    signals: Vec<wire::SignalRecord>,
    edge_run: u64,
    random: u64,
}

pub(crate) fn user(number: usize) -> UserId {
    UserId::random(0xa0_0000 + number as u128)
}

pub(crate) fn conversation(number: usize) -> ConversationId {
    ConversationId::random(0xc0_0000 + number as u128)
}

fn message_id(conversation_: usize, seq: u64) -> MessageId {
    MessageId(conversation(conversation_).0 ^ (u128::from(seq) << 8))
}

impl History {
    /// The history of this seed.
    pub(crate) fn generate(seed: u64) -> Self {
        let mut history = Self { random: seed | 1, edge_run: 1, ..Self::default() };
        let mut at = START_MS;
        for number in 0..9 {
            at += 60_000;
            history.create(number, at);
        }
        while at < START_MS + DAYS * DAY_MS {
            at += 1_000 + history.below(1_400_000) as i64;
            match history.below(100) {
                0..58 => history.send(at),
                58..86 => history.read(at),
                86..90 => history.change(at),
                90..93 => history.move_member(at),
                93..99 => history.connect(at),
                _ => history.restart_edge(at),
            }
        }
        history
    }

    /// A number below this one (xorshift: the same for the same seed, on every machine).
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn record(&mut self, at: i64, record: wire::TimelineRecord) {
        let source = Some(wire::Source { partition: 0, offset: self.timeline.len() as u64 });
        self.timeline.push(wire::TimelineRecord { source, at_ms: at, ..record });
    }

    fn entry(&mut self, number: usize, at: i64, sender: usize, content: wire::entry::Content) -> (u64, wire::Entry) {
        let seq = self.conversations[number].last_seq + 1;
        self.conversations[number].last_seq = seq;
        let entry = wire::Entry {
            conversation_id: Some(conversation(number).into()),
            seq,
            message_id: Some(message_id(number, seq).into()),
            sender_id: Some(user(sender).into()),
            sent_at_ms: at,
            content: Some(content),
        };
        (seq, entry)
    }

    fn membership(&mut self, number: usize, at: i64, by: usize, membership: wire::Membership) -> u64 {
        let content = wire::entry::Content::Membership(wire::Membership { by: Some(user(by).into()), ..membership });
        let (seq, entry) = self.entry(number, at, by, content);
        self.record(at, wire::TimelineRecord { entries: vec![entry], ..Default::default() });
        seq
    }

    fn create(&mut self, number: usize, at: i64) {
        let is_group = number >= 3;
        let size = if is_group { 3 + number } else { 2 };
        let first = self.below(USERS as u64) as usize;
        let users: Vec<usize> = (0..size).map(|step| (first + step) % USERS).collect();
        let title = if is_group { format!("group {number}") } else { String::new() };
        self.conversations.push(Conversation {
            is_group,
            title: title.clone(),
            last_seq: 0,
            members: users.iter().map(|user| Member { user: *user, joined_seq: 1, delivered: 1, seen: 1 }).collect(),
        });
        let kind = if is_group { wire::ConversationKind::Group } else { wire::ConversationKind::Direct };
        self.membership(
            number,
            at,
            users[0],
            wire::Membership {
                action: MembershipAction::Created.into(),
                title,
                member_ids: users.iter().map(|member| user(*member).into()).collect(),
                kind: kind.into(),
                ..Default::default()
            },
        );
        for (place, member) in users.into_iter().enumerate() {
            let role = if is_group && place == 0 { "owner" } else { "member" };
            self.roles.push(Held { conversation: number, user: member, role, since: at, until: None, joined: at });
        }
    }

    fn send(&mut self, at: i64) {
        let number = self.below(self.conversations.len() as u64) as usize;
        let members: Vec<usize> = self.conversations[number].members.iter().map(|member| member.user).collect();
        if members.is_empty() {
            return;
        }
        let sender = self.pick(&members);
        let earlier: Vec<usize> =
            (0..self.messages.len()).filter(|at| self.messages[*at].conversation == number).collect();
        let reply_to =
            (!earlier.is_empty() && self.below(5) == 0).then(|| self.pick(&earlier[earlier.len() * 3 / 4..]));
        let is_media = self.below(6) == 0;
        let word = self.pick(&["lunch", "tea", "train", "Lunch!", "late"]);
        let text = format!("{word} {}", self.messages.len());
        let attachments = if is_media {
            vec![wire::Attachment {
                media_id: "m".into(),
                content_type: "image/png".into(),
                name: "x".into(),
                size: 9,
                ..Default::default()
            }]
        } else {
            Vec::new()
        };
        let send = wire::Send {
            client_message_id: format!("client {}", self.messages.len()),
            text: text.clone(),
            attachments,
            reply_to: reply_to.map(|at| message_id(number, self.messages[at].seq).into()),
            ..Default::default()
        };
        let event = wire::Event {
            conversation_id: Some(conversation(number).into()),
            actor_id: Some(user(sender).into()),
            stamped_at_ms: at,
            body: Some(wire::event::Body::Send(send)),
            ..Default::default()
        };
        let (seq, entry) = self.entry(number, at, sender, wire::entry::Content::Event(event.encode_to_vec().into()));
        let mine = self.passed(number, sender, seq, seq, at);
        self.record(at, wire::TimelineRecord { entries: vec![entry], cursor_moves: vec![mine], ..Default::default() });
        self.acts.push((at, sender, "sent"));
        let recipients = members.iter().filter(|member| **member != sender);
        let recipients = recipients.map(|user| Recipient { user: *user, delivered_at: None, seen_at: None }).collect();
        let kind = if is_media { "media" } else { "text" };
        let (conversation_, edited_at, deleted_at) = (number, None, None);
        self.messages.push(Message {
            conversation: conversation_,
            seq,
            sender,
            at,
            kind,
            text,
            edited_at,
            deleted_at,
            reply_to,
            recipients,
        });
        self.tell(number, seq, at, &members);
    }

    fn tell(&mut self, number: usize, seq: u64, at: i64, members: &[usize]) {
        let offset = self.inbox.len() as u64;
        let reference = wire::EntryReference {
            conversation_id: Some(conversation(number).into()),
            seq,
            message_id: Some(message_id(number, seq).into()),
        };
        let item = wire::InboxItem {
            user_ids: pack_user_ids(members.iter().map(|member| user(*member))),
            offsets: vec![offset + 1; members.len()],
            reference: Some(wire::inbox_item::Reference::Entry(reference)),
        };
        let source = Some(wire::Source { partition: 0, offset });
        self.inbox.push(wire::InboxRecord { source, at_ms: at, items: vec![item], events_source: source });
        self.updates.extend(members.iter().map(|member| (at, *member)));
    }

    /// Moves a member's cursors, and notes what they pass.
    fn passed(&mut self, number: usize, reader: usize, delivered: u64, seen: u64, at: i64) -> wire::CursorMove {
        let members = &mut self.conversations[number].members;
        let member = members.iter_mut().find(|member| member.user == reader).unwrap();
        member.seen = member.seen.max(seen);
        member.delivered = member.delivered.max(delivered).max(member.seen);
        let member = member.clone();
        let messages = self.messages.iter_mut().filter(|message| message.conversation == number);
        for message in messages.filter(|message| message.seq > member.joined_seq) {
            for recipient in message.recipients.iter_mut().filter(|recipient| recipient.user == reader) {
                if message.seq <= member.delivered {
                    recipient.delivered_at.get_or_insert(at);
                }
                if message.seq <= member.seen {
                    recipient.seen_at.get_or_insert(at);
                }
            }
        }
        self.acts.push((at, reader, "read"));
        wire::CursorMove {
            conversation_id: Some(conversation(number).into()),
            user_id: Some(user(reader).into()),
            delivered_seq: member.delivered,
            seen_seq: member.seen,
        }
    }

    fn read(&mut self, at: i64) {
        let number = self.below(self.conversations.len() as u64) as usize;
        let Conversation { members, last_seq, .. } = self.conversations[number].clone();
        if members.is_empty() {
            return;
        }
        let reader = members[self.below(members.len() as u64) as usize].user;
        let delivered = last_seq - self.below(3).min(last_seq - 1);
        let seen = if self.below(3) == 0 { 0 } else { delivered.saturating_sub(self.below(4)) };
        let moved = self.passed(number, reader, delivered, seen, at);
        self.record(at, wire::TimelineRecord { cursor_moves: vec![moved], ..Default::default() });
    }

    fn change(&mut self, at: i64) {
        let standing: Vec<usize> =
            (0..self.messages.len()).filter(|place| self.messages[*place].deleted_at.is_none()).collect();
        if standing.is_empty() {
            return;
        }
        let place = self.pick(&standing);
        let is_edit = self.below(3) > 0;
        let message = &mut self.messages[place];
        let mut change = wire::Change {
            conversation_id: Some(conversation(message.conversation).into()),
            seq: message.seq,
            message_id: Some(message_id(message.conversation, message.seq).into()),
            sender_id: Some(user(message.sender).into()),
            sent_at_ms: message.at,
            by: Some(user(message.sender).into()),
            ..Default::default()
        };
        if is_edit {
            message.text = format!("edited at {at}");
            message.edited_at = Some(at);
            change.text.clone_from(&message.text);
            change.edited_at_ms = at;
        } else {
            message.text = String::new();
            (message.edited_at, message.deleted_at) = (None, Some(at));
            change.deleted_at_ms = at;
        }
        self.record(at, wire::TimelineRecord { change: Some(change), ..Default::default() });
    }

    fn end_role(&mut self, number: usize, who: usize, at: i64) -> Held {
        let held =
            self.roles.iter_mut().find(|held| held.conversation == number && held.user == who && held.until.is_none());
        let held = held.unwrap();
        held.until = Some(at);
        held.clone()
    }

    fn move_member(&mut self, at: i64) {
        let number = 3 + self.below(6) as usize;
        let inside: Vec<usize> = self.conversations[number].members.iter().map(|member| member.user).collect();
        let outside: Vec<usize> = (0..USERS).filter(|user| !inside.contains(user)).collect();
        let what = self.below(4);
        let about = |action: MembershipAction, who: usize, role: Role| wire::Membership {
            action: action.into(),
            user_id: Some(user(who).into()),
            role: role.into(),
            ..Default::default()
        };
        if what < 2 && !outside.is_empty() {
            let (who, by) = (self.pick(&outside), inside.first().copied().unwrap_or(0));
            let seq = self.membership(number, at, by, about(MembershipAction::Added, who, Role::Member));
            self.conversations[number].members.push(Member { user: who, joined_seq: seq, delivered: seq, seen: seq });
            self.roles.push(Held {
                conversation: number,
                user: who,
                role: "member",
                since: at,
                until: None,
                joined: at,
            });
        } else if what == 2 && inside.len() > 2 {
            let who = self.pick(&inside);
            let action = if self.below(2) == 0 { MembershipAction::Left } else { MembershipAction::Removed };
            self.membership(number, at, who, about(action, who, Role::Unspecified));
            self.conversations[number].members.retain(|member| member.user != who);
            self.end_role(number, who, at);
        } else if !inside.is_empty() {
            let who = self.pick(&inside);
            self.membership(number, at, who, about(MembershipAction::Role, who, Role::Admin));
            let joined = self.end_role(number, who, at).joined;
            self.roles.push(Held { conversation: number, user: who, role: "admin", since: at, until: None, joined });
            let title = format!("renamed {at}");
            self.conversations[number].title.clone_from(&title);
            let renamed = wire::Membership { action: MembershipAction::Renamed.into(), title, ..Default::default() };
            self.membership(number, at, who, renamed);
        }
    }

    fn signal(&mut self, at: i64, body: Option<signal::Body>) {
        let heartbeats = wire::Signal { body: Some(signal::Body::Heartbeats(vec![0; 24].into())) };
        let signals = [heartbeats].into_iter().chain(body.map(|body| wire::Signal { body: Some(body) })).collect();
        self.signals.push(wire::SignalRecord { edge_id: 7, edge_run: self.edge_run, stamped_at_ms: at, signals });
    }

    fn connect(&mut self, at: i64) {
        let who = self.below(USERS as u64) as usize;
        let user_id = Some(user(who).into());
        let open = self.sessions.iter().position(|session| session.user == who && session.closed.is_none());
        if let Some(place) = open {
            let clean = self.below(2) == 0;
            let session = &mut self.sessions[place];
            (session.closed, session.by) = (Some(at), if clean { "client" } else { "connection" });
            let session_id = session.id;
            self.signal(at, Some(signal::Body::SessionClosed(wire::SessionClosed { user_id, session_id, clean })));
        } else {
            let id = self.sessions.len() as u64 + 100;
            self.sessions.push(Session { user: who, id, opened: at, closed: None, by: "" });
            self.acts.push((at, who, "opened"));
            let opened = wire::SessionOpened { user_id, session_id: id, device_id: format!("device {who}") };
            self.signal(at, Some(signal::Body::SessionOpened(opened)));
        }
    }

    /// The edge stops without a word; the first session of its next run shows that its sessions are gone.
    fn restart_edge(&mut self, at: i64) {
        self.edge_run += 1;
        for session in self.sessions.iter_mut().filter(|session| session.closed.is_none()) {
            (session.closed, session.by) = (Some(at), "edge");
        }
        self.connect(at);
    }

    /// Puts everything into the archive, half of it twice.
    pub(crate) async fn insert(&self, archive: &dyn Archive) {
        for (partition, halves) in [(0, 0), (1, 1)] {
            let skipped = |length: usize| length / 2 * halves;
            let mut rows = RowSet::default();
            self.timeline.iter().skip(skipped(self.timeline.len())).for_each(|record| rows.push_timeline(record));
            self.inbox.iter().skip(skipped(self.inbox.len())).for_each(|record| rows.push_inbox(record));
            for (offset, record) in (0..).zip(&self.signals).skip(skipped(self.signals.len())) {
                rows.push_signals(record, 0, offset);
            }
            let ranges = vec![range(Topic::Timeline, partition, 0, self.timeline.len() as u64)];
            archive.insert(Arc::new(Batch { ranges, rows: rows.take() })).await.unwrap();
        }
    }
}

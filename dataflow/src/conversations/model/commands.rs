//! What each command does to the maps.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    limits,
    wire::{self, ConversationKind, MembershipAction, Role, event::Body},
};

use super::{Conversation, Effect, FirstSend, Member, Model, Moment};
use crate::conversations::refusals::{self, Refusal};

impl Model {
    pub(super) fn perform(&mut self, event: &wire::Event, value: &Bytes, moment: Moment) -> Result<Effect, Refusal> {
        let body = event.body.as_ref().expect("an event without a body does nothing");
        if let Body::Receipts(receipts) = body {
            for receipt in &receipts.receipts {
                self.receipt(receipt);
            }
            return Ok(Effect::Receipts);
        }
        let (Some(id), Some(actor)) = (event.conversation_id, event.actor_id) else {
            return Err(refusals::NO_SUBJECT);
        };
        let (id, actor) = (ConversationId::from(id), UserId::from(actor));
        if let Body::CreateConversation(create) = body {
            return self.create(id, actor, create, moment);
        }
        let conversation = self.conversations.get(&id).filter(|conversation| !conversation.deleted);
        let conversation = conversation.ok_or(refusals::NOT_FOUND)?;
        let is_erasure = matches!(body, Body::DeleteMessage(delete) if delete.erasure);
        let who_left = Member { role: Role::Member, joined_seq: 0, delivered: 0, seen: 0 };
        let own = conversation.members.get(&actor).or_else(|| is_erasure.then_some(&who_left));
        let own = own.ok_or(refusals::NOT_A_MEMBER)?.clone();
        match body {
            Body::Send(send) => self.send(id, actor, send, value, moment),
            Body::EditMessage(edit) => {
                let target = edit.target.clone().ok_or(refusals::NO_TARGET)?;
                let sender = sender_of(&target)?;
                if sender != actor {
                    return Err(refusals::NOT_THE_SENDER);
                }
                self.check_target(id, &target, moment)?;
                Ok(Effect::Changed(wire::Change {
                    conversation_id: Some(id.into()),
                    seq: target.seq,
                    message_id: target.message_id,
                    sender_id: target.sender_id,
                    sent_at_ms: target.sent_at_ms,
                    event: target.event,
                    text: edit.text.clone(),
                    edited_at_ms: moment.at_ms,
                    deleted_at_ms: 0,
                    by: Some(actor.into()),
                }))
            }
            Body::DeleteMessage(delete) => {
                let target = delete.target.clone().ok_or(refusals::NO_TARGET)?;
                let sender = sender_of(&target)?;
                if sender != actor && own.role == Role::Member {
                    return Err(refusals::MAY_NOT_DELETE);
                }
                self.check_target(id, &target, moment)?;
                self.deletions.insert((id, target.seq), moment.at_ms);
                Ok(Effect::Changed(wire::Change {
                    conversation_id: Some(id.into()),
                    seq: target.seq,
                    message_id: target.message_id,
                    sender_id: target.sender_id,
                    sent_at_ms: target.sent_at_ms,
                    event: Bytes::new(),
                    text: String::new(),
                    edited_at_ms: 0,
                    deleted_at_ms: moment.at_ms,
                    by: Some(actor.into()),
                }))
            }
            _ if conversation.kind == ConversationKind::Direct => Err(refusals::DIRECT),
            Body::PutMember(put) => self.put(id, actor, &own, *put, moment),
            Body::RemoveMember(remove) => self.remove(id, actor, &own, *remove, moment),
            Body::RenameConversation(rename) => {
                if own.role == Role::Member {
                    return Err(refusals::NOT_A_MANAGER);
                }
                check_title(&rename.title)?;
                self.conversation(id).title.clone_from(&rename.title);
                let renamed = wire::Membership {
                    action: MembershipAction::Renamed.into(),
                    by: Some(actor.into()),
                    title: rename.title.clone(),
                    ..Default::default()
                };
                Ok(self.number(id, actor, vec![renamed], moment))
            }
            Body::DeleteConversation(_) => {
                if own.role != Role::Owner {
                    return Err(refusals::NOT_THE_OWNER);
                }
                let conversation = self.conversation(id);
                conversation.deleted = true;
                conversation.members.clear();
                Ok(Effect::Grouped(Vec::new()))
            }
            Body::Receipts(_) | Body::CreateConversation(_) => unreachable!("done above"),
        }
    }

    fn conversation(&mut self, id: ConversationId) -> &mut Conversation {
        self.conversations.get_mut(&id).expect("looked up before")
    }

    fn receipt(&mut self, receipt: &wire::Receipt) {
        let (Some(id), Some(user)) = (receipt.conversation_id, receipt.user_id) else { return };
        let Some(conversation) = self.conversations.get_mut(&id.into()) else { return };
        let last_seq = conversation.last_seq;
        let Some(member) = conversation.members.get_mut(&user.into()) else { return };
        member.seen = member.seen.max(receipt.seen_seq.min(last_seq));
        member.delivered = member.delivered.max(receipt.delivered_seq.min(last_seq)).max(member.seen);
    }

    fn create(
        &mut self,
        id: ConversationId,
        actor: UserId,
        create: &wire::CreateConversation,
        moment: Moment,
    ) -> Result<Effect, Refusal> {
        let mut others: BTreeSet<UserId> = create.member_ids.iter().map(|id| (*id).into()).collect();
        others.remove(&actor);
        let kind = create.kind();
        match kind {
            ConversationKind::Unspecified => return Err(refusals::UNKNOWN_KIND),
            ConversationKind::Direct => {
                if others.len() != 1 {
                    return Err(refusals::NOT_TWO);
                }
                if others.iter().all(|other| ConversationId::direct(*other, actor) != id) {
                    return Err(refusals::WRONG_DIRECT_ID);
                }
                if let Some(conversation) = self.conversations.get(&id) {
                    assert_eq!(conversation.kind, ConversationKind::Direct, "ids of direct chats are hashes");
                    return Ok(Effect::Stands);
                }
            }
            ConversationKind::Group => {
                check_title(&create.title)?;
                if self.conversations.contains_key(&id) {
                    return Err(refusals::ALREADY_EXISTS);
                }
                if others.len() + 1 > self.group_members_max {
                    return Err(refusals::FULL);
                }
            }
        }
        let is_group = kind == ConversationKind::Group;
        let title = if is_group { create.title.clone() } else { String::new() };
        // Who is added to a group has that to read; in a new direct chat nobody has anything to read.
        let seen = if is_group { 0 } else { 1 };
        let member = |role| Member { role, joined_seq: 1, delivered: seen, seen };
        let mut members: std::collections::BTreeMap<_, _> =
            others.iter().map(|user| (*user, member(Role::Member))).collect();
        members.insert(actor, member(if is_group { Role::Owner } else { Role::Member }));
        let conversation = Conversation {
            kind,
            title: title.clone(),
            last_seq: 0,
            created_at_ms: moment.at_ms,
            deleted: false,
            members,
        };
        self.conversations.insert(id, conversation);
        let mut member_ids = vec![wire::Id::from(actor)];
        member_ids.extend(others.iter().map(|user| wire::Id::from(*user)));
        let created = wire::Membership {
            action: MembershipAction::Created.into(),
            by: Some(actor.into()),
            title,
            member_ids,
            kind: kind.into(),
            ..Default::default()
        };
        Ok(self.number(id, actor, vec![created], moment))
    }

    fn send(
        &mut self,
        id: ConversationId,
        actor: UserId,
        send: &wire::Send,
        value: &Bytes,
        moment: Moment,
    ) -> Result<Effect, Refusal> {
        if send.client_message_id.is_empty() {
            return Err(refusals::NO_CLIENT_MESSAGE_ID);
        }
        let key = (id, actor, send.client_message_id.clone());
        if let Some(first) = self.sends.get(&key).filter(|first| within_window(first.at_ms, moment)) {
            return Ok(Effect::Duplicate(wire::Duplicate {
                conversation_id: Some(id.into()),
                sender_id: Some(actor.into()),
                seq: first.seq,
                message_id: Some(first.message_id.into()),
            }));
        }
        let message_id = match send.message_id {
            Some(message_id) => message_id.into(),
            None => MessageId::from_position(moment.stamped_at_ms, self.partition, moment.offset),
        };
        let conversation = self.conversation(id);
        conversation.last_seq += 1;
        let seq = conversation.last_seq;
        let sender = conversation.members.get_mut(&actor).expect("checked before");
        (sender.delivered, sender.seen) = (seq, seq);
        self.sends.insert(key, FirstSend { seq, message_id, at_ms: moment.at_ms });
        Ok(Effect::Sent(wire::Entry {
            conversation_id: Some(id.into()),
            seq,
            message_id: Some(message_id.into()),
            sender_id: Some(actor.into()),
            sent_at_ms: moment.at_ms,
            content: Some(wire::entry::Content::Event(value.clone())),
        }))
    }

    fn check_target(&self, id: ConversationId, target: &wire::Target, moment: Moment) -> Result<(), Refusal> {
        let deleted = self.deletions.get(&(id, target.seq)).is_some_and(|at_ms| within_window(*at_ms, moment));
        if deleted || !(1..=self.conversations[&id].last_seq).contains(&target.seq) {
            return Err(refusals::NO_SUCH_MESSAGE);
        }
        Ok(())
    }

    fn put(
        &mut self,
        id: ConversationId,
        actor: UserId,
        own: &Member,
        put: wire::PutMember,
        moment: Moment,
    ) -> Result<Effect, Refusal> {
        if own.role == Role::Member {
            return Err(refusals::NOT_A_MANAGER);
        }
        let user = UserId::from(put.user_id.ok_or(refusals::NO_USER)?);
        let asked = Role::try_from(put.role).map_err(|_| refusals::UNKNOWN_ROLE)?;
        let is_owner = own.role == Role::Owner;
        let group_members_max = self.group_members_max;
        let conversation = self.conversation(id);
        let mut entries = Vec::new();
        let about = |action: MembershipAction, user: UserId, role: Role| wire::Membership {
            action: action.into(),
            user_id: Some(user.into()),
            by: Some(actor.into()),
            role: role.into(),
            ..Default::default()
        };
        match conversation.members.get_mut(&user) {
            Some(present) => {
                if asked == Role::Unspecified || asked == present.role {
                    return Ok(Effect::Stands);
                }
                if !is_owner {
                    return Err(refusals::NOT_THE_OWNER);
                }
                if user == actor {
                    return Err(refusals::LAST_OWNER);
                }
                present.role = asked;
                entries.push(about(MembershipAction::Role, user, asked));
            }
            None => {
                let role = if asked == Role::Unspecified { Role::Member } else { asked };
                if role != Role::Member && !is_owner {
                    return Err(refusals::NOT_THE_OWNER);
                }
                if conversation.members.len() >= group_members_max {
                    return Err(refusals::FULL);
                }
                let last_seq = conversation.last_seq;
                let joined = Member { role, joined_seq: last_seq + 1, delivered: last_seq, seen: last_seq };
                conversation.members.insert(user, joined);
                entries.push(about(MembershipAction::Added, user, role));
            }
        }
        if asked == Role::Owner {
            conversation.members.get_mut(&actor).expect("checked before").role = Role::Admin;
            entries.push(about(MembershipAction::Role, actor, Role::Admin));
        }
        Ok(self.number(id, actor, entries, moment))
    }

    fn remove(
        &mut self,
        id: ConversationId,
        actor: UserId,
        own: &Member,
        remove: wire::RemoveMember,
        moment: Moment,
    ) -> Result<Effect, Refusal> {
        let user = UserId::from(remove.user_id.ok_or(refusals::NO_USER)?);
        let about = |action: MembershipAction, user: UserId, role: Role| wire::Membership {
            action: action.into(),
            user_id: Some(user.into()),
            by: Some(actor.into()),
            role: role.into(),
            ..Default::default()
        };
        let conversation = self.conversation(id);
        let mut entries = Vec::new();
        if user == actor {
            conversation.members.remove(&user);
            entries.push(about(MembershipAction::Left, user, Role::Unspecified));
            if own.role == Role::Owner {
                let longest = |role: Role| {
                    let of_role = conversation.members.iter().filter(|(_, member)| member.role == role);
                    of_role.min_by_key(|(user, member)| (member.joined_seq, **user)).map(|(user, _)| *user)
                };
                if let Some(heir) = longest(Role::Admin).or(longest(Role::Member)) {
                    conversation.members.get_mut(&heir).expect("just found").role = Role::Owner;
                    entries.push(about(MembershipAction::Role, heir, Role::Owner));
                }
            }
        } else {
            if own.role == Role::Member {
                return Err(refusals::NOT_A_MANAGER);
            }
            let target = conversation.members.get(&user).ok_or(refusals::TARGET_NOT_A_MEMBER)?;
            if own.role == Role::Admin && target.role != Role::Member {
                return Err(refusals::NOT_THE_OWNER);
            }
            conversation.members.remove(&user);
            entries.push(about(MembershipAction::Removed, user, Role::Unspecified));
        }
        if conversation.members.is_empty() {
            conversation.deleted = true;
        }
        Ok(self.number(id, actor, entries, moment))
    }

    /// Numbers the entries and moves the actor's cursors to the last.
    fn number(&mut self, id: ConversationId, actor: UserId, entries: Vec<wire::Membership>, moment: Moment) -> Effect {
        let partition = self.partition;
        let conversation = self.conversation(id);
        let mut numbered = Vec::new();
        for (n, membership) in entries.into_iter().enumerate() {
            conversation.last_seq += 1;
            // The second entry of an event has bit 57 of the offset set in its message id.
            let offset = moment.offset + if n == 0 { 0 } else { 1 << 57 };
            numbered.push(wire::Entry {
                conversation_id: Some(id.into()),
                seq: conversation.last_seq,
                message_id: Some(MessageId::from_position(moment.stamped_at_ms, partition, offset).into()),
                sender_id: Some(actor.into()),
                sent_at_ms: moment.at_ms,
                content: Some(wire::entry::Content::Membership(membership)),
            });
        }
        let last_seq = conversation.last_seq;
        if let Some(member) = conversation.members.get_mut(&actor) {
            (member.delivered, member.seen) = (last_seq, last_seq);
        }
        Effect::Grouped(numbered)
    }
}

fn within_window(then_ms: i64, moment: Moment) -> bool {
    i128::from(moment.at_ms) - i128::from(then_ms) <= i128::try_from(limits::DEDUPE_WINDOW.as_millis()).expect("a day")
}

fn sender_of(target: &wire::Target) -> Result<UserId, Refusal> {
    match (target.message_id, target.sender_id) {
        (Some(_), Some(sender)) => Ok(sender.into()),
        _ => Err(refusals::NO_TARGET),
    }
}

fn check_title(title: &str) -> Result<(), Refusal> {
    if title.chars().count() > limits::TITLE_CHARS_MAX { Err(refusals::TITLE_TOO_LONG) } else { Ok(()) }
}

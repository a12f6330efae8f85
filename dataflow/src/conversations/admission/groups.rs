//! Conversations: created, joined, left, renamed, deleted. Every change is a numbered entry.

use tidings_schemas::{
    ids::{ConversationId, UserId},
    limits,
    wire::{self, ConversationKind, MembershipAction, Role},
};

use super::{Admission, Moment, Place, role};
use crate::conversations::{
    decision::{Outcome, Regrouped, Standing},
    fanout::{Changes, Slot},
    refusals::{self, Refusal},
    registry::{Conversation, Member},
};

impl Admission {
    pub(super) fn create(
        &mut self,
        moment: &Moment,
        id: ConversationId,
        actor: UserId,
        create: &wire::CreateConversation,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        let mut others: Vec<UserId> = create.member_ids.iter().map(|id| UserId::from(*id)).collect();
        others.sort_unstable();
        others.dedup();
        others.retain(|user| *user != actor);
        let kind = ConversationKind::try_from(create.kind).unwrap_or_default();
        let title = match kind {
            ConversationKind::Unspecified => return Err(refusals::UNKNOWN_KIND),
            ConversationKind::Direct => {
                let [other] = others[..] else { return Err(refusals::NOT_TWO) };
                if id != ConversationId::direct(actor, other) {
                    return Err(refusals::WRONG_DIRECT_ID);
                }
                ""
            }
            ConversationKind::Group => checked_title(&create.title)?,
        };
        let direct = kind == ConversationKind::Direct;
        if let Some(slot) = self.registry.find(id) {
            return match self.registry.get(slot).member(actor) {
                Some(member) if direct && self.registry.get(slot).direct => Ok(self.standing(slot, *member)),
                _ => Err(refusals::ALREADY_EXISTS),
            };
        }
        if !direct && others.len() + 1 > self.group_members_max {
            return Err(refusals::FULL);
        }
        let creator_role = if direct { Role::Member } else { Role::Owner };
        let joins = |user: &UserId| if direct { Member::peer(*user) } else { Member::joined(*user, Role::Member, 1) };
        let mut members: Vec<Member> = others.iter().map(joins).collect();
        members.push(Member::joined(actor, creator_role, 1));
        let slot = self.registry.add(Conversation::new(id, direct, title.into(), moment.at_ms, members));
        for member in self.registry.get(slot).members.iter() {
            self.came(slot, direct, member, moment.time, changes);
        }
        let mut regrouping = Regrouping::new(actor);
        regrouping.entries.push(wire::Membership {
            action: MembershipAction::Created.into(),
            by: Some(actor.into()),
            title: title.to_owned(),
            member_ids: std::iter::once(actor).chain(others.iter().copied()).map(wire::Id::from).collect(),
            kind: kind.into(),
            ..Default::default()
        });
        regrouping.added = self.registry.get(slot).members.iter().map(|member| member.user).collect();
        regrouping.touched.clone_from(&regrouping.added);
        Ok(self.regroup(moment, slot, regrouping, changes))
    }

    pub(super) fn put_member(
        &mut self,
        moment: &Moment,
        place: &Place,
        put: wire::PutMember,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        let found = self.registry.get(place.slot);
        let actor = place.actor;
        if found.direct {
            return Err(refusals::DIRECT);
        }
        if !actor.manages() {
            return Err(refusals::NOT_A_MANAGER);
        }
        let user = UserId::from(put.user_id.ok_or(refusals::NO_USER)?);
        let asked_role = role(put.role)?;
        let present = found.member(user).copied();
        let new_role = match (asked_role, present) {
            (None, Some(_)) => return Ok(self.standing(place.slot, actor)),
            (Some(role), Some(member)) if role == member.role => return Ok(self.standing(place.slot, actor)),
            (None, None) => Role::Member,
            (Some(role), _) => role,
        };
        if actor.role != Role::Owner && (present.is_some() || new_role != Role::Member) {
            return Err(refusals::NOT_THE_OWNER);
        }
        if present.is_none() && found.members.len() >= self.group_members_max {
            return Err(refusals::FULL);
        }
        if user == actor.user {
            // Only the owner comes here: the role is another than the one held, which an admin may not ask for.
            return Err(refusals::LAST_OWNER);
        }
        let mut regrouping = Regrouping::new(actor.user);
        let last_seq = found.last_seq;
        if present.is_some() {
            regrouping.give_role(user, new_role);
        } else {
            let member = Member::joined(user, new_role, last_seq + 1);
            self.came(place.slot, false, &member, moment.time, changes);
            let members = self.registry.change(place.slot).members.list();
            let position = members.partition_point(|other| other.user < user);
            members.insert(position, member);
            regrouping.about(MembershipAction::Added, user, new_role);
            regrouping.added.push(user);
        }
        if new_role == Role::Owner {
            regrouping.give_role(actor.user, Role::Admin);
        }
        Ok(self.regroup(moment, place.slot, regrouping, changes))
    }

    pub(super) fn remove_member(
        &mut self,
        moment: &Moment,
        place: &Place,
        remove: wire::RemoveMember,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        let found = self.registry.get(place.slot);
        let actor = place.actor;
        if found.direct {
            return Err(refusals::DIRECT);
        }
        let user = UserId::from(remove.user_id.ok_or(refusals::NO_USER)?);
        let mut regrouping = Regrouping::new(actor.user);
        if user == actor.user {
            regrouping.about(MembershipAction::Left, user, Role::Unspecified);
            if actor.role == Role::Owner
                && let Some(heir) = heir(found, user)
            {
                regrouping.give_role(heir, Role::Owner);
            }
        } else {
            if !actor.manages() {
                return Err(refusals::NOT_A_MANAGER);
            }
            let target = found.member(user).ok_or(refusals::TARGET_NOT_A_MEMBER)?;
            if actor.role != Role::Owner && target.role != Role::Member {
                return Err(refusals::NOT_THE_OWNER);
            }
            regrouping.about(MembershipAction::Removed, user, Role::Unspecified);
        }
        let conversation = self.registry.change(place.slot);
        if let Ok(position) = conversation.position(user) {
            let member = conversation.members.list().remove(position);
            conversation.deleted = conversation.members.is_empty();
            self.went(place.slot, &member, moment.time, changes);
            regrouping.gone.push(member);
        }
        Ok(self.regroup(moment, place.slot, regrouping, changes))
    }

    pub(super) fn rename(
        &mut self,
        moment: &Moment,
        place: &Place,
        rename: &wire::RenameConversation,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        if self.registry.get(place.slot).direct {
            return Err(refusals::DIRECT);
        }
        if !place.actor.manages() {
            return Err(refusals::NOT_A_MANAGER);
        }
        let title = checked_title(&rename.title)?;
        self.registry.change(place.slot).title = title.into();
        let mut regrouping = Regrouping::new(place.actor.user);
        regrouping.entries.push(wire::Membership {
            action: MembershipAction::Renamed.into(),
            by: Some(place.actor.user.into()),
            title: title.to_owned(),
            ..Default::default()
        });
        Ok(self.regroup(moment, place.slot, regrouping, changes))
    }

    pub(super) fn delete_conversation(
        &mut self,
        moment: &Moment,
        place: &Place,
        changes: &mut Changes,
    ) -> Result<Outcome, Refusal> {
        if self.registry.get(place.slot).direct {
            return Err(refusals::DIRECT);
        }
        if place.actor.role != Role::Owner {
            return Err(refusals::NOT_THE_OWNER);
        }
        let conversation = self.registry.change(place.slot);
        conversation.deleted = true;
        let mut regrouping = Regrouping::new(place.actor.user);
        regrouping.gone = std::mem::take(conversation.members.list());
        regrouping.touched = regrouping.gone.iter().map(|member| member.user).collect();
        for member in &regrouping.gone {
            self.went(place.slot, member, moment.time, changes);
        }
        Ok(self.regroup(moment, place.slot, regrouping, changes))
    }

    /// Nothing changes: tells the actor how the conversation stands.
    fn standing(&self, slot: Slot, actor: Member) -> Outcome {
        let found = self.registry.get(slot);
        let other = if found.direct { found.other(actor.user).copied() } else { None };
        Outcome::Stands(Box::new(Standing { slot, state: found.state(), actor, other }))
    }

    /// Numbers the entries, gives the roles, moves the actor's cursors, and gives out the whole.
    fn regroup(&mut self, moment: &Moment, slot: Slot, regrouping: Regrouping, changes: &mut Changes) -> Outcome {
        let Regrouping { actor, entries, roles, gone, added, mut touched } = regrouping;
        let conversation = self.registry.change(slot);
        for (user, role) in roles {
            if let Some(member) = conversation.member_mut(user) {
                member.role = role;
            }
        }
        let entries: Vec<wire::Entry> = entries
            .into_iter()
            .enumerate()
            .map(|(number, membership)| {
                conversation.last_seq += 1;
                wire::Entry {
                    conversation_id: Some(conversation.id.into()),
                    seq: conversation.last_seq,
                    message_id: Some(moment.message_id(number).into()),
                    sender_id: Some(actor.into()),
                    sent_at_ms: moment.at_ms,
                    content: Some(wire::entry::Content::Membership(membership)),
                }
            })
            .collect();
        let last_seq = conversation.last_seq;
        let actor_moved = !entries.is_empty()
            && self.move_cursors(slot, actor, (last_seq, last_seq), moment.time, changes) != (false, false);
        touched.sort_unstable();
        touched.dedup();
        changes.asks.push((slot, moment.time));
        let conversation = self.registry.get(slot);
        Outcome::Regrouped(Box::new(Regrouped {
            conversation: conversation.id,
            slot,
            actor,
            entries,
            state: conversation.state(),
            members: conversation.members.to_vec(),
            gone,
            added,
            touched,
            actor_moved,
        }))
    }
}

/// What an event does to a conversation, until it is numbered.
struct Regrouping {
    actor: UserId,
    entries: Vec<wire::Membership>,
    /// Roles to give.
    roles: Vec<(UserId, Role)>,
    gone: Vec<Member>,
    added: Vec<UserId>,
    touched: Vec<UserId>,
}

impl Regrouping {
    fn new(actor: UserId) -> Self {
        Self { actor, entries: Vec::new(), roles: Vec::new(), gone: Vec::new(), added: Vec::new(), touched: Vec::new() }
    }

    /// An entry about one member.
    fn about(&mut self, action: MembershipAction, user: UserId, role: Role) {
        self.touched.push(user);
        self.entries.push(wire::Membership {
            action: action.into(),
            user_id: Some(user.into()),
            by: Some(self.actor.into()),
            role: role.into(),
            ..Default::default()
        });
    }

    fn give_role(&mut self, user: UserId, role: Role) {
        self.about(MembershipAction::Role, user, role);
        self.roles.push((user, role));
    }
}

/// Whom ownership passes to: the longest-standing admin, else member.
fn heir(conversation: &Conversation, leaver: UserId) -> Option<UserId> {
    let others = conversation.members.iter().filter(|member| member.user != leaver);
    others.min_by_key(|member| (member.role != Role::Admin, member.joined_seq, member.user)).map(|member| member.user)
}

fn checked_title(title: &str) -> Result<&str, Refusal> {
    if title.chars().count() > limits::TITLE_CHARS_MAX { Err(refusals::TITLE_TOO_LONG) } else { Ok(title) }
}

//! Where a user has written and is: what is said on the log when the user is erased follows from it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use prost::Message as _;
use tidings_ingest::Log;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    topics::Topic,
    wire::{self, MembershipAction, event::Body},
};

use super::rules::Rules;
use crate::scan::{Scan, ScanError};

/// Of one user.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    /// Messages that were not deleted: each as a deletion names it, without the event.
    pub messages: HashMap<MessageId, (ConversationId, wire::Target)>,
    /// Groups that the user is in, or may be.
    pub groups: HashSet<ConversationId>,
    /// Messages, deleted or not.
    pub written: u64,
}

/// The traces of these users in the timelines, and in the events that no stage has seen yet.
///
/// # Errors
/// The log cannot be read.
pub fn traces(log: &dyn Log, users: &HashSet<UserId>, rules: &Rules) -> Result<HashMap<UserId, Traces>, ScanError> {
    let mut all: HashMap<UserId, Traces> = users.iter().map(|user| (*user, Traces::default())).collect();
    for partition in 0..log.partitions(Topic::Timeline) {
        let mut derived = 0;
        for record in Scan::new(log, Topic::Timeline, partition, 0..u64::MAX)? {
            let Ok(decoded) = wire::TimelineRecord::decode(record?.value) else { continue };
            derived = decoded.source.map_or(derived, |source| derived.max(source.offset + 1));
            for entry in decoded.entries {
                take_entry(&mut all, rules, entry);
            }
            if let Some(state) = decoded.conversation.filter(|state| state.deleted)
                && let Some(conversation) = state.conversation_id.map(ConversationId::from)
            {
                all.values_mut().for_each(|traces| _ = traces.groups.remove(&conversation));
            }
        }
        for record in Scan::new(log, Topic::Events, partition, derived..u64::MAX)? {
            let Ok(event) = wire::Event::decode(record?.value) else { continue };
            take_event(&mut all, event);
        }
    }
    Ok(all)
}

fn take_entry(all: &mut HashMap<UserId, Traces>, rules: &Rules, entry: wire::Entry) {
    let Some(conversation) = entry.conversation_id.map(ConversationId::from) else { return };
    match entry.content {
        Some(wire::entry::Content::Event(_)) => {
            let sender = entry.sender_id.map(UserId::from);
            let Some(traces) = sender.and_then(|sender| all.get_mut(&sender)) else { return };
            traces.written += 1;
            let Some(message) = entry.message_id.map(MessageId::from) else { return };
            if rules.deleted.contains(&message) {
                return;
            }
            let target = wire::Target {
                message_id: entry.message_id,
                seq: entry.seq,
                sender_id: entry.sender_id,
                event: Bytes::new(),
                sent_at_ms: entry.sent_at_ms,
            };
            traces.messages.insert(message, (conversation, target));
        }
        Some(wire::entry::Content::Membership(membership)) => {
            let about = membership.user_id.or(membership.by).map(UserId::from);
            match membership.action() {
                MembershipAction::Created if membership.kind() == wire::ConversationKind::Group => {
                    came(all, conversation, &membership.member_ids);
                }
                MembershipAction::Added => came(all, conversation, membership.user_id.as_slice()),
                MembershipAction::Left | MembershipAction::Removed => {
                    if let Some(traces) = about.and_then(|user| all.get_mut(&user)) {
                        traces.groups.remove(&conversation);
                    }
                }
                _ => {}
            }
        }
        None => {}
    }
}

fn came(all: &mut HashMap<UserId, Traces>, conversation: ConversationId, users: &[wire::Id]) {
    for user in users.iter().copied().map(UserId::from) {
        if let Some(traces) = all.get_mut(&user) {
            traces.groups.insert(conversation);
        }
    }
}

/// What no stage has seen: who may be in a group by it, and what an attempt before this one has deleted.
fn take_event(all: &mut HashMap<UserId, Traces>, event: wire::Event) {
    let Some(conversation) = event.conversation_id.map(ConversationId::from) else { return };
    let actor = event.actor_id.map(UserId::from);
    match event.body {
        Some(Body::CreateConversation(create)) if create.kind() == wire::ConversationKind::Group => {
            came(all, conversation, &create.member_ids);
            came(all, conversation, event.actor_id.as_slice());
        }
        Some(Body::PutMember(put)) => came(all, conversation, put.user_id.as_slice()),
        Some(Body::RemoveMember(remove)) if remove.user_id == event.actor_id => {
            if let Some(traces) = actor.and_then(|actor| all.get_mut(&actor)) {
                traces.groups.remove(&conversation);
            }
        }
        Some(Body::DeleteMessage(delete)) => {
            let target = delete.target.unwrap_or_default();
            if let (Some(traces), Some(message)) = (actor.and_then(|actor| all.get_mut(&actor)), target.message_id) {
                traces.messages.remove(&MessageId::from(message));
            }
        }
        _ => {}
    }
}

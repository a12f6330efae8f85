//! What is said on the log when users are erased: their messages are deleted, they leave their groups (whose ownership passes
//! on as it does for anybody who leaves), their accounts end. So it is true for everybody, and stays true whenever
//! something is derived from the log anew.

use bytes::Bytes;
use prost::Message as _;
use tidings_ingest::{Log, NewRecord};
use tidings_replay::erasure::{Erasing, Rules, traces};
use tidings_schemas::{
    clock::Clock,
    ids::{ConversationId, UserId},
    topics::{Topic, conversation_partition},
    wire::{self, directory_record, event::Body},
};

use crate::replay::{exit::Failure, target::Target};

/// Records that are appended together.
const BATCH_RECORDS: usize = 500;

/// What was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Announced {
    /// Messages that were deleted.
    pub(super) messages_deleted: u64,
    /// Groups that were left.
    pub(super) groups_left: u64,
    /// Accounts that ended.
    pub(super) accounts_ended: u64,
}

/// Says it, of those of whom it was not said yet. The end of the account comes last: an attempt that was interrupted
/// before says all of it again, and what is said twice is refused.
pub(super) fn announce(
    target: &Target,
    named: &[Erasing],
    rules: &Rules,
    clock: &dyn Clock,
) -> Result<Announced, Failure> {
    let log = &*target.log;
    let users = named.iter().filter(|erasing| !erasing.is_erased).map(|erasing| erasing.user).collect();
    let traces = traces(log, &users, rules)?;
    let mut announced = Announced::default();
    let mut batch = Batch { target, records: Vec::new() };
    let stamped_at_ms = clock.now_ms();
    for (user, traces) in traces {
        let mut messages: Vec<_> = traces.messages.into_values().collect();
        messages.sort_unstable_by_key(|(conversation, target)| (*conversation, target.seq));
        for (conversation, target) in messages {
            let body = Body::DeleteMessage(wire::DeleteMessage { target: Some(target), erasure: true });
            batch.push(event(log, conversation, user, stamped_at_ms, body))?;
            announced.messages_deleted += 1;
        }
        for conversation in traces.groups {
            let body = Body::RemoveMember(wire::RemoveMember { user_id: Some(user.into()) });
            batch.push(event(log, conversation, user, stamped_at_ms, body))?;
            announced.groups_left += 1;
        }
    }
    batch.flush()?;
    for erasing in named.iter().filter(|erasing| !erasing.is_erased) {
        let body = directory_record::Body::EraseUser(wire::EraseUser { user_id: Some(erasing.user.into()) });
        let record = wire::DirectoryRecord { stamped_at_ms, body: Some(body) };
        batch.push(NewRecord {
            topic: Topic::Directory,
            partition: erasing.partition,
            // As of all records of that name, until the log is rewritten.
            key: [erasing.username.as_bytes(), b"\0erased"].concat().into(),
            value: record.encode_to_vec().into(),
        })?;
        announced.accounts_ended += 1;
    }
    batch.flush()?;
    Ok(announced)
}

fn event(log: &dyn Log, conversation: ConversationId, actor: UserId, stamped_at_ms: i64, body: Body) -> NewRecord {
    let event = wire::Event {
        conversation_id: Some(conversation.into()),
        actor_id: Some(actor.into()),
        stamped_at_ms,
        origin: None,
        body: Some(body),
    };
    NewRecord {
        topic: Topic::Events,
        partition: conversation_partition(conversation, log.partitions(Topic::Events)),
        key: Bytes::copy_from_slice(&conversation.to_bytes()),
        value: event.encode_to_vec().into(),
    }
}

struct Batch<'a> {
    target: &'a Target,
    records: Vec<NewRecord>,
}

impl Batch<'_> {
    fn push(&mut self, record: NewRecord) -> Result<(), Failure> {
        self.records.push(record);
        if self.records.len() >= BATCH_RECORDS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.records.is_empty() {
            self.target.append(&self.records)?;
            self.records.clear();
        }
        Ok(())
    }
}

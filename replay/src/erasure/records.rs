//! A record without what is erased.

use bytes::Bytes;
use prost::Message;
use tidings_ingest::{Replacement, StoredRecord};
use tidings_schemas::{
    erasure::{emptied, emptied_event},
    ids::{MessageId, UserId},
    limits::STAMP_SKEW_MAX,
    topics::Topic,
    wire::{self, delivery_record, directory_record, event::Body, fanout_item, push_item, signal, verdict},
};

use super::rules::Rules;

impl Rules {
    /// The record's key and value without what is erased; `None`: there is nothing to be erased in it. Of a record that
    /// was given out by this there is nothing more to erase.
    pub fn replace(&self, topic: Topic, partition: u32, record: &StoredRecord) -> Replacement {
        let value = &record.value;
        let replaced = match topic {
            Topic::Events => self.event(value, partition, record),
            Topic::Timeline => self.in_message(value, |record: &mut wire::TimelineRecord| {
                let mut found = false;
                for entry in &mut record.entries {
                    found |= self.entry(entry);
                }
                record.change.as_mut().is_some_and(|change| self.change(change)) | found
            }),
            Topic::Fanout => self.in_message(value, |record: &mut wire::FanoutRecord| {
                record.items.iter_mut().fold(false, |found, item| {
                    found
                        | match &mut item.content {
                            Some(fanout_item::Content::Entry(entry)) => self.entry(entry),
                            Some(fanout_item::Content::Change(change)) => self.change(change),
                            _ => false,
                        }
                })
            }),
            Topic::Deliveries => self.in_message(value, |record| self.delivery(record)),
            Topic::Signals => self.in_message(value, |record| self.signals(record)),
            Topic::Directory => return self.directory(value, partition, record),
            // References only.
            Topic::Inbox | Topic::Notifications | Topic::Leases => None,
        };
        replaced.map(|value| (record.key.clone(), value))
    }

    fn in_message<M: Message + Default>(&self, value: &Bytes, change: impl FnOnce(&mut M) -> bool) -> Option<Bytes> {
        let mut message = M::decode(value.clone()).ok()?;
        if !change(&mut message) {
            return None;
        }
        let bytes = Bytes::from(message.encode_to_vec());
        (bytes != value).then_some(bytes)
    }

    fn event(&self, value: &Bytes, partition: u32, record: &StoredRecord) -> Option<Bytes> {
        self.in_message(value, |event: &mut wire::Event| {
            let is_theirs = event.actor_id.is_some_and(|actor| self.users.contains(&UserId::from(actor)));
            match &mut event.body {
                Some(Body::Send(send)) => {
                    let message = send.message_id.unwrap_or_else(|| {
                        let skew = i64::try_from(STAMP_SKEW_MAX.as_millis()).unwrap_or(i64::MAX);
                        let (earliest, latest) =
                            (record.timestamp_ms.saturating_sub(skew), record.timestamp_ms.saturating_add(skew));
                        // As the stage names it.
                        let at_ms = event.stamped_at_ms.clamp(earliest, latest);
                        MessageId::from_position(at_ms, partition, record.offset).into()
                    });
                    let is_gone = self.takes(None, Some(message)) || self.repeats.contains(&(partition, record.offset));
                    if is_theirs || is_gone {
                        *send = emptied(send);
                        return true;
                    }
                    false
                }
                Some(Body::EditMessage(edit)) => {
                    let target = edit.target.as_mut();
                    if is_theirs
                        || target.as_ref().is_some_and(|target| self.takes(target.sender_id, target.message_id))
                    {
                        edit.text.clear();
                        target.into_iter().for_each(|target| target.event = emptied_event(&target.event));
                        return true;
                    }
                    false
                }
                Some(Body::DeleteMessage(delete)) => {
                    let target = delete.target.as_mut();
                    if let Some(target) = target.filter(|target| self.takes(target.sender_id, target.message_id)) {
                        target.event = emptied_event(&target.event);
                        return true;
                    }
                    false
                }
                // Of a later version: nobody knows what is in it, and no stage has taken it in.
                None => is_theirs,
                Some(_) => false,
            }
        })
    }

    /// An accepted entry; tells whether there was something to erase.
    pub(super) fn entry(&self, entry: &mut wire::Entry) -> bool {
        let is_gone = self.takes(entry.sender_id, entry.message_id);
        match &mut entry.content {
            Some(wire::entry::Content::Event(event)) if is_gone => {
                *event = emptied_event(event);
                true
            }
            _ => false,
        }
    }

    /// An accepted edit or deletion; tells whether there was something to erase.
    pub(super) fn change(&self, change: &mut wire::Change) -> bool {
        if !self.takes(change.sender_id, change.message_id) {
            return false;
        }
        change.event = emptied_event(&change.event);
        change.text.clear();
        true
    }

    fn delivery(&self, record: &mut wire::DeliveryRecord) -> bool {
        match &mut record.body {
            Some(delivery_record::Body::Verdict(told)) => match &mut told.outcome {
                Some(verdict::Outcome::Entry(entry)) => self.entry(entry),
                Some(verdict::Outcome::Change(change)) => self.change(change),
                _ => false,
            },
            Some(delivery_record::Body::Push(push)) => push.items.iter_mut().fold(false, |found, item| {
                found
                    | match &mut item.content {
                        Some(push_item::Content::Entry(entry)) => self.entry(entry),
                        Some(push_item::Content::Change(change)) => self.change(change),
                        _ => false,
                    }
            }),
            _ => false,
        }
    }

    /// The names of devices.
    fn signals(&self, record: &mut wire::SignalRecord) -> bool {
        let mut found = false;
        for signal in &mut record.signals {
            if let Some(signal::Body::SessionOpened(opened)) = &mut signal.body
                && opened.user_id.is_some_and(|user| self.users.contains(&UserId::from(user)))
            {
                opened.device_id.clear();
                found = true;
            }
        }
        found
    }

    /// A user's records keep the user's id and no name, neither in the value nor in the key.
    fn directory(&self, value: &Bytes, partition: u32, record: &StoredRecord) -> Replacement {
        use directory_record::Body::{ChangePassword, EraseUser, RegisterUser, RevokeToken, RevokeTokens};
        let mut decoded = wire::DirectoryRecord::decode(value.clone()).ok()?;
        let is_theirs = |user: &Option<wire::Id>| user.is_some_and(|user| self.users.contains(&UserId::from(user)));
        let is_claimed = |name: &str| {
            let mut names = self.names.iter();
            names.any(|(of, erased, until)| *of == partition && erased == name && record.offset < *until)
        };
        let user = match &mut decoded.body {
            Some(RegisterUser(claim)) if is_theirs(&claim.user_id) || is_claimed(&claim.username) => {
                *claim = wire::RegisterUser { user_id: claim.user_id, ..Default::default() };
                claim.user_id
            }
            Some(ChangePassword(change)) if is_theirs(&change.user_id) => {
                change.password_hash.clear();
                change.user_id
            }
            Some(RevokeToken(revoke)) if is_theirs(&revoke.user_id) => revoke.user_id,
            Some(RevokeTokens(revoke)) if is_theirs(&revoke.user_id) => revoke.user_id,
            Some(EraseUser(erased)) if is_theirs(&erased.user_id) => erased.user_id,
            Some(_) | None => return None,
        };
        // Where the name was, there is none.
        let key = Bytes::from(format!("\0{}", UserId::from(user?)));
        let value = Bytes::from(decoded.encode_to_vec());
        (key != record.key || value != record.value).then_some((key, value))
    }
}

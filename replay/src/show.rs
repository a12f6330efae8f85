//! A record as text that a person can read: the decoded message, or why it cannot be decoded.

use std::fmt::Debug;

use prost::Message;
use tidings_ingest::StoredRecord;
use tidings_schemas::{topics::Topic, wire};

/// The record's value, decoded by its topic's schema.
pub fn value(topic: Topic, record: &StoredRecord) -> String {
    match topic {
        Topic::Events => decoded::<wire::Event>(record),
        Topic::Signals => decoded::<wire::SignalRecord>(record),
        Topic::Timeline => decoded::<wire::TimelineRecord>(record),
        Topic::Fanout => decoded::<wire::FanoutRecord>(record),
        Topic::Inbox => decoded::<wire::InboxRecord>(record),
        Topic::Deliveries => decoded::<wire::DeliveryRecord>(record),
        Topic::Notifications => decoded::<wire::NotificationRecord>(record),
        Topic::Directory => directory(record),
        Topic::Leases => decoded::<wire::LeaseRecord>(record),
    }
}

fn decoded<M: Message + Default + Debug>(record: &StoredRecord) -> String {
    match M::decode(record.value.clone()) {
        Ok(message) => format!("{message:?}"),
        Err(error) => format!("cannot be decoded: {error}"),
    }
}

/// Without the password's hash, which is nobody's to read.
fn directory(record: &StoredRecord) -> String {
    match wire::DirectoryRecord::decode(record.value.clone()) {
        Ok(mut message) => {
            if let Some(wire::directory_record::Body::RegisterUser(user)) = &mut message.body {
                user.password_hash.clear();
            }
            format!("{message:?}")
        }
        Err(error) => format!("cannot be decoded: {error}"),
    }
}

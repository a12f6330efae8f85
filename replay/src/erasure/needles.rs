//! What is searched for afterwards: the texts, names and hashes themselves, as bytes.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use tidings_ingest::Log;
use tidings_schemas::{
    ids::UserId,
    limits::{ERASURE_NEEDLE_BYTES, ERASURE_NEEDLES_MAX},
    topics::Topic,
    wire::{self, directory_record, event::Body},
};

use super::rules::Rules;
use crate::scan::{Scan, ScanError};

/// Bytes that must be nowhere.
#[derive(Debug, Clone, Default)]
pub struct Needles {
    /// Each at least `ERASURE_NEEDLE_BYTES` long, and cut at four times that.
    pub found: BTreeSet<Bytes>,
    /// Texts and names that are too short to tell whose they are.
    pub short: u64,
    /// Beyond `ERASURE_NEEDLES_MAX`.
    pub beyond: u64,
}

impl Needles {
    fn add(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if text.len() < *ERASURE_NEEDLE_BYTES.start() {
            self.short += 1;
        } else if self.found.len() >= ERASURE_NEEDLES_MAX {
            self.beyond += 1;
        } else {
            self.found.insert(Bytes::copy_from_slice(&text[..text.len().min(*ERASURE_NEEDLE_BYTES.end())]));
        }
    }

    fn send(&mut self, send: &wire::Send) {
        self.add(send.text.as_bytes());
        for attachment in &send.attachments {
            self.add(attachment.name.as_bytes());
        }
        if let Some(encrypted) = &send.encrypted {
            self.add(&encrypted.ciphertext);
        }
    }
}

/// What the log has of those users: names, hashes, and what they wrote. Their names come first, so that they are never
/// beyond the limit.
///
/// # Errors
/// The log cannot be read.
pub fn needles(log: &dyn Log, rules: &Rules) -> Result<Needles, ScanError> {
    let mut needles = Needles::default();
    let is_theirs = |user: Option<wire::Id>| user.is_some_and(|user| rules.users.contains(&UserId::from(user)));
    for partition in 0..log.partitions(Topic::Directory) {
        for record in Scan::new(log, Topic::Directory, partition, 0..u64::MAX)? {
            let Ok(decoded) = wire::DirectoryRecord::decode(record?.value) else { continue };
            match decoded.body {
                Some(directory_record::Body::RegisterUser(claim)) if is_theirs(claim.user_id) => {
                    needles.add(claim.username.as_bytes());
                    needles.add(claim.display_name.as_bytes());
                    needles.add(claim.password_hash.as_bytes());
                }
                Some(directory_record::Body::ChangePassword(change)) if is_theirs(change.user_id) => {
                    needles.add(change.password_hash.as_bytes());
                }
                _ => {}
            }
        }
    }
    for partition in 0..log.partitions(Topic::Events) {
        for record in Scan::new(log, Topic::Events, partition, 0..u64::MAX)? {
            let record = record?;
            if rules.replace(Topic::Events, partition, &record).is_none() {
                continue;
            }
            match wire::Event::decode(record.value).ok().and_then(|event| event.body) {
                Some(Body::Send(send)) => needles.send(&send),
                Some(Body::EditMessage(edit)) => needles.add(edit.text.as_bytes()),
                _ => {}
            }
        }
    }
    Ok(needles)
}

/// Calls `each` with everything that others have written, and with what is a conversation's or theirs: texts, titles,
/// names. What stands in there may stand in the log.
///
/// # Errors
/// The log cannot be read.
pub fn words_of_others(log: &dyn Log, rules: &Rules, mut each: impl FnMut(&[u8])) -> Result<(), ScanError> {
    for partition in 0..log.partitions(Topic::Directory) {
        for record in Scan::new(log, Topic::Directory, partition, 0..u64::MAX)? {
            let Ok(decoded) = wire::DirectoryRecord::decode(record?.value) else { continue };
            if let Some(directory_record::Body::RegisterUser(claim)) = decoded.body
                && claim.user_id.is_some_and(|user| !rules.users.contains(&UserId::from(user)))
            {
                each(claim.username.as_bytes());
                each(claim.display_name.as_bytes());
            }
        }
    }
    for partition in 0..log.partitions(Topic::Events) {
        for record in Scan::new(log, Topic::Events, partition, 0..u64::MAX)? {
            let Ok(event) = wire::Event::decode(record?.value) else { continue };
            let is_theirs = event.actor_id.is_some_and(|actor| rules.users.contains(&UserId::from(actor)));
            match event.body {
                Some(Body::CreateConversation(create)) => each(create.title.as_bytes()),
                Some(Body::RenameConversation(rename)) => each(rename.title.as_bytes()),
                Some(Body::Send(send)) if !is_theirs => {
                    each(send.text.as_bytes());
                    send.attachments.iter().for_each(|attachment| each(attachment.name.as_bytes()));
                }
                Some(Body::EditMessage(edit)) if !is_theirs => each(edit.text.as_bytes()),
                _ => {}
            }
        }
    }
    Ok(())
}

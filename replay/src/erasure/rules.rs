//! Whose records, and which messages: gathered from the log in one pass over `directory` and `timeline`.

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use tidings_ingest::Log;
use tidings_schemas::{
    ids::{MessageId, UserId},
    topics::Topic,
    wire::{self, directory_record::Body},
};

use crate::scan::{Scan, ScanError};

/// What is erased.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The users who are erased.
    pub users: HashSet<UserId>,
    /// The names that they had: partition, name, and the offset at which the name became free. Claims of it that came to
    /// nothing before that are erased with it.
    pub names: Vec<(u32, String, u64)>,
    /// The messages that were deleted.
    pub deleted: HashSet<MessageId>,
    /// Events that repeat one of those: partition and offset.
    pub repeats: HashSet<(u32, u64)>,
}

/// Somebody who is to be erased, as the log knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erasing {
    /// The user.
    pub user: UserId,
    /// The partition of `directory` that has the registration.
    pub partition: u32,
    /// The name; empty when it is gone already.
    pub username: String,
    /// Whether the log says already that the user is erased.
    pub is_erased: bool,
}

impl Rules {
    /// Whether nothing is erased.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.deleted.is_empty()
    }

    /// Whether what this user sent as this message is erased.
    pub fn takes(&self, sender: Option<wire::Id>, message: Option<wire::Id>) -> bool {
        sender.is_some_and(|sender| self.users.contains(&UserId::from(sender)))
            || message.is_some_and(|message| self.deleted.contains(&MessageId::from(message)))
    }
}

/// Finds users in the directory, by id, or by name for as long as it is on the log. `None`: there is none.
///
/// # Errors
/// The directory cannot be read.
pub fn erasing(log: &dyn Log, asked: &[String]) -> Result<Vec<Option<Erasing>>, ScanError> {
    let mut found: Vec<Option<Erasing>> = vec![None; asked.len()];
    for partition in 0..log.partitions(Topic::Directory) {
        // Who holds each name that is asked for.
        let mut holders: HashMap<String, UserId> = HashMap::new();
        for record in Scan::new(log, Topic::Directory, partition, 0..u64::MAX)? {
            let Ok(decoded) = wire::DirectoryRecord::decode(record?.value) else { continue };
            match decoded.body {
                Some(Body::RegisterUser(claim)) => {
                    let Some(user) = claim.user_id.map(UserId::from) else { continue };
                    if !claim.username.is_empty() {
                        if holders.contains_key(&claim.username) {
                            continue;
                        }
                        holders.insert(claim.username.clone(), user);
                    }
                    for (asked, found) in asked.iter().zip(&mut found) {
                        if *asked == claim.username || *asked == user.to_string() {
                            let username = claim.username.clone();
                            *found = Some(Erasing { user, partition, username, is_erased: false });
                        }
                    }
                }
                Some(Body::EraseUser(erased)) => {
                    let Some(user) = erased.user_id.map(UserId::from) else { continue };
                    holders.retain(|_, holder| *holder != user);
                    for (asked, found) in asked.iter().zip(&mut found) {
                        if *asked == user.to_string() {
                            let before = found.take();
                            let username = before.map(|before| before.username).unwrap_or_default();
                            *found = Some(Erasing { user, partition, username, is_erased: true });
                        } else if let Some(found) = found.as_mut().filter(|found| found.user == user) {
                            // The name is still on the log: it is to be erased from it, unless it is somebody else's by now.
                            found.is_erased = true;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// What the log says is erased: its `EraseUser` records and the deletions that were accepted. With these users, too.
/// Takes some 40 bytes of memory for each deleted message.
///
/// # Errors
/// The log cannot be read.
pub fn rules(log: &dyn Log, users: &[UserId], mut progress: impl FnMut()) -> Result<Rules, ScanError> {
    let mut rules = Rules { users: users.iter().copied().collect(), ..Rules::default() };
    for partition in 0..log.partitions(Topic::Directory) {
        directory(log, partition, &mut rules)?;
    }
    let mut repeats: Vec<(MessageId, (u32, u64))> = Vec::new();
    for partition in 0..log.partitions(Topic::Timeline) {
        for record in Scan::new(log, Topic::Timeline, partition, 0..u64::MAX)? {
            progress();
            let Ok(decoded) = wire::TimelineRecord::decode(record?.value) else { continue };
            if let Some(change) = decoded.change.filter(|change| change.deleted_at_ms != 0) {
                rules.deleted.extend(change.message_id.map(MessageId::from));
            }
            if let (Some(repeat), Some(source)) = (decoded.duplicate, decoded.source) {
                let place = (source.partition, source.offset);
                repeats.extend(repeat.message_id.map(|message| (MessageId::from(message), place)));
            }
        }
    }
    rules.repeats = repeats.into_iter().filter(|(of, _)| rules.deleted.contains(of)).map(|(_, place)| place).collect();
    Ok(rules)
}

fn directory(log: &dyn Log, partition: u32, rules: &mut Rules) -> Result<(), ScanError> {
    let mut names: HashMap<String, UserId> = HashMap::new();
    let mut end = 0;
    for record in Scan::new(log, Topic::Directory, partition, 0..u64::MAX)? {
        let record = record?;
        end = record.offset + 1;
        let Ok(decoded) = wire::DirectoryRecord::decode(record.value) else { continue };
        match decoded.body {
            Some(Body::RegisterUser(claim)) if !claim.username.is_empty() => {
                if let Some(user) = claim.user_id.map(UserId::from) {
                    names.entry(claim.username).or_insert(user);
                }
            }
            Some(Body::EraseUser(erased)) => {
                let Some(user) = erased.user_id.map(UserId::from) else { continue };
                rules.users.insert(user);
                let freed = names.extract_if(|_, holder| *holder == user).map(|(name, _)| (partition, name, end));
                rules.names.extend(freed);
            }
            _ => {}
        }
    }
    // Who is to be erased and is not yet.
    let still = names.into_iter().filter(|(_, holder)| rules.users.contains(holder));
    rules.names.extend(still.map(|(name, _)| (partition, name, end)));
    Ok(())
}

//! Who has which name, by the directory: the first to claim a name has it.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tidings_ingest::Log;
use tidings_schemas::{
    ids::UserId,
    topics::{Topic, username_partition},
    wire::{self, directory_record::Body},
};

use super::{StateError, Told};
use crate::scan::Scan;

/// Who has this name.
///
/// # Errors
/// The log cannot be read.
pub fn user_of(log: &dyn Log, username: &str, told: &(dyn Fn(Told) + Sync)) -> Result<Option<UserId>, StateError> {
    let username = username.to_lowercase();
    let partition = username_partition(&username, log.partitions(Topic::Directory));
    let mut found = None;
    each(log, partition, told, &mut |registered, user| {
        if registered == username {
            found = Some(user);
        }
        found.is_none()
    })?;
    Ok(found)
}

/// The names of these users, of those who have one.
///
/// # Errors
/// The log cannot be read.
pub fn names_of(
    log: &dyn Log,
    users: &HashSet<UserId>,
    told: &(dyn Fn(Told) + Sync),
) -> Result<HashMap<UserId, String>, StateError> {
    let mut names = HashMap::new();
    for partition in 0..log.partitions(Topic::Directory) {
        each(log, partition, told, &mut |username, user| {
            if users.contains(&user) {
                names.entry(user).or_insert(username);
            }
            names.len() < users.len()
        })?;
    }
    Ok(names)
}

/// Every claim of a name in a partition, until `goes_on` says no.
fn each(
    log: &dyn Log,
    partition: u32,
    told: &(dyn Fn(Told) + Sync),
    goes_on: &mut dyn FnMut(String, UserId) -> bool,
) -> Result<(), StateError> {
    let kept = log.range(Topic::Directory, partition)?;
    told(Told::Expect(kept.end - kept.start));
    for record in Scan::new(log, Topic::Directory, partition, kept.start..kept.end)? {
        let record = record?;
        told(Told::Took(1));
        let Ok(wire::DirectoryRecord { body: Some(Body::RegisterUser(registered)), .. }) =
            wire::DirectoryRecord::decode(record.value)
        else {
            continue;
        };
        let Some(user) = registered.user_id.map(UserId::from) else { continue };
        if !goes_on(registered.username, user) {
            break;
        }
    }
    Ok(())
}

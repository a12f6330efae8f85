//! Views that are built anew beside those in use: in another database of the same Redis, until the two databases change
//! places (`SWAPDB`), which everybody sees at once. Projections find that the views stand elsewhere than they left them,
//! and go on from there, as after a restart of Redis.

use async_trait::async_trait;
use redis::{Cmd, Script};
use tidings_schemas::{
    ids::ConversationId,
    limits::VIEW_REDIS_DROP_KEYS,
    views::{Table, ViewError},
};

use super::{RedisViews, layout};
use crate::views::{
    owners::{Owners, ViewOwners},
    projection::{TOPICS, source_topic},
};

impl RedisViews {
    /// Claims these views' database for a rebuild: it must be empty, or be what an earlier rebuild of the same log has left,
    /// which is gone on with. They are not those in use.
    ///
    /// # Errors
    /// Something else is there, or Redis does not answer.
    pub async fn claim(&self) -> Result<(), ViewError> {
        let inner = &self.inner;
        let claim = Script::new(include_str!("scripts/claim.lua"));
        let mut claim = claim.key(&inner.names.rebuild);
        claim.arg(inner.identity.text());
        match inner.writes.invoke::<String>(&claim).await?.as_str() {
            found if found == inner.identity.text() => Ok(()),
            "" => Err(ViewError::Unavailable(format!(
                "database {} of Redis holds something else (name an empty one)",
                self.database
            ))),
            found => Err(ViewError::Unavailable(format!(
                "database {} of Redis holds a rebuild of {found} (name an empty one)",
                self.database
            ))),
        }
    }

    /// A key in this database that is none of these views': it would change places with them.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn foreign_key(&self) -> Result<Option<String>, ViewError> {
        let names = &self.inner.names;
        let mut cursor = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("COUNT").arg(VIEW_REDIS_DROP_KEYS);
            let (next, keys): (u64, Vec<Vec<u8>>) = self.inner.reads.query(&scan).await?;
            let foreign = keys.into_iter().map(|key| String::from_utf8_lossy(&key).into_owned());
            let mut foreign = foreign.filter(|key| {
                let is_own = *key == names.views || *key == names.rebuild;
                !is_own && names.owner_of(key).is_none()
            });
            if let Some(key) = foreign.next() {
                return Ok(Some(key));
            }
            if next == 0 {
                return Ok(None);
            }
            cursor = next;
        }
    }

    /// Lets these views and those in the other's database change places, if the other's were claimed and are not behind in any
    /// partition. `false`: they are, and nothing was done. Afterwards what was in use is in the other's database, claimed.
    ///
    /// # Errors
    /// One of the two is not this log's views, or Redis refuses.
    pub async fn swap_with(&self, other: &Self) -> Result<bool, ViewError> {
        let inner = &self.inner;
        let swap = Script::new(include_str!("scripts/swap.lua"));
        let mut swap = swap.key(&inner.names.views);
        swap.key(&inner.names.rebuild).arg(inner.identity.text()).arg(self.database).arg(other.database);
        for topic in TOPICS {
            for topic in [Some(topic), source_topic(topic)].into_iter().flatten() {
                swap.arg(format!("{}/", topic.name()));
            }
        }
        match inner.writes.invoke::<String>(&swap).await?.as_str() {
            "swapped" => Ok(true),
            "behind" => Ok(false),
            what => Err(ViewError::Unavailable(format!("the two databases of Redis cannot change places: {what}"))),
        }
    }

    /// Removes all rows of a claimed database, and the claim.
    ///
    /// # Errors
    /// It is not claimed, or Redis does not answer.
    pub async fn drop_claimed(&self) -> Result<(), ViewError> {
        self.claim().await?;
        let inner = &self.inner;
        let unlink = |keys: Vec<Vec<u8>>| {
            let mut unlink = redis::cmd("UNLINK");
            unlink.arg(keys);
            unlink
        };
        // First what says that they are whole.
        inner.writes.query::<u64>(&unlink(vec![inner.names.views.clone().into_bytes()])).await?;
        let mut cursor = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(inner.names.all_rows()).arg("COUNT").arg(VIEW_REDIS_DROP_KEYS);
            let (next, rows): (u64, Vec<Vec<u8>>) = inner.writes.query(&scan).await?;
            if !rows.is_empty() {
                inner.writes.query::<u64>(&unlink(rows)).await?;
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
        inner.writes.query::<u64>(&unlink(vec![inner.names.rebuild.clone().into_bytes()])).await?;
        Ok(())
    }

    /// Lets Redis write its files anew, in which rows stand that were replaced since: both kinds, where it keeps them. It goes on
    /// in the background. `false`: this user may not, or Redis cannot now.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn rewrite_files(&self) -> Result<bool, ViewError> {
        let mut was_taken = true;
        for words in [&["BGREWRITEAOF"][..], &["BGSAVE", "SCHEDULE"]] {
            let mut command = Cmd::new();
            words.iter().for_each(|word| _ = command.arg(word));
            let mut connection = self.inner.writes.connection.clone();
            let call = command.query_async::<String>(&mut connection);
            let Ok(answer) = tokio::time::timeout(self.inner.writes.timeout, call).await else {
                return Err(ViewError::Unavailable("Redis does not answer in time".to_owned()));
            };
            was_taken &= answer.is_ok();
        }
        Ok(was_taken)
    }

    /// Whether the views in this database are this log's, without making them so.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn are_ours(&self) -> Result<bool, ViewError> {
        let (identity, ..) = self.inner.position(TOPICS[0], 0).await?;
        Ok(identity == self.inner.identity.text())
    }
}

#[async_trait]
impl ViewOwners for RedisViews {
    /// In Redis's own order.
    async fn owners(&self, after: Option<Vec<u8>>) -> Result<Owners, ViewError> {
        let names = &self.inner.names;
        let cursor = after.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(names.all_rows()).arg("COUNT").arg(VIEW_REDIS_DROP_KEYS);
        let (next, keys): (u64, Vec<String>) = self.inner.reads.query(&scan).await?;
        let found = keys.iter().filter_map(|key| names.owner_of(key)).collect();
        Ok(Owners { found, next: (next != 0).then(|| next.to_be_bytes().to_vec()) })
    }
}

impl layout::Names {
    /// The table and the owner of a key of rows.
    pub(super) fn owner_of(&self, key: &str) -> Option<(Table, u128)> {
        let rest = key.strip_prefix(self.prefix())?.strip_prefix(':')?;
        let (table, owner) = rest.split_once(':')?;
        let table = Table::ALL.into_iter().find(|known| known.name() == table)?;
        let owner: ConversationId = owner.strip_prefix('{')?.strip_suffix('}')?.parse().ok()?;
        Some((table, owner.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_key_comes_back() {
        let names = layout::Names::new("a.b");
        for table in Table::ALL {
            assert_eq!(names.owner_of(&names.rows(table, 5)), Some((table, 5)));
        }
        for other in ["a.b:views", "a.b:rebuild", "a.bc:inbox:{00000000-0000-0000-0000-000000000005}", "a.b:x:{5}"] {
            assert_eq!(names.owner_of(other), None, "{other}");
        }
    }
}

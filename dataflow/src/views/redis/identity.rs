//! Whose views a Redis holds, and the dropping of what is another log's or of another version.
//!
//! The views' own key names the log and the version of the rows. A projection that finds anything else there when it
//! starts drops all rows and begins anew; one that finds it later refuses, because then two Tidings use one prefix. A
//! Redis that was emptied has no such key, so the same is done again, and takes no time.

use std::time::Duration;

use redis::{Script, ScriptInvocation, aio::ConnectionManager};
use tidings_schemas::{
    limits::{VIEW_REDIS_DROP_KEYS, VIEW_REDIS_DROP_TAKEOVER},
    views::ViewError,
};

use super::{Calls, layout::Names, unavailable};

/// Grows when the rows or their keys change: the views are rebuilt then.
const ROWS_VERSION: u32 = 1;
/// How often one who waits for another's dropping looks again.
const DROP_POLL: Duration = Duration::from_millis(100);

/// Whose views these must be.
#[derive(Debug)]
pub(super) struct Identity {
    text: String,
    /// What stands in its place while this process drops: no other writes the same.
    mark: String,
    begin: Script,
    drop_rows: Script,
    finish: Script,
}

impl Identity {
    pub(super) fn new(log_id: u128, token: u64) -> Self {
        let text = format!("version {ROWS_VERSION} log {log_id:032x}");
        Self {
            mark: format!("dropping {token:016x} {text}"),
            text,
            begin: Script::new(include_str!("scripts/begin.lua")),
            drop_rows: Script::new(include_str!("scripts/drop.lua")),
            finish: Script::new(include_str!("scripts/finish.lua")),
        }
    }

    /// What stands in the views' own key.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Makes the views this log's: drops all rows if they are not. `may_drop_foreign`: also those that are another log's.
    pub(super) async fn take(&self, calls: &Calls, names: &Names, may_drop_foreign: bool) -> Result<(), ViewError> {
        let mut waited = Duration::ZERO;
        let mut others_mark = String::new();
        loop {
            let take_over = if waited >= VIEW_REDIS_DROP_TAKEOVER { others_mark.as_str() } else { "" };
            let foreign = if may_drop_foreign { "1" } else { "" };
            let mut begin = self.begin.key(&names.views);
            begin.arg(&self.text).arg(&self.mark).arg(take_over).arg(foreign);
            let begun: Vec<String> = calls.invoke(&begin).await?;
            let found = begun.get(1).cloned().unwrap_or_default();
            match begun.first().map(String::as_str) {
                Some("ours") => return Ok(()),
                Some("drop") => {
                    if !found.is_empty() {
                        tracing::warn!(
                            found,
                            expected = self.text,
                            "the views in Redis are of another log or version: they are dropped and rebuilt from the log"
                        );
                    }
                    if self.drop_all(calls, names).await? {
                        return Ok(());
                    }
                }
                Some("busy") => {
                    if found != others_mark {
                        (others_mark, waited) = (found, Duration::ZERO);
                    }
                    tokio::time::sleep(DROP_POLL).await;
                    waited += DROP_POLL;
                }
                _ => return Err(foreign_views(&found)),
            }
        }
    }

    /// Removes all rows and names the views as this log's. `false`: somebody else has taken that over.
    async fn drop_all(&self, calls: &Calls, names: &Names) -> Result<bool, ViewError> {
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(names.all_rows()).arg("COUNT").arg(VIEW_REDIS_DROP_KEYS);
            let (next, rows): (u64, Vec<String>) = calls.query(&scan).await?;
            let mut drop_rows = self.drop_rows.key(&names.views);
            for row in rows {
                drop_rows.key(row);
            }
            if !self.with_mark(calls, &mut drop_rows).await? {
                return Ok(false);
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
        let mut finish = self.finish.key(&names.views);
        finish.arg(&self.mark).arg(&self.text);
        Ok(calls.invoke::<u8>(&finish).await? == 1)
    }

    async fn with_mark(&self, calls: &Calls, invocation: &mut ScriptInvocation<'_>) -> Result<bool, ViewError> {
        invocation.arg(&self.mark);
        Ok(calls.invoke::<u8>(invocation).await? == 1)
    }
}

/// What a reader or a writer says when somebody else's views are there.
pub(super) fn foreign_views(found: &str) -> ViewError {
    ViewError::Unavailable(match found {
        "" => "the views in Redis are empty (they are rebuilt from the log)".to_owned(),
        found if found.starts_with("dropping ") => "the views in Redis are being dropped, to be rebuilt".to_owned(),
        found => format!("the views in Redis are of {found}: two Tidings use one redis.prefix (give each its own)"),
    })
}

/// Refuses a Redis that throws rows away when its memory is full: nobody would notice.
pub(super) async fn check_keeps_rows(connection: &ConnectionManager, timeout: Duration) -> Result<(), ViewError> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let mut connection = connection.clone();
    let Ok(answer) = tokio::time::timeout(timeout, info.query_async::<String>(&mut connection)).await else {
        return Err(ViewError::Unavailable("Redis does not answer in time".to_owned()));
    };
    let text = match answer {
        Ok(text) => text,
        // A user that may not ask is told nothing.
        Err(error) if error.code() == Some("NOPERM") => return Ok(()),
        Err(error) => return Err(unavailable(&error)),
    };
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let policy = field("maxmemory_policy").unwrap_or("noeviction");
    if policy == "noeviction" || field("maxmemory").is_none_or(|bytes| bytes == "0") {
        return Ok(());
    }
    Err(ViewError::Unavailable(format!(
        "Redis may throw rows of the views away (its maxmemory-policy is {policy}: set it to noeviction)"
    )))
}

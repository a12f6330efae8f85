//! Takes what is erased out of the tables: the content of deleted messages, and of everything that erased users wrote. The
//! rows stay, with their places, ids and times.
//!
//! A mutation writes each part anew that has such a row, in the background and at a low priority; the old parts, which
//! still hold the content, are then removed as soon as can be, and not after the engine's usual eight minutes. Whoever
//! removes them sleeps while nothing is written, and is awake when a table is opened: so where nobody else uses the
//! tables, they are detached and attached, and the old parts are gone a second later (seen with 26.7: 280 in 0.9 s).

use std::{fmt::Write as _, time::Duration};

use tidings_schemas::{ids::UserId, limits::ERASURE_ARCHIVE_TIMEOUT};

use super::{
    embedded::EmbeddedArchive,
    row_binary::RowBinaryReader,
    sql::{Sql, SqlArchive},
    store::ArchiveError,
};

/// How often it is looked whether the engine is done.
const POLL: Duration = Duration::from_millis(250);
/// How long the old parts of a table may take to go once nobody needs them: where nothing is written, whoever removes them
/// sleeps for ten seconds to ten minutes at a time, and `SYSTEM START MERGES` does not wake it.
const PARTS_TIMEOUT: Duration = Duration::from_secs(700);
/// Old parts go at once.
const SETTINGS: [(&str, u32); 5] = [
    ("old_parts_lifetime", 0),
    ("merge_tree_clear_old_parts_interval_seconds", 1),
    ("cleanup_delay_period", 1),
    ("cleanup_delay_period_random_add", 0),
    ("max_cleanup_delay_period", 1),
];

/// Who else uses the tables while something is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    /// Readers and writers, who must notice nothing.
    Others,
    /// Nobody: the tables may be away for a moment.
    Nobody,
}

/// What was found in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedTable {
    /// The table's name.
    pub table: &'static str,
    /// Rows that held content of what is erased.
    pub rows: u64,
}

/// A table that holds content: what is set, and on which rows.
struct Content {
    table: &'static str,
    update: &'static str,
    /// Rows with content.
    holds: &'static str,
    /// The column of whose content it is.
    user: &'static str,
    /// Whether a deletion erases it, too.
    of_messages: bool,
}

const CONTENTS: [Content; 3] = [
    Content {
        table: "timeline_entries",
        update: "text = '', event = '', attachments = [], kind = 'text'",
        holds: "kind != 'membership' AND event != ''",
        user: "sender_id",
        of_messages: true,
    },
    Content {
        table: "message_changes",
        update: "text = '', event = ''",
        holds: "(text != '' OR event != '')",
        user: "sender_id",
        of_messages: true,
    },
    Content {
        table: "session_events",
        update: "device_id = ''",
        holds: "device_id != ''",
        user: "user_id",
        of_messages: false,
    },
];

impl Content {
    /// Which rows hold content that is to go; `None`: there can be none.
    fn condition(&self, users: &[UserId]) -> Option<String> {
        let mut whose = Vec::new();
        if !users.is_empty() {
            let mut of_users = format!("{} IN (", self.user);
            for (at, user) in users.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(of_users, "{}'{user}'", if at == 0 { "" } else { ", " });
            }
            whose.push(of_users + ")");
        }
        if self.of_messages {
            let deleted = "SELECT conversation_id, seq FROM message_changes WHERE kind = 'deleted'";
            whose.push(format!("(conversation_id, seq) IN ({deleted})"));
        }
        (!whose.is_empty()).then(|| format!("{} AND ({})", self.holds, whose.join(" OR ")))
    }
}

impl<S: Sql> SqlArchive<S> {
    /// How many rows of each table hold content of deleted messages, or of these users.
    ///
    /// # Errors
    /// The archive's.
    pub async fn erasable(&self, users: &[UserId]) -> Result<Vec<ErasedTable>, ArchiveError> {
        let mut found = Vec::new();
        for content in &CONTENTS {
            let rows = match content.condition(users) {
                Some(condition) => {
                    self.count(format!("SELECT count() FROM {} WHERE {condition}", content.table)).await?
                }
                None => 0,
            };
            found.push(ErasedTable { table: content.table, rows });
        }
        Ok(found)
    }

    /// Takes it out, and waits until it is on the disk no longer. Can be repeated after any failure.
    pub(super) async fn erase_content(
        &self,
        users: &[UserId],
        company: Company,
    ) -> Result<Vec<ErasedTable>, ArchiveError> {
        let found = self.erasable(users).await?;
        for (content, found) in CONTENTS.iter().zip(&found) {
            let Some(condition) = content.condition(users) else { continue };
            if found.rows > 0 {
                self.sql
                    .run(format!("ALTER TABLE {} UPDATE {} WHERE {condition}", content.table, content.update))
                    .await?;
            }
            // Also when an attempt before this one has begun it.
            self.until_mutated(content.table).await?;
        }
        self.drop_old_parts(company).await?;
        Ok(found)
    }

    async fn until_mutated(&self, table: &str) -> Result<(), ArchiveError> {
        let undone = format!(
            "SELECT countIf(latest_fail_reason = ''), countIf(latest_fail_reason != ''), any(latest_fail_reason) \
             FROM system.mutations WHERE database = currentDatabase() AND table = '{table}' AND NOT is_done"
        );
        let mut waited = Duration::ZERO;
        loop {
            let answer = self.sql.run(undone.clone()).await?;
            let mut row = RowBinaryReader::new(&answer);
            let (going_on, failing, reason) = (row.u64()?, row.u64()?, row.text()?.to_owned());
            if going_on + failing == 0 {
                return Ok(());
            }
            if waited >= ERASURE_ARCHIVE_TIMEOUT || (failing > 0 && waited >= PARTS_TIMEOUT) {
                let what = if reason.is_empty() { "it is not done in time" } else { reason.as_str() };
                return Err(ArchiveError::Unavailable(format!("rewriting {table} goes on: {what}")));
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
    }

    /// Parts that were replaced are removed from the disk.
    async fn drop_old_parts(&self, company: Company) -> Result<(), ArchiveError> {
        // Those that other writers replace meanwhile hold nothing that is to go.
        let now = self.count("SELECT toUInt64(now())".to_owned()).await?;
        let mut tables = Vec::new();
        for Content { table, .. } in &CONTENTS {
            if company == Company::Nobody {
                self.until_loaded(table).await?;
            }
            if self.old_parts(table, now).await? > 0 {
                tables.push(*table);
            }
        }
        let outcome = self.drop_old_parts_of(&tables, now, company).await;
        let reset: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
        for table in tables {
            self.sql.run(format!("ALTER TABLE {table} RESET SETTING {}", reset.join(", "))).await?;
        }
        outcome
    }

    async fn drop_old_parts_of(&self, tables: &[&str], now: u64, company: Company) -> Result<(), ArchiveError> {
        let set: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        for table in tables {
            self.sql.run(format!("ALTER TABLE {table} MODIFY SETTING {}", set.join(", "))).await?;
            if company == Company::Nobody {
                // Not PERMANENTLY: should the process end in between, the engine attaches it at its next start.
                self.sql.run(format!("DETACH TABLE {table} SYNC")).await?;
                self.sql.run(format!("ATTACH TABLE {table}")).await?;
                self.until_loaded(table).await?;
            }
        }
        for table in tables {
            self.until_dropped(table, now).await?;
        }
        Ok(())
    }

    /// Waits until the engine knows all parts of a table: those that were replaced it loads in the background, after the
    /// table is open, and until then it names none of them.
    async fn until_loaded(&self, table: &str) -> Result<(), ArchiveError> {
        self.sql.run(format!("SYSTEM WAIT LOADING PARTS {table}")).await.map(drop)
    }

    async fn until_dropped(&self, table: &str, replaced_before: u64) -> Result<(), ArchiveError> {
        let mut waited = Duration::ZERO;
        while self.old_parts(table, replaced_before).await? > 0 {
            if waited >= PARTS_TIMEOUT {
                let what = format!("replaced parts of {table} are still on the disk (a query may be reading them)");
                return Err(ArchiveError::Unavailable(what));
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
        Ok(())
    }

    /// Parts that were replaced up to this second of the engine's clock and are still there.
    async fn old_parts(&self, table: &str, replaced_before: u64) -> Result<u64, ArchiveError> {
        let parts = format!(
            "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = '{table}' AND NOT active \
             AND remove_time <= toDateTime({replaced_before})"
        );
        self.count(parts).await
    }

    /// Rows of all tables in whose texts one of these stands, whoever's they are; at most 200 are looked for at once.
    ///
    /// # Errors
    /// The archive's.
    pub async fn search(&self, needles: &[&[u8]]) -> Result<u64, ArchiveError> {
        const COLUMNS: [(&str, &[&str]); 5] = [
            ("timeline_entries", &["text", "event", "client_message_id", "membership_title"]),
            ("timeline_entries", &["arrayStringConcat(attachments.name, '\\n')"]),
            ("message_changes", &["text", "event"]),
            ("session_events", &["device_id"]),
            ("inbox_entries", &["receipt"]),
        ];
        let mut found = 0;
        for needles in needles.chunks(200) {
            let hex: Vec<String> = needles.iter().map(|needle| unhex(needle)).collect();
            for (table, columns) in COLUMNS {
                let any: Vec<String> =
                    columns.iter().map(|column| format!("multiSearchAny({column}, [{}])", hex.join(", "))).collect();
                found += self.count(format!("SELECT count() FROM {table} WHERE {}", any.join(" OR "))).await?;
            }
        }
        Ok(found)
    }

    async fn count(&self, sql: String) -> Result<u64, ArchiveError> {
        let answer = self.sql.run(sql).await?;
        Ok(RowBinaryReader::new(&answer).u64()?)
    }
}

impl EmbeddedArchive {
    /// As [`Archive::erase`](super::Archive::erase), in seconds, where nobody else uses the archive: its tables are away for
    /// a moment.
    ///
    /// # Errors
    /// The archive's.
    pub async fn erase_alone(&self, users: &[UserId]) -> Result<Vec<ErasedTable>, ArchiveError> {
        self.erase_content(users, Company::Nobody).await
    }
}

/// Bytes as a literal of SQL, whatever is in them.
fn unhex(bytes: &[u8]) -> String {
    let mut literal = "'".to_owned();
    for byte in bytes {
        let _ = write!(literal, "\\x{byte:02X}");
    }
    literal + "'"
}

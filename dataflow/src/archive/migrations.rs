//! The archive's schema: which migrations there are, which of them a database still needs, and when to refuse.

use sha2::{Digest, Sha256};

/// A step of the schema, from `schemas/sql/`.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// What it is known by in the database.
    pub version: u32,
    /// What it is about: the file's name without the number.
    pub name: &'static str,
    sql: &'static str,
}

/// The tables, in the order in which they came. One that was released is never changed: another one is added. (2, 4 and 5
/// were views, which are not numbered any more.)
pub const MIGRATIONS: [Migration; 3] = [
    Migration { version: 1, name: "tables", sql: include_str!("../../../schemas/sql/0001_tables.sql") },
    Migration { version: 3, name: "sessions", sql: include_str!("../../../schemas/sql/0003_sessions.sql") },
    Migration { version: 6, name: "summaries", sql: include_str!("../../../schemas/sql/0006_summaries.sql") },
];

/// The views over them, as they now are: made anew whenever the text is another than the one that was applied last.
pub const VIEWS: Migration =
    Migration { version: 0, name: "views", sql: include_str!("../../../schemas/sql/views.sql") };

/// Where a database's record of its migrations is kept.
pub const CREATE_MIGRATIONS_TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations
(
    version UInt32 COMMENT 'the number of the migration; 0: the views',
    name String COMMENT 'what it is about',
    checksum String COMMENT 'SHA-256 of its text, before settings are put in',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was applied'
)
ENGINE = ReplacingMergeTree
ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1";

/// The tables whose rows age, and the column that they age by.
pub const AGEING_TABLES: [(&str, &str); 5] = [
    ("timeline_entries", "sent_at"),
    ("message_changes", "sent_at"),
    ("inbox_entries", "at"),
    ("receipts", "moved_at"),
    ("session_events", "at"),
];

/// Why a database's schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// The database was made by a newer program.
    #[error(
        "the archive has schema version {found}, and this program knows {known}: run a program at least as new, or give the archive another folder or database (it is rebuilt from the log)"
    )]
    TooNew {
        /// The newest version that the database has.
        found: u32,
        /// The newest version that this program has.
        known: u32,
    },
    /// A migration that was applied is not the one that this program has under that number.
    #[error(
        "migration {version} of the archive was applied with another text than this program has: the schema is not what it seems; rebuild the archive from the log"
    )]
    Changed {
        /// The migration's version.
        version: u32,
    },
}

impl Migration {
    /// The migration's statements, with the settings put in.
    pub fn statements(&self, retention_days: u32) -> Vec<String> {
        let sql = self.sql.replace("${RETENTION_DAYS}", &retention_days.to_string());
        // A statement ends with a semicolon at the end of a line; none of ours has one inside.
        sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
    }

    /// SHA-256 of the text, in hexadecimal.
    pub fn checksum(&self) -> String {
        Sha256::digest(self.sql).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a database with these applied ones (version and checksum) still needs, in order.
pub fn pending(applied: &[(u32, String)]) -> Result<Vec<Migration>, MigrationError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    if let Some(found) = applied.iter().map(|(version, _)| *version).max().filter(|found| *found > known) {
        return Err(MigrationError::TooNew { found, known });
    }
    let checksum_of = |of: &Migration| applied.iter().find(|(version, _)| *version == of.version).map(|found| &found.1);
    let mut pending = Vec::new();
    for migration in MIGRATIONS {
        match checksum_of(&migration) {
            None => pending.push(migration),
            Some(checksum) if *checksum != migration.checksum() => {
                return Err(MigrationError::Changed { version: migration.version });
            }
            Some(_) => {}
        }
    }
    // After the tables that they are of.
    if checksum_of(&VIEWS) != Some(&VIEWS.checksum()) {
        pending.push(VIEWS);
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(count: usize) -> Vec<(u32, String)> {
        MIGRATIONS[..count].iter().map(|migration| (migration.version, migration.checksum())).collect()
    }

    fn names(applied: &[(u32, String)]) -> Vec<&'static str> {
        pending(applied).unwrap().iter().map(|migration| migration.name).collect()
    }

    #[test]
    fn versions_grow_and_settings_are_put_in() {
        assert!(MIGRATIONS.is_sorted_by_key(|migration| migration.version));
        for migration in MIGRATIONS.iter().chain([&VIEWS]) {
            let statements = migration.statements(30);
            assert!(!statements.is_empty());
            assert!(statements.iter().all(|statement| !statement.contains("${") && statement.contains("CREATE")));
        }
        assert!(MIGRATIONS[0].statements(30).iter().any(|statement| statement.contains("INTERVAL 30 DAY")));
    }

    #[test]
    fn only_what_is_missing_is_pending_and_the_views_come_last() {
        assert_eq!(names(&applied(0)), ["tables", "sessions", "summaries", "views"]);
        assert_eq!(names(&applied(2)), ["summaries", "views"]);
        let mut all = applied(MIGRATIONS.len());
        all.push((VIEWS.version, VIEWS.checksum()));
        assert!(names(&all).is_empty());
        // Of a database that had its views by numbers.
        all.extend([(2, "views".to_owned()), (4, "views".to_owned())]);
        assert!(names(&all).is_empty());
    }

    #[test]
    fn other_views_are_made_anew_and_other_tables_are_refused() {
        let mut views = applied(MIGRATIONS.len());
        views.push((VIEWS.version, "of another text".to_owned()));
        assert_eq!(names(&views), ["views"]);
        let changed = [(1, "of another text".to_owned())];
        assert_eq!(pending(&changed).map(|_| ()), Err(MigrationError::Changed { version: 1 }));
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let known = MIGRATIONS[MIGRATIONS.len() - 1].version;
        let mut newer = applied(MIGRATIONS.len());
        newer.push((known + 1, "of the future".to_owned()));
        assert_eq!(pending(&newer).map(|_| ()), Err(MigrationError::TooNew { found: known + 1, known }));
    }
}

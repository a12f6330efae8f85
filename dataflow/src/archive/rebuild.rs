//! The archive's tables built anew beside those in use, compared with them row by row, and put in their place.
//!
//! A row is known by its hash: `xxh3` of its columns in RowBinary, which is what the projection inserts. Only what a reader
//! sees is compared (`FINAL`, by month), and only rows that are young enough to stay.

use std::fmt::Write as _;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_schemas::limits::REBUILD_SLICE_ROWS;

use super::{
    row_binary::RowBinaryReader,
    row_facts::{hash_sql, time_column},
    sql::{Sql, SqlArchive},
    store::{Archive, ArchiveError, Progress, TableRows},
    tables::Table,
};

/// The name of a table that is built, and of those in which its comparison is written down.
fn new_name(table: Table) -> String {
    format!("{}_rebuild", table.name())
}

fn extra_name(table: Table) -> String {
    format!("{}_rebuild_extra", table.name())
}

fn missing_name(table: Table) -> String {
    format!("{}_rebuild_missing", table.name())
}

/// As analysts and edges read it.
const AS_READ: &str = "SETTINGS do_not_merge_across_partitions_select_final = 1";

/// Which rows in use are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Whole,
    /// Those that came from these offsets of the topic before, by partition: first and last.
    Sources(Vec<(u32, u64, u64)>),
    /// Those with the keys of the new ones.
    Keys,
}

impl Scope {
    /// A condition on rows in use.
    fn condition(&self, table: Table) -> String {
        match self {
            Self::Whole => "1".to_owned(),
            Self::Keys => {
                let (key, new) = (table.key(), new_name(table));
                format!("({key}) IN (SELECT {key} FROM {new})")
            }
            Self::Sources(ranges) => {
                let mut condition = "0".to_owned();
                for (partition, first, last) in ranges {
                    let _ = write!(
                        condition,
                        " OR (source_partition = {partition} AND source_offset >= {first} AND source_offset <= {last})"
                    );
                }
                format!("({condition})")
            }
        }
    }
}

/// How a row in use is not what follows from the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDifference {
    /// `missing`, `extra` or `differing`.
    pub kind: String,
    /// The row's key, in the order of the table's.
    pub key: String,
}

/// A table in use, against what follows from the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableComparison {
    /// The table.
    pub table: String,
    /// Rows that follow from the log.
    pub new_rows: u64,
    /// Rows that should be there, and were not.
    pub missing: u64,
    /// Rows that were there, and should not have been.
    pub extra: u64,
    /// Rows that should have been others.
    pub differing: u64,
    /// The first.
    pub first: Vec<RowDifference>,
}

impl TableComparison {
    /// Rows that were not what they should be.
    pub fn differences(&self) -> u64 {
        self.missing + self.extra + self.differing
    }
}

/// An archive whose tables can be built anew.
#[async_trait]
pub trait Rebuilding: Archive {
    /// The answer to a query, in RowBinary.
    async fn ask(&self, query: String) -> Result<Bytes, ArchiveError>;

    /// How far each partition is, from the archive itself.
    async fn written(&self) -> Result<Vec<Progress>, ArchiveError>;

    /// Makes an empty table beside the one in use; what an interrupted rebuild has left goes.
    async fn create_new(&self, table: Table) -> Result<(), ArchiveError>;

    /// Inserts rows into the new table.
    async fn insert_new(&self, rows: &TableRows) -> Result<(), ArchiveError>;

    /// Inserts rows into the table in use. What is there already replaces itself.
    async fn insert_used(&self, rows: &TableRows) -> Result<(), ArchiveError>;

    /// Writes down which rows are in one of the two tables only, as it is now.
    async fn begin_comparison(&self, table: Table, scope: &Scope) -> Result<(), ArchiveError>;

    /// What of it is still so: rows in use that have come into the new table since are no difference.
    async fn end_comparison(&self, table: Table, kept_max: usize) -> Result<TableComparison, ArchiveError>;

    /// Makes the rows in use what the new ones are: removes what was written down as too much, inserts what is missing.
    async fn repair(&self, table: Table) -> Result<(), ArchiveError>;

    /// Puts the new table in the place of the one in use, in one step; that one then has the new one's name.
    async fn exchange(&self, table: Table) -> Result<(), ArchiveError>;

    /// Removes what stands beside the table in use. `keeps_new`: but for the new table.
    async fn drop_beside(&self, table: Table, keeps_new: bool) -> Result<(), ArchiveError>;
}

impl<S: Sql> SqlArchive<S> {
    async fn run_number(&self, sql: &str) -> Result<u64, ArchiveError> {
        let answer = self.sql.run(sql.to_owned()).await?;
        Ok(RowBinaryReader::new(&answer).u64()?)
    }

    /// A condition on rows that are young enough to stay.
    fn is_young(&self, table: Table) -> String {
        format!("toDateTime({}) + INTERVAL {} DAY > now()", time_column(table), self.retention_days())
    }

    async fn insert_rows_into(&self, into: &str, rows: &TableRows) -> Result<(), ArchiveError> {
        let insert = format!("INSERT INTO {into} ({})", rows.table.columns());
        self.sql.insert(insert, rows.row_binary.clone()).await
    }
}

#[async_trait]
impl<S: Sql> Rebuilding for SqlArchive<S> {
    async fn ask(&self, query: String) -> Result<Bytes, ArchiveError> {
        self.sql.run(query).await
    }

    async fn written(&self) -> Result<Vec<Progress>, ArchiveError> {
        self.read_progress().await
    }

    async fn create_new(&self, table: Table) -> Result<(), ArchiveError> {
        self.drop_beside(table, false).await?;
        self.sql.run(format!("CREATE TABLE {} AS {}", new_name(table), table.name())).await.map(drop)
    }

    async fn insert_new(&self, rows: &TableRows) -> Result<(), ArchiveError> {
        self.insert_rows_into(&new_name(rows.table), rows).await
    }

    async fn insert_used(&self, rows: &TableRows) -> Result<(), ArchiveError> {
        self.insert_rows_into(rows.table.name(), rows).await
    }

    async fn begin_comparison(&self, table: Table, scope: &Scope) -> Result<(), ArchiveError> {
        let (used, new, key, hash) = (table.name(), new_name(table), table.key(), hash_sql(table));
        for name in [extra_name(table), missing_name(table)] {
            self.sql.run(format!("DROP TABLE IF EXISTS {name} SYNC")).await?;
            let create = format!(
                "CREATE TABLE {name} ENGINE = MergeTree ORDER BY tuple() AS SELECT {key}, {hash} AS row_hash FROM {used} WHERE 0"
            );
            self.sql.run(create).await?;
        }
        let young = self.is_young(table);
        let scoped = scope.condition(table);
        let sums = |table: &str, condition: &str| {
            format!("(SELECT (count(), sum({hash})) FROM {table} FINAL WHERE {young} AND {condition})")
        };
        let same = format!("SELECT toUInt64({} = {}) {AS_READ}", sums(used, &scoped), sums(&new, "1"));
        if self.run_number(&same).await? == 1 {
            return Ok(());
        }
        let rows = self
            .run_number(&format!(
                "SELECT toUInt64(greatest((SELECT count() FROM {used}), (SELECT count() FROM {new})))"
            ))
            .await?;
        let slices = rows.div_ceil(REBUILD_SLICE_ROWS).max(1);
        for slice in 0..slices {
            let slice = format!("cityHash64({key}) % {slices} = {slice}");
            // What is in use and in scope, and not new; and the other way round.
            let extra = format!(
                "INSERT INTO {} SELECT {key}, {hash} FROM {used} FINAL WHERE {young} AND {slice} AND {scoped} AND {hash} NOT IN \
                 (SELECT {hash} FROM {new} FINAL WHERE {slice}) {AS_READ}",
                extra_name(table)
            );
            self.sql.run(extra).await?;
            let missing = format!(
                "INSERT INTO {} SELECT {key}, {hash} FROM {new} FINAL WHERE {young} AND {slice} AND {hash} NOT IN \
                 (SELECT {hash} FROM {used} FINAL WHERE {slice} AND {}) {AS_READ}",
                missing_name(table),
                if *scope == Scope::Whole { "1".to_owned() } else { Scope::Keys.condition(table) }
            );
            self.sql.run(missing).await?;
        }
        Ok(())
    }

    async fn end_comparison(&self, table: Table, kept_max: usize) -> Result<TableComparison, ArchiveError> {
        let (new, key, hash) = (new_name(table), table.key(), hash_sql(table));
        let (extra, missing) = (extra_name(table), missing_name(table));
        let in_new = format!("SELECT {hash} FROM {new} FINAL WHERE ({key}) IN (SELECT {key} FROM {extra})");
        let wrong = format!("SELECT {key} FROM {extra} WHERE row_hash NOT IN ({in_new})");
        let of = |kind: &str| match kind {
            "missing" => format!("{missing} WHERE ({key}) NOT IN ({wrong})"),
            "extra" => {
                format!("{extra} WHERE row_hash NOT IN ({in_new}) AND ({key}) NOT IN (SELECT {key} FROM {missing})")
            }
            _ => format!("{missing} WHERE ({key}) IN ({wrong})"),
        };
        let new_rows = format!("SELECT toUInt64(count()) FROM {new} FINAL WHERE {} {AS_READ}", self.is_young(table));
        let mut found = TableComparison {
            table: table.name().to_owned(),
            new_rows: self.run_number(&new_rows).await?,
            ..TableComparison::default()
        };
        for kind in ["missing", "extra", "differing"] {
            let count = self.run_number(&format!("SELECT toUInt64(count()) FROM {}", of(kind))).await?;
            match kind {
                "missing" => found.missing = count,
                "extra" => found.extra = count,
                _ => found.differing = count,
            }
            let left = kept_max.saturating_sub(found.first.len());
            if count > 0 && left > 0 {
                let keys = format!("SELECT toString(tuple({key})) FROM {} ORDER BY {key} LIMIT {left}", of(kind));
                let answer = self.sql.run(keys).await?;
                let mut keys = RowBinaryReader::new(&answer);
                while !keys.is_empty() {
                    found.first.push(RowDifference { kind: kind.to_owned(), key: keys.text()?.to_owned() });
                }
            }
        }
        Ok(found)
    }

    async fn repair(&self, table: Table) -> Result<(), ArchiveError> {
        let (used, new, key, hash, columns) =
            (table.name(), new_name(table), table.key(), hash_sql(table), table.columns());
        let extra = extra_name(table);
        if self.run_number(&format!("SELECT toUInt64(count()) FROM {extra}")).await? > 0 {
            let delete = format!("DELETE FROM {used} WHERE ({key}) IN (SELECT {key} FROM {extra})");
            self.sql.run(delete).await?;
        }
        let insert = format!(
            "INSERT INTO {used} ({columns}) SELECT {columns} FROM {new} FINAL WHERE {} AND {hash} NOT IN \
             (SELECT {hash} FROM {used} FINAL WHERE ({key}) IN (SELECT {key} FROM {new})) {AS_READ}",
            self.is_young(table)
        );
        self.sql.run(insert).await?;
        self.distrust_summaries().await
    }

    async fn exchange(&self, table: Table) -> Result<(), ArchiveError> {
        self.sql.run(format!("EXCHANGE TABLES {} AND {}", table.name(), new_name(table))).await?;
        self.distrust_summaries().await
    }

    async fn drop_beside(&self, table: Table, keeps_new: bool) -> Result<(), ArchiveError> {
        let mut names = vec![extra_name(table), missing_name(table)];
        if !keeps_new {
            names.push(new_name(table));
        }
        for name in names {
            self.sql.run(format!("DROP TABLE IF EXISTS {name} SYNC")).await?;
        }
        Ok(())
    }
}

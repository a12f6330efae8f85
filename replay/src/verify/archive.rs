//! The archive's rows held against the log: every row that follows from a record of `timeline` and `inbox` is there once, with
//! the same content, and nothing else is.
//!
//! Both sides are added up by parts of the keys, `VERIFY_ARCHIVE_BUCKETS` of them: how many rows, and the sum of their hashes.
//! The engine adds up its side month by month, so no statement reads more than a month. Only where the sums differ, rows are
//! read and told apart, some at a time. While the system runs, rows come meanwhile: the newest minutes are always told apart,
//! and a row counts as missing only if its record was archived before this began, as extra only if no record up to the log's
//! end leads to it.

use std::{collections::HashMap, fmt::Write as _};

use prost::Message as _;
use serde::Serialize;
use tidings_dataflow::archive::{
    ArchiveError,
    rebuild::Rebuilding,
    row_binary::RowBinaryReader,
    row_facts::{self, RowFacts, hash_sql, key_hash_sql, key_sql, time_column},
    rows::RowSet,
    tables::Table,
};
use tidings_ingest::{Log, LogError, StoredRecord};
use tidings_schemas::{
    limits::{STAMP_SKEW_MAX, VERIFY_ARCHIVE_BUCKETS, VERIFY_ARCHIVE_ROWS_MAX},
    topics::Topic,
    wire,
};

use super::Kind;
use crate::scan::{Scan, ScanError};

/// A row of the archive that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowDifference {
    /// How.
    pub kind: Kind,
    /// The table.
    pub table: &'static str,
    /// The row's key: ids and numbers, in the order of the table's key.
    pub key: String,
    /// The topic of the record that the row should follow from.
    pub topic: Option<&'static str>,
    /// Its partition.
    pub partition: Option<u32>,
    /// Its offset.
    pub offset: Option<u64>,
}

/// What was compared of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The table.
    pub table: &'static str,
    /// Rows that are what they should be.
    pub agreeing: u64,
    /// Records that the archive's writer has not come to.
    pub behind: u64,
    /// See [`Kind`].
    pub missing: u64,
    /// See [`Kind`].
    pub extra: u64,
    /// See [`Kind`].
    pub differing: u64,
    /// Why it was not compared.
    pub not_compared: Option<String>,
    /// The first.
    pub first: Vec<RowDifference>,
}

impl TableReport {
    /// How many rows are not what they should be.
    pub fn differences(&self) -> u64 {
        self.missing + self.extra + self.differing
    }
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveVerifyError {
    /// The log.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl From<LogError> for ArchiveVerifyError {
    fn from(error: LogError) -> Self {
        Self::Scan(error.into())
    }
}

/// How to verify.
pub struct VerifyArchive<'a> {
    /// The log.
    pub log: &'a dyn Log,
    /// The archive: only asked.
    pub archive: &'a dyn Rebuilding,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How long the archive keeps rows, in days.
    pub retention_days: u32,
    /// How many differences of a table are kept.
    pub kept_max: usize,
    /// Told how many records were read since the last call.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

const TABLES: [(Topic, &[Table]); 2] = [
    (Topic::Timeline, &[Table::TimelineEntries, Table::MessageChanges, Table::Receipts]),
    (Topic::Inbox, &[Table::InboxEntries]),
];

/// Rows of one part of the keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: u64,
}

impl Sum {
    fn add(&mut self, rows: u64, hashes: u64) {
        self.rows = self.rows.wrapping_add(rows);
        self.hashes = self.hashes.wrapping_add(hashes);
    }
}

/// The part of the newest rows, which come while this runs.
const NEWEST: u32 = VERIFY_ARCHIVE_BUCKETS;

/// Which rows of a table are compared, and how they are parted.
struct Parting {
    table: Table,
    /// Rows before it may be gone.
    from_ms: i64,
    /// Rows from it on are the newest.
    newest_ms: i64,
    /// In SQL: rows of records that the log still has.
    kept: String,
}

impl Parting {
    fn bucket(&self, row: &RowFacts) -> u32 {
        if row.time_ms >= self.newest_ms {
            return NEWEST;
        }
        u32::try_from(row.key_hash % u64::from(VERIFY_ARCHIVE_BUCKETS)).unwrap_or_default()
    }

    fn bucket_sql(&self) -> String {
        let (time, newest) = (time_column(self.table), self.newest_ms);
        let key_hash = key_hash_sql(self.table);
        format!(
            "toUInt32(if(toUnixTimestamp64Milli({time}) >= {newest}, {NEWEST}, {key_hash} % {VERIFY_ARCHIVE_BUCKETS}))"
        )
    }

    fn condition_sql(&self, month: u32) -> String {
        let (time, from) = (time_column(self.table), self.from_ms);
        format!("toYYYYMM({time}) = {month} AND toUnixTimestamp64Milli({time}) >= {from} AND {}", self.kept)
    }
}

/// A row that follows from the log.
struct Expected {
    hash: u64,
    partition: u32,
    offset: u64,
    /// Its record was archived before this began.
    is_due: bool,
}

impl VerifyArchive<'_> {
    /// Compares all tables.
    ///
    /// # Errors
    /// The log or the archive cannot be read. Differences are no error.
    pub async fn run(&self) -> Result<Vec<TableReport>, ArchiveVerifyError> {
        let written = self.archive.written().await?;
        let mut reports = Vec::new();
        for (topic, tables) in TABLES {
            let mut archived = Vec::new();
            let (mut behind, mut lost) = (0, 0);
            for partition in 0..self.log.partitions(topic) {
                let known = written.iter().find(|known| (known.topic, known.partition) == (topic, partition));
                let next = known.map_or(0, |known| known.next_offset);
                let range = self.log.range(topic, partition)?;
                behind += range.end.saturating_sub(next.max(range.start));
                lost += range.start;
                archived.push(next);
            }
            for &table in tables {
                let mut report = TableReport { table: table.name(), behind, ..TableReport::default() };
                if topic == Topic::Inbox && lost > 0 {
                    let why = "the log no longer has the beginning of inbox, and its rows do not say what they are of";
                    report.not_compared = Some(why.to_owned());
                } else {
                    self.table(topic, table, &archived, &mut report).await?;
                }
                reports.push(report);
            }
        }
        Ok(reports)
    }

    async fn table(
        &self,
        topic: Topic,
        table: Table,
        archived: &[u64],
        report: &mut TableReport,
    ) -> Result<(), ArchiveVerifyError> {
        let day_ms = 24 * 60 * 60 * 1_000;
        let parting = Parting {
            table,
            from_ms: self.now_ms.saturating_sub(i64::from(self.retention_days) * day_ms),
            newest_ms: self.now_ms.saturating_sub(2 * i64::try_from(STAMP_SKEW_MAX.as_millis()).unwrap_or_default()),
            kept: self.kept_sql(topic)?,
        };
        let mut expected = vec![Sum::default(); NEWEST as usize + 1];
        self.rows(topic, &parting, |row, partition, offset| {
            if archived.get(partition as usize).is_some_and(|next| offset < *next)
                && let Some(sum) = expected.get_mut(parting.bucket(&row) as usize)
            {
                sum.add(1, row.hash);
            }
        })?;
        let months = self.months(&parting).await?;
        let mut found = vec![Sum::default(); NEWEST as usize + 1];
        for &month in &months {
            let query = format!(
                "SELECT {} AS bucket, toUInt64(count()), toUInt64(sum({})) FROM {} FINAL WHERE {} GROUP BY bucket",
                parting.bucket_sql(),
                hash_sql(table),
                table.name(),
                parting.condition_sql(month)
            );
            let answer = self.archive.ask(query).await?;
            let mut rows = RowBinaryReader::new(&answer);
            while !rows.is_empty() {
                let (bucket, count, hashes) = (read(rows.u32())?, read(rows.u64())?, read(rows.u64())?);
                if let Some(sum) = found.get_mut(bucket as usize) {
                    sum.add(count, hashes);
                }
            }
        }
        let mut together = Vec::new();
        let mut rows = 0;
        for (bucket, (expected, found)) in (0..).zip(expected.iter().zip(&found)) {
            if bucket != NEWEST && expected == found {
                report.agreeing += expected.rows;
                continue;
            }
            rows += expected.rows.max(found.rows);
            together.push(bucket);
            if rows >= VERIFY_ARCHIVE_ROWS_MAX {
                self.tell(topic, &parting, &months, &together, archived, report).await?;
                together.clear();
                rows = 0;
            }
        }
        if !together.is_empty() {
            self.tell(topic, &parting, &months, &together, archived, report).await?;
        }
        Ok(())
    }

    /// Rows of records that the log has. Only those of `timeline` say where they came from.
    fn kept_sql(&self, topic: Topic) -> Result<String, ArchiveVerifyError> {
        let mut kept = String::new();
        for partition in 0..self.log.partitions(topic) {
            let start = self.log.range(topic, partition)?.start;
            if topic != Topic::Timeline || start == 0 {
                continue;
            }
            let first = Scan::new(self.log, topic, partition, start..start + 1)?.next().transpose()?;
            let source = first.and_then(|record| super::source(&record.value)).map_or(0, |source| source.offset);
            let _ = write!(kept, " AND (source_partition != {partition} OR source_offset >= {source})");
        }
        Ok(format!("1{kept}"))
    }

    async fn months(&self, parting: &Parting) -> Result<Vec<u32>, ArchiveVerifyError> {
        let query = format!(
            "SELECT DISTINCT toUInt32(toYYYYMM({})) AS month FROM {} ORDER BY month",
            time_column(parting.table),
            parting.table.name()
        );
        let answer = self.archive.ask(query).await?;
        let mut rows = RowBinaryReader::new(&answer);
        let mut months = Vec::new();
        while !rows.is_empty() {
            months.push(read(rows.u32())?);
        }
        Ok(months)
    }

    /// Reads the rows of some parts from both sides, and says which differ.
    async fn tell(
        &self,
        topic: Topic,
        parting: &Parting,
        months: &[u32],
        buckets: &[u32],
        archived: &[u64],
        report: &mut TableReport,
    ) -> Result<(), ArchiveVerifyError> {
        let table = parting.table;
        let list: Vec<String> = buckets.iter().map(u32::to_string).collect();
        let mut found: HashMap<Vec<u8>, Vec<u64>> = HashMap::new();
        for &month in months {
            let query = format!(
                "SELECT {}, {} FROM {} FINAL WHERE {} AND {} IN ({})",
                key_sql(table),
                hash_sql(table),
                table.name(),
                parting.condition_sql(month),
                parting.bucket_sql(),
                list.join(", ")
            );
            let answer = self.archive.ask(query).await?;
            let mut rows = RowBinaryReader::new(&answer);
            while !rows.is_empty() {
                let (key, hash) = (read(rows.bytes())?.to_vec(), read(rows.u64())?);
                found.entry(key).or_default().push(hash);
            }
        }
        // After the archive was asked: whatever it answered follows from what is on the log by now.
        let mut expected: HashMap<Vec<u8>, Expected> = HashMap::new();
        self.rows(topic, parting, |row, partition, offset| {
            if buckets.binary_search(&parting.bucket(&row)).is_ok() {
                let is_due = archived.get(partition as usize).is_some_and(|next| offset < *next);
                expected.insert(row.key, Expected { hash: row.hash, partition, offset, is_due });
            }
        })?;
        let mut differences = Vec::new();
        for (key, expected) in &expected {
            let kind = match found.remove(key) {
                Some(hashes) if hashes == [expected.hash] => {
                    report.agreeing += 1;
                    continue;
                }
                Some(hashes) if hashes.contains(&expected.hash) => Kind::Extra,
                Some(_) => Kind::Differing,
                None if expected.is_due => Kind::Missing,
                None => continue,
            };
            differences.push((kind, key.clone(), Some((expected.partition, expected.offset))));
        }
        differences.extend(found.into_keys().map(|key| (Kind::Extra, key, None)));
        differences.sort_unstable();
        for (kind, key, record) in differences {
            match kind {
                Kind::Missing => report.missing += 1,
                Kind::Differing => report.differing += 1,
                _ => report.extra += 1,
            }
            if report.first.len() < self.kept_max {
                report.first.push(RowDifference {
                    kind,
                    table: table.name(),
                    key: row_facts::key_text(table, &key),
                    topic: record.map(|_| topic.name()),
                    partition: record.map(|(partition, _)| partition),
                    offset: record.map(|(_, offset)| offset),
                });
            }
        }
        Ok(())
    }

    /// The rows of a table that follow from the log, as it is now, with their records. Repeats have none.
    fn rows(
        &self,
        topic: Topic,
        parting: &Parting,
        mut each: impl FnMut(RowFacts, u32, u64),
    ) -> Result<(), ArchiveVerifyError> {
        for partition in 0..self.log.partitions(topic) {
            let mut next_source = 0;
            let mut since = 0;
            for record in Scan::new(self.log, topic, partition, 0..u64::MAX)? {
                let record = record?;
                since += 1;
                if since == 1_000 {
                    (self.progress)(std::mem::take(&mut since));
                }
                let mut rows = RowSet::default();
                push(topic, partition, &record, &mut next_source, &mut rows);
                for rows in rows.take().iter().filter(|rows| rows.table == parting.table) {
                    for row in row_facts::facts(rows).map_err(ArchiveError::from)? {
                        if row.time_ms >= parting.from_ms {
                            each(row, partition, record.offset);
                        }
                    }
                }
            }
            (self.progress)(since);
        }
        Ok(())
    }
}

/// As the archive's projection does.
fn push(topic: Topic, partition: u32, record: &StoredRecord, next_source: &mut u64, rows: &mut RowSet) {
    let mut is_fresh = |source: Option<wire::Source>| match source {
        Some(source) if source.partition == partition => {
            let is_fresh = source.offset >= *next_source;
            *next_source = (*next_source).max(source.offset.saturating_add(1));
            is_fresh
        }
        _ => true,
    };
    if topic == Topic::Timeline {
        if let Ok(decoded) = wire::TimelineRecord::decode(record.value.clone())
            && is_fresh(decoded.source)
        {
            rows.push_timeline(&decoded);
        }
    } else if let Ok(decoded) = wire::InboxRecord::decode(record.value.clone())
        && is_fresh(decoded.source)
    {
        rows.push_inbox(&decoded);
    }
}

fn read<T>(value: Result<T, tidings_dataflow::archive::row_binary::RowBinaryError>) -> Result<T, ArchiveVerifyError> {
    value.map_err(|error| ArchiveError::from(error).into())
}

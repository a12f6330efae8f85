//! The archive's rows built anew: whole tables beside those in use, which they replace; or the rows of a range of records,
//! which are put right where they are.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use serde::{Deserialize, Serialize};
use tidings_dataflow::archive::{
    rebuild::{Rebuilding, Scope, TableComparison},
    rows::RowSet,
    tables::Table,
};
use tidings_ingest::{Log, StoredRecord};
use tidings_schemas::{limits, topics::Topic, wire};

use super::{OnProgress, Progress, RebuildError, Step, check_kept};
use crate::{Scan, select::Span, verify::source};

/// How to build.
pub struct RebuildArchive<'a> {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The archive.
    pub archive: &'a dyn Rebuilding,
    /// What.
    pub part: Part,
    /// Whether rows in use are replaced.
    pub replaces: bool,
    /// How many differences of a table are kept.
    pub kept_max: usize,
    /// Told how far it is.
    pub progress: OnProgress<'a>,
}

/// What of the archive is built.
#[derive(Debug, Clone)]
pub enum Part {
    /// All tables of these topics.
    Whole(Vec<Topic>),
    /// The rows of these records.
    Spans(Vec<Span>),
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveReport {
    /// Records of the log that were read.
    pub records: u64,
    /// Records of the ranges that the archive's writer has not come to; it writes their rows.
    pub not_archived_yet: u64,
    /// The tables in use, as they were.
    pub tables: Vec<TableComparison>,
    /// Tables that stay as they are, since the log has no longer all that they hold.
    pub left: Vec<String>,
    /// Whether what is in use is now what follows from the log.
    pub is_replaced: bool,
}

/// The tables of a topic.
pub fn tables_of(topic: Topic) -> &'static [Table] {
    match topic {
        Topic::Timeline => &[Table::TimelineEntries, Table::MessageChanges, Table::Receipts],
        Topic::Inbox => &[Table::InboxEntries],
        Topic::Signals => &[Table::SessionEvents],
        _ => &[],
    }
}

/// One partition on its way into tables.
struct Feed {
    topic: Topic,
    partition: u32,
    next: u64,
    next_source: u64,
    /// The first and the last source of what was taken.
    sources: Option<(u64, u64)>,
}

/// Which of the two tables rows go to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Into {
    New,
    Used,
}

/// What of the archive's writer is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// What is surely in the tables.
    Done,
    /// What may be.
    Begun,
}

impl RebuildArchive<'_> {
    /// Builds, compares and puts in place.
    ///
    /// # Errors
    /// [`RebuildError`]. A whole table is then what it was; the rows of a range may be half put right: run it again.
    pub async fn run(self) -> Result<ArchiveReport, RebuildError> {
        self.archive.migrate().await?;
        match self.part.clone() {
            Part::Whole(topics) => self.whole(&topics).await,
            Part::Spans(spans) => self.spans(&spans).await,
        }
    }

    async fn whole(&self, topics: &[Topic]) -> Result<ArchiveReport, RebuildError> {
        const HINT: &str = "a range of what the log has can be put right: --offset, --from";
        let mut report = ArchiveReport::default();
        let mut built = Vec::new();
        for &topic in topics {
            // Sessions are kept longer than the log has them: nothing but the old table has the older ones.
            if topic == Topic::Signals && check_kept(&*self.log, &[topic], HINT).is_err() {
                report.left.extend(tables_of(topic).iter().map(|table| table.name().to_owned()));
            } else {
                check_kept(&*self.log, &[topic], HINT)?;
                built.push(topic);
            }
        }
        let tables: Vec<Table> = built.iter().flat_map(|topic| tables_of(*topic)).copied().collect();
        for table in &tables {
            self.archive.create_new(*table).await?;
        }
        let mut feeds = Vec::new();
        for &topic in &built {
            for partition in 0..self.log.partitions(topic) {
                feeds.push(Feed { topic, partition, next: 0, next_source: 0, sources: None });
            }
        }
        // Each time less has come meanwhile.
        for _ in 0..limits::REBUILD_ROUNDS_MAX {
            let before = report.records;
            self.follow(&mut feeds, Written::Done, Into::New, &mut report.records).await?;
            if report.records - before < limits::ARCHIVE_BATCH_ROWS_MAX as u64 {
                break;
            }
        }
        for (done, table) in (1_u64..).zip(&tables) {
            self.archive.begin_comparison(*table, &Scope::Whole).await?;
            (self.progress)(Progress { step: Step::Comparing, done, total: tables.len() as u64 });
        }
        // What was in use by then comes from records that the writer had begun with.
        self.follow(&mut feeds, Written::Begun, Into::New, &mut report.records).await?;
        for table in &tables {
            report.tables.push(self.archive.end_comparison(*table, self.kept_max).await?);
        }
        if self.replaces {
            (self.progress)(Progress { step: Step::Switching, done: 0, total: tables.len() as u64 });
            for (done, table) in (1_u64..).zip(&tables) {
                self.archive.exchange(*table).await?;
                (self.progress)(Progress { step: Step::Switching, done, total: tables.len() as u64 });
            }
            // What was inserted into the old ones up to then.
            self.follow(&mut feeds, Written::Begun, Into::Used, &mut report.records).await?;
            report.is_replaced = true;
        }
        for table in &tables {
            self.archive.drop_beside(*table, !self.replaces).await?;
        }
        Ok(report)
    }

    /// Takes in all that the archive's writer has inserted, or begun to.
    async fn follow(&self, feeds: &mut [Feed], to: Written, into: Into, records: &mut u64) -> Result<(), RebuildError> {
        let mut ends = BTreeMap::new();
        for written in self.archive.written().await? {
            let planned = written.planned.filter(|_| to == Written::Begun).map_or(0, |planned| planned.end_offset);
            ends.insert((written.topic, written.partition), written.next_offset.max(planned));
        }
        let end = |feed: &Feed| ends.get(&(feed.topic, feed.partition)).copied().unwrap_or(0);
        let total = *records + feeds.iter().map(|feed| end(feed).saturating_sub(feed.next)).sum::<u64>();
        let mut rows = RowSet::default();
        for feed in feeds {
            let end = end(feed);
            self.feed(feed, end, into, &mut rows, records, total).await?;
        }
        self.flush(&mut rows, into).await
    }

    async fn feed(
        &self,
        feed: &mut Feed,
        end: u64,
        into: Into,
        rows: &mut RowSet,
        records: &mut u64,
        total: u64,
    ) -> Result<(), RebuildError> {
        if feed.next >= end {
            return Ok(());
        }
        for record in Scan::new(&*self.log, feed.topic, feed.partition, feed.next..end)? {
            let record = record?;
            feed.take(&record, rows);
            *records += 1;
            if rows.rows() >= limits::ARCHIVE_BATCH_ROWS_MAX || rows.bytes() >= limits::ARCHIVE_BATCH_BYTES_MAX {
                self.flush(rows, into).await?;
            }
            if records.is_multiple_of(1_000) {
                (self.progress)(Progress { step: Step::Building, done: *records, total });
            }
        }
        feed.next = end;
        Ok(())
    }

    /// One past the newest source before the range: what comes from below it there is a repeat.
    fn next_source(&self, span: &Span, start: u64) -> Result<u64, RebuildError> {
        let mut next_source = 0;
        if span.topic != Topic::Signals {
            for record in Scan::new(&*self.log, span.topic, span.partition, 0..start)? {
                if let Some(source) = source(&record?.value).filter(|source| source.partition == span.partition) {
                    next_source = next_source.max(source.offset.saturating_add(1));
                }
            }
        }
        Ok(next_source)
    }

    async fn flush(&self, rows: &mut RowSet, into: Into) -> Result<(), RebuildError> {
        for rows in rows.take() {
            match into {
                Into::New => self.archive.insert_new(&rows).await?,
                Into::Used => self.archive.insert_used(&rows).await?,
            }
        }
        Ok(())
    }

    async fn spans(&self, spans: &[Span]) -> Result<ArchiveReport, RebuildError> {
        let mut report = ArchiveReport::default();
        let written = self.archive.written().await?;
        let mut feeds = Vec::new();
        let mut topics: Vec<Topic> = spans.iter().map(|span| span.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let tables: Vec<Table> = topics.iter().flat_map(|topic| tables_of(*topic)).copied().collect();
        for table in &tables {
            self.archive.create_new(*table).await?;
        }
        let mut rows = RowSet::default();
        let total = spans.iter().map(Span::records).sum();
        for span in spans {
            let known = written.iter().find(|known| (known.topic, known.partition) == (span.topic, span.partition));
            let archived = known.map_or(0, |known| known.next_offset);
            let end = span.offsets.end.min(archived);
            let start = span.offsets.start.min(end);
            report.not_archived_yet += span.records() - (end - start);
            let next_source = self.next_source(span, start)?;
            let mut feed =
                Feed { topic: span.topic, partition: span.partition, next: start, next_source, sources: None };
            self.feed(&mut feed, end, Into::New, &mut rows, &mut report.records, total).await?;
            feeds.push(feed);
        }
        self.flush(&mut rows, Into::New).await?;
        for (done, table) in (1_u64..).zip(&tables) {
            let topic = topics.iter().copied().find(|topic| tables_of(*topic).contains(table));
            let sources = feeds.iter().filter(|feed| Some(feed.topic) == topic);
            let sources = sources.filter_map(|feed| feed.sources.map(|(first, last)| (feed.partition, first, last)));
            let scope = match topic {
                // Its rows do not say which record they are of, but a recipient's offsets have no gap.
                Some(Topic::Inbox) | None => Scope::Keys,
                Some(_) => Scope::Sources(sources.collect()),
            };
            self.archive.begin_comparison(*table, &scope).await?;
            report.tables.push(self.archive.end_comparison(*table, self.kept_max).await?);
            (self.progress)(Progress { step: Step::Comparing, done, total: tables.len() as u64 });
            if self.replaces {
                self.archive.repair(*table).await?;
            }
        }
        report.is_replaced = self.replaces;
        for table in &tables {
            self.archive.drop_beside(*table, !self.replaces).await?;
        }
        Ok(report)
    }
}

impl Feed {
    /// As the archive's projection does: repeats and what cannot be read have no rows.
    fn take(&mut self, record: &StoredRecord, rows: &mut RowSet) {
        match self.topic {
            Topic::Timeline => {
                if let Ok(decoded) = wire::TimelineRecord::decode(record.value.clone())
                    && self.is_fresh(decoded.source)
                {
                    rows.push_timeline(&decoded);
                }
            }
            Topic::Inbox => {
                if let Ok(decoded) = wire::InboxRecord::decode(record.value.clone())
                    && self.is_fresh(decoded.source)
                {
                    rows.push_inbox(&decoded);
                }
            }
            Topic::Signals => {
                if let Ok(decoded) = wire::SignalRecord::decode(record.value.clone()) {
                    rows.push_signals(&decoded, self.partition, record.offset);
                    self.saw(record.offset);
                }
            }
            _ => {}
        }
    }

    fn is_fresh(&mut self, source: Option<wire::Source>) -> bool {
        match source {
            Some(source) if source.partition == self.partition => {
                let is_fresh = source.offset >= self.next_source;
                self.next_source = self.next_source.max(source.offset.saturating_add(1));
                if is_fresh {
                    self.saw(source.offset);
                }
                is_fresh
            }
            _ => true,
        }
    }

    /// What rows say that they came from.
    fn saw(&mut self, source: u64) {
        self.sources = Some(self.sources.map_or((source, source), |(first, _)| (first, source)));
    }
}

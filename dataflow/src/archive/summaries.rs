//! Days and hours that are over, counted once and written down: who was active, how long deliveries took. The views
//! (`daily_active_users`, `delivery_latency`) read what is written down, and count only what came after it.
//!
//! A period is counted a little after its end, and again each time that its age has doubled, until it is a day old: what
//! comes late (a client that was away, a projection that was behind) is in it then. Everything is repeated without harm: the
//! row that was written last counts.

use std::ops::Range;

use tidings_schemas::limits::{ARCHIVE_SUMMARY_HOURS_MAX, ARCHIVE_SUMMARY_MESSAGES_MAX, ARCHIVE_SUMMARY_SETTLE};

use super::{
    row_binary::RowBinaryReader,
    sql::{Sql, SqlArchive},
    store::ArchiveError,
};

const HOUR_SECONDS: u64 = 60 * 60;
const DAY_SECONDS: u64 = 24 * HOUR_SECONDS;

/// A table of periods.
struct Summary {
    table: &'static str,
    /// The column that names the period, and its columns that are counted.
    period: &'static str,
    counted: &'static str,
    /// The view that counts a stretch of time.
    view: &'static str,
    seconds: u64,
    /// A period from its beginning, in seconds since 1970 that are in the column `begins`.
    from_seconds: &'static str,
    /// When the first of what is counted was.
    first: &'static str,
}

const DAILY: Summary = Summary {
    table: "daily_summaries",
    period: "day",
    counted: "active_users, senders, readers, connected_users",
    view: "daily_active_users_between",
    seconds: DAY_SECONDS,
    from_seconds: "toDate(toDateTime(begins, 'UTC'))",
    first: "SELECT min(sent_at) AS at FROM timeline_entries WHERE kind != 'membership' HAVING count() > 0 \
            UNION ALL SELECT min(moved_at) AS at FROM receipts HAVING count() > 0 \
            UNION ALL SELECT min(session_events.at) AS at FROM session_events WHERE kind = 'opened' HAVING count() > 0",
};

const HOURLY: Summary = Summary {
    table: "hourly_summaries",
    period: "hour",
    counted: "deliveries, delivered, seen, delivered_seconds_p50, delivered_seconds_p95, delivered_seconds_p99, \
              seen_seconds_p50, seen_seconds_p95",
    view: "delivery_latency_between",
    seconds: HOUR_SECONDS,
    from_seconds: "toDateTime(begins, 'UTC')",
    first: "SELECT min(sent_at) AS at FROM timeline_entries WHERE kind != 'membership' HAVING count() > 0",
};

impl Summary {
    /// The end of the last period that is over long enough.
    fn end_of_past(&self, now_ms: u64) -> u64 {
        (now_ms / 1_000).saturating_sub(ARCHIVE_SUMMARY_SETTLE.as_secs()) / self.seconds * self.seconds
    }

    /// Counts the periods from `since` until `until`, and writes down those with nothing in them, too.
    fn count(&self, since: u64, until: u64, now_ms: u64) -> String {
        let Self { table, period, counted, view, seconds, from_seconds, .. } = self;
        format!(
            "INSERT INTO {table} ({period}, {counted}, known_at) \
             SELECT past.{period}, {counted}, fromUnixTimestamp64Milli(toInt64({now_ms}), 'UTC') \
             FROM (SELECT {from_seconds} AS {period} FROM (SELECT arrayJoin(range(toUInt32({since}), toUInt32({until}), {seconds})) AS begins)) AS past \
             LEFT JOIN (SELECT {period}, {counted} FROM {view}(since = {}, until = {})) AS found ON past.{period} = found.{period}",
            moment(since),
            moment(until),
        )
    }

    /// In seconds since 1970: when a period that is written down began, and when it ended.
    fn begins(&self) -> String {
        format!("toUInt64(toUnixTimestamp(toDateTime({}, 'UTC')))", self.period)
    }
}

/// As the views' parameters take it.
fn moment(seconds: u64) -> String {
    format!("toDateTime64(toDateTime({seconds}, 'UTC'), 3, 'UTC')")
}

impl<S: Sql> SqlArchive<S> {
    /// Counts what is over at this moment and was not counted, or was counted when it was much younger. Tells how many
    /// periods these were.
    ///
    /// # Errors
    /// The archive's. What was counted until then is written down.
    pub async fn summarize_as_of(&self, now_ms: u64) -> Result<u64, ArchiveError> {
        let mut counted = 0;
        for summary in [&DAILY, &HOURLY] {
            counted += self.count_new(summary, now_ms).await?;
            counted += self.count_again(summary, now_ms).await?;
        }
        Ok(counted)
    }

    /// At the database's own time.
    pub(super) async fn summarize_now(&self) -> Result<u64, ArchiveError> {
        let now_ms = self.number("SELECT toUInt64(toUnixTimestamp64Milli(now64(3)))".to_owned()).await?.unwrap_or(0);
        self.summarize_as_of(now_ms).await
    }

    /// Whatever is written down is counted anew: what it was counted from is not what it was. Until then it still says what
    /// it said.
    pub(super) async fn distrust_summaries(&self) -> Result<(), ArchiveError> {
        for summary in [&DAILY, &HOURLY] {
            let Summary { table, period, counted, .. } = summary;
            let as_if_never = format!(
                "INSERT INTO {table} ({period}, {counted}, known_at) \
                 SELECT {period}, {counted}, toDateTime64(0, 3, 'UTC') FROM {table} FINAL"
            );
            self.sql.run(as_if_never).await?;
        }
        Ok(())
    }

    async fn count_new(&self, summary: &Summary, now_ms: u64) -> Result<u64, ArchiveError> {
        let end = summary.end_of_past(now_ms);
        let last = format!("SELECT max({}) FROM {} HAVING count() > 0", summary.begins(), summary.table);
        let next = match self.number(last).await? {
            Some(last) => last + summary.seconds,
            None => {
                let first =
                    format!("SELECT toUInt64(toUnixTimestamp(min(at))) FROM ({}) HAVING count() > 0", summary.first);
                let Some(first) = self.number(first).await? else { return Ok(0) };
                first / summary.seconds * summary.seconds
            }
        };
        self.count_all(summary, next..end, now_ms).await
    }

    async fn count_again(&self, summary: &Summary, now_ms: u64) -> Result<u64, ArchiveError> {
        let (begins, seconds) = (summary.begins(), summary.seconds);
        let grown_up = DAY_SECONDS + ARCHIVE_SUMMARY_SETTLE.as_secs();
        let due = format!(
            "SELECT {begins} AS begins FROM {} FINAL \
             WHERE toUnixTimestamp64Milli(known_at) < (begins + {seconds} + {grown_up}) * 1000 \
             AND {now_ms} - (begins + {seconds}) * 1000 >= 2 * (toUnixTimestamp64Milli(known_at) - toInt64((begins + {seconds}) * 1000)) \
             ORDER BY begins",
            summary.table
        );
        let answer = self.sql.run(due).await?;
        let mut rows = RowBinaryReader::new(&answer);
        let mut stretches: Vec<Range<u64>> = Vec::new();
        while !rows.is_empty() {
            let begins = rows.u64()?;
            match stretches.last_mut().filter(|stretch| stretch.end == begins) {
                Some(stretch) => stretch.end += seconds,
                None => stretches.push(begins..begins + seconds),
            }
        }
        let mut counted = 0;
        for stretch in stretches {
            counted += self.count_all(summary, stretch, now_ms).await?;
        }
        Ok(counted)
    }

    /// Counts the periods of a stretch of time, as many at a time as can be.
    async fn count_all(&self, summary: &Summary, stretch: Range<u64>, now_ms: u64) -> Result<u64, ArchiveError> {
        let Range { start: mut next, end } = stretch;
        let mut counted = 0;
        while next < end {
            let mut together = self.together(summary, next, end).await?;
            let until = |together| next + together * summary.seconds;
            while let Err(error) = self.sql.compute(summary.count(next, until(together), now_ms)).await {
                // Fewer at a time need less memory and time.
                if together == 1 || matches!(error, ArchiveError::Schema(_)) {
                    return Err(error);
                }
                together = together.div_ceil(2);
            }
            counted += together;
            next = until(together);
        }
        Ok(counted)
    }

    /// How many periods from this one on are counted together.
    async fn together(&self, summary: &Summary, next: u64, end: u64) -> Result<u64, ArchiveError> {
        if summary.seconds != HOUR_SECONDS {
            return Ok(1);
        }
        let until = end.min(next + ARCHIVE_SUMMARY_HOURS_MAX * HOUR_SECONDS);
        let messages = format!(
            "SELECT toUInt64(toUnixTimestamp(toStartOfHour(toDateTime(sent_at, 'UTC')))) AS begins, count() FROM timeline_entries \
             WHERE kind != 'membership' AND sent_at >= {} AND sent_at < {} GROUP BY begins ORDER BY begins",
            moment(next),
            moment(until)
        );
        let answer = self.sql.compute(messages).await?;
        let mut rows = RowBinaryReader::new(&answer);
        let mut sum = 0;
        while !rows.is_empty() {
            let (begins, messages) = (rows.u64()?, rows.u64()?);
            sum += messages;
            if sum > ARCHIVE_SUMMARY_MESSAGES_MAX && begins > next {
                return Ok((begins - next) / HOUR_SECONDS);
            }
        }
        Ok((until - next) / HOUR_SECONDS)
    }

    /// The number in the only row; none: there is no row.
    async fn number(&self, sql: String) -> Result<Option<u64>, ArchiveError> {
        let answer = self.sql.compute(sql).await?;
        let mut rows = RowBinaryReader::new(&answer);
        if rows.is_empty() { Ok(None) } else { Ok(Some(rows.u64()?)) }
    }
}

//! Which records: `--partition`, `--offset`, `--from`, `--to`, and topics by name, as kcat and rpk write them.

use anyhow::{Context, Result, bail};
use tidings_replay::{Bound, Selection, state::Moment};
use tidings_schemas::{
    clock::{Clock, SystemClock},
    topics::Topic,
};

/// Which records.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RangeArgs {
    /// Only these partitions: a number, or several with commas.
    #[arg(short, long, value_name = "N", value_delimiter = ',', value_parser = partition)]
    pub partition: Vec<u32>,
    /// Where to begin: beginning, end, -N (N before the end) or an offset; or a range BEGIN..END of two of them, without
    /// END itself. In each partition that is read, so offsets mostly go with -p.
    #[arg(short, long, value_name = "OFFSET", value_parser = offsets, allow_hyphen_values = true, default_value = "beginning")]
    pub offset: (Bound, Option<Bound>),
    /// Only what was appended at or after this moment: RFC 3339 (2026-01-31T12:00:00Z), a day in UTC (2026-01-31), before
    /// now (-2h, -30m, -7d), now, or Unix time in milliseconds (13 digits).
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub from: Option<i64>,
    /// Only what was appended before this moment.
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub to: Option<i64>,
}

impl RangeArgs {
    /// As the library takes it.
    ///
    /// # Errors
    /// The range of times is empty.
    pub fn selection(&self, topics: Vec<Topic>) -> Result<Selection> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            bail!("--from is not before --to: nothing lies between");
        }
        let (start, end) = self.offset;
        Ok(Selection { topics, partitions: self.partition.clone(), start, end, from_ms: self.from, to_ms: self.to })
    }
}

/// Topics by name, with or without their version; `all` for all of them.
///
/// # Errors
/// There is no such topic.
pub fn topics(names: &[String]) -> Result<Vec<Topic>> {
    let mut topics = Vec::new();
    for name in names {
        if name == "all" {
            topics.extend(Topic::ALL);
            continue;
        }
        let found = Topic::ALL.into_iter().find(|topic| topic.name() == name || short(*topic) == name);
        let known = || Topic::ALL.map(short).join(", ");
        topics.push(found.with_context(|| format!("there is no topic {name:?} (hint: all, or {})", known()))?);
    }
    topics.sort_unstable();
    topics.dedup();
    Ok(topics)
}

/// The topic's name without its version.
fn short(topic: Topic) -> &'static str {
    topic.name().split('.').next().unwrap_or_default()
}

fn partition(text: &str) -> Result<u32> {
    text.trim()
        .parse()
        .with_context(|| format!("{text:?} is no partition (hint: a number, or several with commas: 0,2)"))
}

fn bound(text: &str) -> Result<Bound> {
    Ok(match text {
        "beginning" | "start" => Bound::Beginning,
        "end" => Bound::End,
        _ => match text.strip_prefix('-') {
            Some(count) => Bound::BeforeEnd(count.parse().with_context(|| format!("{text:?} is not -N"))?),
            None => Bound::At(
                text.parse()
                    .with_context(|| format!("{text:?} is no offset (hint: beginning, end, -N or a number)"))?,
            ),
        },
    })
}

fn offsets(text: &str) -> Result<(Bound, Option<Bound>)> {
    match text.split_once("..") {
        None => Ok((bound(text)?, None)),
        Some((start, end)) => {
            let start = if start.is_empty() { Bound::Beginning } else { bound(start)? };
            let end = if end.is_empty() { None } else { Some(bound(end)?) };
            if let (Bound::At(start), Some(Bound::At(end))) = (start, end)
                && start > end
            {
                bail!("the range {text} ends before it begins");
            }
            Ok((start, end))
        }
    }
}

/// A moment of the past: a time, or just behind a record, `TOPIC:PARTITION:OFFSET`.
///
/// # Errors
/// It is neither.
pub fn as_of(text: &str) -> Result<Moment> {
    if text == "now" {
        return Ok(Moment::Now);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let at = || {
        let at = moment(text).map(Moment::At);
        at.map_err(|_| anyhow::anyhow!("{text:?} is no time, and no record ({TIME_HINT}, or events:0:1234)"))
    };
    let [name, partition, offset] = parts[..] else { return at() };
    // A time has as many colons, but begins with a digit.
    if !name.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        return at();
    }
    let [topic] = topics(&[name.to_owned()])?[..] else { bail!("{text:?} names no one topic (hint: events:0:1234)") };
    let number = |text: &str| text.parse().with_context(|| format!("{text:?} is no number (hint: events:0:1234)"));
    let partition = u32::try_from(number(partition)?).context("there is no such partition")?;
    Ok(Moment::Record { topic, partition, offset: number(offset)? })
}

/// Milliseconds since the Unix epoch.
fn moment(text: &str) -> Result<i64> {
    moment_at(text, SystemClock::new().now_ms())
}

fn moment_at(text: &str, now_ms: i64) -> Result<i64> {
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago_ms = span_ms(ago).with_context(|| format!("{text:?} is no time (hint: -90s, -30m, -2h, -7d)"))?;
        return Ok(now_ms.saturating_sub(ago_ms));
    }
    // rpk takes these two as well.
    if text.len() == UNIX_MS_DIGITS && text.bytes().all(|digit| digit.is_ascii_digit()) {
        return text.parse().with_context(|| format!("{text:?} is no time"));
    }
    let midnight = format!("{text}T00:00:00Z");
    let whole = if text.len() == DAY_LETTERS { &midnight } else { text };
    let moment: jiff::Timestamp = whole.parse().map_err(|_| anyhow::anyhow!("{text:?} is no time ({TIME_HINT})"))?;
    Ok(moment.as_millisecond())
}

const TIME_HINT: &str = "hint: 2026-01-31T12:00:00Z, with a zone, 2026-01-31 in UTC, or -2h";
/// `1767225600000`.
const UNIX_MS_DIGITS: usize = 13;
/// `2026-01-31`.
const DAY_LETTERS: usize = 10;

/// `2h30m`, in milliseconds.
fn span_ms(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let count: i64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|letter: char| letter.is_ascii_digit()).map_or(rest.len(), |at| at + digits);
        let unit_ms = match &rest[digits..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        total = total.checked_add(count.checked_mul(unit_ms)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_kcat_and_rpk_write_them() {
        for (text, expected) in [
            ("beginning", (Bound::Beginning, None)),
            ("end", (Bound::End, None)),
            ("-10", (Bound::BeforeEnd(10), None)),
            ("42", (Bound::At(42), None)),
            ("42..50", (Bound::At(42), Some(Bound::At(50)))),
            ("..50", (Bound::Beginning, Some(Bound::At(50)))),
            ("-5..end", (Bound::BeforeEnd(5), Some(Bound::End))),
            ("7..", (Bound::At(7), None)),
        ] {
            assert_eq!(offsets(text).unwrap(), expected, "{text}");
        }
        for text in ["", "first", "-", "--1", "5..4", "1.5", "18446744073709551616"] {
            assert!(offsets(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_absolute_or_before_now() {
        let now_ms = 1_767_225_600_000;
        for (text, expected) in [
            ("now", now_ms),
            ("-2h", now_ms - 7_200_000),
            ("-1h30m", now_ms - 5_400_000),
            ("-7d", now_ms - 7 * 86_400_000),
            ("2026-01-01T00:00:00Z", now_ms),
            ("2026-01-01T01:00:00+01:00", now_ms),
            ("2026-01-01", now_ms),
            ("1767225600000", now_ms),
        ] {
            assert_eq!(moment_at(text, now_ms).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "-",
            "-h",
            "-2",
            "-2y",
            "2026-01-32",
            "2026-01-01T10:00",
            "2026-01-01 10:00:00",
            "1767225600",
            "2h",
            "-9223372036854775807w",
        ] {
            assert!(moment_at(text, now_ms).is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_record() {
        assert_eq!(as_of("now").unwrap(), Moment::Now);
        assert_eq!(as_of("2026-01-01T00:00:00Z").unwrap(), Moment::At(1_767_225_600_000));
        let record = Moment::Record { topic: Topic::Timeline, partition: 3, offset: 17 };
        assert_eq!(as_of("timeline:3:17").unwrap(), record);
        for text in
            ["", "event:0:1", "all:0:1", "events:0", "events:0:x", "events:-1:0", "events:4294967296:0", "12:00:00"]
        {
            let error = as_of(text).unwrap_err().to_string();
            assert!(error.contains("hint") || error.contains("no such partition"), "{text}: {error}");
        }
    }

    #[test]
    fn topics_are_known_with_and_without_their_version() {
        let named = |names: &[&str]| topics(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(named(&["inbox", "events.v1", "events"]).unwrap(), [Topic::Events, Topic::Inbox]);
        assert_eq!(named(&["all"]).unwrap(), Topic::ALL);
        assert!(named(&["event"]).unwrap_err().to_string().contains("notifications"));
    }
}

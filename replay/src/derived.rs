//! Where the records stand that follow from one event. Every derived record names its source, and the sources of a
//! partition ascend wherever they are new: so a record is found without reading what is before it.

use std::ops::Range;

use bytes::{Buf, Bytes};
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tidings_ingest::{Log, StoredRecord};
use tidings_schemas::{limits::CLOCK_STEP_BACK_MAX, topics::Topic, wire::Source};

use crate::{
    scan::{Scan, ScanError},
    select::{SelectError, first_at_or_after},
};

/// The field that names what a record of `timeline`, `fanout` or `inbox` was made from.
pub const SOURCE: u32 = 1;
/// The field of a record of `inbox` that names the event that it goes back to.
pub const EVENTS_SOURCE: u32 = 4;

/// The source in this field of a record, without decoding the rest; `None` for what is no such record.
pub fn source(value: &Bytes, field: u32) -> Option<Source> {
    let mut rest = &value[..];
    while rest.has_remaining() {
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        if number == field && wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            return Source::decode(rest.get(..length)?).ok();
        }
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
    }
    None
}

/// The first record of a `timeline` partition that was made from the event at `offset`: `None` where it is not recorded
/// yet, or no longer kept.
///
/// Each event has one, so whatever stands where the event does is of this event or of an earlier one, by as much as there
/// are repeats before it: a few leaps lead there.
///
/// # Errors
/// The log cannot be read.
pub fn in_timeline(log: &dyn Log, partition: u32, offset: u64) -> Result<Option<StoredRecord>, ScanError> {
    let kept = log.range(Topic::Timeline, partition)?;
    let mut place = offset.max(kept.start);
    while place < kept.end {
        let found = Scan::new(log, Topic::Timeline, partition, place..place + 1)?.next().transpose()?;
        let Some(found) = found else { return Ok(None) };
        place += match source(&found.value, SOURCE).map(|source| source.offset) {
            Some(source) if source == offset => return Ok(Some(found)),
            Some(source) if source < offset => offset - source,
            // Only where the first ones are gone: a repeat may still stand further on, but it is not when it happened.
            Some(_) => return Ok(None),
            // Not one of the stage's.
            None => 1,
        };
    }
    Ok(None)
}

/// How far around a moment a record is looked for at first, in milliseconds, and how much further each time.
const MARGIN_MS: i64 = 2_000;
const MARGIN_GROWTH: i64 = 30;

/// The first record of a `fanout` or `inbox` partition that goes back to an event, which was derived at about `around_ms`;
/// `None` where nothing of it stands in this partition. `field`: where such a record names the event. `took` is told of
/// each record that is read.
///
/// # Errors
/// The log cannot be read.
pub fn in_partition(
    log: &dyn Log,
    (topic, partition): (Topic, u32),
    field: u32,
    event: Source,
    around_ms: i64,
    took: &dyn Fn(u64),
) -> Result<Option<StoredRecord>, SelectError> {
    let kept = log.range(topic, partition)?;
    let step_ms = i64::try_from(CLOCK_STEP_BACK_MAX.as_millis()).unwrap_or(i64::MAX);
    let mut margin_ms = MARGIN_MS;
    loop {
        let start = if margin_ms > step_ms {
            kept.start
        } else {
            first_at_or_after(log, topic, partition, kept.start..kept.end, around_ms.saturating_sub(margin_ms))?
        };
        // What is before the start matters only if the start is behind the record.
        let mut is_before = start == kept.start;
        for record in Scan::new(log, topic, partition, start..kept.end)? {
            let record = record?;
            took(1);
            let Some(source) = source(&record.value, field).filter(|source| source.partition == event.partition) else {
                continue;
            };
            if source.offset == event.offset {
                return Ok(Some(record));
            }
            if source.offset > event.offset {
                break;
            }
            is_before = true;
        }
        if is_before {
            return Ok(None);
        }
        margin_ms = margin_ms.saturating_mul(MARGIN_GROWTH);
    }
}

/// The records of a partition that were appended from about one moment to about another.
///
/// # Errors
/// The log cannot be read.
pub fn around(log: &dyn Log, topic: Topic, partition: u32, moments_ms: Range<i64>) -> Result<Range<u64>, SelectError> {
    let kept = log.range(topic, partition)?;
    let start = first_at_or_after(log, topic, partition, kept.start..kept.end, moments_ms.start)?;
    let end = first_at_or_after(log, topic, partition, start..kept.end, moments_ms.end.saturating_add(1))?;
    Ok(start..end)
}

//! How differences are written: counts by kind, then the first of each kind with both sides.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_replay::{
    Scan, decode,
    diff::{Derived, Example, Kind, Report},
};
use tidings_schemas::topics::Topic;

use super::DiffArgs;
use crate::replay::{
    exit::{Code, Failure, Outcome, WithCode},
    source::Source,
    table::{self, Columns},
};

/// What would be read.
pub(super) fn plan(source: &Source, ends: &[u64], as_json: bool) -> Outcome {
    let events: u64 = ends.iter().sum();
    if as_json {
        let report = json!({"source": source.place, "events": events, "ends": ends});
        return table::print(&table::pretty(&report)?);
    }
    let mut columns = Columns::new(["TOPIC", "P", "FROM", "TO"]);
    for (partition, end) in ends.iter().enumerate() {
        columns.row([Topic::Events.name().to_owned(), partition.to_string(), "0".to_owned(), end.to_string()]);
    }
    let place = &source.place;
    table::print(&format!("{columns}\n{events} events of {place} would be taken through the stages twice"))
}

/// What came of it.
pub(super) fn report(args: &DiffArgs, source: &Source, changed: &[String], report: &Report) -> Outcome {
    let mut examples = Vec::new();
    for kind in Kind::ALL {
        for example in report.examples.iter().filter(|example| example.kind == kind) {
            examples.push(example_json(source, example)?);
        }
    }
    let counts = || Kind::ALL.into_iter().filter_map(|kind| Some((kind, *report.counts.get(&kind)?)));
    if args.json {
        let records = report
            .records
            .iter()
            .map(|(topic, (before, after))| json!({"topic": topic.name(), "before": before, "after": after}));
        let kinds = counts().map(|(kind, events)| json!({"kind": kind, "events": events, "meaning": kind.meaning()}));
        let report = json!({
            "source": source.place,
            "log_id": format!("{:032x}", source.log.log_id()),
            "changed": changed,
            "with": args.with.as_ref().map(|binary| binary.display().to_string()),
            "events": report.events,
            "differing": report.differing,
            "only_numbers": report.only_numbers,
            "records": records.collect::<Vec<_>>(),
            "kinds": kinds.collect::<Vec<_>>(),
            "examples": examples,
        });
        return table::print(&table::pretty(&report)?);
    }
    let mut columns = Columns::new(["TOPIC", "BEFORE", "AFTER"]);
    for (topic, (before, after)) in &report.records {
        columns.row([topic.name().to_owned(), before.to_string(), after.to_string()]);
    }
    let mut text = format!("{columns}\n");
    let mut columns = Columns::new(["KIND", "EVENTS", ""]);
    for (kind, events) in counts() {
        columns.row([kind.name().to_owned(), events.to_string(), kind.meaning().to_owned()]);
    }
    if columns.has_rows() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{columns}\n");
    }
    for example in &examples {
        let _ = writeln!(text, "{example}");
    }
    table::print(&format!("{text}{} events of {}", report.events, source.place))
}

/// The event and what follows from it on both sides, in the topic that the kind is about.
fn example_json(source: &Source, example: &Example) -> Result<Value, Failure> {
    let Example { kind, before, after } = example;
    let Derived { partition, offset, .. } = before;
    let event =
        Scan::new(&*source.log, Topic::Events, *partition, *offset..offset.saturating_add(1))?.next().transpose()?;
    let event = event.map(|record| shown(Topic::Events, *partition, &record)).transpose()?;
    let side = |derived: &Derived| {
        let records = derived.records.iter().filter(|record| record.topic == kind.topic());
        records.map(derived_json).collect::<Result<Vec<_>, _>>()
    };
    Ok(json!({"kind": kind, "event": event, "before": side(before)?, "after": side(after)?}))
}

fn shown(topic: Topic, partition: u32, record: &StoredRecord) -> Result<Value, Failure> {
    serde_json::from_str(&decode::json(topic, partition, record)).code(Code::Target)
}

/// A record that stands nowhere: it has no offset and no time.
fn derived_json(record: &NewRecord) -> Result<Value, Failure> {
    let NewRecord { topic, partition, key, value } = record.clone();
    let mut json = shown(topic, partition, &StoredRecord { offset: 0, timestamp_ms: 0, key, value })?;
    if let Some(fields) = json.as_object_mut() {
        fields.retain(|name, _| name != "offset" && name != "timestamp");
    }
    Ok(json)
}

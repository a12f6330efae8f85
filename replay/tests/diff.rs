//! The same random history under two rules, held against the plain model of the stage under both.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../dataflow/tests/conversations/history.rs"]
mod history;
mod support;

use std::{
    collections::{BTreeMap, HashMap},
    thread,
};

use history::History;
use prost::Message;
use support::{Held, host_config};
use tidings_dataflow::{
    conversations::{ConversationsConfig, model::Model},
    host::HostConfig,
};
use tidings_ingest::{Log, NewRecord};
use tidings_replay::diff::{Comparison, Derivation, Derived, DiffError, Kind, Report, Side};
use tidings_schemas::{
    ids::{UserId, unpack_user_ids},
    topics::{Partitions, Topic},
    wire,
};

const PARTITIONS: Partitions = Partitions { conversations: 2, recipients: 2, edges: 4, directory: 1 };

fn config() -> ConversationsConfig {
    ConversationsConfig { group_members_max: 25, ..Default::default() }
}

fn with_max(group_members_max: u32) -> HostConfig {
    HostConfig { conversations: ConversationsConfig { group_members_max, ..Default::default() }, ..host_config() }
}

/// Two histories, whose times meet.
fn log(events: usize) -> Held {
    let mut log = Held::default();
    for partition in 0..2 {
        for record in History::new(31 + u64::from(partition)).take(events) {
            log.push(Topic::Events, partition, record.timestamp_ms, &record.key, record.value.to_vec());
        }
    }
    log
}

fn derived(log: &dyn Log, config: &HostConfig, ends: &[u64]) -> Vec<Derived> {
    let mut derivation = Derivation::new(log, config, ends).unwrap();
    let mut all = Vec::new();
    loop {
        let turn = derivation.turn().unwrap();
        if turn.is_empty() {
            return all;
        }
        all.extend(turn);
    }
}

fn compare(log: &Held, before: &HostConfig, after: &HostConfig, ends: (&[u64], &[u64])) -> Result<Report, DiffError> {
    let side = |config: &HostConfig, ends: &[u64], give: &mut dyn FnMut(Vec<Derived>) -> bool| {
        let mut derivation = Derivation::new(log, config, ends)?;
        loop {
            let turn = derivation.turn()?;
            if turn.is_empty() || !give(turn) {
                return Ok(());
            }
        }
    };
    thread::scope(|scope| {
        let before = Side::on_thread(scope, |give| side(before, ends.0, give));
        let after = Side::on_thread(scope, |give| side(after, ends.1, give));
        Comparison { kept_max: 2, progress: &|_| {} }.run(before, after)
    })
}

/// What the model gives out for each event.
fn modelled(log: &Held, group_members_max: u32) -> HashMap<(u32, u64), Vec<NewRecord>> {
    let mut outputs = HashMap::new();
    for partition in 0..2 {
        let mut model = Model::new(PARTITIONS, partition, group_members_max);
        for record in &log.records[&(Topic::Events, partition)] {
            let mut records = model.apply(record);
            records.retain(|record| record.topic != Topic::Deliveries);
            outputs.insert((partition, record.offset), records);
        }
    }
    outputs
}

#[test]
fn a_derivation_is_what_the_model_says_and_numbers_each_inbox() {
    // More than a turn.
    let log = log(1_500);
    let all = derived(&log, &with_max(25), &[1_500, 1_200]);
    assert_eq!(all.len(), 2_700);
    let modelled = modelled(&log, 25);
    let mut next: HashMap<UserId, u64> = HashMap::new();
    let mut inboxes = 0;
    for derived in &all {
        let (inbox, others): (Vec<_>, Vec<_>) =
            derived.records.iter().cloned().partition(|record| record.topic == Topic::Inbox);
        assert_eq!(others, modelled[&(derived.partition, derived.offset)]);
        for record in inbox {
            inboxes += 1;
            for item in wire::InboxRecord::decode(record.value).unwrap().items {
                for (user, offset) in unpack_user_ids(&item.user_ids).zip(item.offsets) {
                    let next = next.entry(user).or_default();
                    *next += 1;
                    assert_eq!(offset, *next, "each user's offsets are without a gap");
                }
            }
        }
    }
    assert!(inboxes > 500);
    // Of each partition in its order; of different ones by their times, as far as these orders allow.
    let places: Vec<(u32, u64)> = all.iter().map(|derived| (derived.partition, derived.offset)).collect();
    for partition in 0..2 {
        assert!(places.iter().filter(|place| place.0 == partition).map(|place| place.1).is_sorted());
    }
    assert!(places.windows(2).filter(|both| both[0].0 != both[1].0).count() > 100, "they are interleaved");
}

#[test]
fn the_same_rules_make_the_same_and_others_make_what_the_models_say() {
    let log = log(900);
    let ends: &[u64] = &[900, 900];
    let report = compare(&log, &with_max(25), &with_max(25), (ends, ends)).unwrap();
    assert_eq!((report.events, report.differing, report.counts.len()), (1_800, 0, 0));

    let report = compare(&log, &with_max(25), &with_max(3), (ends, ends)).unwrap();
    let (before, after) = (modelled(&log, 25), modelled(&log, 3));
    let mut expected: BTreeMap<Kind, u64> = BTreeMap::new();
    let refusal = |records: &[NewRecord]| wire::TimelineRecord::decode(records[0].value.clone()).unwrap().refusal;
    for (place, before) in &before {
        let kind = match (refusal(before), refusal(&after[place])) {
            (None, Some(_)) => Kind::NewlyRefused,
            (Some(_), None) => Kind::NewlyAccepted,
            (Some(before), Some(after)) if before != after => Kind::RefusedOtherwise,
            _ => continue,
        };
        *expected.entry(kind).or_default() += 1;
    }
    assert!(expected[&Kind::NewlyRefused] > 10, "{expected:?}");
    for kind in [Kind::NewlyRefused, Kind::NewlyAccepted, Kind::RefusedOtherwise] {
        assert_eq!(report.counts.get(&kind), expected.get(&kind), "{}", kind.name());
    }
    let differing = before.iter().filter(|(place, before)| **before != after[*place]).count() as u64;
    assert!(report.differing >= differing && report.differing < 1_800, "{} of {differing}", report.differing);
    let only_numbers =
        before.iter().filter(|(place, before)| refusal(before) == refusal(&after[*place])).count() as u64;
    assert!(
        report.only_numbers > 0 && report.only_numbers <= only_numbers,
        "{} of {only_numbers}",
        report.only_numbers
    );
    let timelines = report.records[&Topic::Timeline];
    assert_eq!(timelines, (1_800, 1_800), "each event has one on both sides");
    assert!(report.records[&Topic::Inbox].0 > report.records[&Topic::Inbox].1);
    for example in &report.examples {
        assert!(report.examples.iter().filter(|other| other.kind == example.kind).count() <= 2);
        assert_ne!(example.before.records, example.after.records);
    }
}

#[test]
fn two_sides_of_other_events_are_told_apart() {
    let mut log = log(50);
    let config = with_max(25);
    for ends in [([50, 50], [50, 40]), ([10, 50], [50, 50])] {
        let error = compare(&log, &config, &config, (&ends.0, &ends.1)).unwrap_err();
        assert!(matches!(error, DiffError::OutOfStep(_)), "{error}");
    }
    log.starts.insert((Topic::Events, 1), 1);
    let error = compare(&log, &config, &config, (&[50, 50], &[50, 50])).unwrap_err();
    assert!(matches!(error, DiffError::NotKept { partition: 1, kept: 1 }), "{error}");
}

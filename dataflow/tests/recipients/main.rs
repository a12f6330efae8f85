//! The recipients stage against its plain model, on random histories: for any batching, any restart point, any
//! interleaving, with repeats at the seams.

#![allow(clippy::unwrap_used, reason = "a test: a panic is a failure")]

mod history;

use std::collections::BTreeMap;

use bytes::Bytes;
use history::{EDGES, History, PARTITION, Step};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tidings_dataflow::{
    recipients::{RecipientsConfig, RecipientsShard, RoutingRule, Rules, model::RecipientsModel},
    shard::{Intake, SavedState, Shard, SnapshotKind, StageError},
};
use tidings_ingest::NewRecord;
use tidings_schemas::topics::Topic;
use timely::worker::Worker;

fn config() -> RecipientsConfig {
    RecipientsConfig::default()
}

fn model() -> RecipientsModel {
    RecipientsModel::new(PARTITION, EDGES, &config())
}

fn build(worker: &mut Worker, saved: &SavedState, rules: Rules) -> Box<RecipientsShard> {
    Box::new(RecipientsShard::build_with(worker, PARTITION, EDGES, &config(), saved, rules).unwrap())
}

/// Steps as the host hands them over: cut where the topic changes.
fn intake(steps: &[Step]) -> Vec<Intake> {
    steps
        .chunk_by(|one, other| one.0 == other.0)
        .map(|run| Intake { topic: run[0].0, records: run.iter().map(|(_, record)| record.clone()).collect() })
        .collect()
}

/// Runs a closure in a timely worker, as a host thread does.
fn in_worker<T: Send + 'static>(run: impl FnOnce(&mut Worker) -> T + Send + Sync + 'static) -> T {
    timely::execute_directly(run)
}

/// What the stage gives for the steps, cut into random batches; none is compared here.
fn stage_outputs(steps: &[Step], batching: u64, rules: Rules) -> Vec<NewRecord> {
    let steps = steps.to_vec();
    in_worker(move |worker| {
        let mut random = StdRng::seed_from_u64(batching);
        let mut shard = build(worker, &SavedState::default(), rules);
        let mut out = Vec::new();
        let mut rest = &steps[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(&mut random, rest.len()));
            shard.run(worker, intake(batch), &mut out).unwrap();
            rest = later;
        }
        shard.close(worker);
        out
    })
}

fn batch_len(random: &mut StdRng, most: usize) -> usize {
    let wanted = match random.random_range(0..3) {
        0 => 1,
        1 => random.random_range(1..10),
        _ => random.random_range(1..300),
    };
    wanted.min(most)
}

fn model_outputs(steps: &[Step]) -> Vec<NewRecord> {
    let mut model = model();
    steps.iter().flat_map(|(topic, record)| model.take(*topic, record)).collect()
}

#[track_caller]
fn assert_same(seed: u64, found: &[NewRecord], expected: &[NewRecord]) {
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(readable(found), readable(expected), "seed {seed}: record {place} differs");
        assert_eq!(found, expected, "seed {seed}: record {place} differs in its bytes");
    }
    assert_eq!(found.len(), expected.len(), "seed {seed}: the number of records differs");
}

fn readable(record: &NewRecord) -> String {
    use prost::Message;
    use tidings_schemas::wire;
    let value = &record.value[..];
    let text = match record.topic {
        Topic::Inbox => format!("{:?}", wire::InboxRecord::decode(value)),
        Topic::Deliveries => format!("{:?}", wire::DeliveryRecord::decode(value)),
        _ => format!("{:?}", wire::NotificationRecord::decode(value)),
    };
    format!("{} {} {text}", record.topic.name(), record.partition)
}

#[test]
fn the_stage_gives_what_the_model_gives_for_any_batching() {
    for seed in 0..8 {
        let steps = History::steps(seed, 3_000);
        let expected = model_outputs(&steps);
        for batching in 0..2 {
            assert_same(seed, &stage_outputs(&steps, seed * 100 + batching, Rules::default()), &expected);
        }
    }
}

#[test]
fn a_restart_at_any_point_changes_nothing() {
    for seed in 100..108 {
        let steps = History::steps(seed, 2_000);
        in_worker(move |worker| restart_at_random(worker, seed, &steps));
    }
}

/// Runs the stage with snapshots and restarts at random points, beside a model that goes back with it.
fn restart_at_random(worker: &mut Worker, seed: u64, steps: &[Step]) {
    let mut random = StdRng::seed_from_u64(seed);
    // Small steps between snapshots show a row that is not written; large ones show what many changes make of it.
    let (batch_most, snapshot_often) = if seed.is_multiple_of(2) { (4, 0.8) } else { (usize::MAX, 0.2) };
    let mut saved = SavedState::default();
    // The model and the place in the history that belong to `saved`.
    let mut saved_model = model();
    let mut saved_at = 0;

    let mut shard = build(worker, &saved, Rules::default());
    let mut now_model = saved_model.clone();
    let mut at = 0;
    let mut restarts = 0;
    while at < steps.len() {
        let batch = &steps[at..at + batch_len(&mut random, batch_most.min(steps.len() - at))];
        let mut found = Vec::new();
        shard.run(worker, intake(batch), &mut found).unwrap();
        let expected: Vec<NewRecord> =
            batch.iter().flat_map(|(topic, record)| now_model.take(*topic, record)).collect();
        assert_same(seed, &found, &expected);
        at += batch.len();

        if random.random_bool(snapshot_often) {
            if random.random_bool(0.1) {
                saved.rows.clear();
                shard.snapshot(SnapshotKind::Full, &mut saved);
            } else {
                shard.snapshot(SnapshotKind::Changes, &mut saved);
            }
            saved.positions = shard.positions();
            saved_model = now_model.clone();
            saved_at = at;
        }
        if restarts < 40 && random.random_bool(0.1) {
            restarts += 1;
            shard.close(worker);
            shard = build(worker, &saved, Rules::default());
            now_model = saved_model.clone();
            // A log that replays from further back than asked for: what was taken in is dropped.
            let back = saved_at.saturating_sub(random.random_range(0..20));
            let mut out = Vec::new();
            shard.run(worker, intake(&steps[back..saved_at]), &mut out).unwrap();
            assert_same(seed, &out, &[]);
            at = saved_at;
        }
    }
    shard.close(worker);
}

#[test]
fn the_inbox_follows_from_the_fanout_alone() {
    for seed in 200..206 {
        let steps = History::steps(seed, 2_000);
        let (fanout, signals): (Vec<Step>, Vec<Step>) =
            steps.into_iter().partition(|(topic, _)| *topic == Topic::Fanout);
        let expected = inbox_of(&stage_outputs(&fanout, seed, Rules::default()));
        for way in 0..3 {
            let interleaved = interleave(&fanout, &signals, seed * 10 + way);
            let found = inbox_of(&stage_outputs(&interleaved, way, Rules::default()));
            assert!(found == expected, "seed {seed}: the inbox depends on the interleaving");
        }
        let restarted = inbox_with_restarts(&fanout, &signals, seed);
        assert!(restarted == expected, "seed {seed}: the inbox depends on the restarts");
    }
}

fn interleave(one: &[Step], other: &[Step], seed: u64) -> Vec<Step> {
    let mut which: Vec<bool> = one.iter().map(|_| true).chain(other.iter().map(|_| false)).collect();
    which.shuffle(&mut StdRng::seed_from_u64(seed));
    let (mut one, mut other) = (one.iter(), other.iter());
    which.into_iter().filter_map(|first| if first { one.next() } else { other.next() }).cloned().collect()
}

/// The inbox records by source offset, as a consumer has them that drops repeats. A repeat must be the same bytes.
fn inbox_of(records: &[NewRecord]) -> BTreeMap<u64, Bytes> {
    use prost::Message;
    let mut inbox = BTreeMap::new();
    for record in records.iter().filter(|record| record.topic == Topic::Inbox) {
        let decoded = tidings_schemas::wire::InboxRecord::decode(&record.value[..]).unwrap();
        let earlier = inbox.insert(decoded.source.unwrap().offset, record.value.clone());
        assert!(earlier.is_none_or(|earlier| earlier == record.value), "a repeat differs");
    }
    inbox
}

/// Restarts from checkpoints at random points, each time with another interleaving of what is still to come.
fn inbox_with_restarts(fanout: &[Step], signals: &[Step], seed: u64) -> BTreeMap<u64, Bytes> {
    let (fanout, signals) = (fanout.to_vec(), signals.to_vec());
    let out = in_worker(move |worker| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut saved = SavedState::default();
        let mut out = Vec::new();
        for restart in 0..10 {
            let mut shard = build(worker, &saved, Rules::default());
            let next = |topic| saved.next_offset(topic) as usize;
            let rest = interleave(&fanout[next(Topic::Fanout)..], &signals[next(Topic::Signals)..], seed + restart);
            let stop = if restart == 9 { rest.len() } else { random.random_range(0..=rest.len()) };
            let saved_at = random.random_range(0..=stop);
            shard.run(worker, intake(&rest[..saved_at]), &mut out).unwrap();
            shard.snapshot(SnapshotKind::Changes, &mut saved);
            saved.positions = shard.positions();
            // What comes out after the snapshot is written, and then written again by the next owner.
            shard.run(worker, intake(&rest[saved_at..stop]), &mut out).unwrap();
            shard.close(worker);
        }
        out
    });
    inbox_of(&out)
}

/// How many of the seeds tell a stage that is broken on purpose from the model.
fn seeds_that_notice(rules: Rules) -> usize {
    (300..310)
        .filter(|seed| {
            let steps = History::steps(*seed, 600);
            stage_outputs(&steps, *seed, rules) != model_outputs(&steps)
        })
        .count()
}

#[test]
fn the_comparison_notices_another_tie_rule() {
    assert!(seeds_that_notice(Rules { routing: RoutingRule::TiesIncluded, ..Rules::default() }) > 0);
}

#[test]
fn the_comparison_notices_a_trace_that_is_not_held_back() {
    assert!(seeds_that_notice(Rules { routing: RoutingRule::NoStepBack, ..Rules::default() }) > 0);
}

#[test]
fn the_comparison_notices_a_missing_watermark() {
    assert!(seeds_that_notice(Rules { drop_repeats: false, ..Rules::default() }) > 0);
    assert_eq!(seeds_that_notice(Rules::default()), 0);
}

#[test]
fn a_gap_in_fanout_is_an_error_and_one_in_signals_is_not() {
    let steps = History::steps(1, 200);
    let of = |topic| steps.iter().filter(|(other, _)| *other == topic).cloned().collect::<Vec<_>>();
    let (fanout, signals) = (of(Topic::Fanout), of(Topic::Signals));
    in_worker(move |worker| {
        let mut shard = build(worker, &SavedState::default(), Rules::default());
        let mut out = Vec::new();
        shard.run(worker, intake(&signals[3..]), &mut out).unwrap();
        let gap = shard.run(worker, intake(&fanout[1..]), &mut out);
        assert!(matches!(gap, Err(StageError::Gap { expected: 0, found: 1, .. })), "{gap:?}");
        shard.close(worker);
    });
}

#[test]
fn a_checkpoint_row_that_cannot_be_read_is_refused() {
    in_worker(|worker| {
        let mut shard = build(worker, &SavedState::default(), Rules::default());
        shard.run(worker, intake(&History::steps(2, 300)), &mut Vec::new()).unwrap();
        let mut saved = SavedState::default();
        shard.snapshot(SnapshotKind::Full, &mut saved);
        shard.close(worker);
        let rows: Vec<(Bytes, Bytes)> = saved.rows.clone().into_iter().collect();
        for (key, value) in rows {
            let mut cut = saved.clone();
            cut.rows.insert(key.clone(), value.slice(..value.len().min(1)));
            let built = RecipientsShard::build(worker, PARTITION, EDGES, &config(), &cut);
            // A user's last offset may be one byte long, and a watcher's list empty: all else needs more.
            if let Ok(shard) = built {
                assert!(key[0] == b'u', "a row of table {} was cut and taken", key[0]);
                Box::new(shard).close(worker);
            }
        }
    });
}

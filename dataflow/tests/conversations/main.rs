//! The conversations stage gives, byte for byte, what the plain model gives: for any batching, any restart point, any
//! number of workers; and the tests notice when the fan-out's rules are broken.

#![allow(clippy::unwrap_used, reason = "a test")]

mod history;

use std::{collections::BTreeMap, thread};

use history::History;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidings_dataflow::{
    conversations::{ConversationsConfig, ConversationsShard, FanoutRule, model::Model},
    shard::{Count, InputPosition, Intake, SavedState, Shard, SnapshotKind, StageError, StateSink},
};
use tidings_ingest::{NewRecord, StoredRecord};
use tidings_schemas::topics::{Partitions, Topic};
use timely::{execute::execute_directly, worker::Worker};

const PARTITIONS: Partitions = Partitions { conversations: 4, recipients: 3, edges: 4, directory: 1 };

/// Small, so that groups are often full.
fn config() -> ConversationsConfig {
    ConversationsConfig { group_members_max: 25, ..Default::default() }
}

/// The records that follow from each event, by offset.
type ByOffset = BTreeMap<u64, Vec<NewRecord>>;

fn modelled(records: &[StoredRecord], partition: u32) -> ByOffset {
    let mut model = Model::new(PARTITIONS, partition, config().group_members_max);
    records.iter().map(|record| (record.offset, model.apply(record))).collect()
}

/// Puts a batch's output under the offsets it came from: each event has one timeline record, which comes first. A repeat
/// that is not the same is added, so that no comparison finds the offset as it should be.
fn gather(first_offset: u64, out: Vec<NewRecord>, into: &mut ByOffset) {
    let mut of_events: Vec<Vec<NewRecord>> = Vec::new();
    for record in out {
        if record.topic == Topic::Timeline {
            of_events.push(Vec::new());
        }
        of_events.last_mut().expect("a timeline record comes first").push(record);
    }
    for (offset, records) in (first_offset..).zip(of_events) {
        let before = into.entry(offset).or_default();
        if *before != records {
            before.extend(records);
        }
    }
}

fn intake(records: &[StoredRecord]) -> Vec<Intake> {
    vec![Intake { topic: Topic::Events, records: records.to_vec() }]
}

fn build(worker: &mut Worker, partition: u32, state: Option<&SavedState>, rule: FanoutRule) -> ConversationsShard {
    ConversationsShard::build_with_rule(worker, &config(), PARTITIONS, partition, state, rule).expect("a sound state")
}

/// Runs the records through a shard in random batches, and now and then starts again from a random earlier checkpoint
/// (a base and deltas), with records that were taken in already at the seam.
fn computed(worker: &mut Worker, seed: u64, records: &[StoredRecord], partition: u32, rule: FanoutRule) -> ByOffset {
    let mut random = StdRng::seed_from_u64(seed);
    let batch_max = [1, 3, 20, 200, 5_000][random.random_range(0..5)];
    let restarts = random.random_bool(0.7);
    let mut shard = build(worker, partition, None, rule);
    let mut saved = SavedState::default();
    let mut checkpoints = vec![saved.clone()];
    let mut outputs = ByOffset::new();
    let mut next = 0;
    while next < records.len() {
        let end = records.len().min(next + random.random_range(1..=batch_max));
        // Records that were taken in before come again: the shard drops them.
        let start = next.saturating_sub(if random.random_ratio(1, 5) { random.random_range(0..9) } else { 0 });
        let mut out = Vec::new();
        shard.run(worker, intake(&records[start..end]), &mut out).expect("no gap");
        gather(next as u64, out, &mut outputs);
        next = end;
        if restarts && random.random_ratio(1, 4) {
            let kind = if random.random_ratio(1, 5) { SnapshotKind::Full } else { SnapshotKind::Changes };
            if kind == SnapshotKind::Full {
                saved.rows.clear();
            }
            shard.snapshot(kind, &mut saved);
            saved.positions = shard.positions();
            checkpoints.push(saved.clone());
        }
        if restarts && random.random_ratio(1, 10) {
            Box::new(shard).close(worker);
            let chosen = checkpoints.len() - 1 - random.random_range(0..checkpoints.len().min(3));
            checkpoints.truncate(chosen + 1);
            saved = checkpoints[chosen].clone();
            shard = build(worker, partition, Some(&saved), rule);
            next = usize::try_from(saved.next_offset(Topic::Events)).unwrap();
        }
    }
    Box::new(shard).close(worker);
    outputs
}

fn show(records: &[NewRecord]) -> String {
    use prost::Message;
    use tidings_schemas::wire;
    let mut text = String::new();
    for record in records {
        let value = record.value.clone();
        let shown = match record.topic {
            Topic::Timeline => format!("{:#?}", wire::TimelineRecord::decode(value)),
            Topic::Fanout => format!("{:#?}", wire::FanoutRecord::decode(value)),
            _ => format!("{:#?}", wire::DeliveryRecord::decode(value)),
        };
        text.push_str(&format!("{:?}[{}] {shown}\n", record.topic, record.partition));
    }
    text
}

fn assert_same(seed: u64, computed: &ByOffset, modelled: &ByOffset) {
    for (offset, expected) in modelled {
        let found = computed.get(offset).map_or(&[][..], |records| records);
        assert!(
            found == expected,
            "seed {seed}: event {offset} differs\n--- dataflow\n{}\n--- model\n{}",
            show(found),
            show(expected)
        );
    }
    assert_eq!(computed.len(), modelled.len(), "seed {seed}");
}

/// Seeds to try, and how many steps each: more with `TIDINGS_SEEDS`.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("TIDINGS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let first = std::env::var("TIDINGS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    first..first + count
}

const STEPS: usize = 2_000;

#[test]
fn the_dataflow_gives_what_the_model_gives() {
    for seed in seeds() {
        let records = History::new(seed).take(STEPS);
        let expected = modelled(&records, 2);
        let found = execute_directly(move |worker| computed(worker, seed, &records, 2, FanoutRule::Strict));
        assert_same(seed, &found, &expected);
    }
}

#[test]
fn any_number_of_workers_gives_the_same() {
    let histories: Vec<Vec<StoredRecord>> = (0..4).map(|n| History::new(9_000 + n).take(1_000)).collect();
    let expected: Vec<ByOffset> =
        (0..).zip(&histories).map(|(partition, records)| modelled(records, partition)).collect();
    for workers in 1..=3 {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let histories = histories.clone();
                thread::spawn(move || execute_directly(move |timely| host(timely, &histories, worker, workers)))
            })
            .collect();
        let found: BTreeMap<usize, ByOffset> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        for (partition, expected) in expected.iter().enumerate() {
            assert_same(9_000 + partition as u64, &found[&partition], expected);
        }
    }
}

/// Hosts every n-th shard in one worker, and gives them turns.
fn host(timely: &mut Worker, histories: &[Vec<StoredRecord>], worker: usize, workers: usize) -> Vec<(usize, ByOffset)> {
    let mine: Vec<usize> = (worker..histories.len()).step_by(workers).collect();
    let mut shards: Vec<_> =
        mine.iter().map(|partition| build(timely, *partition as u32, None, FanoutRule::Strict)).collect();
    let mut outputs = vec![ByOffset::new(); shards.len()];
    for start in (0..1_000).step_by(50) {
        for ((shard, partition), outputs) in shards.iter_mut().zip(&mine).zip(&mut outputs) {
            let mut out = Vec::new();
            shard.run(timely, intake(&histories[*partition][start..start + 50]), &mut out).unwrap();
            gather(start as u64, out, outputs);
        }
    }
    shards.into_iter().for_each(|shard| Box::new(shard).close(timely));
    mine.into_iter().zip(outputs).collect()
}

/// How many of some seeds give something else under a rule.
fn differing(rule: FanoutRule) -> usize {
    (1..=8)
        .filter(|seed| {
            let seed = *seed;
            let records = History::new(seed).take(STEPS);
            let expected = modelled(&records, 2);
            execute_directly(move |worker| computed(worker, seed, &records, 2, rule)) != expected
        })
        .count()
}

#[test]
fn a_broken_tie_rule_is_noticed() {
    assert!(differing(FanoutRule::Inclusive) > 0);
}

#[test]
fn a_missing_step_back_is_noticed() {
    assert!(differing(FanoutRule::NoStepBack) > 0);
}

/// The histories meet what they are for: else agreement would say little.
#[test]
fn the_histories_cover_what_can_happen() {
    use prost::Message;
    use tidings_schemas::wire::{self, ErrorCode, MembershipAction, entry::Content, fanout_item};
    let mut seen = BTreeMap::<String, usize>::new();
    for seed in 1..=10 {
        for record in modelled(&History::new(seed).take(STEPS), 2).into_values().flatten() {
            let mut note = |what: String| *seen.entry(what).or_default() += 1;
            match record.topic {
                Topic::Timeline => {
                    let record = wire::TimelineRecord::decode(record.value).unwrap();
                    record
                        .refusal
                        .iter()
                        .for_each(|refusal| note(format!("{:?}: {}", refusal.code(), refusal.message)));
                    record.duplicate.iter().for_each(|_| note("duplicate".into()));
                    record.change.iter().for_each(|change| note(format!("change {}", change.deleted_at_ms == 0)));
                    record.cursor_minima.iter().for_each(|_| note("minima".into()));
                    record.conversation.iter().for_each(|state| note(format!("deleted {}", state.deleted)));
                    for entry in &record.entries {
                        note(match &entry.content {
                            Some(Content::Membership(membership)) => format!("{:?}", membership.action()),
                            _ => "sent".into(),
                        });
                    }
                    note(format!("{} entries", record.entries.len()));
                }
                Topic::Fanout => {
                    for item in wire::FanoutRecord::decode(record.value).unwrap().items {
                        if let Some(fanout_item::Content::Receipt(receipt)) = item.content {
                            note(format!("receipt {}", receipt.user_id.is_some()));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    for action in MembershipAction::Created as i32..=MembershipAction::Renamed as i32 {
        assert!(seen.contains_key(&format!("{:?}", MembershipAction::try_from(action).unwrap())), "{seen:#?}");
    }
    for what in
        ["duplicate", "change true", "change false", "deleted true", "receipt true", "receipt false", "2 entries"]
    {
        assert!(seen.get(what).is_some_and(|count| *count > 20), "{what}: {seen:#?}");
    }
    for code in [
        ErrorCode::InvalidArgument,
        ErrorCode::PermissionDenied,
        ErrorCode::NotAMember,
        ErrorCode::NotFound,
        ErrorCode::AlreadyExists,
        ErrorCode::ConversationFull,
        ErrorCode::LastOwner,
    ] {
        assert!(seen.keys().any(|what| what.starts_with(&format!("{code:?}: "))), "{code:?}: {seen:#?}");
    }
    let refusals = seen.keys().filter(|what| what.contains(": ")).count();
    assert!(refusals >= 19, "{refusals}: {seen:#?}");
}

#[test]
fn a_gap_is_refused() {
    let records = History::new(1).take(10);
    let error = execute_directly(move |worker| {
        let mut shard = build(worker, 0, None, FanoutRule::Strict);
        let mut out = Vec::new();
        shard.run(worker, intake(&records[..3]), &mut out).unwrap();
        let error = shard.run(worker, intake(&records[4..]), &mut out).unwrap_err();
        Box::new(shard).close(worker);
        error
    });
    assert!(matches!(error, StageError::Gap { expected: 3, found: 4, .. }), "{error}");
}

#[test]
fn a_damaged_row_is_an_error() {
    let records = History::new(3).take(500);
    execute_directly(move |worker| {
        let mut shard = build(worker, 0, None, FanoutRule::Strict);
        shard.run(worker, intake(&records), &mut Vec::new()).unwrap();
        let mut saved = SavedState { positions: shard.positions(), ..Default::default() };
        shard.snapshot(SnapshotKind::Full, &mut saved);
        Box::new(shard).close(worker);
        assert_eq!(saved.positions, [InputPosition { topic: Topic::Events, next_offset: 500 }]);
        let damages: Vec<SavedState> = saved
            .rows
            .iter()
            .map(|(key, value)| {
                let mut damaged = saved.clone();
                damaged.rows.insert(key.clone(), value.slice(..value.len() / 2));
                damaged
            })
            .chain([{
                let mut damaged = saved.clone();
                damaged.put(b"?", b"");
                damaged
            }])
            .collect();
        for damaged in damages {
            let built = ConversationsShard::build(worker, &config(), PARTITIONS, 0, Some(&damaged));
            // A shorter list of members may still be a list of members; anything else is an error, never a panic.
            if let Ok(shard) = built {
                Box::new(shard).close(worker);
            }
        }
    });
}

#[test]
fn what_cannot_be_read_is_counted() {
    let mut records = History::new(1).take(1);
    records[0].value = bytes::Bytes::from_static(b"\xff\xff\xff");
    let counts = execute_directly(move |worker| {
        let mut shard = build(worker, 0, None, FanoutRule::Strict);
        shard.run(worker, intake(&records), &mut Vec::new()).unwrap();
        let mut counts = Vec::new();
        shard.take_counts(&mut |count| counts.push(count));
        Box::new(shard).close(worker);
        counts
    });
    assert_eq!(counts, [Count { what: "undecodable", count: 1 }]);
}

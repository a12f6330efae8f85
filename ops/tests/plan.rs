//! `tidings plan`: its figures hang together for any service, and docs/CAPACITY.md shows what it prints.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use proptest::prelude::*;
use tidings_ops::plan::{
    capacity::Capacity,
    inputs::{Inputs, Preset},
    model::{self, Plan, Topics, batched, places_hit},
    plans, table,
};

fn any_inputs() -> impl Strategy<Value = Inputs> {
    let habits = (1e3..1e9, 0.1..200.0, 0.0..1.0, 2.0..500.0, 1.0..20.0, 0.0..1.0);
    let rest = (0.0..4_000.0, 0.0..2.0, 0.0..200.0, 0.0..500.0, 1.0..400.0, 1_u8..5, 0.0..0.9);
    (habits, rest).prop_map(|(habits, rest)| Inputs {
        dau: habits.0,
        messages_per_user_day: habits.1,
        group_share: habits.2,
        group_size: habits.3,
        peak_factor: habits.4,
        online_share: habits.5,
        message_bytes: rest.0,
        receipts_per_delivery: rest.1,
        sessions_per_user_day: rest.2,
        conversations_per_user: rest.3,
        retention_days: rest.4,
        replication: f64::from(rest.5),
        headroom: rest.6,
    })
}

fn plan(inputs: &Inputs) -> Plan {
    inputs.check().expect("inputs of a service");
    model::plan(inputs, &Capacity::default())
}

/// Equal but for what arithmetic rounds away.
fn same(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
}

/// `more` is not less than `less`.
fn grows(less: f64, more: f64) -> bool {
    more >= less * (1.0 - 1e-9)
}

type Figure = (&'static str, fn(&Plan) -> f64);
type Change = (&'static str, fn(&mut Inputs));

/// What must not get less when there is more to do.
const FIGURES: [Figure; 20] = [
    ("messages", |plan| plan.peak.messages),
    ("deliveries", |plan| plan.peak.deliveries),
    ("pushes", |plan| plan.peak.pushes),
    ("receipts", |plan| plan.peak.receipts),
    ("events", |plan| plan.peak.events),
    ("connections", |plan| plan.connections),
    ("log bytes", |plan| plan.mean.bytes.sum()),
    ("log records", |plan| plan.peak.records.sum()),
    ("log stored", |plan| plan.log_stored_bytes),
    ("archive", |plan| plan.archive_year_bytes),
    ("views", |plan| plan.views_bytes),
    ("state", |plan| plan.stages_bytes),
    ("partitions", |plan| plan.partitions),
    ("edges", |plan| plan.edges),
    ("dataflows", |plan| plan.dataflows),
    ("projections", |plan| plan.projections),
    ("brokers", |plan| plan.brokers),
    ("edges in", |plan| plan.peak.edges_in_bytes),
    ("edges out", |plan| plan.peak.edges_out_bytes),
    ("inner", |plan| plan.peak.inner_bytes),
];

const CHANGES: [Change; 10] = [
    ("dau", |inputs| inputs.dau *= 1.7),
    ("messages", |inputs| inputs.messages_per_user_day *= 1.7),
    ("receipts", |inputs| inputs.receipts_per_delivery = (inputs.receipts_per_delivery * 1.3).min(2.0)),
    ("sessions", |inputs| inputs.sessions_per_user_day += 10.0),
    ("conversations", |inputs| inputs.conversations_per_user += 10.0),
    ("bytes", |inputs| inputs.message_bytes += 50.0),
    ("retention", |inputs| inputs.retention_days += 3.0),
    ("replication", |inputs| inputs.replication += 1.0),
    ("headroom", |inputs| inputs.headroom = (inputs.headroom + 0.1).min(0.9)),
    ("group size", |inputs| inputs.group_size += 7.0),
];

proptest! {
    #[test]
    fn more_to_do_never_takes_less(inputs in any_inputs()) {
        let before = plan(&inputs);
        for (change, apply) in CHANGES {
            let mut more = inputs;
            apply(&mut more);
            let after = plan(&more);
            for (figure, of) in FIGURES {
                // The same memberships in larger groups are fewer conversations, each with a tail of its own.
                if (change, figure) == ("group size", "views") {
                    continue;
                }
                prop_assert!(grows(of(&before), of(&after)), "more {change}: {figure} {} then {}", of(&before), of(&after));
            }
        }
    }

    #[test]
    fn twice_the_users_are_twice_the_rates(inputs in any_inputs()) {
        let (one, two) = (plan(&inputs), plan(&Inputs { dau: inputs.dau * 2.0, ..inputs }));
        for (figure, of) in &FIGURES[..6] {
            prop_assert!(same(of(&one) * 2.0, of(&two)), "{figure}: {} and {}", of(&one), of(&two));
        }
        prop_assert!(same(one.archive_day_bytes * 2.0, two.archive_day_bytes));
        prop_assert!(same(one.views_bytes * 2.0, two.views_bytes));
        prop_assert!(same(one.stages_bytes * 2.0, two.stages_bytes));
    }

    #[test]
    fn the_parts_make_the_whole(inputs in any_inputs()) {
        let plan = plan(&inputs);
        let Topics { events, signals, timeline, fanout, inbox, deliveries, notifications } = plan.mean.bytes;
        let bytes = events + signals + timeline + fanout + inbox + deliveries + notifications;
        prop_assert!(same(bytes * 86_400.0, plan.log_day_bytes));
        prop_assert!(plan.log_stored_bytes <= plan.log_day_bytes * inputs.retention_days * inputs.replication * (1.0 + 1e-9));
        prop_assert!(same(plan.mean.messages * inputs.peak_factor, plan.peak.messages));
        prop_assert!(same(plan.mean.receipts * inputs.peak_factor, plan.peak.receipts));
        // One record of `timeline` for each of `events`, one of `inbox` for each of `fanout`.
        prop_assert!(same(plan.peak.records.events, plan.peak.records.timeline));
        prop_assert!(same(plan.peak.records.fanout, plan.peak.records.inbox));
        // Multicast: never more records than recipients, nor fewer than messages.
        let rows = plan.peak.deliveries + plan.peak.receipts * 2.0 * inputs.group_size;
        prop_assert!(plan.peak.records.fanout <= rows * (1.0 + 1e-9) + 1.0);
        prop_assert!(grows(plan.peak.messages, plan.peak.records.fanout));
        // Who has no connection gets no push.
        prop_assert!(inputs.online_share > 0.0 || plan.peak.pushes == 0.0);
        let edges_of_deliveries = plan.edges <= plan.deliveries_partitions;
        prop_assert!(edges_of_deliveries && plan.brokers >= inputs.replication);
    }

    #[test]
    fn balls_hit_no_more_places_than_there_are(places in 1.0..1e6_f64, balls in 0.0..1e6_f64) {
        let hit = places_hit(places, balls);
        prop_assert!(hit <= places * (1.0 + 1e-9) && hit <= balls.max(1.0) * (1.0 + 1e-6));
        prop_assert!(batched(balls, places) <= balls);
    }
}

#[test]
fn places_hit_is_what_counting_finds() {
    // All outcomes of 3 balls in 4 places, by hand: 64 of them.
    let mut hit = 0;
    for outcome in 0..64_u32 {
        let places = [outcome % 4, outcome / 4 % 4, outcome / 16];
        let mut distinct = places.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        hit += distinct.len();
    }
    assert!(same(places_hit(4.0, 3.0), hit as f64 / 64.0));
}

#[test]
fn a_direct_message_by_hand() {
    // 86,400 users who send one message a day to one other each, all of them connected: one message a second.
    let inputs = Inputs {
        dau: 86_400.0,
        messages_per_user_day: 1.0,
        group_share: 0.0,
        peak_factor: 1.0,
        online_share: 1.0,
        receipts_per_delivery: 2.0,
        ..Inputs::default()
    };
    let plan = plan(&inputs);
    assert!(same(plan.mean.messages, 1.0));
    assert!(same(plan.mean.deliveries, 2.0), "a row for the recipient, and one for the sender's other devices");
    assert!(same(plan.mean.receipts, 2.0), "delivered and seen");
    assert!(same(plan.mean.pushes, 2.0 + 4.0), "each receipt goes to the other and to oneself");
    assert!(same(plan.mean.heartbeats, 86_400.0 / 25.0));
    assert!(same(plan.mean.records.notifications, 0.0), "everybody is there");
    // Two partitions: a message's two recipients are in one or in both, equally often; each receipt's update in one.
    assert!(same(plan.recipients_partitions, 2.0) && same(plan.edges, 3.0));
    assert!(same(plan.mean.records.fanout, 1.5 + 4.0));
}

#[test]
fn the_document_shows_what_the_command_prints() {
    let printed = Command::new(env!("CARGO_BIN_EXE_tidings")).arg("plan").output().unwrap();
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CAPACITY.md");
    let text = fs::read_to_string(document).unwrap();
    assert!(text.contains(printed.trim()), "docs/CAPACITY.md is stale: put in what `tidings plan` prints:\n{printed}");
    let plans = plans(&Inputs::default(), &Capacity::default(), None, false).unwrap();
    assert_eq!(table::text(&plans), printed);
}

#[test]
fn the_command_answers_in_json_and_refuses_with_a_hint() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_tidings")).arg("plan").args(args).output().unwrap();
    let json = run(&["--preset", "500m", "--json"]);
    let plans: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(plans.as_array().map(Vec::len), Some(1));
    assert_eq!(plans[0]["inputs"]["dau"].as_f64(), Some(Preset::Users500M.dau()));
    let refused = run(&["--dau", "1000", "--online-share", "20"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--online-share is 20") && said.contains('('), "{said}");
    assert!(!run(&["--dau", "many"]).status.success());
}

#[test]
fn defaults_on_the_command_line_are_the_documented_ones() {
    let json = Command::new(env!("CARGO_BIN_EXE_tidings")).args(["plan", "--dau", "50e6", "--json"]).output().unwrap();
    let plans: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(plans[0]["inputs"], serde_json::to_value(Inputs::default()).unwrap());
}

#[test]
fn who_has_seen_enough_may_close_the_output_and_a_full_disk_is_an_error() {
    for of in ["config", "plan"] {
        let tidings = || Command::new(env!("CARGO_BIN_EXE_tidings"));
        let mut child = tidings().arg(of).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0), "{of}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = tidings().arg(of).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{of}");
        assert!(said.starts_with("error: cannot write to standard output"), "{said}");
    }
}

//! What analysts are promised, held against the engine: the questions of docs/ANALYTICS.md, the views and their
//! description, which rows a condition reads, and the queries of the dashboards.
//!
//! - [`history`]: a generated history, as plain lists and as records. [`questions`]: the answers by plain code.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../archive/mod.rs"]
mod archive;
mod history;
mod questions;

use std::{fs, path::Path};

use archive::{engine, open, sql};
use history::{DAY_MS, History, START_MS, conversation};
use questions::{Asked, answer, date};
use tidings_dataflow::archive::{libchdb::Connection, rebuild::Rebuilding as _, tables::Table};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As the port asks: each row once.
fn ask(database: &str, statement: &str, parameters: &[(&'static str, String)]) -> Result<String, String> {
    let setup =
        vec![format!("USE {database}"), "SET final = 1, do_not_merge_across_partitions_select_final = 1".to_owned()];
    let mut connection = Connection::open(&engine(), setup).unwrap();
    let used = parameters.iter().filter(|(name, _)| statement.contains(&format!("{{{name}:")));
    let used: Vec<(&str, &str)> = used.map(|(name, value)| (*name, value.as_str())).collect();
    let output = connection.query(statement, "TSV", &used).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(output.bytes).unwrap())
}

/// The questions of the document: number, title, SQL.
fn document() -> Vec<(usize, String, String)> {
    let text = file("docs/ANALYTICS.md");
    let questions = text.split("\n## Twenty questions").nth(1).unwrap().split("\n## ").next().unwrap();
    let questions = questions.split("\n### ").skip(1).map(|question| {
        let (title, rest) = question.split_once('\n').unwrap();
        let (number, title) = title.split_once(". ").unwrap();
        let sql = rest.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
        (number.parse().unwrap(), title.to_owned(), sql.to_owned())
    });
    questions.collect()
}

#[tokio::test]
async fn the_twenty_questions_are_answered_as_plain_code_answers_them() {
    for seed in [0x7161_6e64, 0x0bad_5eed] {
        let database = format!("tidings_questions_{seed}");
        let archive = open(&database).await;
        let history = History::generate(seed);
        history.insert(&archive).await;
        assert!(history.messages.len() > 1_000 && history.sessions.len() > 20, "too little happened");
        let of_group = history.messages.iter().rev().find(|message| message.recipients.len() > 5).unwrap();
        let asked = Asked {
            conversation: of_group.conversation,
            user: of_group.recipients[0].user,
            day: 12,
            moment: START_MS + 20 * DAY_MS + 12_345_678,
            seq: of_group.seq,
            word: "LUNCH",
        };
        let document = document();
        assert!(document.iter().map(|(number, ..)| *number).eq(1..=20));
        for (number, title, statement) in document {
            let found = ask(&database, &statement, &asked.parameters());
            let found = found.unwrap_or_else(|error| panic!("{number}. {title}: {error}"));
            let expected = answer(number, &history, &asked);
            assert!(!expected.is_empty(), "{number}. {title}: the history has nothing of it");
            let found: Vec<&str> = found.lines().collect();
            assert_eq!(found, expected, "{number}. {title}");
        }
        // The percentiles of the view are approximate; its counts are not.
        let counted = sql(&database, "SELECT sum(deliveries), sum(delivered), sum(seen) FROM delivery_latency");
        assert_eq!(counted, within_a_day(&history));
        let medians = "SELECT count() > 100, countIf(v.delivered_seconds_p50 < e.low * 0.999 OR v.delivered_seconds_p50 > e.high * 1.001) \
                       FROM delivery_latency AS v INNER JOIN (SELECT toStartOfHour(toDateTime(sent_at, 'UTC')) AS hour, \
                       quantileExact(0.25)(dateDiff('millisecond', sent_at, delivered_at) / 1000) AS low, \
                       quantileExactHigh(0.75)(dateDiff('millisecond', sent_at, delivered_at) / 1000) AS high \
                       FROM message_status WHERE delivered_at < sent_at + INTERVAL 1 DAY GROUP BY hour) AS e ON v.hour = e.hour";
        assert_eq!(sql(&database, medians), "1\t0\n");
        of_a_stretch_of_time_as_of_all(&database);
    }
}

/// Deliveries, and those that were delivered, and seen, within a day of being sent.
fn within_a_day(history: &History) -> String {
    let statuses = history.messages.iter().flat_map(|message| message.recipients.iter().map(|to| (message.at, to)));
    let in_time = |sent_at: i64, at: Option<i64>| at.is_some_and(|at| at < sent_at + DAY_MS);
    let delivered = statuses.clone().filter(|(sent_at, to)| in_time(*sent_at, to.delivered_at)).count();
    let seen = statuses.clone().filter(|(sent_at, to)| in_time(*sent_at, to.seen_at)).count();
    format!("{}\t{delivered}\t{seen}\n", statuses.count())
}

/// The views of a stretch of time say what those of all of history say of it.
fn of_a_stretch_of_time_as_of_all(database: &str) {
    for (since, until) in [(date(0), date(33)), (date(12), date(13)), (date(30), date(33))] {
        let between = format!("(since = '{since} 00:00:00', until = '{until} 00:00:00')");
        let all = format!("message_status WHERE sent_at >= '{since}' AND sent_at < '{until}'");
        let columns = "conversation_id, seq, message_id, sender_id, recipient_id, sent_at, delivered_at, seen_at";
        let differing = format!(
            "SELECT count() > 0, (SELECT count() FROM (SELECT {columns} FROM {all} EXCEPT SELECT {columns} FROM message_status_between{between})), \
             (SELECT count() FROM (SELECT {columns} FROM message_status_between{between} EXCEPT SELECT {columns} FROM {all})), \
             count() = (SELECT count() FROM message_status_between{between}) FROM {all}"
        );
        assert_eq!(ask(database, &differing, &[]).as_deref(), Ok("1\t0\t0\t1\n"), "{since}");
        let hours = "hour, deliveries, delivered, seen, isNull(delivered_seconds_p50), isNull(seen_seconds_p95)";
        let differing = format!(
            "SELECT count() FROM (SELECT {hours} FROM delivery_latency WHERE hour >= '{since}' AND hour < '{until}' \
             EXCEPT SELECT {hours} FROM delivery_latency_between{between})"
        );
        assert_eq!(ask(database, &differing, &[]).as_deref(), Ok("0\n"), "{since}");
    }
}

#[tokio::test]
async fn days_and_hours_that_are_over_are_counted_once_and_the_rest_when_it_is_asked_for() {
    let database = "tidings_summaries";
    let archive = open(database).await;
    let at = |days: i64| u64::try_from(START_MS + days * DAY_MS + 600_000).unwrap();
    assert_eq!(archive.summarize_as_of(at(50)).await.unwrap(), 0, "there is nothing to count");
    let history = History::generate(11);
    history.insert(&archive).await;
    let all = || {
        let days = ask(database, "SELECT * FROM daily_active_users ORDER BY day", &[]).unwrap();
        // Percentiles of few values hang on their order a little.
        let hours = "SELECT hour, deliveries, delivered, seen, round(delivered_seconds_p50), round(seen_seconds_p50) \
                     FROM delivery_latency WHERE deliveries > 20 ORDER BY hour";
        (
            days,
            ask(database, hours, &[]).unwrap(),
            ask(database, "SELECT sum(deliveries), sum(delivered), sum(seen) FROM delivery_latency", &[]).unwrap(),
        )
    };
    let written = |table: &str| ask(database, &format!("SELECT count() FROM {table}"), &[]).unwrap();
    let asked = all();
    assert_eq!(asked.2, within_a_day(&history));
    assert!(asked.0.lines().count() > 30 && asked.1.lines().count() > 30, "{asked:?}");

    // In the middle of it: both halves together say the same.
    let counted = archive.summarize_as_of(at(20)).await.unwrap();
    assert!(counted >= 20 + 19 * 24, "{counted}");
    assert_eq!(written("daily_summaries"), "20\n");
    assert_eq!(all(), asked);
    assert_eq!(archive.summarize_as_of(at(20)).await.unwrap(), 0, "all was counted just now");
    // The last of them were counted when they were ten minutes old, and are counted again when they are older.
    assert!((1..=2 + 25).contains(&archive.summarize_as_of(at(20) + 900_000).await.unwrap()));

    // What comes late: into a day that is young yet, and into one that is not looked at any more.
    let late = |user: u128, day: i64| {
        let at = START_MS + day * DAY_MS + 60_000;
        let row = format!(
            "INSERT INTO session_events (user_id, session_id, kind, at) \
             VALUES (toUUID('{}'), {day}, 'opened', fromUnixTimestamp64Milli({at}))",
            tidings_schemas::ids::UserId::random(user)
        );
        ask(database, &row, &[]).unwrap();
    };
    let connected = |day: i64| -> u64 {
        let of_day = format!("SELECT connected_users FROM daily_active_users WHERE day = '{}'", date(day));
        ask(database, &of_day, &[]).unwrap().trim().parse().unwrap()
    };
    let (young, old) = (connected(19), connected(3));
    late(0xfeed, 19);
    late(0xbeef, 3);
    archive.summarize_as_of(at(60)).await.unwrap();
    assert_eq!(written("(SELECT * FROM daily_summaries FINAL)"), "60\n", "days without anybody are counted, too");
    assert_eq!((connected(19), connected(3)), (young + 1, old));
    assert_eq!(all().1, asked.1);
    // The next day with its hours, and those before, which were young.
    assert!((2 * 25..=2 * 25 + 2).contains(&archive.summarize_as_of(at(61)).await.unwrap()));

    // A table in another's place: what was counted from it is counted again.
    archive.create_new(Table::InboxEntries).await.unwrap();
    archive.exchange(Table::InboxEntries).await.unwrap();
    assert_eq!(connected(3), old, "until then it says what it said");
    archive.summarize_as_of(at(61)).await.unwrap();
    assert_eq!((connected(19), connected(3)), (young + 1, old + 1));
    assert_eq!(all().1, asked.1);
}

#[tokio::test]
async fn every_view_and_column_is_described_in_the_database_and_the_document() {
    open("tidings_described").await;
    let columns = "SELECT table, name, type, comment FROM system.columns WHERE database = 'tidings_described' \
                   AND (table IN (SELECT name FROM system.tables WHERE database = 'tidings_described' AND engine = 'View') \
                   OR table = 'receipts') ORDER BY table, position FORMAT TSVRaw";
    let mut by_view = std::collections::BTreeMap::<String, String>::new();
    for line in sql("tidings_described", columns).lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let [view, name, kind, comment] = cells[..] else { panic!("{line}") };
        assert!(!comment.is_empty(), "{view}.{name} has no comment");
        *by_view.entry(view.to_owned()).or_default() += &format!("| `{name}` | `{kind}` | {comment} |\n");
    }
    assert!(by_view.len() >= 12, "{:?}", by_view.keys());
    let comments =
        "SELECT name FROM system.tables WHERE database = 'tidings_described' AND engine = 'View' AND comment = ''";
    assert_eq!(sql("tidings_described", comments), "", "views without a comment");
    let text = file("docs/ANALYTICS.md");
    let described = text.split("<!-- views: begin").nth(1).unwrap().split("<!-- views: end").next().unwrap();
    let mut stale = Vec::new();
    for (view, rows) in &by_view {
        let section = described.split(&format!("### `{view}`\n")).nth(1).unwrap_or_default();
        let table = section.split("|---|---|---|\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap();
        if format!("{}\n", table.trim_end()) != *rows {
            stale.push(format!("@@{view}\n{rows}"));
        }
    }
    assert!(stale.is_empty(), "docs/ANALYTICS.md is stale:\n{}", stale.join("\n"));
    assert_eq!(described.matches("\n### ").count(), by_view.len(), "a view that is no more");
    let tables = "SELECT table, name FROM system.columns WHERE database = 'tidings_described' AND comment = '' \
                  AND table NOT IN ('source_positions', 'migrations') AND name != 'attachments'";
    assert_eq!(sql("tidings_described", tables), "", "columns of tables without a comment");
}

#[tokio::test]
async fn conditions_on_conversations_and_times_reach_the_indexes() {
    let database = "tidings_indexes";
    let archive = open(database).await;
    History::generate(77).insert(&archive).await;
    let id = conversation(4);
    // What each read of a table says of its indexes: `Condition: true` is one that leaves out nothing.
    let reads = |statement: &str| -> Vec<(String, String)> {
        let plan = ask(database, &format!("EXPLAIN indexes = 1 {statement}"), &[]).unwrap();
        let reads = plan.split("ReadFromMergeTree (").skip(1);
        reads.map(|read| (read.split(')').next().unwrap().to_owned(), read.replace("\\'", "'"))).collect()
    };
    let index = |read: &str, name: &str| -> String {
        let part = read.split(&format!("{name}\n")).nth(1).unwrap_or_default();
        let part = part.split("Condition: ").nth(1).unwrap_or_default();
        part.lines().next().unwrap_or_default().to_owned()
    };
    for view in
        ["messages", "conversations", "memberships", "message_status", "conversation_activity", "membership_roles"]
    {
        let found = reads(&format!("SELECT * FROM {view} WHERE conversation_id = '{id}'"));
        assert!(!found.is_empty());
        for (table, read) in found {
            let condition = index(&read, "PrimaryKey");
            assert!(condition.contains(&id.to_string()), "{view} reads all of {table}: {condition}\n{read}");
        }
    }
    for (statement, column) in [
        ("SELECT * FROM messages WHERE sent_at >= '2090-02-01' AND sent_at < '2090-02-02'", "sent_at"),
        ("SELECT * FROM conversation_activity WHERE day = '2090-02-01'", "sent_at"),
        ("SELECT * FROM daily_active_users WHERE day >= '2090-02-01'", ""),
        ("SELECT * FROM deliveries WHERE routed_at >= '2090-02-01'", "at"),
    ] {
        for (table, read) in reads(statement) {
            let condition = index(&read, "Min-Max") + &index(&read, "MinMax");
            assert!(
                condition.contains(column) && condition.contains(" in "),
                "{statement}: {table}: {condition}\n{read}"
            );
            let parts = read.split("Parts: ").filter_map(|rest| rest.split_once('/')).next();
            let parts =
                parts.map(|(read, all)| (read.trim().to_owned(), all.split_whitespace().next().unwrap().to_owned()));
            let (some, all) = parts.unwrap();
            assert!(
                some.parse::<u32>().unwrap() < all.parse::<u32>().unwrap(),
                "{statement}: {table} leaves out no month"
            );
        }
    }
}

#[tokio::test]
async fn the_dashboards_queries_run() {
    let database = "tidings_dashboards";
    let archive = open(database).await;
    History::generate(3).insert(&archive).await;
    let dashboard = file("ops/grafana/dashboards/product.json");
    let mut queries = Vec::new();
    for rest in dashboard.split("\"rawSql\": \"").skip(1) {
        let mut text = String::new();
        let mut characters = rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => break,
                '\\' => match characters.next().unwrap() {
                    'n' => text.push('\n'),
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
        queries.push(text);
    }
    assert!(queries.len() >= 10, "only {} queries", queries.len());
    let (from, to) = (date(2), date(30));
    for query in queries {
        // As the plugin writes its macros out.
        let mut statement = String::new();
        let mut rest = query.as_str();
        while let Some((before, after)) = rest.split_once("$__") {
            statement += before;
            let (name, after) = after.split_once('(').unwrap();
            let (column, after) = after.split_once(')').unwrap();
            statement += &match name {
                "timeFilter" => format!("({column} >= toDateTime('{from}') AND {column} <= toDateTime('{to}'))"),
                "timeFilter_ms" => {
                    format!("({column} >= toDateTime64('{from}', 3) AND {column} <= toDateTime64('{to}', 3))")
                }
                "dateFilter" => format!("({column} >= toDate('{from}') AND {column} <= toDate('{to}'))"),
                "timeInterval" => format!("toStartOfInterval(toDateTime({column}), INTERVAL 3600 second)"),
                other => panic!("the plugin has no macro $__{other}, or this test does not know it"),
            };
            rest = after;
        }
        statement += rest;
        let found = ask(database, &statement.replace("tidings.", ""), &[]);
        let found = found.unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert!(!found.trim().is_empty() && found.trim() != "0", "nothing comes of {statement}");
    }
}

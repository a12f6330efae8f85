//! Records out of a log that is being written.

use std::fs;

use super::harness::Server;
use super::tool::{lines, replay, replayed};

#[tokio::test]
async fn records_are_dumped_while_the_program_runs() {
    let server = Server::start().await;
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let (chat, other) = (ann.chat_with(&bob).await, ann.chat_with(&eve).await);
    ann.post(&chat, "m1", "to bob").await;
    ann.post(&other, "m1", "to eve").await;
    let folder = server.folder();
    let all = lines(&replayed(folder, &["dump", "events", "--data", "data", "--output", "jsonl"]));
    assert!(all.iter().all(|line| line["topic"] == "events.v1" && line["timestamp"].is_string()));
    let texts = |lines: &[serde_json::Value]| -> Vec<String> {
        let mut texts: Vec<String> =
            lines.iter().filter_map(|line| line["value"]["send"]["text"].as_str().map(str::to_owned)).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&all), ["to bob", "to eve"]);

    let of = |option: &str, value: &str| {
        let arguments = ["dump", "events", "timeline", "--data", "data", "--output", "jsonl", option, value];
        lines(&replayed(folder, &arguments))
    };
    let of_chat = of("--conversation", &chat);
    assert_eq!(texts(&of_chat), ["to bob"]);
    assert!(of_chat.iter().any(|line| line["value"]["entries"][0]["event"]["send"]["text"] == "to bob"), "{of_chat:?}");
    assert_eq!(texts(&of("--key", &other)), ["to eve"]);
    assert_eq!(of("--max", "2").len(), 2);
    let recipients =
        replayed(folder, &["dump", "fanout", "--data", "data", "--output", "jsonl", "--user", &eve.user_id]);
    assert!(recipients.contains("to eve") && !recipients.contains("to bob"), "{recipients}");

    let directory = replayed(folder, &["dump", "directory", "--data", "data"]);
    assert!(directory.contains("\"username\":\"ann\"") && directory.contains(&ann.user_id), "{directory}");
    assert!(!directory.contains("argon2"), "no password's hash: {directory}");

    let nothing = replayed(folder, &["dump", "events", "--data", "data", "--from", "-10d", "--to", "-9d"]);
    assert_eq!(nothing, "");
    let recent = replayed(folder, &["dump", "events", "--data", "data", "--from", "-1h", "--output", "jsonl"]);
    assert_eq!(lines(&recent).len(), all.len());
    let plan = replayed(folder, &["dump", "events", "--data", "data", "--dry-run", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["records"], all.len());
    assert_eq!(plan["ranges"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_comes_is_followed() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let folder = server.folder().to_owned();
    let follower = tokio::task::spawn_blocking(move || {
        let arguments = [
            "dump",
            "events",
            "--data",
            "data",
            "--output",
            "jsonl",
            "--offset",
            "beginning",
            "--follow",
            "--max",
            "4",
        ];
        replayed(&folder, &arguments)
    });
    for number in 0..3 {
        ann.post(&chat, &format!("m{number}"), &format!("message {number}")).await;
    }
    let seen = follower.await.unwrap();
    assert_eq!(lines(&seen).len(), 4);
    assert!(seen.contains("message 2"), "{seen}");
}

#[test]
fn each_failure_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.txt"), "something else").unwrap();
    let table: [(i32, &str, &[&str]); 10] = [
        (2, "no topic", &["dump", "event", "--data", "data"]),
        (2, "hint", &["dump", "events", "--data", "data", "--offset", "first"]),
        (2, "no time", &["dump", "events", "--data", "data", "--from", "yesterday"]),
        (2, "--from is not before", &["dump", "events", "--data", "data", "--from", "-1h", "--to", "-2h"]),
        (2, "UUID", &["dump", "events", "--data", "data", "--user", "ann"]),
        (2, "cannot be used with", &["dump", "events", "--data", "data", "--brokers", "localhost:1"]),
        (3, "there is no log", &["dump", "events", "--data", "data"]),
        (2, "no raw dump", &["import", "text.txt", "--data", "new"]),
        (3, "cannot open", &["import", "missing.dump", "--data", "new"]),
        (2, "no rate", &["into", "--data", "data", "--into-data", "new", "--rate", "fast"]),
    ];
    for (code, said, arguments) in table {
        let ended = replay(folder.path(), arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {ended:?}");
        assert!(!folder.path().join("data").exists() && !folder.path().join("new").exists(), "{arguments:?}");
    }
}

//! The verbs on a log on Kafka, and into one.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::broker;
use super::harness::{Server, eventually};
use super::tool::{lines, replay, replayed};

/// Some history in a folder that nobody runs on any more.
async fn history(messages: u32) -> Server {
    let mut server = Server::start_with(&["archive.enabled=false", "edge.user_sends_per_second=0"]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    for number in 0..messages {
        ann.post(&chat, &format!("c{number}"), &format!("chat {number}")).await;
    }
    // All that follows is on the log when what is verified has no more behind it.
    let folder = server.folder();
    eventually("all is derived", || async {
        (replay(folder, &["verify", "--data", "data", "--complete", "--no-archive"]).code == 0).then_some(())
    })
    .await;
    assert!(server.terminate().await.success());
    server
}

/// Where on the tests' broker: nobody else's topics.
fn place() -> (String, String) {
    let settings = broker::settings(broker::shared());
    (settings.brokers, format!("kafka.topic_prefix={}", settings.topic_prefix))
}

/// The texts of the events of a log, by client_message_id, with how often each stands there.
fn sends(folder: &Path, source: &[&str]) -> BTreeMap<String, usize> {
    let dumped = replayed(folder, &[&["dump", "events", "--output", "jsonl"], source].concat());
    let mut found = BTreeMap::new();
    for line in lines(&dumped) {
        if let Some(id) = line["value"]["send"]["client_message_id"].as_str() {
            *found.entry(id.to_owned()).or_default() += 1;
        }
    }
    found
}

#[tokio::test]
#[ignore = "needs Kafka: ./ops/test kafka"]
async fn a_log_on_kafka_is_dumped_and_verified() {
    let server = history(20).await;
    let folder = server.folder();
    replayed(folder, &["dump", "all", "--data", "data", "--output", "raw", "--file", "all.dump"]);
    let (brokers, prefix) = place();
    let kafka = ["--brokers", &brokers, "--set", &prefix];
    let report = replayed(folder, &[&["import", "all.dump", "--new-times", "--json"], &kafka[..]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["is_whole"], true, "{report:#}");

    // The same records at the same places, but for the time.
    let dumped = |source: &[&str]| {
        let arguments = ["dump", "events", "timeline", "fanout", "inbox", "directory", "--output", "jsonl"];
        let mut dumped = lines(&replayed(folder, &[&arguments, source].concat()));
        dumped.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("timestamp")));
        dumped
    };
    assert_eq!(dumped(&kafka), dumped(&["--data", "data"]));
    assert_eq!(sends(folder, &kafka).len(), 20);
    let last = replayed(folder, &[&["dump", "events", "--output", "jsonl", "--offset", "-1"], &kafka[..]].concat());
    assert!((1..=2).contains(&lines(&last).len()), "one of each partition that has some: {last}");

    let verify = [&["verify", "--complete", "--no-archive", "--json"], &kafka[..]].concat();
    let report: Value = serde_json::from_str(&replayed(folder, &verify)).unwrap();
    assert_eq!((&report["differences"], &report["events"]), (&0.into(), &21.into()), "{report:#}");
    let other = [&verify[..], &["--set", "dataflow.conversations.text_bytes_max=3"]].concat();
    let ended = replay(folder, &other);
    assert!(ended.code == 1 || ended.code == 2, "another rule, or none that may be: {ended:?}");
}

#[tokio::test]
#[ignore = "needs Kafka: ./ops/test kafka"]
async fn history_is_played_into_kafka_at_a_rate_and_gone_on_with() {
    let server = history(60).await;
    let folder = server.folder();
    let expected: Vec<String> = sends(folder, &["--data", "data"]).into_keys().collect();
    let (brokers, prefix) = place();
    let kafka = ["--brokers", &brokers, "--set", &prefix];
    let into = ["into", "--data", "data", "--into-brokers", &brokers, "--into-set", &prefix, "--progress", "at.json"];

    // Slowly, and killed in the middle.
    let mut slow = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .current_dir(folder)
        .arg("replay")
        .args(into)
        .args(["--rate", "0.5x"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let some = eventually("some are there", || async {
        let ended = replay(folder, &[&["dump", "events", "--output", "jsonl"], &kafka[..]].concat());
        let count = if ended.code == 0 { lines(&ended.out).len() } else { 0 };
        (count > 3).then_some(count)
    })
    .await;
    let is_running = slow.try_wait().unwrap().is_none();
    slow.kill().unwrap();
    slow.wait().unwrap();
    assert!(is_running && some < expected.len(), "at its rate it takes longer: {some}");
    assert!(fs::exists(folder.join("at.json")).unwrap());

    // The same again goes on where that was: what was on its way may be there twice, and nothing is missing.
    replayed(folder, &into);
    let found = sends(folder, &kafka);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert!(found.values().all(|times| *times <= 2), "{found:?}");
    assert!(found.values().any(|times| *times == 1), "it began anew: {found:?}");
    let again = replay(folder, &[&into[..], &["--json"]].concat());
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(sends(folder, &kafka), found, "what was done is not done twice");
}

//! The verbs on a log on Kafka, and into one.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
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

/// All of a raw dump behind its header, which says when it was made.
fn records_of(file: &Path) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    let header = 20 + u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    bytes[usize::try_from(header).unwrap()..].to_vec()
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
    let report = replayed(folder, &[&["import", "all.dump", "--json"], &kafka[..]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["is_whole"], &report["log_id"]), (&true.into(), &report["header"]["log_id"]), "{report:#}");
    replayed(folder, &[&["dump", "all", "--output", "raw", "--file", "again.dump"], &kafka[..]].concat());
    let all = records_of(&folder.join("all.dump"));
    assert!(all.len() > 1_000 && records_of(&folder.join("again.dump")) == all, "the same log, byte for byte");
    let again = replay(folder, &[&["import", "all.dump"], &kafka[..]].concat());
    assert!(again.code == 4 && again.err.contains("already"), "{again:?}");
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
        .args(["--rate", "0.05x"])
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

#[tokio::test]
#[ignore = "needs Kafka: ./ops/test kafka"]
async fn a_killed_import_is_no_log_and_is_gone_on_with_also_beyond_offset_0() {
    let server = history(300).await;
    let folder = server.folder();
    replayed(folder, &["dump", "all", "--data", "data", "--output", "raw", "--file", "all.dump"]);
    // What retention has left of it: partitions that begin somewhere.
    let part = ["dump", "events", "timeline", "directory", "--data", "data", "--offset", "-100", "--output", "raw"];
    replayed(folder, &[&part[..], &["--file", "part.dump"]].concat());
    for (file, is_whole) in [("all.dump", true), ("part.dump", false)] {
        let (brokers, prefix) = place();
        let kafka = ["--brokers", &brokers, "--set", &prefix];
        let bytes = fs::read(folder.join(file)).unwrap();
        let mut killed = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .current_dir(folder)
            .args(["replay", "import", "-"])
            .args(kafka)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It waits for the rest.
        let mut input = killed.stdin.take().unwrap();
        input.write_all(&bytes[..bytes.len() / 2]).unwrap();
        input.flush().unwrap();
        let topics = prefix.split_once('=').unwrap().1.to_owned();
        eventually("some is there", || async {
            let folders = fs::read_dir(broker::shared().file("1/log")).ok()?.flatten();
            let folders = folders.filter(|folder| folder.file_name().to_string_lossy().starts_with(&topics));
            let files = folders.filter_map(|folder| Some(fs::read_dir(folder.path()).ok()?.flatten())).flatten();
            let segments = files.filter(|file| file.path().extension().is_some_and(|end| end == "log"));
            let written: u64 = segments.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum();
            (written > bytes.len() as u64 / 8).then_some(())
        })
        .await;
        killed.kill().unwrap();
        killed.wait().unwrap();
        drop(input);
        let ended = replay(folder, &[&["dump", "events"], &kafka[..]].concat());
        assert!(ended.code == 3 && ended.err.contains("was not finished"), "{ended:?}");
        let mut up = Command::new(env!("CARGO_BIN_EXE_tidings"));
        let up = up.current_dir(folder).args(["up", "--data", "other", "--set", "node.log=kafka", "--set", &prefix]);
        let up = up.args(["--set", &format!("kafka.brokers={brokers}"), "--set", "archive.enabled=false"]);
        let up = up.args(["--set", "edge.listen=127.0.0.1:0"]).output().unwrap();
        let said = String::from_utf8_lossy(&up.stderr);
        assert!(!up.status.success() && said.contains("was not finished"), "{said}");

        let report = replayed(folder, &[&["import", file, "--json"], &kafka[..]].concat());
        let report: Value = serde_json::from_str(&report).unwrap();
        assert!(report["kept"].as_u64().unwrap() > 0, "it went on: {report:#}");
        assert_eq!(report["log_id"] == report["header"]["log_id"], is_whole, "{report:#}");
        let topics: &[&str] = if is_whole { &["all"] } else { &["events", "timeline", "directory"] };
        let again = format!("again.{file}");
        let dump = [&["dump"], topics, &["--output", "raw", "--file", &again], &kafka[..]].concat();
        replayed(folder, &dump);
        assert!(records_of(&folder.join(&again)) == records_of(&folder.join(file)), "{file}: the same records");
    }
}

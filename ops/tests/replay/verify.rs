//! What `tidings up` derived, verified while it runs and after; and a folder whose history was derived under other rules.

use serde_json::Value;

use super::chats::chats;
use super::harness::{Server, eventually, free_port};
use super::rebuild::damage_archive;
use super::tool::{replay, replay_unread, replayed};

#[tokio::test]
async fn what_the_program_derives_is_verified() {
    let server = Server::start().await;
    chats(&server).await;
    let folder = server.folder();
    let plan: Value =
        serde_json::from_str(&replayed(folder, &["verify", "--data", "data", "--dry-run", "--json"])).unwrap();
    assert!(plan["records"].as_u64().unwrap() > 20, "{plan}");

    // While it runs.
    let report: Value = serde_json::from_str(&replayed(folder, &["verify", "--data", "data", "--json"])).unwrap();
    assert_eq!(report["differences"], 0, "{report:#}");
    assert_eq!(report["events"], 12, "{report:#}");
    let table = replayed(folder, &["verify", "--data", "data"]);
    assert!(table.contains("timeline.v1") && table.contains("12 events"), "{table}");

    // Under rules by which the group could not have been made.
    let other = ["verify", "--data", "data", "--set", "dataflow.conversations.group_members_max=2", "--json"];
    let ended = replay(folder, &other);
    assert_eq!(ended.code, 1, "{ended:?}");
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert!(report["differences"].as_u64().unwrap() >= 6, "{report:#}");
    let first = &report["first_differences"][0];
    assert_eq!((&first["kind"], &first["topic"]), (&"differing".into(), &"timeline.v1".into()), "{first:#}");
    assert!(first["expected"]["value"]["refusal"].is_object(), "{first:#}");
    assert!(first["found"]["value"]["refusal"].is_null() && first["offset"].is_u64(), "{first:#}");
    assert!(ended.err.contains("are not what"), "{ended:?}");

    // Whoever read the answers has seen enough of them.
    let data = ["--data", "data"];
    let asked: [(i32, &[&str]); 8] = [
        (0, &["verify"]),
        (1, &["verify", "--set", "dataflow.conversations.group_members_max=2"]),
        (0, &["verify", "--dry-run"]),
        (0, &["dump", "all", "--dry-run"]),
        (0, &["dump", "all"]),
        (0, &["state"]),
        (0, &["rebuild", "views", "--dry-run"]),
        (0, &["into", "--into-data", "new", "--dry-run"]),
    ];
    for (code, arguments) in asked {
        let ended = replay_unread(folder, &[arguments, &data].concat());
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(!ended.err.contains("panicked"), "{arguments:?}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_archive_is_verified() {
    let port = free_port();
    let listen = format!("archive.http_listen=127.0.0.1:{port}");
    let server = Server::start_with(&[&listen, "archive.http_writable=true"]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    for number in 0..6 {
        ann.post(&chat, &format!("c{number}"), "to bob").await;
    }
    let verified = |code: i32| {
        let ended = replay(server.folder(), &["verify", "--data", "data", "--json"]);
        let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        assert_eq!((ended.code, &report["differences"]), (code, &0.into()), "{ended:?}");
        report["archive"]["tables"].clone()
    };
    let of = |tables: &Value, table: &str| {
        let found = tables.as_array().unwrap().iter().find(|found| found["table"] == table).unwrap();
        ["agreeing", "missing", "extra", "differing"].map(|name| found[name].as_u64().unwrap())
    };
    // The program's own port is known, and whatever is archived so far agrees.
    eventually("all is archived", || async {
        let tables = verified(0);
        (of(&tables, "timeline_entries") == [7, 0, 0, 0] && of(&tables, "inbox_entries")[0] >= 14).then_some(())
    })
    .await;
    damage_archive(port, &chat).await;
    let tables = verified(1);
    assert_eq!(of(&tables, "timeline_entries"), [5, 1, 1, 1], "{tables:#}");
    assert_eq!(of(&tables, "inbox_entries")[1..], [2, 0, 0], "{tables:#}");
    let first = tables[0]["first"].as_array().unwrap();
    let missing = first.iter().find(|found| found["kind"] == "missing").unwrap();
    assert_eq!(missing["key"], format!("{chat} 3"), "{missing:#}");
    assert!(missing["offset"].is_u64() && missing["topic"] == "timeline.v1", "{missing:#}");
}

#[tokio::test]
async fn a_log_is_verified_from_checkpoints() {
    let mut server = Server::start_with(&["archive.enabled=false", "dataflow.checkpoints.interval_ms=50"]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    for number in 0..30 {
        ann.post(&chat, &format!("c{number}"), "to bob").await;
    }
    let checkpointed = ["verify", "--data", "data", "--checkpoint", "--json"];
    let mut number = 30;
    // Older ones go: some history lies before the oldest that is kept.
    let from = loop {
        ann.post(&chat, &format!("c{number}"), "to bob").await;
        number += 1;
        let report: Value = serde_json::from_str(&replayed(server.folder(), &checkpointed)).unwrap();
        let streams = report["streams"].as_array().unwrap();
        let of = |topic: &str| {
            streams
                .iter()
                .filter(|stream| stream["topic"] == topic)
                .map(|stream| stream["verified_from"].as_u64().unwrap())
                .sum::<u64>()
        };
        if of("timeline.v1") > 10 && of("inbox.v1") > 10 {
            break of("timeline.v1");
        }
        assert!(number < 500, "{report:#}");
    };
    for more in 0..20 {
        ann.post(&chat, &format!("d{more}"), "to bob").await;
    }
    assert!(server.terminate().await.success());
    // As it ends, and from a state under other rules.
    let report: Value =
        serde_json::from_str(&replayed(server.folder(), &[&checkpointed[..], &["--complete"]].concat())).unwrap();
    assert_eq!(report["differences"], 0, "{report:#}");
    assert!(report["events"].as_u64().unwrap() > 0 && from > 10, "{report:#}");
    std::fs::remove_dir_all(server.folder().join("data/checkpoints")).unwrap();
    let ended = replay(server.folder(), &checkpointed);
    assert!(ended.code == 2 && ended.err.contains("no checkpoints"), "{ended:?}");
}

#[test]
fn what_cannot_be_verified_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let ended = replay(folder.path(), &["verify", "--data", "data"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let ended = replay(folder.path(), &["verify", "--data", "data", "--threads", "many"]);
    assert_eq!(ended.code, 2, "{ended:?}");
}

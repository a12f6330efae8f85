//! What `tidings up` derived, verified while it runs and after; and a folder whose history was derived under other rules.

use serde_json::Value;

use super::harness::Server;
use super::tool::{replay, replayed};

#[tokio::test]
async fn what_the_program_derives_is_verified() {
    let server = Server::start().await;
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let chat = ann.chat_with(&bob).await;
    let group = ann.group("the three", &[&bob, &eve]).await;
    for number in 0..5 {
        ann.post(&chat, &format!("c{number}"), "to bob").await;
        bob.post(&group, &format!("g{number}"), "to all").await;
    }
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
}

#[test]
fn what_cannot_be_verified_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let ended = replay(folder.path(), &["verify", "--data", "data"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let ended = replay(folder.path(), &["verify", "--data", "data", "--threads", "many"]);
    assert_eq!(ended.code, 2, "{ended:?}");
}

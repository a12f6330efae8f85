//! The history of `tidings up` under other rules: here, and in another process.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use super::chats::chats;
use super::harness::Server;
use super::tool::{lines, replay, replayed};

/// Another build, as far as anybody can tell: a script.
fn script(folder: &Path, name: &str, body: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn other_limits_and_other_builds_are_compared() {
    let server = Server::start().await;
    chats(&server).await;
    let folder = server.folder();
    let other = "dataflow.conversations.group_members_max=2";

    // While it runs.
    let ended = replay(folder, &["diff", "--data", "data", "--set", other, "--json", "--show", "1"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("6 of 12 events would come out differently, and 5 more only under"), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&report["events"], &report["changed"][0]), (&12.into(), &other.into()));
    // What comes after in the same inboxes gets other offsets.
    assert_eq!((&report["differing"], &report["only_numbers"]), (&11.into(), &5.into()));
    let kinds = report["kinds"].as_array().unwrap();
    assert_eq!((&kinds[0]["kind"], &kinds[0]["events"]), (&"newly_refused".into(), &6.into()), "{report:#}");
    let example = &report["examples"][0];
    assert!(example["event"]["value"]["create_conversation"].is_object(), "{example:#}");
    assert!(example["before"][0]["value"]["entries"].is_array(), "{example:#}");
    assert_eq!(example["after"][0]["value"]["refusal"]["message"], "the group is full", "{example:#}");
    let table = replay(folder, &["diff", "--data", "data", "--set", other]).out;
    assert!(table.contains("was accepted, would be refused"), "{table}");

    // The same rules, and a limit that nobody comes to.
    let same = "dataflow.conversations.group_members_max=3";
    let report = replayed(folder, &["diff", "--data", "data", "--set", same, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["differing"], 0);

    // Another process, of this program: the same, and with a changed limit.
    let program = env!("CARGO_BIN_EXE_tidings");
    let report = replayed(folder, &["diff", "--data", "data", "--with", program, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["events"], 12);
    let ended = replay(folder, &["diff", "--data", "data", "--with", program, "--set", other, "--json"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(serde_json::from_str::<Value>(&ended.out).unwrap()["differing"], 11);
    let plan = replayed(folder, &["diff", "--data", "data", "--set", same, "--dry-run"]);
    assert!(plan.contains("12 events"), "{plan}");
    let earlier = replayed(folder, &["diff", "--data", "data", "--set", other, "--as-of", "-1h", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&earlier).unwrap()["events"], 0);

    let derived = replayed(folder, &["derive", "--data", "data"]);
    let derived = lines(&derived);
    assert_eq!((&derived[0]["tidings_derive"], derived.len()), (&1.into(), 14), "a header, the events, an end");
    broken_builds(folder, program);
}

fn broken_builds(folder: &Path, program: &str) {
    let older = script(folder, "older", "echo \"error: unrecognized subcommand 'derive'\" >&2; exit 2");
    let newer = script(folder, "newer", "echo '{\"tidings_derive\":9}'");
    let broken = script(folder, "broken", &format!("{program} \"$@\" | head -n 5; echo it broke >&2"));
    let missing = folder.join("missing").display().to_string();
    for (binary, said) in [
        (&older, "unrecognized subcommand"),
        (&newer, "version 9"),
        (&broken, "cut off behind 4 events; it said: it broke"),
        (&missing, "cannot run"),
    ] {
        let ended = replay(folder, &["diff", "--data", "data", "--with", binary]);
        assert_eq!(ended.code, 2, "{binary}: {ended:?}");
        assert!(ended.err.contains(said), "{binary}: {ended:?}");
    }
}

#[test]
fn what_cannot_be_compared_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let table: [(i32, &str, &[&str]); 4] = [
        (2, "nothing is changed", &["diff", "--data", "data"]),
        (2, "nothing is changed", &["diff", "--data", "data", "--set", "kafka.topic_prefix=x"]),
        (2, "dataflow", &["diff", "--data", "data", "--set", "dataflow.conversations.members=2"]),
        (3, "there is no log", &["diff", "--data", "data", "--set", "dataflow.conversations.group_members_max=2"]),
    ];
    for (code, said, arguments) in table {
        let ended = replay(folder.path(), arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {ended:?}");
    }
}

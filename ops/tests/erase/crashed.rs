//! An erasure that is killed in the middle: the folder is whole, and the next run finishes it.

use std::{fs, path::Path, process::Command};

use hyper::Method;
use serde_json::Value;

use super::{
    harness::{Server, text},
    replay::replay,
    tool::{command, erase, files_with, run},
};

const NAME: &str = "vanishing-heron-31";
const MARKER: &str = "MARKER-crash-pk77";

/// Whether something of that kind is there.
fn is_there(folder: &Path, suffix: &str) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        path.to_string_lossy().ends_with(suffix) || (path.is_dir() && is_there(&path, suffix))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_erasure_is_finished_by_the_next() {
    let mut server = Server::start().await;
    let (heron, bob) = (server.person(NAME).await, server.person("bob").await);
    let chat = heron.chat_with(&bob).await;
    let group = heron.group("of heron", &[&bob]).await;
    for number in 0..20 {
        heron.post(&chat, &format!("c{number}"), MARKER).await;
        heron.post(&group, &format!("g{number}"), MARKER).await;
    }
    let said = heron.post(&chat, "deleted", MARKER).await;
    let path = format!("/v1/conversations/{chat}/messages/{}", text(&said["message_id"]));
    heron.call(Method::DELETE, &path, Value::Null).await;
    server.terminate().await;

    let mut killed = 0;
    // In the order in which they come: a file of the log is being written, the views are.
    for (moment, what) in [".rewritten", "rows.rewritten"].into_iter().enumerate() {
        for round in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            let copied = Command::new("cp").arg("-r").arg(server.folder().join("data")).arg(folder.path()).status();
            assert!(copied.unwrap().success());
            let mut erasing = command(folder.path(), &["erase", NAME, "--data", "data", "--yes"])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let watched = folder.path().join(if moment == 0 { "data/log/partitions" } else { "data/views" });
            let status = loop {
                if is_there(&watched, what) {
                    erasing.kill().unwrap();
                    break erasing.wait().unwrap();
                }
                if let Some(status) = erasing.try_wait().unwrap() {
                    break status;
                }
            };
            killed += u32::from(!status.success());
            // What was derived may differ from what events lead to now, until it is finished; nothing is damaged.
            let verified = replay(folder.path(), &["verify", "--data", "data"]);
            assert!(verified.code == 0 || verified.err.contains("are not what"), "{what} {round}: {verified:?}");
            erase(folder.path(), &heron.user_id);
            for bytes in [MARKER, NAME] {
                assert!(files_with(&folder.path().join("data"), bytes).is_empty(), "{what} {round}: {bytes}");
            }
            let verified = replay(folder.path(), &["verify", "--data", "data"]);
            assert_eq!(verified.code, 0, "{what} {round}: {verified:?}");
            let deleted = run(folder.path(), &["erase", "--deleted", "--data", "data", "--yes"]);
            assert_eq!(deleted.code, 0, "{deleted:?}");
        }
    }
    assert!(killed >= 2, "{killed} of 8 were killed in time");
}

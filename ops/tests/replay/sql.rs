//! The archive of a data folder, asked in SQL while the program runs and after.

use std::{path::Path, process::Command};

use serde_json::Value;

use super::harness::{Server, eventually};
use super::tool::lines;

/// Rows of a statement's answer, asked on a machine whose clocks show another zone.
fn ask(folder: &Path, statement: &str) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.current_dir(folder).env("TZ", "America/New_York");
    let output = command.args(["sql", "--data", "data", "--output", "jsonl", statement]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    lines(std::str::from_utf8(&output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_asked_whether_it_runs_or_not_and_times_are_in_utc() {
    let mut server = Server::start_with(&["archive.http_listen=127.0.0.1:0"]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    ann.post(&chat, "m1", "to bob").await;
    let folder = server.folder().to_owned();
    let count = "SELECT count() AS messages FROM messages";
    eventually("the message", || async { (ask(&folder, count)[0]["messages"] == 1).then_some(()) }).await;
    assert!(server.terminate().await.success());

    // The engine is of this process now, and of its zone: a time without one is in UTC all the same.
    let of_utc = "SELECT timezone() AS zone, countIf(sent_at BETWEEN now() - 3600 AND now()) AS of_now,
                         toDateTime('2026-01-31 12:00:00') = toDateTime('2026-01-31 12:00:00', 'UTC') AS is_utc
                  FROM messages";
    let row = &ask(&folder, of_utc)[0];
    assert_eq!((&row["zone"], &row["of_now"], &row["is_utc"]), (&"UTC".into(), &1.into(), &1.into()), "{row}");
}

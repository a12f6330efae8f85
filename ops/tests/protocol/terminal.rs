//! The terminal client, run as a user runs it.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

use super::harness::{PATIENCE, Server};

#[tokio::test]
async fn a_new_chat_begins_once() {
    let server = Server::start().await;
    server.person("ann").await;
    server.person("bob").await;
    let mut terminal = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(["chat", "--url", &server.url(), "--user", "ann", "--password", "a good password", "--with", "bob"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut typed = terminal.stdin.take().unwrap();
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines();
    let mut shown = Vec::new();
    // The update about the creation comes before that of the answer, which is typed after the history was shown.
    for (until, then) in [("began the conversation", "are you there?\n"), ("ann: are you there?", "")] {
        while shown.last().is_none_or(|line: &String| !line.contains(until)) {
            let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
            shown.push(line.unwrap_or_else(|| panic!("it ended: {shown:#?}")));
        }
        typed.write_all(then.as_bytes()).await.unwrap();
    }
    let begun = shown.iter().filter(|line| line.contains("began the conversation")).count();
    assert_eq!(begun, 1, "{shown:#?}");
    assert_eq!(shown.iter().filter(|line| line.contains("are you there?")).count(), 1, "{shown:#?}");
    drop(typed);
    assert!(timeout(PATIENCE, terminal.wait()).await.expect("it ends with its input").unwrap().success());
}

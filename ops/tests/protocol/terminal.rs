//! The terminal client, run as a user runs it.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::harness::{PATIENCE, Server, eventually};

/// The terminal of ann, in the chat with bob. Both have accounts.
fn terminal(arguments: &[String]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tidings"))
        .arg("chat")
        .args(arguments)
        .args(["--user", "ann", "--password", "a good password", "--with", "bob"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Types a line once the chat has begun, and reads until it is shown.
async fn talk(terminal: &mut Child) -> Vec<String> {
    let mut typed = terminal.stdin.take().unwrap();
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines();
    let mut shown = Vec::new();
    // The update about the creation comes before that of the line, which is typed after the history was shown.
    for (until, then) in [("began the conversation", "are you there?\n"), ("ann: are you there?", "")] {
        while shown.last().is_none_or(|line: &String| !line.contains(until)) {
            let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
            shown.push(line.unwrap_or_else(|| panic!("it ended: {shown:#?}")));
        }
        typed.write_all(then.as_bytes()).await.unwrap();
    }
    drop(typed);
    assert!(timeout(PATIENCE, terminal.wait()).await.expect("it ends with its input").unwrap().success());
    shown
}

#[tokio::test]
async fn a_new_chat_begins_once() {
    let server = Server::start().await;
    server.person("ann").await;
    server.person("bob").await;
    let shown = talk(&mut terminal(&server.arguments())).await;
    for once in ["began the conversation", "are you there?"] {
        assert_eq!(shown.iter().filter(|line| line.contains(once)).count(), 1, "{once}: {shown:#?}");
    }
}

#[tokio::test]
async fn chat_and_load_go_over_tls() {
    let server = Server::start_secure().await;
    let where_to_look = format!("web client      {}/", server.url());
    // It is ready a moment before it says so.
    eventually("it says where to look", || async { server.said().contains(&where_to_look).then_some(()) }).await;
    server.person("ann").await;
    let bob = server.person("bob").await;
    talk(&mut terminal(&server.arguments())).await;
    assert_eq!(bob.get("/v1/conversations").await["conversations"][0]["last_message"]["text"], "are you there?");

    let stranger = terminal(&["--url".to_owned(), server.url()]).wait_with_output();
    let refused = timeout(PATIENCE, stranger).await.expect("it ends").unwrap();
    assert!(!refused.status.success(), "nobody vouches for the certificate");
    let load = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .arg("load")
        .args(server.arguments())
        .args(["--users", "4", "--rate", "20", "--seconds", "1", "--warmup-seconds", "0", "--json"])
        .kill_on_drop(true)
        .output();
    let loaded = timeout(PATIENCE, load).await.expect("it ends").unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
}

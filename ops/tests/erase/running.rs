//! An erasure from the folder of a program that runs: it steps aside and comes back, whatever happens to the tool.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    erased::sql,
    harness::{Server, eventually, free_port},
    replay::replayed,
    tool::{command, erase, files_with, held, run},
};

const NAME: &str = "vanishing-okapi-55";
const MARKER: &str = "MARKER-running-zk55";
const WITH_ARCHIVE: [&str; 1] = ["archive.http_listen=127.0.0.1:0"];

/// A program, on which somebody has written what is to be erased.
async fn with_marked_messages(settings: &[&str]) -> Server {
    let server = Server::start_with(settings).await;
    let (okapi, bob) = (server.person(NAME).await, server.person("bob").await);
    let chat = okapi.chat_with(&bob).await;
    for number in 0..10 {
        okapi.post(&chat, &format!("c{number}"), MARKER).await;
        bob.post(&chat, &format!("b{number}"), "bob to okapi").await;
    }
    assert!(!files_with(&server.folder().join("data/log"), MARKER).is_empty(), "the test looks where it was");
    server
}

/// Chatting clients, who write down what they see, and come back when a connection ends.
fn load(server: &Server, seconds: &str) -> JoinHandle<Value> {
    let mut load = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidings"));
    load.current_dir(server.folder()).arg("load").args(server.arguments());
    load.args(["--users", "6", "--rate", "20", "--seconds", seconds, "--warmup-seconds", "0", "--group-share", "0.3"]);
    load.args(["--groups", "1", "--group-size", "4", "--drain-seconds", "60", "--record", "seen", "--json"]);
    load.stdin(Stdio::null()).kill_on_drop(true);
    tokio::spawn(async move {
        let ended = load.output().await.unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_slice(&ended.stdout).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_steps_aside_and_its_clients_lose_nothing() {
    let mut server = with_marked_messages(&WITH_ARCHIVE).await;
    let (pid, data) = (server.pid(), server.folder().join("data"));
    // Neither of them makes it go.
    let dry = run(server.folder(), &["erase", NAME, "--data", "data", "--dry-run"]);
    assert!(dry.code == 0 && dry.out.contains("views and archive were not counted"), "{dry:?}");
    let unasked = run(server.folder(), &["erase", NAME, "--data", "data"]);
    assert!(unasked.code == 2 && unasked.err.contains("--yes"), "{unasked:?}");
    assert!(!server.said().contains("stepping aside"), "{}", server.said());

    let loading = load(&server, "25");
    eventually("clients chat", || async {
        let count = sql(&server, "SELECT count() FROM messages").await;
        // Besides those that are there already.
        (count.parse::<u64>().ok()? > 50).then_some(())
    })
    .await;
    let folder = server.folder().to_owned();
    let erasing = move || {
        let ended = run(&folder, &["erase", NAME, "--data", "data", "--yes", "--json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended
    };
    let ended = spawn_blocking(erasing).await.unwrap();
    for said in [&format!("(process {pid}) steps aside"), "and is aside, after", "is back: it was away for"] {
        assert!(ended.err.contains(said), "{said}: {}", ended.err);
    }
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["is_clean"], true, "{report:#}");
    assert!(held(&report, "log events.v1") >= 10 && held(&report, "views") >= 10, "{report:#}");
    server.ready().await;
    assert!(server.ended().is_none() && server.pid() == pid);
    let loaded = loading.await.unwrap();
    assert!(loaded["reconnects"].as_u64().unwrap() >= 6, "all of them were sent away: {loaded:#}");
    assert_eq!((&loaded["missing"], &loaded["rejected"]), (&0.into(), &0.into()), "{loaded:#}");
    assert_eq!(loaded["sent"], loaded["sends"], "{loaded:#}");
    let checked = run(server.folder(), &["check", "seen"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(server.api().create_token(NAME, "a good password").await.is_err(), "the account is gone");
    server.signs_in("bob").await;

    assert!(server.terminate().await.success());
    for bytes in [MARKER, NAME] {
        assert_eq!(files_with(&data, bytes), Vec::<std::path::PathBuf>::new(), "{bytes}");
    }
    replayed(server.folder(), &["verify", "--data", "data", "--complete"]);
}

/// A tool that stands still in the middle of its erasure: the program waits for it.
struct Halted {
    tool: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Halted {
    fn start(server: &Server) -> Self {
        let mut tool = command(server.folder(), &["erase", NAME, "--data", "data", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(tool.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("is aside") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the tool ended early: {:?}", tool.wait());
        }
        let halted = Self { tool, said };
        halted.signal(Signal::STOP);
        halted
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.tool), signal).unwrap();
    }

    /// How it ended, and what else it said.
    fn end(mut self) -> (ExitStatus, String) {
        let rest = self.said.lines().map(Result::unwrap).collect::<Vec<_>>().join("\n");
        (self.tool.wait().unwrap(), rest)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_comes_back_when_the_tool_is_killed() {
    let mut server = with_marked_messages(&WITH_ARCHIVE).await;
    let (pid, data) = (server.pid(), server.folder().join("data"));
    let halted = Halted::start(&server);
    // It has nothing open but what it waits for.
    eventually("it waits", || async { server.said().contains("waiting until it is free").then_some(()) }).await;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open =
        open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).filter(|path| path.starts_with(&data));
    assert_eq!(open.collect::<Vec<_>>(), [data.join("erasing.lock")]);
    assert!(server.ended().is_none());
    let second = run(server.folder(), &["erase", "--deleted", "--data", "data", "--yes"]);
    assert!(second.code == 4 && second.err.contains("in the hands of another: tidings erase"), "{second:?}");
    // One that is started by hand waits, too, and says so.
    let output = fs::File::create(server.folder().join("by-hand.log")).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut by_hand = command(server.folder(), &["up", "--data", "data", "--listen", &listen])
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(server.folder().join("by-hand.log")).unwrap();
    eventually("the other waits", || async { said().contains("waiting until it is free").then_some(()) }).await;
    kill_process(Pid::from_child(&by_hand), Signal::TERM).unwrap();
    assert!(by_hand.wait().unwrap().success(), "{}", said());

    halted.signal(Signal::KILL);
    assert!(!halted.end().0.success());
    server.ready().await;
    assert!(server.ended().is_none() && server.pid() == pid);
    let bob = server.signs_in("bob").await;
    assert_eq!(bob.get("/v1/conversations").await["conversations"].as_array().unwrap().len(), 1);
    assert!(!server.said().contains("no archive"), "{}", server.said());
    erase(server.folder(), NAME);
    assert_eq!(files_with(&data, MARKER), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_waits_ends_when_it_is_asked_to() {
    let mut server = with_marked_messages(&["archive.enabled=false"]).await;
    let halted = Halted::start(&server);
    eventually("it waits", || async { server.said().contains("waiting until it is free").then_some(()) }).await;
    assert!(server.terminate().await.success());
    halted.signal(Signal::CONT);
    let (ended, said) = halted.end();
    assert!(ended.success() && said.contains("is not back after"), "{ended} {said}");
    assert_eq!(files_with(&server.folder().join("data"), MARKER), Vec::<std::path::PathBuf>::new());
    server.restart().await;
    server.signs_in("bob").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_could_not_start_again_stays() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tidings.toml");
    fs::write(&config, "[node]\nlog_level = \"info\"\n").unwrap();
    let config_setting = config.display().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut program =
        command(folder.path(), &["up", "--data", "data", "--listen", &listen, "--config", &config_setting])
            .args(["--set", "archive.enabled=false"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    let socket = folder.path().join("data/admin.sock");
    eventually("it runs", || async { socket.exists().then_some(()) }).await;
    fs::write(&config, "[node]\nno_such_setting = 1\n").unwrap();
    let refused = run(folder.path(), &["erase", "--deleted", "--data", "data", "--yes"]);
    assert!(refused.code == 4 && refused.err.contains("no_such_setting"), "{refused:?}");
    assert!(program.try_wait().unwrap().is_none(), "it goes on");
    fs::write(&config, "").unwrap();
    let erased = run(folder.path(), &["erase", "--deleted", "--data", "data", "--yes"]);
    assert!(erased.code == 0 && erased.err.contains("is back"), "{erased:?}");
    kill_process(Pid::from_child(&program), Signal::TERM).unwrap();
    assert!(program.wait().unwrap().success());
}

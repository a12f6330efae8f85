//! The stores rebuilt while the program runs and people write: what was broken on purpose is found, told and right afterwards.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde_json::Value;
use tidings_dataflow::views::store::{FjallViews, StoreConfig};
use tidings_ingest::{Log, ReadOnlyLog};
use tidings_schemas::{
    ids::{ConversationId, UserId},
    views::{Key, ViewStore, Write},
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::harness::{Person, Server, eventually, free_port};
use super::tool::{Ended, replay};

/// Somebody who writes until told to stop, each message answered.
struct Writer {
    is_to_stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(person: &Person, conversation: &str) -> Self {
        let (is_to_stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (Arc::clone(&is_to_stop), Arc::clone(&written));
        let (person, conversation) = (person.clone(), conversation.to_owned());
        let task = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                person.post(&conversation, &format!("flow-{number}"), &format!("flow {number}")).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { is_to_stop, written, task }
    }

    /// Waits until some more were written.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        eventually("messages go on", || async { (self.written.load(Ordering::Relaxed) > before + 2).then_some(()) })
            .await;
    }

    async fn stop(self) -> u64 {
        self.is_to_stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

/// `tidings replay rebuild` in the server's folder, while everything else goes on.
async fn rebuild(server: &Server, arguments: &[&str]) -> Ended {
    let folder = server.folder().to_owned();
    let arguments: Vec<String> = ["rebuild"].iter().chain(arguments).map(|text| (*text).to_owned()).collect();
    spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        replay(&folder, &arguments)
    })
    .await
    .unwrap()
}

fn report(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

/// The texts of a conversation, oldest first.
async fn texts(person: &Person, conversation: &str) -> Vec<String> {
    let page = person.get(&format!("/v1/conversations/{conversation}/messages?limit=100")).await;
    let mut texts: Vec<String> =
        page["messages"].as_array().unwrap().iter().filter_map(|m| Some(m["text"].as_str()?.to_owned())).collect();
    texts.retain(|text| !text.is_empty());
    texts.reverse();
    texts
}

/// Removes, adds and changes rows of views that nobody has open.
async fn damage(folder: &Path, chat: &str, of: &Person) {
    let data = folder.join("data");
    let log_id = ReadOnlyLog::open(&data.join("log")).unwrap().log_id();
    let views = FjallViews::open(&data.join("views"), log_id, &StoreConfig::default()).unwrap();
    let (chat, user): (ConversationId, UserId) = (chat.parse().unwrap(), of.user_id.parse().unwrap());
    let title = views.get(&[Key::conversation(chat)]).await.unwrap().remove(0).unwrap();
    // Nothing but another time of creation: field 8.
    let changed = [&title[..], &[0x40, 0x01]].concat();
    let writes = vec![
        Write::Delete(Key::entry(chat, 2)),
        Write::Delete(Key::user_conversation(user, chat)),
        Write::Put(Key::user_conversation(user, ConversationId(77)), Bytes::new()),
        Write::Put(Key::conversation(chat), changed.into()),
    ];
    views.apply(writes, Vec::new()).await.unwrap();
    views.sync().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_views_are_right_again_while_messages_flow() {
    let mut server = Server::start().await;
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let chat = ann.chat_with(&bob).await;
    let group = ann.group("the three", &[&bob, &eve]).await;
    for number in 0..4 {
        ann.post(&chat, &format!("c{number}"), &format!("chat {number}")).await;
    }
    let all = texts(&bob, &chat).await;
    assert_eq!(all.len(), 4);
    assert!(server.terminate().await.success());
    damage(server.folder(), &chat, &bob).await;
    server.restart().await;
    assert_ne!(texts(&bob, &chat).await, all, "the damage shows");

    let writer = Writer::start(&ann, &group);
    writer.goes_on().await;
    // Beside: told, and nothing is changed.
    let beside = rebuild(&server, &["views", "--data", "data", "--beside", "--json"]).await;
    assert_eq!(beside.code, 1, "{beside:?}");
    assert_ne!(texts(&bob, &chat).await, all, "the old ones are in use");
    assert!(server.folder().join("data/views.beside/rows").is_dir());
    writer.goes_on().await;
    let compared = report(&rebuild(&server, &["views", "--data", "data", "--json"]).await)["views"].take();
    assert_eq!(compared["is_replaced"], true, "{compared:#}");
    let compared = &compared["comparison"];
    let counts = ["missing", "extra", "differing", "undecided_owners"].map(|name| compared[name].as_u64().unwrap());
    assert_eq!(counts, [2, 1, 1, 0], "{compared:#}");
    let first = compared["first"].as_array().unwrap();
    let named = |kind: &str, table: &str| first.iter().any(|found| found["kind"] == kind && found["table"] == table);
    assert!(named("missing", "entries") && named("extra", "conversations") && named("differing", "conversation"));
    // At once, and without a restart.
    assert_eq!(texts(&bob, &chat).await, all);
    writer.goes_on().await;
    let written = writer.stop().await;
    let flow: Vec<String> = (0..written).map(|number| format!("flow {number}")).collect();
    let shown = eventually("all of the flow", || async {
        let shown = texts(&eve, &group).await;
        (shown.last() == flow.last()).then_some(shown)
    });
    assert!(flow.ends_with(&shown.await), "none is missing");

    // What is in use now is what a start finds, too, and nothing is left of what was.
    let again = report(&rebuild(&server, &["views", "--data", "data", "--json"]).await);
    let compared = &again["views"]["comparison"];
    assert_eq!((&compared["missing"], &compared["extra"], &compared["differing"]), (&0.into(), &0.into(), &0.into()));
    server.kill();
    server.restart().await;
    assert_eq!(texts(&bob, &chat).await, all);
    let folders = std::fs::read_dir(server.folder().join("data/views")).unwrap();
    let folders: Vec<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders.iter().filter(|name| name.starts_with("rows")).count(), 1, "{folders:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_views_of_a_program_that_does_not_run_are_right_again() {
    let mut server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    for number in 0..4 {
        ann.post(&chat, &format!("c{number}"), &format!("chat {number}")).await;
    }
    let all = texts(&bob, &chat).await;
    assert!(server.terminate().await.success());
    damage(server.folder(), &chat, &bob).await;
    let compared = report(&rebuild(&server, &["views", "--data", "data", "--json"]).await)["views"].take();
    assert_eq!(
        (&compared["is_replaced"], &compared["comparison"]["missing"]),
        (&true.into(), &2.into()),
        "{compared:#}"
    );
    server.restart().await;
    assert_eq!(texts(&bob, &chat).await, all);
}

/// The answer of the SQL port.
async fn sql(port: u16, statement: &str) -> String {
    let statement = statement.to_owned();
    let answer = spawn_blocking(move || {
        let url = format!("http://127.0.0.1:{port}");
        let run = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["sql", "--url", &url, "--output", "csv", &statement])
            .output();
        let ended = run.unwrap();
        assert!(ended.status.success(), "{statement}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    });
    answer.await.unwrap()
}

/// Removes, adds and changes rows of the archive.
pub(crate) async fn damage_archive(port: u16, chat: &str) {
    let copy = |what: &str| {
        let one = format!("SELECT * FROM timeline_entries WHERE conversation_id = '{chat}' AND seq = 4");
        format!("INSERT INTO timeline_entries SELECT * REPLACE ({what}) FROM ({one})")
    };
    for statement in [
        format!("DELETE FROM timeline_entries WHERE conversation_id = '{chat}' AND seq = 3"),
        copy("99 AS seq"),
        copy("'not what was said' AS text"),
        format!("DELETE FROM inbox_entries WHERE conversation_id = '{chat}' AND seq = 3"),
    ] {
        sql(port, &statement).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_archive_is_right_again_while_messages_flow() {
    let port = free_port();
    let listen = format!("archive.http_listen=127.0.0.1:{port}");
    let server = Server::start_with(&[&listen, "archive.http_writable=true", "edge.user_sends_per_second=0"]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    for number in 0..6 {
        ann.post(&chat, &format!("c{number}"), &format!("chat {number}")).await;
    }
    let said = format!("SELECT seq, text FROM timeline_entries WHERE conversation_id = '{chat}' ORDER BY seq");
    let all = eventually("all is archived", || async {
        let said = sql(port, &said).await;
        (said.lines().count() == 8).then_some(said)
    })
    .await;
    let inbox = format!("SELECT count() FROM inbox_entries WHERE conversation_id = '{chat}' AND seq = 3");
    let copies = "\"count()\"\n2\n";
    eventually("both copies are archived", || async { (sql(port, &inbox).await == copies).then_some(()) }).await;

    damage_archive(port, &chat).await;
    assert_ne!(sql(port, &said).await, all, "the damage shows");
    let group = ann.group("flow", &[&bob]).await;
    let writer = Writer::start(&ann, &group);
    writer.goes_on().await;
    // A range: of the records that are archived.
    let ended = rebuild(&server, &["archive", "--data", "data", "--from", "-1h", "--json"]).await;
    let ranged = report(&ended)["archive"].take();
    assert_eq!(ranged["is_replaced"], true);
    let of = |report: &Value, table: &str| {
        let tables = report["tables"].as_array().unwrap();
        let table = tables.iter().find(|found| found["table"] == table).unwrap();
        ["missing", "extra", "differing"].map(|name| table[name].as_u64().unwrap())
    };
    assert_eq!(of(&ranged, "timeline_entries"), [1, 1, 1], "{ranged:#}");
    assert_eq!(of(&ranged, "inbox_entries"), [2, 0, 0], "{ranged:#}");
    assert_eq!(sql(port, &said).await, all);
    assert_eq!(sql(port, &inbox).await, copies);

    damage_archive(port, &chat).await;
    writer.goes_on().await;
    let whole = report(&rebuild(&server, &["archive", "--data", "data", "--json"]).await)["archive"].take();
    assert_eq!(of(&whole, "timeline_entries"), [1, 1, 1], "{whole:#}");
    assert_eq!(of(&whole, "inbox_entries"), [2, 0, 0], "{whole:#}");
    assert_eq!(of(&whole, "receipts"), [0, 0, 0], "{whole:#}");
    assert_eq!(sql(port, &said).await, all);
    assert_eq!(sql(port, &inbox).await, copies);
    writer.goes_on().await;
    let written = writer.stop().await;
    let count = format!(
        "SELECT count(), uniqExact(seq) FROM timeline_entries WHERE conversation_id = '{group}' AND kind = 'text'"
    );
    let expected = format!("{written},{written}");
    eventually("all of the flow is archived, each once", || async {
        sql(port, &count).await.ends_with(&format!("{expected}\n")).then_some(())
    })
    .await;
    let tables = sql(port, "SHOW TABLES LIKE '%rebuild%'").await;
    assert_eq!(tables.lines().count(), 1, "nothing is left but the head: {tables}");
}

/// A Redis of this test's own.
struct Redis {
    port: u16,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Redis {
    async fn start() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let output = File::create(folder.path().join("output")).unwrap();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .current_dir(folder.path())
            .stdout(Stdio::from(output))
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server cannot be started: {error} (./ops/test redis installs it)"));
        let redis = Self { port, process, _folder: folder };
        eventually("Redis answers", || async { redis.ask(&["PING"], b"").contains("PONG").then_some(()) }).await;
        redis
    }

    /// A command, whose last argument is `last` if that is something.
    fn ask(&self, command: &[&str], last: &[u8]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if !last.is_empty() {
            cli.arg("-x");
        }
        let mut cli = cli.args(command).spawn().unwrap();
        cli.stdin.take().unwrap().write_all(last).unwrap();
        String::from_utf8_lossy(&cli.wait_with_output().unwrap().stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Redis: ./ops/test redis"]
async fn broken_views_in_redis_are_right_again_while_messages_flow() {
    let redis = Redis::start().await;
    let address = format!("redis.address=127.0.0.1:{}", redis.port);
    let server = Server::start_with(&["archive.enabled=false", "node.views=redis", &address]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    for number in 0..4 {
        ann.post(&chat, &format!("c{number}"), &format!("chat {number}")).await;
    }
    let all = texts(&bob, &chat).await;
    let group = ann.group("flow", &[&bob]).await;
    let writer = Writer::start(&ann, &group);
    writer.goes_on().await;
    assert!(!redis.ask(&["ZPOPMAX", &format!("tidings:entries:{{{chat}}}")], b"").is_empty());
    let added =
        redis.ask(&["ZADD", &format!("tidings:conversations:{{{}}}", bob.user_id), "0"], b"AAAAAAAA\x09BBBBBBBB\x08");
    assert_eq!(added, "1");
    assert_ne!(texts(&bob, &chat).await, all, "the damage shows");

    let arguments = ["views", "--data", "data", "--set", "node.views=redis", "--set", &address, "--json"];
    // What is not the views' own would change places with them; another's database is no place for new ones.
    redis.ask(&["SET", "somebody-elses", "1"], b"");
    let refused = rebuild(&server, &arguments).await;
    assert!(refused.code == 4 && refused.err.contains("somebody-elses"), "{refused:?}");
    redis.ask(&["DEL", "somebody-elses"], b"");
    redis.ask(&["-n", "1", "SET", "somebody-elses", "1"], b"");
    let refused = rebuild(&server, &arguments).await;
    assert!(refused.code == 4 && refused.err.contains("database 1"), "{refused:?}");

    let mut elsewhere = arguments.to_vec();
    elsewhere.extend(["--database", "3"]);
    let compared = report(&rebuild(&server, &elsewhere).await)["views"].take();
    assert_eq!(compared["is_replaced"], true, "{compared:#}");
    let compared = &compared["comparison"];
    let counts = ["missing", "extra", "differing"].map(|name| compared[name].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 0], "{compared:#}");
    assert_eq!(texts(&bob, &chat).await, all);
    writer.goes_on().await;
    let written = writer.stop().await;
    let last = format!("flow {}", written - 1);
    eventually("all of the flow", || async { (texts(&bob, &group).await.last() == Some(&last)).then_some(()) }).await;
    assert_eq!(redis.ask(&["-n", "3", "DBSIZE"], b""), "0", "nothing is left of the old");
}

#[tokio::test]
async fn what_cannot_be_rebuilt_has_its_code() {
    let server = Server::start().await;
    for (arguments, code, said) in [
        (&["views", "--data", "data", "--partition", "0"][..], 2, "leave the range out"),
        (&["archive", "--data", "data", "--topic", "events"], 2, "not archived"),
        (&["archive", "--data", "data"], 4, "no archive"),
        (&["views", "--data", "nowhere"], 3, "nowhere"),
    ] {
        let ended = rebuild(&server, arguments).await;
        assert!(ended.code == code && ended.err.contains(said), "{arguments:?}: {ended:?}");
    }
    let planned = report(&rebuild(&server, &["views", "--data", "data", "--dry-run", "--json"]).await);
    assert!(planned["records"].is_u64(), "{planned:#}");
}

//! Somebody is erased from a fleet: the log on Kafka is rewritten into other topics, the views are in Redis, the archive is on a
//! server.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use hyper::Method;
use serde_json::{Value, json};
use tidings_ingest::{KafkaConfig, KafkaLog};
use tokio::time::Instant;

use super::{
    broker,
    harness::{PATIENCE, Person, Server, eventually, free_port, text},
    replay::{Ended, replay},
    tool::{command, held, run},
};

const NAME: &str = "vanishing-ibis-93";
const MARKERS: [&str; 5] = [
    "MARKER-fleet-direct-rv41",
    "MARKER-fleet-group-rv42",
    "MARKER-fleet-edited-rv43",
    "MARKER-fleet-deleted-rv44",
    "MARKER-fleet-device-rv45",
];
const DATABASE: &str = "tidings";

/// A Redis and a ClickHouse of this test's own.
struct Services {
    redis: u16,
    clickhouse: u16,
    server: Child,
    folder: tempfile::TempDir,
}

impl Services {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (redis, clickhouse) = (free_port(), free_port());
        assert!(redis_script("start", redis, &folder.path().join("redis")));
        let server = Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(["clickhouse", "--listen", &format!("127.0.0.1:{clickhouse}"), "--data"])
            .arg(folder.path().join("clickhouse"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let services = Self { redis, clickhouse, server, folder };
        eventually("ClickHouse answers", || async { (services.sql("SELECT 7 * 6") == "42").then_some(()) }).await;
        services
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.clickhouse)
    }

    /// The last line of an answer.
    fn sql(&self, statement: &str) -> String {
        let ended = run(self.folder.path(), &["sql", "--url", &self.url(), statement]);
        ended.out.lines().last().unwrap_or_default().to_owned()
    }

    /// Rows of the archive in which it stands.
    fn in_archive(&self, bytes: &str) -> String {
        let columns = [("timeline_entries", "text"), ("timeline_entries", "event"), ("message_changes", "text")]
            .into_iter()
            .chain([("message_changes", "event"), ("session_events", "device_id")]);
        let counts: Vec<String> = columns
            .map(|(table, column)| {
                format!("(SELECT countIf(position({column}, '{bytes}') > 0) FROM {DATABASE}.{table})")
            })
            .collect();
        self.sql(&format!("SELECT {} AS found", counts.join(" + ")))
    }

    /// Rows of the views in which it stands.
    fn in_views(&self, bytes: &str) -> u32 {
        const COUNT: &str = "local n = 0 \
            for _, key in ipairs(redis.call('KEYS', '*')) do \
                if redis.call('TYPE', key).ok == 'zset' then \
                    for _, row in ipairs(redis.call('ZRANGE', key, 0, -1)) do \
                        if string.find(row, ARGV[1], 1, true) then n = n + 1 end \
                    end \
                end \
            end \
            return n";
        let answer = Command::new("redis-cli")
            .args(["-p", &self.redis.to_string(), "EVAL", COUNT, "0", bytes])
            .output()
            .unwrap();
        String::from_utf8_lossy(&answer.stdout).trim().parse().unwrap()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // They may have ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
        redis_script("stop", self.redis, &self.folder.path().join("redis"));
    }
}

fn redis_script(verb: &str, port: u16, folder: &std::path::Path) -> bool {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("redis");
    Command::new(script).args([verb, &port.to_string()]).arg(folder).stdout(Stdio::null()).status().unwrap().success()
}

/// Number, sender, text and whether it was deleted, of each message that a person sees.
async fn page(person: &Person, conversation: &str) -> Option<Vec<(String, String, String, bool)>> {
    let path = format!("/v1/conversations/{conversation}/messages?limit=100");
    let page = person.try_call(Method::GET, &path, Value::Null).await.ok()?;
    let of = |message: &Value| {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        (text("seq"), text("sender_id"), text("text"), message["deleted_at"].is_string())
    };
    Some(page["messages"].as_array()?.iter().map(of).collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka, Redis and libchdb: ./ops/test kafka"]
async fn nothing_is_left_of_a_user_in_a_fleet_once_the_old_topics_are_dropped() {
    let services = Services::start().await;
    let old = broker::settings(broker::shared());
    let new = KafkaConfig { topic_prefix: format!("next-{}", old.topic_prefix), ..old.clone() };
    let (old_prefix, new_prefix) = (old.topic_prefix.as_str(), new.topic_prefix.as_str());
    let settings = [
        "node.log=kafka".to_owned(),
        "node.views=redis".to_owned(),
        "node.archive=clickhouse".to_owned(),
        format!("kafka.brokers={}", old.brokers),
        format!("redis.address=127.0.0.1:{}", services.redis),
        format!("clickhouse.url={}", services.url()),
    ];
    let of_old = format!("kafka.topic_prefix={old_prefix}");
    let in_old: Vec<&str> = settings.iter().map(String::as_str).chain([of_old.as_str()]).collect();
    let mut server = Server::start_with(&in_old).await;
    let tried = AtomicU32::new(0);
    eventually("the views are whole", || async {
        let name = format!("early-{}", tried.fetch_add(1, Ordering::Relaxed));
        server.api().create_account(&name, "a good password", &name).await.ok()
    })
    .await;
    let (ibis, bob, eve) = (server.person(NAME).await, server.person("bob").await, server.person("eve").await);
    let chat = ibis.chat_with(&bob).await;
    let group = bob.group("of bob", &[&ibis, &eve]).await;
    drop(ibis.connect_as(MARKERS[4], &Default::default()).await);
    for number in 0..5 {
        ibis.post(&chat, &format!("c{number}"), MARKERS[0]).await;
        bob.post(&chat, &format!("b{number}"), "bob to ibis").await;
        ibis.post(&group, &format!("g{number}"), MARKERS[1]).await;
        eve.post(&group, &format!("e{number}"), "eve to all").await;
    }
    let message = |said: &Value| format!("/v1/conversations/{group}/messages/{}", text(&said["message_id"]));
    let said = ibis.post(&group, "edited", "before").await;
    ibis.call(Method::PATCH, &message(&said), json!({"text": MARKERS[2]})).await;
    let said = ibis.post(&group, "deleted", MARKERS[3]).await;
    ibis.call(Method::DELETE, &message(&said), Value::Null).await;
    let (in_chat, in_group) = (page(&bob, &chat).await.unwrap(), page(&bob, &group).await.unwrap());
    eventually("all of it in the archive", || async {
        let count = "SELECT (SELECT count() FROM tidings.messages) + (SELECT count() FROM tidings.message_changes)";
        let sessions = services.sql("SELECT count() > 0 FROM tidings.session_events");
        (services.sql(count) == "24" && sessions == "1").then_some(())
    })
    .await;

    let folder = server.folder().to_owned();
    let with = |first: &[&str], settings: &[&str]| -> Vec<String> {
        let sets = settings.iter().flat_map(|setting| ["--set", setting]);
        first.iter().copied().chain(sets).map(str::to_owned).collect()
    };
    let tidings = |first: &[&str], settings: &[&str]| -> Ended {
        let arguments = with(first, settings);
        run(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let erase = ["erase", NAME, "--into-prefix", new_prefix, "--yes", "--json"];
    let running = tidings(&erase, &in_old);
    assert!(running.code == 4 && running.err.contains("stop every process"), "{running:?}");
    assert!(server.terminate().await.success());

    let unprefixed = tidings(&["erase", NAME, "--yes"], &in_old);
    assert!(unprefixed.code == 2 && unprefixed.err.contains("--into-prefix"), "{unprefixed:?}");
    let dry = tidings(&["erase", NAME, "--dry-run"], &in_old);
    assert!(dry.code == 0 && dry.out.contains("nothing was changed"), "{dry:?}");
    assert_eq!(KafkaLog::topics(&new).unwrap(), Vec::<String>::new(), "nothing was changed");
    assert!(services.in_views(MARKERS[0]) > 0 && services.in_archive(MARKERS[0]) != "0", "the test looks where it is");

    // Killed while it writes, and run again.
    let arguments = with(&erase, &in_old);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut killed = command(&folder, &arguments).stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + 6 * PATIENCE;
    while KafkaLog::topics(&new).unwrap().is_empty() {
        assert!(killed.try_wait().unwrap().is_none() && Instant::now() < until, "it writes");
    }
    killed.kill().unwrap();
    assert!(!killed.wait().unwrap().success(), "it was killed in time");
    assert!(KafkaLog::open_to_read(&new).is_err(), "it is no log yet");
    let erased = tidings(&erase, &in_old);
    assert_eq!(erased.code, 0, "{erased:?}");
    let report: Value = serde_json::from_str(&erased.out).unwrap();
    assert_eq!(report["is_clean"], true, "{report:#}");
    for place in ["log events.v1", "log timeline.v1", "log fanout.v1", "log deliveries.v1", "log directory.v1"]
        .into_iter()
        .chain(["log signals.v1", "views", "archive timeline_entries", "archive session_events"])
    {
        assert!(held(&report, place) > 0, "{place}: {report:#}");
    }
    assert!(report["searched_for"].as_u64().unwrap() >= 5, "{report:#}");
    assert_eq!(report["still_held_in"], json!([format!("topics {old_prefix}*")]), "{report:#}");
    let again = tidings(&erase, &in_old);
    assert_eq!(again.code, 0, "what is done is looked at again: {again:?}");

    let used = tidings(&["erase", "--drop-prefix", old_prefix, "--yes"], &in_old);
    assert!(used.code == 2 && used.err.contains("kafka.topic_prefix"), "{used:?}");
    let of_new = format!("kafka.topic_prefix={new_prefix}");
    let in_new: Vec<&str> = settings.iter().map(String::as_str).chain([of_new.as_str()]).collect();
    let drop_old = ["erase", "--drop-prefix", old_prefix];
    let unasked = tidings(&drop_old, &in_new);
    assert!(unasked.code == 2 && unasked.err.contains("--yes"), "{unasked:?}");

    server.set(&of_new);
    server.restart().await;
    let dropped = tidings(&[&drop_old[..], &["--yes"]].concat(), &in_new);
    assert_eq!(dropped.code, 0, "{dropped:?}");
    assert_eq!(KafkaLog::topics(&old).unwrap(), Vec::<String>::new());
    assert!(server.api().create_token(NAME, "a good password").await.is_err(), "the account is gone");
    let expected = |before: &[(String, String, String, bool)]| -> Vec<(String, String, String, bool)> {
        let of = |(seq, sender, text, deleted): &(String, String, String, bool)| match *sender == ibis.user_id {
            true if text.is_empty() => (seq.clone(), sender.clone(), text.clone(), *deleted),
            true => (seq.clone(), sender.clone(), String::new(), true),
            false => (seq.clone(), sender.clone(), text.clone(), *deleted),
        };
        before.iter().map(of).collect()
    };
    eventually("the same history without the words of ibis", || async {
        let (chat, group) = (page(&bob, &chat).await?, page(&bob, &group).await?);
        let has_all = expected(&in_group).iter().all(|before| group.contains(before));
        (chat == expected(&in_chat) && has_all && group.len() > in_group.len()).then_some(())
    })
    .await;
    bob.post(&group, "goes on", "bob goes on").await;
    eventually("it goes on", || async {
        let page = page(&eve, &group).await?;
        page.iter().any(|(_, _, text, _)| text == "bob goes on").then_some(())
    })
    .await;
    let other = server.person(NAME).await;
    assert_ne!(other.user_id, ibis.user_id, "the name is free, and whoever takes it is somebody else");
    let with_sets = |first: &[&str]| with(first, &in_new);
    eventually("all is derived, and as it was", || async {
        let arguments = with_sets(&["verify", "--complete"]);
        let ended = replay(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        (ended.code == 0).then_some(())
    })
    .await;
    assert!(server.terminate().await.success());
    let dump = with_sets(&["dump", "all", "--output", "raw", "--file", "new.dump"]);
    let dumped = replay(&folder, &dump.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(dumped.code, 0, "{dumped:?}");
    let dump = std::fs::read(folder.join("new.dump")).unwrap();
    let is_in_dump = |bytes: &str| dump.windows(bytes.len()).any(|window| window == bytes.as_bytes());
    assert!(is_in_dump("bob goes on"), "the test looks where it would be");
    for marker in MARKERS {
        assert!(!is_in_dump(marker), "{marker}");
        assert_eq!((services.in_views(marker), services.in_archive(marker).as_str()), (0, "0"), "{marker}");
    }
}

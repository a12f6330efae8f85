//! Records out of a log that is being written.

use std::fs;

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::harness::{Server, free_port};
use super::tool::{lines, replay, replayed};

#[tokio::test]
async fn records_are_dumped_while_the_program_runs() {
    let server = Server::start().await;
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let (chat, other) = (ann.chat_with(&bob).await, ann.chat_with(&eve).await);
    ann.post(&chat, "m1", "to bob").await;
    ann.post(&other, "m1", "to eve").await;
    let folder = server.folder();
    let all = lines(&replayed(folder, &["dump", "events", "--data", "data", "--output", "jsonl"]));
    assert!(all.iter().all(|line| line["topic"] == "events.v1" && line["timestamp"].is_string()));
    let texts = |lines: &[serde_json::Value]| -> Vec<String> {
        let mut texts: Vec<String> =
            lines.iter().filter_map(|line| line["value"]["send"]["text"].as_str().map(str::to_owned)).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&all), ["to bob", "to eve"]);

    let of = |option: &str, value: &str| {
        let arguments = ["dump", "events", "timeline", "--data", "data", "--output", "jsonl", option, value];
        lines(&replayed(folder, &arguments))
    };
    let of_chat = of("--conversation", &chat);
    assert_eq!(texts(&of_chat), ["to bob"]);
    assert!(of_chat.iter().any(|line| line["value"]["entries"][0]["event"]["send"]["text"] == "to bob"), "{of_chat:?}");
    assert_eq!(texts(&of("--key", &other)), ["to eve"]);
    assert_eq!(of("--max", "2").len(), 2);
    let recipients =
        replayed(folder, &["dump", "fanout", "--data", "data", "--output", "jsonl", "--user", &eve.user_id]);
    assert!(recipients.contains("to eve") && !recipients.contains("to bob"), "{recipients}");
    let by_name = replayed(folder, &["dump", "fanout", "--data", "data", "--output", "jsonl", "--user", "Eve"]);
    assert_eq!(by_name, recipients, "a name does as well");
    let ended = replay(folder, &["dump", "fanout", "--data", "data", "--user", "nobody"]);
    assert!(ended.code == 2 && ended.err.contains("nobody has the name"), "{ended:?}");

    let directory = replayed(folder, &["dump", "directory", "--data", "data"]);
    assert!(directory.contains("\"username\":\"ann\"") && directory.contains(&ann.user_id), "{directory}");
    assert!(!directory.contains("argon2"), "no password's hash: {directory}");

    // As long as an id, and a name for all that.
    let long = server.person("a_longer_name_16").await;
    let named = ["dump", "directory", "--data", "data", "--output", "jsonl", "--key", "a_longer_name_16"];
    let named = lines(&replayed(folder, &named));
    assert_eq!((&named[0]["key"], named.len()), (&"a_longer_name_16".into(), 1));
    assert_eq!(named[0]["value"]["register_user"]["user_id"], long.user_id);

    let ended = replay(folder, &["dump", "events", "--data", "data", "--from", "-10d", "--to", "-9d"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, ""));
    assert!(ended.err.contains("none of the 0 records"), "{ended:?}");
    let recent = replayed(folder, &["dump", "events", "--data", "data", "--from", "-1h", "--output", "jsonl"]);
    assert_eq!(lines(&recent).len(), all.len());
    let plan = replayed(folder, &["dump", "events", "--data", "data", "--dry-run", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["records"], all.len());
    assert_eq!(plan["ranges"].as_array().unwrap().len(), 2);
}

/// The answer of the SQL port to a statement with these data.
async fn post(port: u16, statement: &str, data: Vec<u8>) -> String {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let statement = statement.replace(' ', "+");
    let request = Request::post(format!("http://127.0.0.1:{port}/?query={statement}")).body(Full::new(data.into()));
    let response = client.request(request.unwrap()).await.unwrap();
    let status = response.status();
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(status.is_success(), "{statement}: {answer}");
    answer
}

#[tokio::test]
async fn a_parquet_file_is_read_by_another_program() {
    let port = free_port();
    let listen = format!("archive.http_listen=127.0.0.1:{port}");
    let server = Server::start_with(&[&listen, "archive.http_writable=true"]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    ann.post(&chat, "m1", "to bob").await;
    let folder = server.folder();
    let arguments = ["dump", "events", "directory", "--data", "data", "--output"];
    let parquet = [&arguments[..], &["parquet", "--file", "records.parquet"]].concat();
    replayed(folder, &parquet);
    let expected = lines(&replayed(folder, &[&arguments[..], &["jsonl"]].concat()));

    let columns = "topic String, partition UInt32, offset UInt64, timestamp DateTime64(3, 'UTC'), key String, \
                   value Nullable(String), unknown_fields Nullable(String), error Nullable(String), raw Nullable(String)";
    post(port, &format!("CREATE TABLE dumped ({columns}) ENGINE = Memory"), Vec::new()).await;
    let file = fs::read(folder.join("records.parquet")).unwrap();
    post(port, "INSERT INTO dumped FORMAT Parquet", file).await;
    let settings = "SETTINGS output_format_json_quote_64bit_integers=0, date_time_output_format='iso'";
    let query = format!("SELECT * FROM dumped ORDER BY topic, partition, offset FORMAT JSONEachRow {settings}");
    let mut found = lines(&post(port, &query, Vec::new()).await);
    for row in &mut found {
        let value: serde_json::Value = serde_json::from_str(row["value"].as_str().unwrap()).unwrap();
        row["value"] = value;
        assert_eq!((&row["error"], &row["raw"]), (&serde_json::Value::Null, &serde_json::Value::Null));
        row.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    let mut expected = expected;
    let place = |row: &serde_json::Value| (row["topic"].to_string(), row["partition"].as_u64(), row["offset"].as_u64());
    expected.sort_by_key(place);
    assert!(expected.len() >= 4);
    assert_eq!(found, expected);
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.ends_with(".part")), "it is whole");
    let again = replay(folder, &parquet);
    assert_eq!(again.code, 4, "a file that is there is not written over: {again:?}");
}

#[tokio::test]
async fn what_comes_is_followed() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let folder = server.folder().to_owned();
    let follower = tokio::task::spawn_blocking(move || {
        let arguments = [
            "dump",
            "events",
            "--data",
            "data",
            "--output",
            "jsonl",
            "--offset",
            "beginning",
            "--follow",
            "--max",
            "4",
        ];
        replayed(&folder, &arguments)
    });
    for number in 0..3 {
        ann.post(&chat, &format!("m{number}"), &format!("message {number}")).await;
    }
    let seen = follower.await.unwrap();
    assert_eq!(lines(&seen).len(), 4);
    assert!(seen.contains("message 2"), "{seen}");
}

#[test]
fn each_failure_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.txt"), "something else").unwrap();
    let table: [(i32, &str, &[&str]); 11] = [
        (2, "no topic", &["dump", "event", "--data", "data"]),
        (2, "hint", &["dump", "events", "--data", "data", "--offset", "first"]),
        (2, "no time", &["dump", "events", "--data", "data", "--from", "yesterday"]),
        (2, "--from is not before", &["dump", "events", "--data", "data", "--from", "-1h", "--to", "-2h"]),
        (2, "UUID", &["dump", "events", "--data", "data", "--conversation", "ann"]),
        (2, "no partition", &["dump", "events", "--data", "data", "-p", "0-3"]),
        (2, "cannot be used with", &["dump", "events", "--data", "data", "--brokers", "localhost:1"]),
        (3, "there is no log", &["dump", "events", "--data", "data"]),
        (2, "no raw dump", &["import", "text.txt", "--data", "new"]),
        (3, "cannot open", &["import", "missing.dump", "--data", "new"]),
        (2, "no rate", &["into", "--data", "data", "--into-data", "new", "--rate", "fast"]),
    ];
    for (code, said, arguments) in table {
        let ended = replay(folder.path(), arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {ended:?}");
        assert!(!folder.path().join("data").exists() && !folder.path().join("new").exists(), "{arguments:?}");
    }
}

//! The past of a running system: states at several moments, and one message's whole life.

use hyper::Method;
use serde_json::{Value, json};
use tidings_schemas::client::{SendReceipt, client_frame::Command, server_frame::Body};

use super::harness::{Connection, Person, Server, eventually, text};
use super::tool::{lines, replay, replayed};

/// `state` or `trace` as JSON.
fn asked(server: &Server, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--data", "data", "--json"]].concat();
    serde_json::from_str(&replayed(server.folder(), &arguments)).unwrap()
}

/// The conversation as it stood.
fn conversation(server: &Server, id: &str, as_of: &str) -> Value {
    asked(server, &["state", "--conversation", id, "--as-of", as_of])["conversation"].clone()
}

fn member(conversation: &Value, name: &str) -> Value {
    let members = conversation["members"].as_array().unwrap();
    members.iter().find(|member| member["username"] == name).cloned().unwrap_or(Value::Null)
}

/// Where the newest event stands, as `--as-of` takes it.
fn newest_event(server: &Server, conversation: &str) -> String {
    let arguments = ["dump", "events", "--data", "data", "--output", "jsonl", "--conversation", conversation];
    let last = lines(&replayed(server.folder(), &arguments)).pop().unwrap();
    format!("events:{}:{}", last["partition"], last["offset"])
}

async fn acknowledge(connection: &mut Connection, conversation: &str, delivered_seq: u64, seen_seq: u64) {
    let receipt = SendReceipt { conversation_id: conversation.to_owned(), delivered_seq, seen_seq };
    assert!(matches!(connection.ask(Command::Receipt(receipt)).await, Body::Ok(_)));
}

/// Waits until the timeline has what was done: the last step of what a request does not wait for.
async fn settled(server: &Server, conversation: &str, name: &str, cursors: (u64, u64)) {
    eventually("the receipt", || async {
        let member = member(&self::conversation(server, conversation, "now"), name);
        ((member["delivered_seq"].as_u64(), member["seen_seq"].as_u64()) == (Some(cursors.0), Some(cursors.1)))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_a_running_system_is_told() {
    let server = Server::start().await;
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let group = ann.group("the three", &[&bob, &eve]).await;
    let chat = ann.chat_with(&bob).await;
    ann.post(&group, "m1", "first").await;
    ann.post(&chat, "c1", "to bob").await;
    let at_first = newest_event(&server, &group);

    let mut bobs = bob.connect().await;
    acknowledge(&mut bobs, &group, 2, 2).await;
    settled(&server, &group, "bob", (2, 2)).await;
    let said = ann.post(&group, "m2", "second").await;
    let path = format!("/v1/conversations/{group}/messages/{}", text(&said["message_id"]));
    ann.call(Method::PATCH, &path, json!({"text": "second, edited"})).await;
    let at_edit = newest_event(&server, &group);
    ann.call(Method::DELETE, &format!("/v1/conversations/{group}/members/{}", eve.user_id), Value::Null).await;
    ann.call(Method::PATCH, &format!("/v1/conversations/{group}"), json!({"title": "the two"})).await;

    let first = conversation(&server, &group, &at_first);
    assert_eq!(
        (&first["title"], &first["last_seq"], &first["kind"]),
        (&"the three".into(), &2.into(), &"group".into())
    );
    assert_eq!(first["members"].as_array().unwrap().len(), 3);
    assert_eq!((&member(&first, "ann")["role"], &member(&first, "ann")["unread"]), (&"owner".into(), &0.into()));
    assert_eq!((&member(&first, "bob")["role"], &member(&first, "bob")["unread"]), (&"member".into(), &2.into()));
    assert_eq!((&first["last_entry"]["text"], &first["last_entry"]["sender"]), (&"first".into(), &"ann".into()));

    let edited = conversation(&server, &group, &at_edit);
    assert_eq!((&edited["last_entry"]["text"], &edited["last_seq"]), (&"second, edited".into(), &3.into()));
    assert!(edited["last_entry"]["edited_at"].is_string(), "{edited:#}");
    assert_eq!((&member(&edited, "bob")["seen_seq"], &member(&edited, "bob")["unread"]), (&2.into(), &1.into()));
    assert_eq!(member(&edited, "eve")["unread"], 3);

    let now = conversation(&server, &group, "now");
    assert_eq!((&now["title"], &member(&now, "eve")), (&"the two".into(), &Value::Null));
    assert_eq!((&now["last_entry"]["kind"], &now["last_entry"]["action"]), (&"membership".into(), &"renamed".into()));

    // By time: a moment before anything happened, and one after.
    let ended = replay(server.folder(), &["state", "--data", "data", "--conversation", &group, "--as-of", "-1h"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("there was no conversation"), "{ended:?}");
    let none = asked(&server, &["state", "--as-of", "-1h"]);
    assert_eq!((&none["conversations"], &none["entries"]), (&0.into(), &0.into()));
    let all = asked(&server, &["state"]);
    assert_eq!(
        (&all["conversations"], &all["groups"], &all["memberships"]),
        (&2.into(), &1.into(), &4.into()),
        "{all:#}"
    );

    of_users(&server, &bob, &group, &at_first).await;

    // From a checkpoint the same as from the beginning.
    let folder = server.folder().to_owned();
    let from_checkpoint = eventually("a checkpoint", || async {
        let found = asked(&server, &["state", "--conversation", &group]);
        found["built"][0]["built_from"]["checkpoint"].is_u64().then_some(found)
    })
    .await;
    let from_beginning = asked(&server, &["state", "--conversation", &group, "--no-checkpoints"]);
    assert_eq!(from_beginning["built"][0]["built_from"]["beginning"], true);
    assert_eq!(from_beginning["conversation"], from_checkpoint["conversation"]);
    let plan: Value = serde_json::from_str(&replayed(
        &folder,
        &["state", "--data", "data", "--dry-run", "--json", "--no-checkpoints"],
    ))
    .unwrap();
    assert!(plan["records"].as_u64().unwrap() > 6, "{plan:#}");
}

/// A user's own view.
async fn of_users(server: &Server, bob: &Person, group: &str, at_first: &str) {
    let user = asked(server, &["state", "--user", "bob", "--as-of", at_first])["user"].clone();
    assert_eq!((&user["user_id"], &user["username"]), (&bob.user_id.as_str().into(), &"bob".into()));
    let conversations = user["conversations"].as_array().unwrap();
    assert_eq!(conversations.len(), 2, "{user:#}");
    let of_group = conversations.iter().find(|found| found["conversation_id"] == group).unwrap();
    assert_eq!((&of_group["unread"], &of_group["role"]), (&2.into(), &"member".into()));
    let user = asked(server, &["state", "--user", &bob.user_id])["user"].clone();
    assert_eq!(
        (&user["presence"]["is_online"], user["presence"]["sessions"].as_array().unwrap().len()),
        (&true.into(), 1)
    );
    assert_eq!(user["conversations"][0]["conversation_id"], group, "the newest first");
    assert_eq!(user["conversations"][1]["other_username"], "ann");
    let online = asked(server, &["state", "--online"]);
    let names: Vec<&Value> = online["online"].as_array().unwrap().iter().map(|user| &user["username"]).collect();
    assert_eq!(names, ["bob"], "{online:#}");
    let table = replayed(server.folder(), &["state", "--data", "data", "--user", "bob"]);
    assert!(table.contains("online, 1 session,") && table.contains("the two"), "{table}");
    let ended = replay(server.folder(), &["state", "--data", "data", "--user", "nobody"]);
    assert!(ended.code == 2 && ended.err.contains("nobody has the name"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_traced_from_its_stamp_to_its_deletion() {
    let server = Server::start_with(&["archive.http_listen=127.0.0.1:0"]).await;
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let group = ann.group("the three", &[&bob, &eve]).await;
    let mut bobs = bob.connect().await;
    let said = ann.post(&group, "m1", "a word").await;
    let id = text(&said["message_id"]);
    assert_eq!(bobs.message().await.message_id, id);
    acknowledge(&mut bobs, &group, 2, 0).await;
    settled(&server, &group, "bob", (2, 0)).await;
    acknowledge(&mut bobs, &group, 0, 2).await;
    settled(&server, &group, "bob", (2, 2)).await;
    let path = format!("/v1/conversations/{group}/messages/{id}");
    ann.call(Method::PATCH, &path, json!({"text": "another word"})).await;

    let trace = eventually("the archive's row", || async {
        let trace = asked(&server, &["trace", &id]);
        trace["archive"]["message"].is_object().then_some(trace)
    })
    .await;
    assert_eq!((&trace["message_id"], &trace["conversation_id"]), (&id.as_str().into(), &group.as_str().into()));
    assert_eq!((&trace["verdict"]["outcome"], &trace["verdict"]["seq"]), (&"accepted".into(), &2.into()));
    assert_eq!((&trace["event"]["value"]["send"]["text"], &trace["sender"]), (&"a word".into(), &"ann".into()));
    let steps: Vec<&str> =
        trace["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    let expected = ["stamped", "appended", "timeline", "verdict", "fanout", "inbox", "deliveries", "delivered", "seen"];
    assert_eq!(steps, expected, "{trace:#}");
    for step in trace["steps"].as_array().unwrap() {
        let since_ms = step["since_stamped_ms"].as_i64().unwrap();
        assert!((0..60_000).contains(&since_ms), "{step:#}");
    }
    let of = |name: &str| {
        let recipients = trace["recipients"].as_array().unwrap();
        recipients.iter().find(|recipient| recipient["username"] == name).unwrap().clone()
    };
    assert_eq!(trace["recipients"].as_array().unwrap().len(), 3);
    let (anns, bobs_own, eves) = (of("ann"), of("bob"), of("eve"));
    assert!(anns["is_sender"] == true && bobs_own["is_sender"] == false);
    assert_eq!((bobs_own["pushes"].as_array().unwrap().len(), eves["pushes"].as_array().unwrap().len()), (1, 0));
    assert!(bobs_own["offset"].is_u64() && eves["offset"].is_u64() && eves["inbox"]["topic"] == "inbox.v1");
    assert!(bobs_own["delivered"]["at"].is_string() && bobs_own["seen"]["at"].is_string(), "{bobs_own:#}");
    let event = |moved: &Value| moved["source_offset"].as_u64().unwrap();
    assert!(event(&bobs_own["delivered"]) < event(&bobs_own["seen"]), "two receipts");
    assert_eq!((&bobs_own["seen"]["by"], &anns["seen"]["by"]), (&"receipt".into(), &"own_entry".into()));
    assert!(eves["delivered"].is_null() && eves["seen"].is_null());
    assert_eq!(
        (&trace["changes"][0]["kind"], &trace["changes"][0]["text"]),
        (&"edited".into(), &"another word".into())
    );
    let archive = &trace["archive"];
    assert_eq!((&archive["entry"]["text"], &archive["entry"]["seq"]), (&"a word".into(), &2.into()), "{archive:#}");
    assert_eq!(archive["entry"]["source_offset"], trace["event_offset"]);

    ann.call(Method::DELETE, &path, Value::Null).await;
    let table = replayed(server.folder(), &["trace", &id, "--data", "data"]);
    for said in [
        "accepted as seq 2",
        "edited ",
        "deleted ",
        "by ann",
        "1 of 3 recipients had a session",
        "archive: text of seq 2",
    ] {
        assert!(table.contains(said), "{said}: {table}");
    }
    // By its place, and an event that was refused.
    let place = format!("events:{}:{}", trace["event_partition"], trace["event_offset"]);
    assert_eq!(asked(&server, &["trace", &place, "--no-archive"])["message_id"], id.as_str());
    eve.refused(Method::PATCH, &format!("/v1/conversations/{group}"), json!({"title": "mine"})).await;
    let refused = asked(&server, &["trace", &newest_event(&server, &group)]);
    assert_eq!(refused["verdict"]["outcome"], "refused", "{refused:#}");

    let unknown = "0190163d-8694-739b-aea5-966c26f8ad91";
    let ended = replay(server.folder(), &["trace", unknown, "--data", "data"]);
    assert!(ended.code == 2 && ended.err.contains("is not in the log"), "{ended:?}");
}

#[test]
fn what_cannot_be_asked_of_the_past_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let table: [(i32, &str, &[&str]); 6] = [
        (2, "no time", &["state", "--data", "data", "--as-of", "yesterday"]),
        (2, "no topic", &["state", "--data", "data", "--as-of", "event:0:1"]),
        (2, "cannot be used with", &["state", "--data", "data", "--online", "--user", "ann"]),
        (2, "hint", &["trace", "17", "--data", "data"]),
        (3, "there is no log", &["state", "--data", "data"]),
        (3, "there is no log", &["trace", "events:0:0", "--data", "data"]),
    ];
    for (code, said, arguments) in table {
        let ended = replay(folder.path(), arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {ended:?}");
        assert!(!folder.path().join("data").exists(), "{arguments:?}");
    }
}

//! A log copied, and history played into another system.

use std::{fs, path::Path};

use serde_json::Value;

use super::chats::{Chats, chats};
use super::harness::{PATIENCE, Person, Server, eventually};
use super::tool::{lines, replay, replayed};

/// Some history: a chat and a group, an edit, a deletion, somebody who has read.
async fn history(server: &Server) -> (Person, Person, String, String) {
    let Chats { ann, bob, chat, group } = chats(server).await;
    let said = bob.post(&chat, "last", "a word").await;
    let path = format!("/v1/conversations/{chat}/messages/{}", said["message_id"].as_str().unwrap());
    bob.call(hyper::Method::PATCH, &path, serde_json::json!({"text": "another word"})).await;
    (ann, bob, chat, group)
}

/// What a person reads of a conversation.
async fn read(person: &Person, conversation: &str) -> Value {
    person.get(&format!("/v1/conversations/{conversation}/messages")).await
}

/// Waits until all of it was derived.
async fn same(person: &Person, conversation: &str, expected: &Value) {
    same_but_for(person, conversation, expected, |_| {}).await;
}

/// As [`same`], without what `strip` takes out.
async fn same_but_for(person: &Person, conversation: &str, expected: &Value, strip: impl Fn(&mut Value)) {
    let mut expected = expected.clone();
    strip(&mut expected);
    let last = std::sync::Mutex::new(Value::Null);
    let until = eventually("the same messages", || async {
        let path = format!("/v1/conversations/{conversation}/messages");
        let mut found = person.try_call(hyper::Method::GET, &path, Value::Null).await.ok()?;
        strip(&mut found);
        let is_same = found == expected;
        *last.lock().unwrap() = found;
        is_same.then_some(())
    });
    if tokio::time::timeout(PATIENCE / 2, until).await.is_err() {
        panic!("{:#}\n is not\n{expected:#}", last.lock().unwrap());
    }
}

/// The ids of entries that are no messages of somebody's follow from their place.
fn without_membership_ids(page: &mut Value) {
    for message in page["messages"].as_array_mut().unwrap() {
        if message["kind"] == "membership" {
            message["message_id"].take();
        }
    }
}

fn move_data(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::rename(from, folder.path().join("data")).unwrap();
    folder
}

#[tokio::test]
async fn a_raw_dump_imported_is_the_same_system() {
    let mut server = Server::start().await;
    let (ann, _, chat, group) = history(&server).await;
    let (in_chat, in_group) = (read(&ann, &chat).await, read(&ann, &group).await);
    server.terminate().await;
    let folder = server.folder();
    replayed(folder, &["dump", "all", "--data", "data", "--output", "raw", "--file", "all.dump"]);
    let again = replay(folder, &["dump", "all", "--data", "data", "--output", "raw", "--file", "all.dump"]);
    assert_eq!(again.code, 4, "a file that is there is not written over: {again:?}");
    let report: Value =
        serde_json::from_str(&replayed(folder, &["import", "all.dump", "--data", "copy", "--json"])).unwrap();
    assert_eq!(report["is_whole"], true);
    assert_eq!(report["log_id"], report["header"]["log_id"]);
    let dump = |data: &str| replayed(folder, &["dump", "all", "--data", data, "--output", "jsonl"]);
    assert_eq!(dump("copy"), dump("data"), "the same log");
    assert!(lines(&dump("copy")).len() > 20);
    assert_eq!(replay(folder, &["import", "all.dump", "--data", "copy"]).code, 4, "it is not empty");

    let bytes = fs::read(folder.join("all.dump")).unwrap();
    fs::write(folder.join("short.dump"), &bytes[..bytes.len() - 100]).unwrap();
    let cut = replay(folder, &["import", "short.dump", "--data", "other"]);
    assert_eq!(cut.code, 1, "{cut:?}");
    assert!(cut.err.contains("cut off"), "{cut:?}");

    let copy = Server::start_on(move_data(&folder.join("copy"))).await;
    let ann = copy.signs_in("ann").await;
    same(&ann, &chat, &in_chat).await;
    same(&ann, &group, &in_group).await;
}

#[tokio::test]
async fn history_played_into_a_new_folder_gives_the_same_conversations() {
    let server = Server::start().await;
    let (ann, _, chat, group) = history(&server).await;
    let (in_chat, in_group) = (read(&ann, &chat).await, read(&ann, &group).await);
    let folder = server.folder();
    // Other numbers of partitions: every conversation finds its place.
    let arguments =
        ["into", "--data", "data", "--into-data", "staging", "--into-set", "log.partitions.conversations=5", "--json"];
    let report: Value = serde_json::from_str(&replayed(folder, &arguments)).unwrap();
    assert!(report["records_written"].as_u64().unwrap() > 10, "{report}");
    let again = replay(folder, &arguments);
    assert_eq!(again.code, 4, "what was done is not done twice: {again:?}");

    let staging = Server::start_on(move_data(&folder.join("staging"))).await;
    let ann = staging.signs_in("ann").await;
    same_but_for(&ann, &chat, &in_chat, without_membership_ids).await;
    same_but_for(&ann, &group, &in_group, without_membership_ids).await;
    let bob = staging.signs_in("bob").await;
    assert_eq!(ann.chat_with(&bob).await, chat, "the direct chat is still theirs");
}

#[tokio::test]
async fn mapped_history_has_the_same_shape_and_other_names() {
    let server = Server::start().await;
    let (ann, bob, chat, group) = history(&server).await;
    let folder = server.folder();
    let into = ["into", "--data", "data", "--into-data", "staging", "--map-ids", "a seed"];
    replayed(folder, &into);
    let mapped = replayed(folder, &["dump", "all", "--data", "staging", "--output", "jsonl"]);
    for id in [&ann.user_id, &bob.user_id, &chat, &group, &"\"ann\"".to_owned()] {
        assert!(!mapped.contains(id.as_str()), "{id} is still there");
    }
    let texts = |dump: &str| dump.matches("\"text\":").count();
    let before = replayed(folder, &["dump", "events", "--data", "data", "--output", "jsonl"]);
    assert_eq!(texts(&mapped), texts(&before));
    let users = lines(&mapped);
    let name = users.iter().find_map(|line| line["value"]["register_user"]["username"].as_str()).unwrap().to_owned();

    let staging = Server::start_on(move_data(&folder.join("staging"))).await;
    let someone = staging.signs_in(&name).await;
    let conversations = eventually("two conversations", || async {
        let page = someone.get("/v1/conversations").await;
        let count = page["conversations"].as_array().map_or(0, Vec::len);
        (count >= 1).then_some(page)
    })
    .await;
    assert!(conversations.to_string().contains("the three"), "{conversations}");
}

#[tokio::test]
async fn the_source_is_no_target() {
    let mut server = Server::start().await;
    history(&server).await;
    server.terminate().await;
    let folder = server.folder();
    let refused = replay(folder, &["into", "--data", "data", "--into-data", "data"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("--append"), "{refused:?}");
    let refused = replay(folder, &["into", "--data", "data", "--into-data", "data", "--append"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("--into-source"), "{refused:?}");
    let refused = replay(folder, &["into", "signals", "--data", "data", "--into-data", "new"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

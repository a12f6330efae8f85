//! What clients do with one another.

use serde_json::json;

use crate::support::{Backend, client::number};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_one_place_and_reaches_both() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let (mut anns, mut bobs) = (ann.connect("phone").await, bob.connect("laptop").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    assert_eq!(bob.conversation("direct", &[&ann]).await, chat, "the second direct chat is the first one");

    let sent = anns.say(&chat, "m1", "hello, Bob").await;
    let message = &sent["sent"]["message"];
    assert_eq!((message["text"].as_str(), message["kind"].as_str()), (Some("hello, Bob"), Some("text")));
    assert_eq!(number(&message["seq"]), 2, "the first entry says that the chat was created");
    for client in [&mut anns, &mut bobs] {
        let update = client.until(|frame| frame["update"]["message"]["text"] == json!("hello, Bob")).await;
        assert_eq!(&update["update"]["message"], message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_client_message_id_is_the_same_message() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let (mut phone, mut laptop) = (ann.connect("phone").await, ann.connect("laptop").await);
    let first = phone.say(&chat, "same", "once").await["sent"]["message"].clone();
    let again = laptop.say(&chat, "same", "once").await["sent"]["message"].clone();
    assert_eq!(first, again);
    let other = phone.say(&chat, "other", "twice").await["sent"]["message"].clone();
    assert_eq!(number(&other["seq"]), number(&first["seq"]) + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_sends_keep_their_order() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut anns = ann.connect("phone").await;
    let mut ids = Vec::new();
    for n in 0..150 {
        let body = json!({"conversation_id": chat, "client_message_id": format!("m{n}"), "text": n.to_string()});
        ids.push(anns.tell("send", body).await);
    }
    let mut seqs = Vec::new();
    for id in ids {
        seqs.push(number(&anns.reply(id).await["sent"]["message"]["seq"]));
    }
    assert_eq!(seqs, (2..152).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_reach_the_other_and_ones_own_devices() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let (mut anns, mut bobs) = (ann.connect("phone").await, bob.connect("phone").await);
    let mut bobs_laptop = bob.connect("laptop").await;
    anns.say(&chat, "m1", "read this").await;
    bobs.update_of("message").await;

    let reply = bobs.call("receipt", json!({"conversation_id": chat, "delivered_seq": "2"})).await;
    assert!(reply["ok"].is_object(), "{reply}");
    let receipt = anns.update_of("receipt").await["receipt"].clone();
    assert_eq!((number(&receipt["delivered_seq"]), number(&receipt["seen_seq"])), (2, 1));
    assert_eq!(receipt["user_id"], json!(bob.id));

    bobs.call("receipt", json!({"conversation_id": chat, "seen_seq": 99})).await;
    let receipt = anns.update_of("receipt").await["receipt"].clone();
    assert_eq!(number(&receipt["seen_seq"]), 2, "cut to the end of the conversation");
    let own = bobs_laptop.update_of("receipt").await["receipt"].clone();
    assert_eq!((own["user_id"].as_str(), number(&own["seen_seq"])), (Some(bob.id.as_str()), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_this_moment_may_send_receipts_and_a_stranger_may_not() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob, eve) = (edge.user("ann").await, edge.user("bob").await, edge.user("eve").await);
    let mut eves = eve.connect("phone").await;
    let group = ann.conversation("group", &[&bob]).await;
    let receipt = json!({"conversation_id": group, "seen_seq": "1"});
    let reply = eves.call("receipt", receipt.clone()).await;
    assert_eq!(reply["error"]["code"], json!("not_a_member"));
    assert_eq!(eves.say(&group, "m1", "let me in").await["error"]["code"], json!("not_a_member"));
    let mut anns = ann.connect("phone").await;
    let add = json!({"conversation_id": group, "user_id": eve.id, "role": "member"});
    let added = anns.call("add_member", add).await;
    assert_eq!(added["conversation"]["member_count"], json!(3), "{added}");
    assert!(eves.call("receipt", receipt).await["ok"].is_object());
    assert!(eves.say(&group, "m1", "let me in").await["sent"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_and_deletions_reach_everybody() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let (mut anns, mut bobs) = (ann.connect("phone").await, bob.connect("phone").await);
    let message = anns.say(&chat, "m1", "helo").await["sent"]["message"].clone();
    let target = json!({"conversation_id": chat, "message_id": message["message_id"], "text": "hello"});
    assert_eq!(bobs.call("edit_message", target.clone()).await["error"]["code"], json!("permission_denied"));
    let edited = anns.call("edit_message", target.clone()).await;
    assert_eq!(edited["message"]["text"], json!("hello"), "{edited}");
    assert!(edited["message"]["edited_at"].is_string());
    let changed = bobs.update_of("message_changed").await["message_changed"].clone();
    assert_eq!(changed, edited["message"]);

    let deleted =
        anns.call("delete_message", json!({"conversation_id": chat, "message_id": message["message_id"]})).await;
    assert!(deleted["message"]["deleted_at"].is_string(), "{deleted}");
    assert_eq!(deleted["message"]["text"], json!(""));
    let changed = bobs.update_of("message_changed").await["message_changed"].clone();
    assert!(changed["deleted_at"].is_string());
    assert_eq!(anns.call("edit_message", target).await["error"]["code"], json!("not_found"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_lives_and_ends() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob, cid) = (edge.user("ann").await, edge.user("bob").await, edge.user("cid").await);
    let (mut anns, mut bobs, mut cids) = (ann.connect("p").await, bob.connect("p").await, cid.connect("p").await);
    let create = json!({"kind": "group", "title": "Trip", "member_ids": [bob.id]});
    let created = anns.call("create_conversation", create).await["conversation"].clone();
    let group = created["conversation_id"].clone();
    assert_eq!((created["role"].as_str(), created["title"].as_str()), (Some("owner"), Some("Trip")));
    let news = bobs.update_of("conversation").await["conversation"].clone();
    assert_eq!((news["role"].as_str(), &news["conversation_id"]), (Some("member"), &group));

    let rename = json!({"conversation_id": group, "title": "Journey"});
    assert_eq!(bobs.call("rename_conversation", rename.clone()).await["error"]["code"], json!("permission_denied"));
    assert_eq!(anns.call("rename_conversation", rename).await["conversation"]["title"], json!("Journey"));
    bobs.until(|frame| frame["update"]["conversation"]["title"] == json!("Journey")).await;

    let role = json!({"conversation_id": group, "user_id": bob.id, "role": "admin"});
    assert!(anns.call("set_role", role).await["conversation"].is_object());
    let add = json!({"conversation_id": group, "user_id": cid.id});
    assert_eq!(bobs.call("add_member", add).await["conversation"]["member_count"], json!(3));
    let joined = cids.update_of("conversation").await["conversation"].clone();
    assert_eq!(joined["role"], json!("member"));

    let leave = json!({"conversation_id": group, "user_id": ann.id});
    let left = anns.call("remove_member", leave).await;
    assert_eq!(left["conversation"]["role"], json!(""), "{left}");
    bobs.until(|frame| frame["update"]["conversation"]["role"] == json!("owner")).await;
    let ended = bobs.call("delete_conversation", json!({"conversation_id": group})).await;
    assert_eq!(ended["conversation"]["deleted"], json!(true), "{ended}");
    cids.until(|frame| frame["update"]["conversation"]["deleted"] == json!(true)).await;
    let send = json!({"conversation_id": group, "client_message_id": "late", "text": "anybody?"});
    assert_eq!(cids.call("send", send).await["error"]["code"], json!("not_found"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_and_typing_are_told_to_who_is_there() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut anns = ann.connect("phone").await;
    let reply = anns.call("watch_presence", json!({"user_ids": [bob.id]})).await;
    assert!(reply["ok"].is_object());
    let first = anns.until(|frame| frame["presence"].is_object()).await["presence"].clone();
    assert_eq!((first["user_id"].as_str(), first["online"].as_bool()), (Some(bob.id.as_str()), Some(false)));

    let mut bobs = bob.connect("phone").await;
    let online = anns.until(|frame| frame["presence"].is_object()).await["presence"].clone();
    assert_eq!(online["online"], json!(true));
    let (status, answer) = ann.http("GET", &format!("/v1/users/{}/presence", bob.id), json!(null)).await;
    assert_eq!((status.as_u16(), &answer["online"]), (200, &json!(true)));

    bobs.tell("typing", json!({"conversation_id": chat})).await;
    let typing = anns.until(|frame| frame["typing"].is_object()).await["typing"].clone();
    assert_eq!(
        (typing["user_id"].as_str(), typing["conversation_id"].as_str()),
        (Some(bob.id.as_str()), Some(chat.as_str()))
    );
    let reply = anns.call("unwatch_presence", json!({"user_ids": [bob.id]})).await;
    assert!(reply["ok"].is_object());
}

//! Sending, paging, editing and deleting messages.

use hyper::Method;
use serde_json::{Value, json};
use tidings_schemas::client::{self, client_frame::Command, message_kind, server_frame::Body, update::Kind};

use super::harness::{Server, eventually, send, text};

#[tokio::test]
async fn a_message_reaches_the_recipient_and_the_senders_own_devices() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut phone = ann.connect_as("phone", &Default::default()).await;
    let mut laptop = ann.connect_as("laptop", &Default::default()).await;
    let mut bobs = bob.connect().await;
    let sent = phone.send(&chat, "7a1c0f9e-0000-4000-8000-000000000001", "hello").await;
    assert_eq!(sent.seq, 2);
    assert_eq!(sent.kind(), message_kind::Value::Text);
    assert_eq!(sent.sender_id, ann.user_id);
    assert_eq!(sent.client_message_id, "7a1c0f9e-0000-4000-8000-000000000001");
    assert!(sent.sent_at.is_some() && sent.message_id.len() <= 64);
    for connection in [&mut bobs, &mut laptop] {
        assert_eq!(connection.message().await, sent);
    }
}

#[tokio::test]
async fn a_repeat_is_the_same_message() {
    let mut server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut first = ann.connect().await;
    let sent = first.send(&chat, "m1", "once").await;
    assert_eq!(first.send(&chat, "m1", "once").await, sent, "on the same connection");
    let mut second = ann.connect_as("other", &Default::default()).await;
    assert_eq!(second.send(&chat, "m1", "once").await, sent, "on another one");
    assert_eq!(text(&ann.post(&chat, "m1", "once").await["message_id"]), sent.message_id, "over HTTP");
    server.kill();
    server.restart().await;
    let mut third = ann.connect().await;
    assert_eq!(third.send(&chat, "m1", "once").await, sent, "after a restart");
    assert_eq!(third.send(&chat, "m2", "twice").await.seq, sent.seq + 1);
    let mut bobs = bob.connect().await;
    assert_eq!(bobs.send(&chat, "m1", "mine").await.seq, sent.seq + 2, "another sender's id is another id");
}

#[tokio::test]
async fn over_http_as_over_the_socket() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let first = ann.post(&chat, "m1", "question").await;
    let body = json!({"client_message_id": "m2", "text": "answer", "reply_to": first["message_id"]});
    let path = format!("/v1/conversations/{chat}/messages");
    let second = bob.call(Method::POST, &path, body).await;
    assert_eq!(second["reply_to"], first["message_id"]);
    assert_eq!((&first["seq"], &second["seq"]), (&json!("2"), &json!("3")));
    assert!(text(&first["message_id"]) < text(&second["message_id"]), "message ids sort by time");
    let sent_at = text(&first["sent_at"]);
    assert!(sent_at.ends_with('Z') && sent_at.len() == "2026-01-01T00:00:00.000Z".len(), "{sent_at}");
}

#[tokio::test]
async fn kinds_follow_from_the_content() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let path = format!("/v1/conversations/{chat}/messages");
    let encrypted = json!({"client_message_id": "e", "encrypted": {"algorithm": "x", "ciphertext": "AAEC",
        "recipients": [{"device_id": "d", "header": "/w=="}]}});
    let made = ann.call(Method::POST, &path, encrypted).await;
    assert_eq!(made["kind"], "encrypted");
    assert_eq!(made["encrypted"]["ciphertext"], "AAEC", "bytes are base64");
    assert_eq!(made["encrypted"]["recipients"][0]["header"], "/w==");
}

#[tokio::test]
async fn history_in_both_directions() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    for number in 2..=12 {
        ann.post(&chat, &format!("m{number}"), &number.to_string()).await;
    }
    let seqs = |page: &Value| -> Vec<u64> {
        page["messages"].as_array().unwrap().iter().map(|m| text(&m["seq"]).parse().unwrap()).collect()
    };
    let path = format!("/v1/conversations/{chat}/messages");
    let newest = bob.get(&format!("{path}?limit=5")).await;
    assert_eq!(seqs(&newest), [12, 11, 10, 9, 8]);
    let token = text(&newest["next_page_token"]);
    assert_eq!(seqs(&bob.get(&format!("{path}?limit=5&page_token={token}")).await), [7, 6, 5, 4, 3]);
    assert_eq!(seqs(&bob.get(&format!("{path}?limit=3&before_seq=5")).await), [4, 3, 2]);
    assert_eq!(seqs(&bob.get(&format!("{path}?limit=3&after_seq=5")).await), [6, 7, 8]);
    assert_eq!(seqs(&bob.get(&format!("{path}?after_seq=12")).await), [] as [u64; 0]);
    let end = bob.get(&format!("{path}?before_seq=2")).await;
    assert_eq!((seqs(&end), text(&end["next_page_token"])), (vec![1], String::new()));
}

#[tokio::test]
async fn a_member_sees_what_was_said_while_a_member() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let group = ann.group("Secrets", &[]).await;
    ann.post(&group, "m1", "before bob").await;
    ann.call(Method::PUT, &format!("/v1/conversations/{group}/members/{}", bob.user_id), json!({})).await;
    ann.post(&group, "m2", "with bob").await;
    let path = format!("/v1/conversations/{group}/messages");
    let seen = eventually("bob sees the newest", || async {
        let page = bob.try_call(Method::GET, &path, Value::Null).await.ok()?;
        (page["messages"][0]["text"] == "with bob").then_some(page)
    })
    .await;
    let texts: Vec<String> = seen["messages"].as_array().unwrap().iter().map(|m| text(&m["text"])).collect();
    assert!(!texts.contains(&"before bob".to_owned()), "{texts:?}");
}

#[tokio::test]
async fn an_edit_and_a_deletion_reach_everybody() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut anns = ann.connect().await;
    let mut bobs = bob.connect().await;
    let sent = anns.send(&chat, "m1", "helo").await;
    let changed = |update: &client::Update| match &update.kind {
        Some(Kind::MessageChanged(message)) => Some(message.clone()),
        _ => None,
    };
    let edit = client::EditMessage {
        conversation_id: chat.clone(),
        message_id: sent.message_id.clone(),
        text: "hello".to_owned(),
    };
    let Body::Message(edited) = anns.ask(Command::EditMessage(edit.clone())).await else { panic!("not a message") };
    assert_eq!((edited.text.as_str(), edited.seq), ("hello", sent.seq));
    assert!(edited.edited_at.is_some() && edited.sent_at == sent.sent_at);
    assert_eq!(bobs.until(changed).await, edited, "the whole message anew");
    assert_eq!(bobs.refused(Command::EditMessage(edit.clone())).await, "permission_denied");

    let path = format!("/v1/conversations/{chat}/messages/{}", sent.message_id);
    assert_eq!(bob.refused(Method::DELETE, &path, Value::Null).await.1, "permission_denied");
    let deleted = ann.call(Method::DELETE, &path, Value::Null).await;
    assert_eq!((&deleted["text"], deleted["deleted_at"].is_string()), (&json!(""), true));
    let deleted = bobs.until(changed).await;
    assert!(deleted.text.is_empty() && deleted.deleted_at.is_some());
    assert_eq!(anns.refused(Command::EditMessage(edit)).await, "not_found");
    let page = bob.get(&format!("/v1/conversations/{chat}/messages?limit=1")).await;
    assert_eq!(page["messages"][0]["text"], "");
}

#[tokio::test]
async fn an_admin_deletes_anothers_message() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let group = ann.group("Lunch", &[&bob]).await;
    let sent = bob.post(&group, "m", "rude").await;
    let path = format!("/v1/conversations/{group}/messages/{}", text(&sent["message_id"]));
    assert_eq!(ann.refused(Method::PATCH, &path, json!({"text": "kind"})).await.1, "permission_denied");
    assert!(ann.call(Method::DELETE, &path, Value::Null).await["deleted_at"].is_string());
}

#[tokio::test]
async fn order_is_the_same_for_everyone() {
    let server = Server::start().await;
    let (ann, bob, carl) = (server.person("ann").await, server.person("bob").await, server.person("carl").await);
    let group = ann.group("Race", &[&bob, &carl]).await;
    let mut watcher = carl.connect().await;
    let racers = [ann.clone(), bob.clone()].map(|person| {
        let group = group.clone();
        tokio::spawn(async move {
            let mut connection = person.connect().await;
            for number in 0..50 {
                connection.tell(send(&group, &format!("m{number}"), &format!("{} {number}", person.name))).await;
            }
            let mut seen = Vec::new();
            while seen.len() < 100 {
                let message = connection.message().await;
                seen.push((message.seq, message.text));
            }
            seen
        })
    });
    let mut expected = Vec::new();
    while expected.len() < 100 {
        let message = watcher.message().await;
        expected.push((message.seq, message.text));
    }
    assert_eq!(expected.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (2..=101).collect::<Vec<_>>());
    for racer in racers {
        assert_eq!(racer.await.unwrap(), expected);
    }
    let mine = |name: &str| -> Vec<String> {
        expected.iter().map(|(_, text)| text.clone()).filter(|text| text.starts_with(name)).collect()
    };
    assert_eq!(mine("ann"), (0..50).map(|n| format!("ann {n}")).collect::<Vec<_>>(), "in the order sent");
}

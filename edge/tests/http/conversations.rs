//! Conversations and their members.

use serde_json::{Value, json};

use crate::node::Node;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_direct_chat_is_the_first_one() {
    let node = Node::start().await;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let body = |with: &str| json!({"kind": "direct", "member_ids": [with]});
    let first = node.call(&ann, "POST", "/v1/conversations", body(&bob.id)).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let second = node.call(&bob, "POST", "/v1/conversations", body(&ann.id)).await;
    assert_eq!(first.json()["conversation_id"], second.json()["conversation_id"]);
    let id = first.json()["conversation_id"].as_str().unwrap().to_owned();

    let seen = node.get(&ann, &format!("/v1/conversations/{id}")).await.json();
    assert_eq!(seen["peer"], json!({"user_id": bob.id, "username": "bob", "display_name": "bob"}));
    assert_eq!((seen["kind"].as_str(), seen["member_count"].as_u64()), (Some("direct"), Some(2)));
    for (method, path, body) in [
        ("PATCH", format!("/v1/conversations/{id}"), json!({"title": "x"})),
        ("DELETE", format!("/v1/conversations/{id}"), Value::Null),
        ("DELETE", format!("/v1/conversations/{id}/members/{}", bob.id), Value::Null),
    ] {
        let request = node.request(method, &path).token(&ann.token);
        let answer = if body.is_null() { request } else { request.json(&body) }.send().await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "permission_denied"), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_lives_and_ends() {
    let node = Node::start().await;
    let (ann, bob, carl) = (node.user("ann").await, node.user("bob").await, node.user("carl").await);
    let group = node.group(&ann, &[&bob]).await;
    let path = format!("/v1/conversations/{group}");
    let member = |user: &str| format!("{path}/members/{user}");

    let added = node.request("PUT", &member(&carl.id)).token(&ann.token).send().await;
    assert_eq!((added.status, added.json()["member_count"].as_u64()), (200, Some(3)), "{}", added.body);
    let denied = node.call(&bob, "PUT", &member(&carl.id), json!({"role": "admin"})).await;
    assert_eq!((denied.status, denied.code().as_str()), (403, "permission_denied"));
    let given = node.call(&ann, "PUT", &member(&bob.id), json!({"role": "owner"})).await;
    assert_eq!((given.status, given.json()["role"].as_str()), (200, Some("admin")), "{}", given.body);

    let members = node.get(&carl, &format!("{path}/members")).await.json();
    let roles: Vec<(&str, &str)> = members["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| (member["username"].as_str().unwrap(), member["role"].as_str().unwrap()))
        .collect();
    assert_eq!(roles.len(), 3);
    for expected in [("ann", "admin"), ("bob", "owner"), ("carl", "member")] {
        assert!(roles.contains(&expected), "{roles:?}");
    }

    let renamed = node.call(&bob, "PATCH", &path, json!({"title": "Enemies"})).await;
    assert_eq!((renamed.status, renamed.json()["title"].as_str()), (200, Some("Enemies")), "{}", renamed.body);
    let left = node.request("DELETE", &member(&carl.id)).token(&carl.token).send().await;
    assert_eq!((left.status, left.json()["role"].as_str()), (200, Some("")), "{}", left.body);
    for path in [path.clone(), format!("{path}/members"), format!("{path}/messages")] {
        let answer = node.get(&carl, &path).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "not_a_member"), "{path}");
    }

    let deleted = node.request("DELETE", &path).token(&bob.token).send().await;
    assert_eq!((deleted.status, deleted.json()["deleted"].as_bool()), (200, Some(true)), "{}", deleted.body);
    assert_eq!(node.get(&ann, &path).await.code(), "not_found");
    assert_eq!(node.get(&ann, "/v1/conversations").await.json()["conversations"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_come_by_their_newest_activity_in_pages() {
    let node = Node::start().await;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let mut groups = Vec::new();
    for _ in 0..5 {
        groups.push(node.group(&ann, &[&bob]).await);
    }
    node.send(&bob, &groups[0], "one", "hello").await;

    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let page = node.get(&ann, &format!("/v1/conversations?limit=2&page_token={token}")).await.json();
        let conversations = page["conversations"].as_array().unwrap().clone();
        assert!(conversations.len() <= 2);
        found.extend(conversations);
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    let ids: Vec<&str> = found.iter().map(|conversation| conversation["conversation_id"].as_str().unwrap()).collect();
    assert_eq!(ids[0], groups[0], "the newest message makes it the first");
    let mut sorted = [ids.clone(), groups.iter().map(String::as_str).collect()];
    sorted.iter_mut().for_each(|ids| ids.sort_unstable());
    assert_eq!(sorted[0], sorted[1], "all of them, each once");
    let first = &found[0];
    assert_eq!(first["last_message"]["text"], "hello");
    assert_eq!((first["last_seq"].as_str(), first["unread_count"].as_str()), (Some("2"), Some("1")));
}

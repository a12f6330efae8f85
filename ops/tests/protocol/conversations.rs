//! Direct chats and groups, and what every change looks like from outside.

use hyper::Method;
use serde_json::{Value, json};
use tidings_schemas::client::{
    self, client_frame::Command, conversation_kind, membership_action::Value as Action, server_frame::Body,
    update::Kind,
};

use super::harness::{Connection, Server, eventually, text};

async fn membership(connection: &mut Connection) -> (u64, Action, Option<String>) {
    connection
        .until(|update| match &update.kind {
            Some(Kind::Message(message)) => {
                message.membership.as_ref().map(|m| (message.seq, m.action(), m.user_id.clone()))
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_second_direct_chat_is_the_first() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let first = ann.chat_with(&bob).await;
    assert_eq!(bob.chat_with(&ann).await, first);
    let seen = ann.get(&format!("/v1/conversations/{first}")).await;
    assert_eq!(seen["kind"], "direct");
    assert_eq!(seen["member_count"], 2);
    assert_eq!(seen["peer"]["username"], "bob");
}

#[tokio::test]
async fn a_new_direct_chat_has_nothing_unread_and_a_new_group_one() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let (chat, group) = (ann.chat_with(&bob).await, ann.group("Lunch", &[&bob]).await);
    for (id, unread) in [(&chat, "0"), (&group, "1")] {
        let path = format!("/v1/conversations/{id}");
        let seen = eventually("the conversation is bob's", || async {
            bob.try_call(Method::GET, &path, Value::Null).await.ok()
        })
        .await;
        assert_eq!(seen["unread_count"], unread);
        let mine = ann.get(&path).await;
        assert_eq!((text(&mine["seen_seq"]), text(&mine["unread_count"])), ("1".into(), "0".into()));
    }
    ann.post(&chat, "m", "hi").await;
    eventually("the message is one unread", || async {
        (bob.get(&format!("/v1/conversations/{chat}")).await["unread_count"] == "1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_conversation_has_every_field_of_the_contract() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let group = ann.group("Lunch", &[&bob]).await;
    bob.post(&group, "m1", "soup?").await;
    let list = eventually("the message is in the list", || async {
        let list = ann.get("/v1/conversations").await;
        (list["conversations"][0]["last_message"]["text"] == "soup?").then_some(list)
    })
    .await;
    let seen = &list["conversations"][0];
    assert_eq!(seen["conversation_id"], group.as_str());
    assert_eq!(seen["kind"], "group");
    assert_eq!(seen["title"], "Lunch");
    assert_eq!(seen["member_count"], 2);
    assert_eq!(seen["last_seq"], "2", "64-bit integers are strings; the creation is seq 1");
    assert_eq!(seen["unread_count"], "1");
    assert_eq!(seen["seen_seq"], "1");
    assert_eq!(seen["delivered_seq"], "1");
    assert_eq!(seen["seen_by_all_seq"], "2");
    assert_eq!(seen["delivered_to_all_seq"], "2");
    assert_eq!(list["next_page_token"], "");
}

#[tokio::test]
async fn lists_are_newest_activity_first_and_in_pages() {
    let server = Server::start().await;
    let ann = server.person("ann").await;
    let mut groups = Vec::new();
    for number in 0..5 {
        groups.push(ann.group(&format!("group {number}"), &[]).await);
    }
    ann.post(&groups[1], "m", "up again").await;
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = ann.get(&format!("/v1/conversations?limit=2&page_token={token}")).await;
        seen.extend(page["conversations"].as_array().unwrap().iter().map(|c| text(&c["title"])));
        token = text(&page["next_page_token"]);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["group 1", "group 4", "group 3", "group 2", "group 0"]);
}

#[tokio::test]
async fn every_change_of_a_group_is_a_numbered_entry_for_everybody() {
    let server = Server::start().await;
    let (ann, bob, carl) = (server.person("ann").await, server.person("bob").await, server.person("carl").await);
    let mut bobs = bob.connect().await;
    let group = ann.group("Lunch", &[&bob]).await;
    let of = |user: &super::harness::Person| Some(user.user_id.clone());
    assert_eq!(membership(&mut bobs).await.0, 1);
    let member = format!("/v1/conversations/{group}/members/{}", carl.user_id);

    let after = ann.call(Method::PUT, &member, json!({})).await;
    assert_eq!(after["member_count"], 3);
    assert_eq!(membership(&mut bobs).await, (2, Action::Added, of(&carl)));
    ann.call(Method::PUT, &member, json!({"role": "admin"})).await;
    assert_eq!(membership(&mut bobs).await, (3, Action::Role, of(&carl)));
    let renamed = ann.call(Method::PATCH, &format!("/v1/conversations/{group}"), json!({"title": "Dinner"})).await;
    assert_eq!(renamed["title"], "Dinner");
    assert_eq!(membership(&mut bobs).await.1, Action::Renamed);
    ann.call(Method::DELETE, &member, Value::Null).await;
    assert_eq!(membership(&mut bobs).await, (5, Action::Removed, of(&carl)));

    let members = eventually("carl is gone from the members", || async {
        let members = bob.get(&format!("/v1/conversations/{group}/members")).await["members"].clone();
        (members.as_array().unwrap().len() == 2).then_some(members)
    })
    .await;
    let roles: Vec<(String, String)> =
        members.as_array().unwrap().iter().map(|m| (text(&m["username"]), text(&m["role"]))).collect();
    assert!(roles.contains(&("ann".to_owned(), "owner".to_owned())), "{roles:?}");
    assert!(roles.contains(&("bob".to_owned(), "member".to_owned())), "{roles:?}");
    assert_eq!(members[0]["joined_seq"], "1");
    let gone = carl.refused(Method::GET, &format!("/v1/conversations/{group}/messages"), Value::Null).await;
    assert_eq!(gone, (403, "not_a_member".to_owned()));
}

#[tokio::test]
async fn roles_decide_who_may_do_what() {
    let server = Server::start().await;
    let (ann, bob, carl) = (server.person("ann").await, server.person("bob").await, server.person("carl").await);
    let group = ann.group("Lunch", &[&bob, &carl]).await;
    let path = format!("/v1/conversations/{group}");
    let carls = format!("{path}/members/{}", carl.user_id);
    for (method, path, body) in [
        (Method::DELETE, carls.clone(), Value::Null),
        (Method::PUT, carls.clone(), json!({"role": "admin"})),
        (Method::PATCH, path.clone(), json!({"title": "Mine"})),
        (Method::DELETE, path.clone(), Value::Null),
    ] {
        let refused = bob.refused(method.clone(), &path, body).await;
        assert_eq!(refused, (403, "permission_denied".to_owned()), "{method} {path}");
    }
    ann.call(Method::DELETE, &path, Value::Null).await;
    let body = json!({"client_message_id": "m", "text": "x"});
    let refused = bob.refused(Method::POST, &format!("{path}/messages"), body).await;
    assert_eq!(refused, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn the_owners_leaving_passes_ownership_on() {
    let server = Server::start().await;
    let (ann, bob, carl) = (server.person("ann").await, server.person("bob").await, server.person("carl").await);
    let group = ann.group("Lunch", &[&bob, &carl]).await;
    let path = format!("/v1/conversations/{group}/members");
    ann.call(Method::PUT, &format!("{path}/{}", carl.user_id), json!({"role": "admin"})).await;
    ann.call(Method::DELETE, &format!("{path}/{}", ann.user_id), Value::Null).await;
    eventually("carl, the admin, is the owner", || async {
        let members = bob.get(&path).await["members"].clone();
        members.as_array().unwrap().iter().find(|m| m["role"] == "owner").filter(|m| m["username"] == "carl").map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_full_group_takes_nobody() {
    let server = Server::start_with(&["archive.enabled=false", "dataflow.conversations.group_members_max=3"]).await;
    let ann = server.person("ann").await;
    let (bob, carl, dora) = (server.person("bob").await, server.person("carl").await, server.person("dora").await);
    let group = ann.group("Three", &[&bob, &carl]).await;
    let full =
        ann.refused(Method::PUT, &format!("/v1/conversations/{group}/members/{}", dora.user_id), json!({})).await;
    assert_eq!(full, (409, "conversation_full".to_owned()));
    let ids = [&bob, &carl, &dora].map(|person| person.user_id.clone());
    let body = json!({"kind": "group", "title": "Four", "member_ids": ids});
    assert_eq!(ann.refused(Method::POST, "/v1/conversations", body).await.1, "conversation_full");
}

#[tokio::test]
async fn the_same_over_the_websocket() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let mut anns = ann.connect().await;
    let mut bobs = bob.connect().await;
    let create = Command::CreateConversation(client::CreateConversation {
        kind: conversation_kind::Value::Group.into(),
        title: "Lunch".to_owned(),
        member_ids: vec![],
    });
    let Body::Conversation(made) = anns.ask(create).await else { panic!("not a conversation") };
    assert_eq!((made.title.as_str(), made.role.as_str(), made.member_count), ("Lunch", "owner", 1));
    let conversation_id = made.conversation_id;
    let add = client::AddMember {
        conversation_id: conversation_id.clone(),
        user_id: bob.user_id.clone(),
        ..Default::default()
    };
    let Body::Conversation(after) = anns.ask(Command::AddMember(add)).await else { panic!("not a conversation") };
    assert_eq!(after.member_count, 2);
    let joined = bobs.conversation().await;
    assert_eq!((joined.conversation_id.as_str(), joined.role.as_str()), (conversation_id.as_str(), "member"));
    let rename = client::RenameConversation { conversation_id: conversation_id.clone(), title: "Dinner".to_owned() };
    let Body::Conversation(after) = anns.ask(Command::RenameConversation(rename)).await else { panic!() };
    assert_eq!(after.title, "Dinner");
    assert_eq!(bobs.conversation().await.title, "Dinner");
    let role = client::SetRole {
        conversation_id: conversation_id.clone(),
        user_id: bob.user_id.clone(),
        role: "admin".to_owned(),
    };
    assert!(matches!(anns.ask(Command::SetRole(role)).await, Body::Conversation(_)));
    assert_eq!(bobs.conversation().await.role, "admin");
    let leave = client::RemoveMember { conversation_id: conversation_id.clone(), user_id: bob.user_id.clone() };
    assert!(matches!(bobs.ask(Command::RemoveMember(leave)).await, Body::Conversation(_)));
    let delete = client::DeleteConversation { conversation_id: conversation_id.clone() };
    let Body::Conversation(after) = anns.ask(Command::DeleteConversation(delete)).await else { panic!() };
    assert!(after.deleted);
    assert_eq!(anns.refused(super::harness::send(&conversation_id, "m", "x")).await, "not_found");
}

//! Typing, presence, and who may watch it.

use serde_json::Value;
use tidings_schemas::client::{
    Heartbeat, Presence, SendTyping, WatchPresence, client_frame::Command, server_frame::Body,
};

use super::harness::{Connection, Server, eventually};

async fn presence(connection: &mut Connection) -> Presence {
    loop {
        if let Some(Body::Presence(presence)) = connection.next().await.body {
            return presence;
        }
    }
}

fn watch(user_id: &str) -> Command {
    Command::WatchPresence(WatchPresence { user_ids: vec![user_id.to_owned()] })
}

#[tokio::test]
async fn a_watcher_is_told_at_once_and_at_every_change() {
    let server = Server::start_with(&["archive.enabled=false", "dataflow.recipients.presence_grace_ms=300"]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let mut anns = ann.connect().await;
    let mut aside = Vec::new();
    assert!(matches!(anns.ask_with(watch(&bob.user_id), &mut aside).await, Body::Ok(_)));
    let first = match aside.into_iter().find_map(|frame| match frame.body {
        Some(Body::Presence(presence)) => Some(presence),
        _ => None,
    }) {
        Some(presence) => presence,
        None => presence(&mut anns).await,
    };
    assert_eq!((first.user_id.as_str(), first.online), (bob.user_id.as_str(), false));
    assert!(first.last_seen_at.is_none(), "never seen");

    let mut bobs = bob.connect().await;
    assert!(presence(&mut anns).await.online);
    bobs.tell(Command::Heartbeat(Heartbeat::default())).await;
    bobs.socket.close().await;
    let gone = presence(&mut anns).await;
    assert!(!gone.online && gone.last_seen_at.is_some());

    let unwatch = Command::UnwatchPresence(WatchPresence { user_ids: vec![bob.user_id.clone()] });
    assert!(matches!(anns.ask(unwatch).await, Body::Ok(_)));
}

#[tokio::test]
async fn a_reconnect_shows_no_flicker() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let mut anns = ann.connect().await;
    let bobs = bob.connect().await;
    anns.tell(watch(&bob.user_id)).await;
    assert!(presence(&mut anns).await.online);
    bobs.socket.close().await;
    let _again = bob.connect().await;
    // Whatever comes up to the answer of a later command must not say that bob is away.
    let mut aside = Vec::new();
    for _ in 0..20 {
        assert!(matches!(anns.ask_with(watch(&bob.user_id), &mut aside).await, Body::Ok(_)));
    }
    let offline = aside.iter().any(|frame| matches!(&frame.body, Some(Body::Presence(p)) if !p.online));
    assert!(!offline, "{aside:?}");
}

#[tokio::test]
async fn presence_over_http() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let path = format!("/v1/users/{}/presence", bob.user_id);
    let before = ann.get(&path).await;
    assert_eq!((&before["user_id"], &before["online"]), (&Value::from(bob.user_id.clone()), &Value::from(false)));
    let _bobs = bob.connect().await;
    eventually("bob is online", || async { (ann.get(&path).await["online"] == true).then_some(()) }).await;
}

#[tokio::test]
async fn typing_is_told_to_the_others_who_are_online() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let (mut anns, mut bobs) = (ann.connect().await, bob.connect().await);
    anns.tell(Command::Typing(SendTyping { conversation_id: chat.clone() })).await;
    loop {
        if let Some(Body::Typing(typing)) = bobs.next().await.body {
            assert_eq!((typing.conversation_id, typing.user_id), (chat, ann.user_id));
            break;
        }
    }
}

#[tokio::test]
async fn a_session_watches_only_so_many() {
    let server = Server::start().await;
    let ann = server.person("ann").await;
    let mut anns = ann.connect().await;
    let many = (0..1_001).map(|n| format!("00000000-0000-4000-8000-{n:012}")).collect();
    let refused = anns.refused(Command::WatchPresence(WatchPresence { user_ids: many })).await;
    assert_eq!(refused, "invalid_argument");
}

//! Every bad input gets its code and harms nobody else.

use futures_util::{SinkExt, StreamExt};
use hyper::Method;
use serde_json::{Value, json};
use tidings_ops::client::stream::Stream;
use tidings_schemas::client::{self, client_frame::Command};

use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

use super::harness::{PATIENCE, Person, Server, send};

async fn raw(server: &Server, subprotocol: Option<&'static str>) -> WebSocketStream<Stream> {
    let address = server.address();
    let mut request = format!("ws://{}/v1/connect", address.authority).into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(subprotocol));
    }
    client_async(request, address.dial().await.unwrap()).await.unwrap().0
}

async fn greeted(server: &Server, person: &Person) -> WebSocketStream<Stream> {
    let mut socket = raw(server, None).await;
    let hello = json!({"id": 1, "hello": {"token": person.token, "device_id": "raw"}});
    socket.send(Message::text(hello.to_string())).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(welcome.contains("\"welcome\""), "{welcome}");
    socket
}

/// The code that the server closes with.
async fn close_code(socket: &mut WebSocketStream<Stream>) -> u16 {
    let close = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => return 1006,
                Some(Err(error)) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, close).await.expect("a close in time")
}

#[tokio::test]
async fn frames_that_are_not_of_the_protocol_close_the_connection_with_a_code() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut bystander = bob.connect().await;
    let too_large = format!("{{\"id\": 1, \"heartbeat\": {{}}, \"x\": \"{}\"}}", "x".repeat(64 * 1024));
    for (what, frame, code) in [
        ("no JSON", Message::text("hello?"), 4501),
        ("no object", Message::text("[1]"), 4501),
        ("an id that is no number", Message::text("{\"id\": {}, \"heartbeat\": {}}"), 4501),
        ("binary where text is due", Message::binary(vec![8, 1]), 4501),
        ("too large", Message::text(too_large), 4504),
    ] {
        let mut socket = greeted(&server, &ann).await;
        // The server may close before all of a large frame is written.
        let _ = socket.send(frame).await;
        assert_eq!(close_code(&mut socket).await, code, "{what}");
    }
    bystander.send(&chat, "m", "still here").await;
}

#[tokio::test]
async fn text_where_binary_is_due() {
    let server = Server::start().await;
    let mut socket = raw(&server, Some("tidings.v1.protobuf")).await;
    socket.send(Message::text("{}")).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 4501);
}

#[tokio::test]
async fn before_hello_nothing_else_counts() {
    let server = Server::start_with(&["archive.enabled=false", "edge.hello_timeout_ms=300"]).await;
    let ann = server.person("ann").await;
    let expired = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4IiwiZXhwIjoxfQ.c2ln";
    for (what, frame) in [
        ("a command", json!({"id": 1, "send": {"conversation_id": "x"}})),
        ("no token", json!({"id": 1, "hello": {"device_id": "d"}})),
        ("a wrong token", json!({"id": 1, "hello": {"token": expired, "device_id": "d"}})),
    ] {
        let mut socket = raw(&server, None).await;
        socket.send(Message::text(frame.to_string())).await.unwrap();
        assert_eq!(close_code(&mut socket).await, 4500, "{what}");
    }
    let mut silent = raw(&server, None).await;
    assert_eq!(close_code(&mut silent).await, 4500, "a hello that never comes");
    greeted(&server, &ann).await;
}

#[tokio::test]
async fn bad_commands_get_an_error_and_the_connection_stays() {
    let server = Server::start().await;
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let chat = ann.chat_with(&bob).await;
    let mut eves = eve.connect().await;
    let mut anns = ann.connect().await;
    assert_eq!(eves.refused(send(&chat, "m", "let me in")).await, "not_a_member");
    assert_eq!(anns.refused(send("00000000-0000-4000-8000-000000000000", "m", "x")).await, "not_found");
    assert_eq!(anns.refused(send("nonsense", "m", "x")).await, "not_found");
    assert_eq!(anns.refused(send(&chat, "m", "")).await, "invalid_argument");
    assert_eq!(anns.refused(send(&chat, "", "x")).await, "invalid_argument");
    assert_eq!(anns.refused(send(&chat, &"m".repeat(65), "x")).await, "invalid_argument");
    assert_eq!(anns.refused(send(&chat, "m", &"x".repeat(16 * 1024 + 1))).await, "too_large");
    let attachments = vec![client::Attachment { media_id: "m".to_owned(), ..Default::default() }; 11];
    let too_many = client::Send {
        conversation_id: chat.clone(),
        client_message_id: "m".to_owned(),
        attachments,
        ..Default::default()
    };
    assert_eq!(anns.refused(Command::Send(too_many)).await, "invalid_argument");
    let hello = client::Hello { token: ann.token.clone(), device_id: "d".to_owned(), resume: None };
    assert_eq!(anns.refused(Command::Hello(hello)).await, "invalid_argument");
    assert_eq!(anns.send(&chat, "m", &"x".repeat(16 * 1024)).await.seq, 2, "the longest text is sent");

    let mut socket = greeted(&server, &ann).await;
    socket.send(Message::text(r#"{"id": 9, "dance": {}}"#)).await.unwrap();
    loop {
        let frame = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let frame: Value = serde_json::from_str(&frame).unwrap();
        if frame["id"] == 9 {
            assert_eq!(frame["error"]["code"], "invalid_argument");
            assert_eq!(frame["error"]["retryable"], false);
            break;
        }
    }
}

#[tokio::test]
async fn http_refusals_are_the_contracts() {
    let server = Server::start().await;
    let (ann, eve) = (server.person("ann").await, server.person("eve").await);
    let group = ann.group("Mine", &[]).await;
    let path = format!("/v1/conversations/{group}");
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (method, path, body, status, code) in [
        (Method::GET, "/v1/nothing".to_owned(), Value::Null, 404, "not_found"),
        (Method::GET, path.clone(), Value::Null, 403, "not_a_member"),
        (Method::GET, format!("/v1/conversations/{nobody}"), Value::Null, 404, "not_found"),
        (Method::GET, "/v1/conversations/nonsense".to_owned(), Value::Null, 404, "not_found"),
        (Method::GET, "/v1/conversations?limit=x".to_owned(), Value::Null, 400, "invalid_argument"),
        (Method::GET, "/v1/conversations?page_token=x".to_owned(), Value::Null, 400, "invalid_argument"),
        (Method::POST, "/v1/conversations".to_owned(), json!({"kind": "club"}), 400, "invalid_argument"),
        (Method::POST, "/v1/conversations".to_owned(), json!({"kind": 7}), 400, "invalid_argument"),
        (Method::POST, "/v1/conversations".to_owned(), json!([]), 400, "invalid_argument"),
        (
            Method::POST,
            "/v1/conversations".to_owned(),
            json!({"kind": "direct", "member_ids": [nobody]}),
            404,
            "not_found",
        ),
        (
            Method::POST,
            "/v1/conversations".to_owned(),
            json!({"kind": "direct", "member_ids": [eve.user_id]}),
            400,
            "invalid_argument",
        ),
        (Method::POST, format!("{path}/messages"), json!({"client_message_id": "m", "text": "x"}), 403, "not_a_member"),
        (Method::POST, format!("{path}/messages"), json!({"text": "x".repeat(300 * 1024)}), 413, "too_large"),
    ] {
        let shown = format!("{method} {path}");
        let refused = eve.refused(method, &path, body).await;
        assert_eq!(refused, (status, code.to_owned()), "{shown}");
    }
}

#[tokio::test]
async fn too_many_sends_are_limited() {
    let settings = ["archive.enabled=false", "edge.user_sends_per_second=1", "edge.user_sends_burst=4"];
    let server = Server::start_with(&settings).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut anns = ann.connect().await;
    for number in 0..3 {
        anns.send(&chat, &format!("m{number}"), "x").await;
    }
    match anns.ask(send(&chat, "m3", "x")).await {
        client::server_frame::Body::Error(error) => {
            assert_eq!(error.code, "rate_limited");
            assert!(error.retryable && error.retry_after_ms.is_some_and(|wait| wait > 0), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    let body = json!({"client_message_id": "m4", "text": "x"});
    let refused = ann.refused(Method::POST, &format!("/v1/conversations/{chat}/messages"), body).await;
    assert_eq!(refused, (429, "rate_limited".to_owned()));
    bob.post(&chat, "m", "others are not").await;
}

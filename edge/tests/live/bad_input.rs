//! Every bad input gets its code and harms nobody else.

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::support::{Backend, Client, User, client::Received};

/// What is sent, and the code that the connection is closed with.
fn fatal() -> Vec<(&'static str, Message, u16)> {
    let raw = |bytes: &'static [u8]| Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true));
    vec![
        ("no JSON", Message::text("hello"), 4501),
        ("half of it", Message::text(r#"{"id":1,"heartbeat":"#), 4501),
        ("nothing", Message::text(""), 4501),
        ("a list", Message::text("[1,2]"), 4501),
        ("a deep nest", Message::text("[".repeat(10_000)), 4501),
        ("an id that is none", Message::text(r#"{"id":-1,"heartbeat":{}}"#), 4501),
        ("an id that is too large", Message::text(r#"{"id":4294967296,"heartbeat":{}}"#), 4501),
        ("binary where text is due", Message::binary(vec![8, 1, 106, 0]), 4501),
        ("text that is not UTF-8", raw(b"{\"id\":1,\"typing\":{\"conversation_id\":\"\xff\xfe\"}}"), 4501),
        ("too large", Message::text("x".repeat(64 * 1024 + 1)), 4504),
    ]
}

/// What is sent, and the code of the error that answers it.
fn survivable(user: &User, chat: &str) -> Vec<(Value, &'static str)> {
    let unknown = "00000000-0000-4000-8000-000000000000";
    let long = "x".repeat(65);
    vec![
        (json!({}), "invalid_argument"),
        (json!({"fly": {}}), "invalid_argument"),
        (json!({"hello": {"token": user.token, "device_id": "again"}}), "invalid_argument"),
        (json!({"send": 5}), "invalid_argument"),
        (json!({"send": {"text": 5}}), "invalid_argument"),
        (json!({"send": {"conversation_id": chat, "text": "no client_message_id"}}), "invalid_argument"),
        (json!({"send": {"conversation_id": chat, "client_message_id": "m"}}), "invalid_argument"),
        (json!({"send": {"conversation_id": chat, "client_message_id": long, "text": "x"}}), "invalid_argument"),
        (json!({"send": {"conversation_id": "?", "client_message_id": "m", "text": "x"}}), "not_found"),
        (json!({"send": {"conversation_id": unknown, "client_message_id": "m", "text": "x"}}), "not_found"),
        (
            json!({"send": {"conversation_id": chat, "client_message_id": "m", "text": "x".repeat(16 * 1024 + 1)}}),
            "too_large",
        ),
        (
            json!({"send": {"conversation_id": chat, "client_message_id": "m", "text": "x", "reply_to": "?"}}),
            "not_found",
        ),
        (json!({"receipt": {"conversation_id": chat}}), "invalid_argument"),
        (json!({"receipt": {"conversation_id": chat, "seen_seq": -1}}), "invalid_argument"),
        (json!({"receipt": {"conversation_id": chat, "seen_seq": "many"}}), "invalid_argument"),
        (json!({"receipt": {"conversation_id": unknown, "seen_seq": 1}}), "not_found"),
        (json!({"typing": {"conversation_id": "?"}}), "not_found"),
        (json!({"typing": {"conversation_id": unknown}}), "not_found"),
        (json!({"watch_presence": {"user_ids": ["?"]}}), "not_found"),
        (json!({"watch_presence": {"user_ids": vec![unknown; 1_001]}}), "invalid_argument"),
        (json!({"create_conversation": {"member_ids": []}}), "invalid_argument"),
        (json!({"create_conversation": {"kind": "party", "member_ids": []}}), "invalid_argument"),
        (json!({"create_conversation": {"kind": "direct", "member_ids": []}}), "invalid_argument"),
        (json!({"create_conversation": {"kind": "direct", "member_ids": [user.id]}}), "invalid_argument"),
        (json!({"create_conversation": {"kind": "direct", "member_ids": [unknown]}}), "not_found"),
        (json!({"create_conversation": {"kind": "group", "title": "x".repeat(129)}}), "invalid_argument"),
        (json!({"add_member": {"conversation_id": chat, "user_id": unknown}}), "not_found"),
        (json!({"add_member": {"conversation_id": chat, "user_id": user.id, "role": "king"}}), "invalid_argument"),
        (json!({"set_role": {"conversation_id": chat, "user_id": user.id}}), "invalid_argument"),
        (json!({"rename_conversation": {"conversation_id": chat, "title": "x"}}), "permission_denied"),
        (json!({"delete_conversation": {"conversation_id": chat}}), "permission_denied"),
        (json!({"remove_member": {"conversation_id": unknown, "user_id": user.id}}), "not_found"),
        (json!({"edit_message": {"conversation_id": chat, "message_id": unknown, "text": "x"}}), "not_found"),
        (json!({"edit_message": {"conversation_id": chat, "message_id": unknown}}), "invalid_argument"),
        (json!({"delete_message": {"conversation_id": chat, "message_id": "?"}}), "not_found"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_frame_gets_its_code_and_harms_nobody_else() {
    let backend = Backend::start();
    let edge = backend.edge(|config| config.user_sends_per_second = 0);
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut bystander = bob.connect("phone").await;

    for (what, message, code) in fatal() {
        let mut before_hello = Client::open(ann.address).await;
        let mut after_hello = ann.connect("bad").await;
        for client in [&mut before_hello, &mut after_hello] {
            client.socket.send(message.clone()).await.unwrap();
            assert_eq!(client.closed().await, code, "{what}");
        }
    }
    let mut client = ann.connect("bad").await;
    for (frame, code) in survivable(&ann, &chat) {
        let mut with_id = frame.clone();
        with_id["id"] = json!(777);
        client.socket.send(Message::text(with_id.to_string())).await.unwrap();
        let reply = client.reply(777).await;
        assert_eq!(reply["error"]["code"], json!(code), "{frame}: {reply}");
        assert_eq!(reply["error"]["retryable"], json!(false));
    }

    // The connection that made all those mistakes goes on, and so does everybody else's.
    assert!(client.say(&chat, "m1", "sorry").await["sent"].is_object());
    bystander.until(|frame| frame["update"]["message"]["text"] == json!("sorry")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_say_hello_properly_is_sent_away() {
    let backend = Backend::start();
    let edge = backend.edge(|config| config.hello_timeout_ms = 300);
    let ann = edge.user("ann").await;
    let chat = json!("00000000-0000-4000-8000-000000000000");
    for (frame, code, close) in [
        (json!({"id": 1, "heartbeat": {}}), "unauthenticated", 4500),
        (json!({"id": 1, "send": {"conversation_id": chat}}), "unauthenticated", 4500),
        (json!({"id": 1}), "unauthenticated", 4500),
        (json!({"id": 1, "hello": {"token": "", "device_id": "d"}}), "unauthenticated", 4500),
        (json!({"id": 1, "hello": {"token": "a.b.c", "device_id": "d"}}), "unauthenticated", 4500),
        (json!({"id": 1, "hello": {"token": ann.token, "device_id": "d".repeat(65)}}), "invalid_argument", 4501),
    ] {
        let mut client = Client::open(ann.address).await;
        client.socket.send(Message::text(frame.to_string())).await.unwrap();
        assert_eq!(client.reply(1).await["error"]["code"], json!(code), "{frame}");
        assert_eq!(client.receive().await, Received::Closed(close), "{frame}");
    }
    // One that never says anything.
    let mut silent = Client::open(ann.address).await;
    assert_eq!(silent.closed().await, 4500);
    // One that does not even finish its handshake is cut off by the HTTP side; it holds no session.
    assert!(ann.connect("d").await.welcome.is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binary_connection_takes_no_text() {
    use prost::Message as _;
    use tidings_schemas::client::{ClientFrame, Hello, ServerFrame, client_frame::Command, server_frame::Body};

    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let ann = edge.user("ann").await;
    let stream = TcpStream::connect(ann.address).await.unwrap();
    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!(
        "ws://{}/v1/connect",
        ann.address
    ))
    .unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "tidings.v1.protobuf".parse().unwrap());
    let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "tidings.v1.protobuf");
    let hello = Hello { token: ann.token.clone(), device_id: "d".to_owned(), resume: None };
    let frame = ClientFrame { id: 9, command: Some(Command::Hello(hello)) };
    socket.send(Message::binary(frame.encode_to_vec())).await.unwrap();
    let answer = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    let answer = ServerFrame::decode(answer.into_data()).unwrap();
    let Some(Body::Welcome(welcome)) = answer.body else { panic!("{answer:?}") };
    assert_eq!((answer.id, welcome.user_id.as_str()), (Some(9), ann.id.as_str()));
    socket.send(Message::text("{}")).await.unwrap();
    let end = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = end else { panic!("{end:?}") };
    assert_eq!(u16::from(frame.code), 4501);
}

/// What a client that speaks no WebSocket is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_handshake_gets_an_http_error() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let good = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (request, status) in [
        ("GET /v1/connect HTTP/1.1\r\n".to_owned(), "426"),
        (format!("POST /v1/connect HTTP/1.1\r\n{good}"), "405"),
        (format!("GET /v1/connect HTTP/1.1\r\n{}", good.replace("13", "7")), "426"),
        (format!("GET /v1/connect HTTP/1.1\r\n{}", good.replace("dGhl", "d")), "400"),
        (format!("GET /v1/connect HTTP/1.1\r\n{good}Sec-WebSocket-Protocol: mqtt\r\n"), "400"),
        (format!("GET /v1/nowhere HTTP/1.1\r\n{good}"), "404"),
        (format!("GET /v1/connect HTTP/1.1\r\nX: {}\r\n", "x".repeat(40_000)), "431"),
        ("NONSENSE\r\n".to_owned(), "400"),
    ] {
        let mut stream = TcpStream::connect(edge.handle.address()).await.unwrap();
        let request = format!("{request}Host: here\r\nContent-Length: 0\r\n\r\n");
        // The server may close before it has read all of it.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&String::from_utf8_lossy(&answer)[9..], status, "{request:.200}");
    }
}

/// Frames that no client library sends, byte by byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_framing_is_closed_with_its_code() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    for (what, bytes, code) in [
        ("an unmasked frame", &b"\x81\x02hi"[..], 4501),
        ("reserved bits", &b"\xc1\x80\0\0\0\0"[..], 4501),
        ("an unknown opcode", &b"\x83\x80\0\0\0\0"[..], 4501),
        ("a continuation of nothing", &b"\x80\x80\0\0\0\0"[..], 4501),
        ("a ping in parts", &b"\x09\x80\0\0\0\0"[..], 4501),
        ("a ping too long", &b"\x89\xfe\x00\x7e\0\0\0\0"[..], 4501),
        ("a frame of 2^63 bytes", &b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"[..], 4504),
        ("a message inside a message", &b"\x01\x81\0\0\0\0a\x81\x81\0\0\0\0b"[..], 4501),
        ("half a close code", &b"\x88\x81\0\0\0\0a"[..], 4501),
        ("a close code that is not for the wire", &b"\x88\x82\0\0\0\0\x03\xed"[..], 4501),
    ] {
        let stream = TcpStream::connect(edge.handle.address()).await.unwrap();
        let mut client = Client::over(stream, edge.handle.address()).await;
        client.socket.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(client.receive().await, Received::Closed(code), "{what}");
    }
}

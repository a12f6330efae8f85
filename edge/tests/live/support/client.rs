//! A client of the public contract: HTTP for accounts, and a WebSocket.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An account.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) address: SocketAddr,
    pub(crate) id: String,
    pub(crate) token: String,
}

impl User {
    pub(crate) async fn register(address: SocketAddr, username: &str) -> Self {
        let body = json!({"username": username, "password": "correct horse", "display_name": username});
        let (status, answer) = http(address, "POST", "/v1/accounts", None, &body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        Self { address, id: text(&answer["user_id"]), token: text(&answer["token"]) }
    }

    /// A request with the user's token.
    pub(crate) async fn http(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        http(self.address, method, path, Some(&self.token), &body).await
    }

    /// The same account on another edge.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// A connection that has said hello and been welcomed.
    pub(crate) async fn connect(&self, device: &str) -> Client {
        self.resume(device, None).await
    }

    /// A connection that goes on after an offset.
    pub(crate) async fn resume(&self, device: &str, resume: Option<(&str, u64)>) -> Client {
        let mut client = Client::open(self.address).await;
        let mut hello = json!({"token": self.token, "device_id": device});
        if let Some((epoch, offset)) = resume {
            hello["resume"] = json!({"epoch": epoch, "offset": offset});
        }
        client.welcome = client.call("hello", hello).await["welcome"].clone();
        assert!(client.welcome.is_object(), "no welcome: {:?}", client.welcome);
        client
    }

    /// Makes a direct chat or a group. Returns its id.
    pub(crate) async fn conversation(&self, kind: &str, members: &[&User]) -> String {
        let members: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
        let body = json!({"kind": kind, "title": "Test", "member_ids": members});
        let (status, answer) = self.http("POST", "/v1/conversations", body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        text(&answer["conversation_id"])
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

/// A 64-bit number, which is a text in JSON.
pub(crate) fn number(value: &Value) -> u64 {
    text(value).parse().unwrap()
}

pub(crate) async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> (StatusCode, Value) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = request.header("content-type", "application/json").body(Full::new(bytes)).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    driver.await.unwrap().unwrap();
    (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

/// A WebSocket in JSON.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    pub(crate) welcome: Value,
    next_id: u32,
    /// What came while something else was waited for.
    waiting: VecDeque<Value>,
}

/// What a server's message is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Received {
    Frame(Value),
    Closed(u16),
    /// The connection ended without a close frame.
    Broken,
}

impl Client {
    /// A connection that has said nothing yet.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(stream, address).await
    }

    pub(crate) async fn over(stream: TcpStream, address: SocketAddr) -> Self {
        let request = format!("ws://{address}/v1/connect").into_client_request().unwrap();
        let (socket, _) = client_async(request, stream).await.unwrap();
        Self { socket, welcome: Value::Null, next_id: 1, waiting: VecDeque::new() }
    }

    /// Sends a command and does not wait. Returns its id.
    pub(crate) async fn tell(&mut self, command: &str, body: Value) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let mut frame = json!({"id": id});
        frame[command] = body;
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
        id
    }

    /// Sends a command and returns the reply.
    pub(crate) async fn call(&mut self, command: &str, body: Value) -> Value {
        let id = self.tell(command, body).await;
        self.reply(id).await
    }

    /// The reply to an earlier command.
    pub(crate) async fn reply(&mut self, id: u32) -> Value {
        self.until(|frame| frame["id"] == json!(id)).await
    }

    /// Sends a text message. Returns the id of the frame.
    pub(crate) async fn say(&mut self, conversation: &str, client_message_id: &str, what: &str) -> Value {
        let body = json!({"conversation_id": conversation, "client_message_id": client_message_id, "text": what});
        self.call("send", body).await
    }

    /// The next update, whatever it is.
    pub(crate) async fn update(&mut self) -> Value {
        self.until(|frame| frame["update"].is_object()).await["update"].clone()
    }

    /// The next update of a kind; others are passed over.
    pub(crate) async fn update_of(&mut self, kind: &str) -> Value {
        self.until(|frame| frame["update"][kind].is_object()).await["update"].clone()
    }

    /// The first frame, of those that came and those to come, that is wanted. The others stay.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.waiting.iter().position(&wanted) {
            return self.waiting.remove(place).unwrap();
        }
        loop {
            match self.receive().await {
                Received::Frame(frame) if wanted(&frame) => return frame,
                Received::Frame(frame) => self.waiting.push_back(frame),
                other => panic!("the connection ended: {other:?}; before that: {:?}", self.waiting),
            }
        }
    }

    /// The code that the connection is closed with; frames before it are passed over.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.receive().await {
                Received::Frame(frame) => self.waiting.push_back(frame),
                Received::Closed(code) => return code,
                Received::Broken => panic!("the connection broke; before that: {:?}", self.waiting),
            }
        }
    }

    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("nothing came for too long") {
                Some(Ok(Message::Text(text))) => return Received::Frame(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => return Received::Closed(frame.code.into()),
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Received::Broken,
                Some(Ok(_)) => {}
            }
        }
    }

    /// A goodbye.
    pub(crate) async fn leave(mut self) {
        self.socket.close(None).await.unwrap();
        while self.socket.next().await.is_some_and(|message| message.is_ok()) {}
    }
}

//! HTTP as bytes on a socket, so that a test can also say what no client library would.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A request to be sent.
pub(crate) struct Request {
    address: SocketAddr,
    head: String,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        Self { address, head, body: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").bytes(body.to_string().as_bytes())
    }

    pub(crate) fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        let length = body.len();
        self.header("content-length", &length.to_string())
    }

    /// A body as it stands on the wire, whatever the headers say.
    pub(crate) fn raw_body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// The status alone: of a connection that stays open after its answer.
    pub(crate) async fn status(self) -> u16 {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(format!("{}\r\n", self.head).as_bytes()).await.unwrap();
        let mut answer = [0; 16];
        socket.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(format!("{}\r\n", self.head).as_bytes()).await.unwrap();
        // A server may refuse a body that it was told the length of before it is all there.
        let _ = socket.write_all(&self.body).await;
        let mut answer = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match socket.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) if answer.is_empty() => panic!("no answer: {error}"),
                Err(_) => break,
            }
        }
        Answer::parse(&answer)
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer with a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { status, headers, body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of an error, which has the contract's shape.
    pub(crate) fn code(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        assert!(!error["message"].as_str().unwrap_or_default().is_empty(), "{body}");
        assert!(error["retryable"].is_boolean(), "{body}");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
        error["code"].as_str().unwrap_or_default().to_owned()
    }
}

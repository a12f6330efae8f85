//! TLS on the port, with a certificate made for the test.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring::default_provider, pki_types::ServerName,
};
use serde_json::{Value, json};
use tidings_edge::tls::TlsConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::support::{
    Backend, Edge, User,
    client::{PATIENCE, number},
};

/// An edge with TLS, one without beside it, and what a client of the first trusts.
struct Bench {
    secure: Edge,
    plain: Edge,
    roots: RootCertStore,
    _backend: Backend,
}

impl Bench {
    fn start(outgoing_queue_bytes_max: usize) -> Self {
        let backend = Backend::start();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (backend.folder.path().join("certificate.pem"), backend.folder.path().join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let secure = backend.edge(|config| {
            config.tls = TlsConfig { certificate: Some(certificate), key: Some(key) };
            config.outgoing_queue_bytes_max = outgoing_queue_bytes_max;
        });
        assert!(secure.handle.url().starts_with("https://"));
        let plain = backend.edge(|config| {
            config.user_sends_per_second = 0;
        });
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Self { secure, plain, roots, _backend: backend }
    }

    async fn dial(&self, version: &'static SupportedProtocolVersion) -> TlsStream<TcpStream> {
        self.over(TcpStream::connect(self.secure.handle.address()).await.unwrap(), version).await
    }

    async fn over(&self, stream: TcpStream, version: &'static SupportedProtocolVersion) -> TlsStream<TcpStream> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Says hello on a connection, after everything.
    async fn hello(
        &self,
        stream: TlsStream<TcpStream>,
        user: &User,
        resume: Value,
    ) -> WebSocketStream<TlsStream<TcpStream>> {
        let url = format!("wss://localhost:{}/v1/connect", self.secure.handle.address().port());
        let (mut socket, _) = client_async(url, stream).await.unwrap();
        let hello = json!({"id": 1, "hello": {"token": user.token, "device_id": "", "resume": resume}});
        socket.send(Message::text(hello.to_string())).await.unwrap();
        socket
    }
}

/// The next frame; `None`: closed with this code, or without one.
async fn frame(socket: &mut WebSocketStream<TlsStream<TcpStream>>) -> Result<Value, Option<u16>> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("nothing came for too long") {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(close))) => return Err(close.map(|close| close.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(None),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_and_websocket_go_over_both_versions() {
    let bench = Bench::start(64 * 1024 * 1024);
    let (ann, bob) = (bench.plain.user("ann").await, bench.plain.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut anns = ann.connect("phone").await;
    let epoch = anns.welcome["epoch"].clone();
    let text = "x".repeat(15_000);
    for n in 0..100 {
        assert!(anns.say(&chat, &format!("m{n}"), &text).await["sent"].is_object());
    }
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut http = bench.dial(version).await;
        assert_eq!(http.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        http.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        // The end is said by TLS, too: else this is an error.
        http.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");

        // Much more than the socket takes at once, and a client that begins to read late.
        let resume = json!({"epoch": epoch, "offset": "0"});
        let mut bobs = bench.hello(bench.dial(version).await, &bob, resume).await;
        let welcome = frame(&mut bobs).await.unwrap();
        let end = number(&welcome["welcome"]["offset"]);
        assert!(end > 100);
        for offset in 1..=end {
            let update = frame(&mut bobs).await.unwrap();
            assert_eq!(number(&update["update"]["offset"]), offset);
        }
        // Live, in both directions, and one after the other.
        for n in 0..50 {
            let send = json!({"conversation_id": chat, "client_message_id": format!("{version:?}{n}"), "text": text});
            bobs.send(Message::text(json!({"id": n + 2, "send": send}).to_string())).await.unwrap();
            loop {
                let reply = frame(&mut bobs).await.unwrap();
                if reply["id"] == json!(n + 2) {
                    assert!(reply["sent"].is_object(), "{reply}");
                    break;
                }
            }
        }
        bobs.close(None).await.unwrap();
        while frame(&mut bobs).await.is_ok() {}
    }
    assert_eq!(bench.secure.metric("tidings_edge_sessions"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_over_tls_is_closed_and_frees_everything() {
    let bench = Bench::start(256 * 1024);
    let (ann, bob) = (bench.plain.user("ann").await, bench.plain.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut anns = ann.connect("phone").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let stream = socket.connect(bench.secure.handle.address()).await.unwrap();
    let mut bobs = bench.hello(bench.over(stream, &rustls::version::TLS13).await, &bob, Value::Null).await;
    let mut after = number(&frame(&mut bobs).await.unwrap()["welcome"]["offset"]);
    let text = "x".repeat(15_000);
    let mut sent = 0;
    while bench.secure.metric(r#"tidings_edge_closes_total{code="slow_consumer"}"#) == 0.0 {
        anns.say(&chat, &format!("m{sent}"), &text).await;
        sent += 1;
        assert!(sent < 2_000, "it was never closed");
    }
    // Not read at all for as long as the server lingers, it is gone all the same.
    let gone = async {
        while bench.secure.metric("tidings_edge_connections") > 0.0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the connection goes");
    while let Ok(frame) = frame(&mut bobs).await {
        assert_eq!(number(&frame["update"]["offset"]), after + 1, "whole frames, in order");
        after += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_no_tls_or_nothing_is_sent_away() {
    let bench = Bench::start(1024 * 1024);
    let address = bench.secure.handle.address();
    let silent = TcpStream::connect(address).await.unwrap();
    for said in [&b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", &[0; 100]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An alert, or nothing; a reset is an end, too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
        assert!(!answer.starts_with(b"HTTP"), "no answer without TLS");
    }
    assert_eq!(bench.secure.metric(r#"tidings_edge_dropped_total{reason="tls_handshake_failed"}"#), 3.0);
    // Others are served meanwhile, and the silent one is not waited for for ever.
    let mut http = bench.dial(&rustls::version::TLS13).await;
    http.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    let mut silent = silent;
    assert_eq!(timeout(PATIENCE, silent.read(&mut [0; 8])).await.expect("it is sent away").unwrap_or(0), 0);
    assert_eq!(bench.secure.metric(r#"tidings_edge_dropped_total{reason="tls_handshake_timeout"}"#), 1.0);
}

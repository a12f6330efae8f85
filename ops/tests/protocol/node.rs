//! The node as its operators and its users' browsers see it.

use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tidings_ops::client::socket::Closed;
use tidings_schemas::{client::server_frame::Body, limits::ENTRIES_TAIL_MAX};

use super::harness::{Server, eventually, free_port, send};

async fn fetch(url: &str) -> (StatusCode, String, String) {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(Request::get(url).body(Full::default()).unwrap()).await.unwrap();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind.unwrap_or_default(), String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_taken_address_is_said_once_with_a_hint() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ended = tokio::process::Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(["up", "--listen", &taken.local_addr().unwrap().to_string(), "--set", "archive.enabled=false", "--data"])
        .arg(folder.path())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(!ended.status.success());
    assert_eq!(error.matches("ddress already in use").count(), 1, "{error}");
    assert!(error.ends_with("(is another server running there?)"), "{error}");
}

#[tokio::test]
async fn health_metrics_and_documents_are_served() {
    let server = Server::start().await;
    let ann = server.person("ann").await;
    let _open = ann.connect().await;
    let base = format!("http://{}", server.address().authority);
    for path in ["/livez", "/readyz"] {
        assert_eq!(fetch(&format!("{base}{path}")).await.0, StatusCode::OK, "{path}");
    }
    let (_, _, metrics) = fetch(&format!("{base}/metrics")).await;
    assert!(metrics.lines().any(|line| line.starts_with("tidings_edge_") && line.contains("sessions")), "{metrics}");
    assert!(!metrics.contains(&ann.user_id), "no ids in labels");
    let (_, _, document) = fetch(&format!("{base}/openapi.json")).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert!(document["paths"]["/v1/conversations/{conversation_id}/messages"]["post"].is_object(), "{document}");
    let (status, kind, _) = fetch(&format!("{base}/docs")).await;
    assert_eq!((status, kind.starts_with("text/html")), (StatusCode::OK, true));
}

#[tokio::test]
async fn before_an_edge_goes_away_it_says_so() {
    let mut server = Server::start().await;
    let ann = server.person("ann").await;
    let mut open = ann.connect().await;
    let ending = tokio::spawn(async move { server.terminate().await });
    loop {
        if let Some(Body::Goaway(goaway)) = open.next().await.body {
            assert!(goaway.reconnect_after_ms > 0);
            break;
        }
    }
    let closed = loop {
        if let Err(error) = open.socket.next().await {
            break error;
        }
    };
    assert_eq!(closed.downcast_ref::<Closed>().unwrap().code, 4000);
    assert!(ending.await.unwrap().success(), "a graceful end is a success");
}

#[tokio::test]
async fn old_history_and_sql_come_from_the_archive() {
    let port = free_port();
    let listen = format!("archive.http_listen=127.0.0.1:{port}");
    let server = Server::start_with(&[&listen, "edge.user_sends_per_second=0"]).await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut anns = ann.connect().await;
    // More than the views keep.
    let count = usize::try_from(ENTRIES_TAIL_MAX).unwrap() + 300;
    for number in 0..count {
        anns.tell(send(&chat, &format!("m{number}"), &number.to_string())).await;
    }
    for _ in 0..count {
        anns.message().await;
    }
    let sql = format!("http://127.0.0.1:{port}/?query=SELECT+count()+FROM+messages+WHERE+kind='text'");
    eventually("all are archived", || async { (fetch(&sql).await.2.trim() == count.to_string()).then_some(()) }).await;
    let page = bob.get(&format!("/v1/conversations/{chat}/messages?limit=100&before_seq=52")).await;
    let texts: Vec<String> =
        page["messages"].as_array().unwrap().iter().map(|m| m["text"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<String> = (0..50).rev().map(|n: u32| n.to_string()).chain([String::new()]).collect();
    assert_eq!(texts, expected, "everything down to the creation, which has no text");
}

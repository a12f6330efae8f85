//! What is not the API: the probes, the reference and the web client.

use serde_json::json;
use tidings_edge::http::HttpConfig;

use crate::node::{Node, Settings};

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer() {
    let node = Node::start().await;
    assert_eq!(node.request("GET", "/livez").send().await.body, "ok\n");
    let ready = node.request("GET", "/readyz").send().await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
    let metrics = node.request("GET", "/metrics").send().await;
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));

    let problem = Some("the log is full".to_owned());
    let node = Node::start_with(Settings { problem, ..Settings::default() }).await;
    let ready = node.request("GET", "/readyz").send().await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json(), json!({"ready": false, "checks": [{"name": "test", "problem": "the log is full"}]}));
    assert_eq!(node.request("GET", "/livez").send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_and_its_document_are_served() {
    let node = Node::start().await;
    let document = node.request("GET", "/openapi.json").send().await;
    assert_eq!(document.json()["openapi"], "3.1.0");
    let page = node.request("GET", "/docs").send().await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(
        node.request("GET", "/docs/style.css").send().await.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    // Every path of the document is served: without a token or a body it refuses, but it is there.
    for (path, methods) in document.json()["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{user_id}", "x").replace("{conversation_id}", "x").replace("{message_id}", "x");
            let answer = node.request(&method.to_uppercase(), &path).send().await;
            assert!([400, 401].contains(&answer.status), "{method} {path}: {}", answer.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_client_is_served_with_its_routes() {
    let node = Node::start().await;
    let missing = node.request("GET", "/").send().await;
    assert!(missing.body.contains("npm run build"), "it says how to build it");

    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("assets")).unwrap();
    std::fs::write(folder.path().join("index.html"), "<!doctype html>chat").unwrap();
    std::fs::write(folder.path().join("assets/app-1.js"), "run()").unwrap();
    let http = HttpConfig { web_directory: Some(folder.path().to_owned()), ..HttpConfig::default() };
    let node = Node::start_with(Settings { http, ..Settings::default() }).await;
    for path in ["/", "/index.html", "/chats/7", "/?x=1"] {
        let page = node.request("GET", path).send().await;
        assert_eq!((page.status, page.body.as_str()), (200, "<!doctype html>chat"), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        assert!(page.header("content-security-policy").is_some());
    }
    let script = node.request("GET", "/assets/app-1.js").send().await;
    assert_eq!(script.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let head = node.request("HEAD", "/assets/app-1.js").send().await;
    assert_eq!((head.status, head.body.as_str(), head.header("content-length")), (200, "", Some("5")));
    assert_eq!(node.request("GET", "/assets/app-0.js").send().await.status, 404);
}

//! Every bad request gets its code, in the contract's shape.

use serde_json::json;
use tidings_edge::{config::Config, http::HttpConfig};

use crate::node::{Node, Settings};

const NOBODY: &str = "0b5e7a44-9c3d-4f0e-8a51-2f6d1c9be7a3";

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_good_token_are_401() {
    let node = Node::start().await;
    let ann = node.user("ann").await;
    let mut parts: Vec<&str> = ann.token.split('.').collect();
    parts[2] = "AAAA";
    let forged = parts.join(".");
    let conversation = format!("/v1/conversations/{NOBODY}");
    for (method, path) in [
        ("GET", "/v1/conversations"),
        ("POST", "/v1/conversations"),
        ("GET", "/v1/users?username=ann"),
        ("GET", &format!("/v1/users/{NOBODY}/presence")),
        ("PATCH", &conversation),
        ("DELETE", &format!("{conversation}/members/{NOBODY}")),
        ("POST", &format!("{conversation}/messages")),
        ("GET", "/v1/updates"),
    ] {
        for token in [None, Some(""), Some("x"), Some("a.b.c"), Some(forged.as_str()), Some(&"x".repeat(10_000))] {
            let request = node.request(method, path);
            let request = match token {
                Some(token) => request.token(token),
                None => request,
            };
            let answer = request.send().await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"), "{method} {path} {token:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_and_queries_get_their_code() {
    let node = Node::start().await;
    let ann = node.user("ann").await;
    let group = node.group(&ann, &[]).await;
    let (conversations, messages) = ("/v1/conversations", format!("/v1/conversations/{group}/messages"));
    let send = |fields: serde_json::Value| {
        let mut body = json!({"client_message_id": "one", "text": "hello"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body.to_string()
    };
    let long_text = send(json!({"text": "x".repeat(16 * 1024 + 1)}));
    let huge = format!("{{\"title\": \"{}\"}}", "x".repeat(300 * 1024));
    let deep = "[".repeat(10_000);
    let (long_title, many_ids) = (json!({"title": "x".repeat(129)}).to_string(), [NOBODY; 11].join("\",\""));
    let attachments = send(json!({"attachments": vec![json!({"media_id": "m"}); 11]}));
    let table: &[(&str, &str, &[u8], u16, &str)] = &[
        ("POST", conversations, b"", 400, "invalid_argument"),
        ("POST", conversations, b"{", 400, "invalid_argument"),
        ("POST", conversations, b"null", 400, "invalid_argument"),
        ("POST", conversations, b"[]", 400, "invalid_argument"),
        ("POST", conversations, b"\"text\"", 400, "invalid_argument"),
        ("POST", conversations, b"{\"kind\": \"group\", \"title\": \"\xff\xfe\"}", 400, "invalid_argument"),
        ("POST", conversations, b"{\"kind\": \"channel\"}", 400, "invalid_argument"),
        ("POST", conversations, b"{\"kind\": \"unspecified\"}", 400, "invalid_argument"),
        ("POST", conversations, b"{\"kind\": 17}", 400, "invalid_argument"),
        ("POST", conversations, b"{\"kind\": \"direct\", \"member_ids\": []}", 400, "invalid_argument"),
        ("POST", conversations, b"{\"kind\": \"direct\", \"member_ids\": [\"x\"]}", 404, "not_found"),
        ("POST", conversations, b"{\"kind\": \"direct\", \"member_ids\": [1]}", 400, "invalid_argument"),
        ("POST", conversations, b"{\"kind\": \"group\", \"member_ids\": \"x\"}", 400, "invalid_argument"),
        ("POST", conversations, deep.as_bytes(), 400, "invalid_argument"),
        ("POST", conversations, huge.as_bytes(), 413, "too_large"),
        ("PATCH", &format!("{conversations}/{group}"), long_title.as_bytes(), 400, "invalid_argument"),
        ("PATCH", &format!("{conversations}/{group}"), b"{\"title\": 7}", 400, "invalid_argument"),
        (
            "PUT",
            &format!("{conversations}/{group}/members/{}", ann.id),
            b"{\"role\": \"king\"}",
            400,
            "invalid_argument",
        ),
        ("PUT", &format!("{conversations}/{group}/members/{NOBODY}"), b"{}", 404, "not_found"),
        ("POST", &messages, b"{}", 400, "invalid_argument"),
        ("POST", &messages, b"{\"client_message_id\": \"one\"}", 400, "invalid_argument"),
        ("POST", &messages, b"{\"text\": \"hello\"}", 400, "invalid_argument"),
        ("POST", &messages, long_text.as_bytes(), 413, "too_large"),
        ("POST", &messages, attachments.as_bytes(), 400, "invalid_argument"),
        (
            "POST",
            &messages,
            b"{\"client_message_id\":\"a\",\"encrypted\":{\"ciphertext\":\"?\"}}",
            400,
            "invalid_argument",
        ),
        ("PATCH", &format!("{messages}/{NOBODY}"), b"{\"text\": \"x\"}", 404, "not_found"),
        ("DELETE", &format!("{messages}/{NOBODY}"), b"", 404, "not_found"),
        ("GET", &format!("{conversations}?limit=x"), b"", 400, "invalid_argument"),
        ("GET", &format!("{conversations}?limit=0"), b"", 400, "invalid_argument"),
        ("GET", &format!("{conversations}?limit=-1"), b"", 400, "invalid_argument"),
        ("GET", &format!("{conversations}?limit=1&limit=2"), b"", 400, "invalid_argument"),
        ("GET", &format!("{conversations}?page_token=x"), b"", 400, "invalid_argument"),
        ("GET", &format!("{messages}?before_seq=1&after_seq=2"), b"", 400, "invalid_argument"),
        ("GET", &format!("{messages}?before_seq=99999999999999999999"), b"", 400, "invalid_argument"),
        ("GET", &format!("{messages}?page_token=%ff"), b"", 400, "invalid_argument"),
        ("GET", "/v1/updates?after_offset=x", b"", 400, "invalid_argument"),
        ("GET", &format!("{conversations}/{NOBODY}"), b"", 404, "not_found"),
        ("GET", &format!("{conversations}/nonsense"), b"", 404, "not_found"),
        ("GET", &format!("{conversations}/%ff%fe"), b"", 400, "invalid_argument"),
        ("GET", &format!("{conversations}/{many_ids}").replace('"', "x"), b"", 400, "invalid_argument"),
    ];
    for (method, path, body, status, code) in table {
        let request = node.request(method, path).token(&ann.token).header("content-type", "application/json");
        let answer = if body.is_empty() { request } else { request.bytes(body) }.send().await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{method} {path} {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_is_415_and_a_lie_about_the_length_is_refused() {
    let node = Node::start().await;
    let body = b"{\"username\": \"ann\", \"password\": \"password\"}";
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "\"\""] {
        let answer = node.request("POST", "/v1/accounts").header("content-type", kind).bytes(body).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{kind}");
    }
    let announced = node.request("POST", "/v1/accounts").header("content-length", "999999999").send().await;
    assert_eq!((announced.status, announced.code().as_str()), (413, "too_large"));
    let chunks = format!("40000\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(0x40000));
    let mut request = node.request("POST", "/v1/accounts").header("transfer-encoding", "chunked");
    request = request.raw_body(chunks.as_bytes());
    let chunked = request.send().await;
    assert_eq!((chunked.status, chunked.code().as_str()), (413, "too_large"));
    // Left out altogether, it is taken to be JSON; and fields of a later version are ignored.
    let body = b"{\"username\": \"ann\", \"password\": \"password\", \"pronouns\": {\"a\": [1]}}";
    assert_eq!(node.request("POST", "/v1/accounts").bytes(body).send().await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_are_not_there_say_so() {
    let node = Node::start().await;
    let ann = node.user("ann").await;
    for (method, path, status, code) in [
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/nothing", 404, "not_found"),
        ("GET", "/nothing.txt", 404, "not_found"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd.txt", 404, "not_found"),
        ("PUT", "/v1/conversations", 405, "invalid_argument"),
        ("DELETE", "/v1/accounts", 405, "invalid_argument"),
        ("PURGE", "/v1/accounts", 405, "invalid_argument"),
        ("POST", "/livez", 405, "invalid_argument"),
    ] {
        let answer = node.request(method, path).token(&ann.token).send().await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_told_when_to_come_back() {
    let edge = Config {
        address_requests_per_second: 1,
        address_requests_burst: 3,
        limit_loopback: true,
        user_sends_per_second: 1,
        user_sends_burst: 2,
        ..Config::default()
    };
    let node = Node::start_with(Settings { edge, ..Settings::default() }).await;
    let ann = node.user("ann").await;
    let pair = json!({"username": "ann", "password": "wrong password"});
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(node.request("POST", "/v1/tokens").json(&pair).send().await);
    }
    let limited = answers.iter().find(|answer| answer.status == 429).expect("the address is limited");
    assert_eq!(limited.code(), "rate_limited");
    assert_eq!(limited.header("retry-after"), Some("1"));
    let error = &limited.json()["error"];
    assert!(error["retry_after_ms"].as_u64().is_some_and(|millis| (1..=1_000).contains(&millis)), "{error}");
    assert_eq!(error["retryable"], true);

    // A user's own limit is another: the group takes one, the first message the second.
    let group = node.group(&ann, &[]).await;
    let path = format!("/v1/conversations/{group}/messages");
    let mut codes = Vec::new();
    for number in 0..3 {
        let body = json!({"client_message_id": number.to_string(), "text": "x"});
        codes.push(node.call(&ann, "POST", &path, body).await.status);
    }
    assert!(codes.contains(&429), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_origins_may_call_only_where_allowed() {
    let http = HttpConfig { allowed_origins: vec!["https://app.example".to_owned()], ..HttpConfig::default() };
    let node = Node::start_with(Settings { http, ..Settings::default() }).await;
    let preflight = |origin: &str| {
        let request = node.request("OPTIONS", "/v1/conversations").header("origin", origin);
        request.header("access-control-request-method", "POST").send()
    };
    let allowed = preflight("https://app.example").await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example"));
    assert!(allowed.header("access-control-allow-headers").is_some_and(|names| names.contains("authorization")));
    let evil = preflight("https://evil.example").await;
    assert_eq!((evil.status, evil.code().as_str()), (403, "permission_denied"));
    assert_eq!(evil.header("access-control-allow-origin"), None);
    let answer = node.request("GET", "/v1/conversations").header("origin", "https://app.example").send().await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"), "errors can be read, too");
    assert_eq!(answer.header("vary"), Some("origin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_gets_nowhere_and_the_own_one_and_programs_do() {
    let node = Node::start().await;
    let ann = node.user("ann").await;
    let own = format!("http://{}", node.address);
    let handshake = |origin: Option<&str>| {
        let request = node.request("GET", "/v1/connect").header("upgrade", "websocket").header("connection", "upgrade");
        let request = request.header("sec-websocket-version", "13");
        let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        }
    };
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1"] {
        let read = node.request("GET", "/v1/conversations").token(&ann.token).header("origin", origin).send().await;
        assert_eq!((read.status, read.code().as_str()), (403, "permission_denied"), "{origin}");
        let opened = handshake(Some(origin)).send().await;
        assert_eq!((opened.status, opened.code().as_str()), (403, "permission_denied"), "{origin}");
    }
    let read = node.request("GET", "/v1/conversations").token(&ann.token).header("origin", &own).send().await;
    assert_eq!(read.status, 200, "{}", read.body);
    for origin in [Some(own.as_str()), None] {
        assert_eq!(handshake(origin).status().await, 101, "{origin:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit() {
    for (trusted, limited) in [(vec!["127.0.0.0/8"], false), (vec![], true), (vec!["10.0.0.0/8"], true)] {
        let edge = Config {
            address_requests_per_second: 1,
            address_requests_burst: 3,
            limit_loopback: true,
            trusted_proxies: trusted.iter().map(|network| network.parse().unwrap()).collect(),
            ..Config::default()
        };
        let node = Node::start_with(Settings { edge, ..Settings::default() }).await;
        let pair = json!({"username": "ann", "password": "wrong password"});
        let mut codes = Vec::new();
        for number in 0..8 {
            let client = format!("6.6.6.6, 198.51.100.{number}");
            let request = node.request("POST", "/v1/tokens").header("x-forwarded-for", &client);
            codes.push(request.json(&pair).send().await.status);
        }
        assert_eq!(codes.contains(&429), limited, "{trusted:?}: {codes:?}");
        // One client behind the proxy is limited all the same.
        let mut codes = Vec::new();
        for _ in 0..8 {
            let request = node.request("POST", "/v1/tokens").header("x-forwarded-for", "198.51.100.200");
            codes.push(request.json(&pair).send().await.status);
        }
        assert!(codes.contains(&429), "{trusted:?}: {codes:?}");
    }
}

//! Limits, and what happens at each.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use socket2::SockRef;
use tidings_schemas::topics::Topic;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Backend, Client,
    client::{PATIENCE, Received, number},
};

/// A connection whose socket holds little, and whose client reads nothing until it is told to.
async fn slow_client(user: &crate::support::User) -> Client {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let stream = socket.connect(user.address).await.unwrap();
    let mut client = Client::over(stream, user.address).await;
    let welcome = client.call("hello", json!({"token": user.token, "device_id": "slow"})).await;
    client.welcome = welcome["welcome"].clone();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_has_spent_at_one_edge_is_spent_at_all() {
    let backend = Backend::start();
    let change = |config: &mut tidings_edge::Config| {
        config.user_sends_per_second = 1;
        config.user_sends_burst = 20;
    };
    let (here, there) = (backend.edge(change), backend.edge(change));
    let (ann, bob) = (here.user("ann").await, here.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut anns = ann.connect("phone").await;
    let mut sent = 0;
    while anns.say(&chat, &format!("h{sent}"), "again").await["error"]["code"] != "rate_limited" {
        sent += 1;
        assert!(sent <= 25, "there is no limit");
    }
    let heard = async {
        while there.metric("tidings_edge_spent_elsewhere_total") < f64::from(sent) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, heard).await.expect("the other edge is not told");
    let mut anns = ann.at(there.handle.address()).connect("tablet").await;
    let mut refused = 0;
    for number in 0..10 {
        let answer = anns.say(&chat, &format!("t{number}"), "and again").await;
        refused += u32::from(answer["error"]["code"] == "rate_limited");
    }
    assert!(refused >= 5, "only {refused} of 10 were refused, of a burst of 20 that was spent");
    let answer = bob.at(there.handle.address()).connect("phone").await.say(&chat, "b", "calm").await;
    assert!(answer["sent"].is_object(), "who has spent little is let in: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_is_closed_and_loses_nothing() {
    let backend = Backend::start();
    let edge = backend.edge(|config| {
        config.outgoing_queue_bytes_max = 256 * 1024;
        config.user_sends_per_second = 0;
    });
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut bobs = slow_client(&bob).await;
    let (epoch, begin) = (bobs.welcome["epoch"].as_str().unwrap().to_owned(), number(&bobs.welcome["offset"]));
    let mut anns = ann.connect("phone").await;
    let text = "x".repeat(15_000);
    let mut sent = 0;
    while edge.metric(r#"tidings_edge_closes_total{code="slow_consumer"}"#) == 0.0 {
        anns.say(&chat, &format!("m{sent}"), &text).await;
        sent += 1;
        assert!(sent < 2_000, "it was never closed");
    }
    // Ann has had her replies all the time. Bob reads on: whole frames, contiguous offsets, then the code (or, as he did
    // not take what was in the sockets in time, the end of the connection).
    let mut after = begin;
    loop {
        match bobs.receive().await {
            Received::Frame(frame) => {
                assert_eq!(number(&frame["update"]["offset"]), after + 1);
                after += 1;
            }
            Received::Closed(code) => {
                assert_eq!(code, 4001);
                break;
            }
            Received::Broken => break,
        }
    }
    let mut bobs = bob.resume("slow", Some((&epoch, after))).await;
    let mut texts = 0;
    while after < begin + sent {
        let update = bobs.update().await;
        assert_eq!(number(&update["offset"]), after + 1);
        after += 1;
        texts += 1;
    }
    assert!(texts > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_the_queues_is_shown() {
    let backend = Backend::start();
    let edge = backend.edge(|config| {
        // More than can be sent between two sums.
        config.outgoing_queue_bytes_max = 256 * 1024 * 1024;
        config.user_sends_per_second = 0;
    });
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut bobs = slow_client(&bob).await;
    let mut anns = ann.connect("phone").await;
    let text = "x".repeat(15_000);
    let mut sent = 0;
    while edge.metric("tidings_edge_outgoing_queue_bytes") == 0.0 {
        anns.say(&chat, &format!("m{sent}"), &text).await;
        sent += 1;
        assert!(sent < 20_000, "nothing waits");
    }
    for _ in 0..sent {
        bobs.update().await;
    }
    let empty = async {
        while edge.metric("tidings_edge_outgoing_queue_bytes") > 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_no_pings_is_closed() {
    let backend = Backend::start();
    let edge = backend.edge(|config| config.ping_interval_ms = 100);
    let ann = edge.user("ann").await;
    let mut client = ann.connect("phone").await;
    // Nothing is read, so nothing is answered.
    let closed = async {
        while edge.metric(r#"tidings_edge_closes_total{code="ping_timeout"}"#) == 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    assert_eq!(client.closed().await, 4002);
    // One that reads answers by itself.
    let mut client = ann.connect("phone").await;
    for _ in 0..5 {
        let message = tokio::time::timeout(PATIENCE, client.socket.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(message, Message::Ping(_)), "{message:?}");
        client.socket.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_sends_are_told_when_to_come_back() {
    let backend = Backend::start();
    let edge = backend.edge(|config| {
        config.user_sends_per_second = 10;
        config.user_sends_burst = 5;
    });
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = bob.conversation("direct", &[&ann]).await;
    let mut anns = ann.connect("phone").await;
    let mut limited = 0;
    let mut wait = 0;
    for n in 0..10 {
        let reply = anns.say(&chat, &format!("m{n}"), "quick").await;
        if reply["error"]["code"] == json!("rate_limited") {
            limited += 1;
            wait = reply["error"]["retry_after_ms"].as_u64().unwrap();
            assert_eq!(reply["error"]["retryable"], json!(true));
        }
    }
    assert!(limited > 0);
    assert!((1..=1_000).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert!(anns.say(&chat, "later", "slow").await["sent"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_sent_away_and_comes_back() {
    let backend = Backend::start();
    let edge = backend.edge(|config| config.connections_max = 2);
    let ann = edge.user("ann").await;
    let one = ann.connect("one").await;
    let _two = ann.connect("two").await;
    let mut three = Client::open(ann.address).await;
    assert_eq!(three.closed().await, 4003);
    drop(three);
    one.leave().await;
    while edge.metric("tidings_edge_connections") > 1.0 {
        tokio::task::yield_now().await;
    }
    assert!(ann.connect("three").await.welcome.is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_of_one_address_are_limited() {
    let backend = Backend::start();
    let edge = backend.edge(|config| {
        config.limit_loopback = true;
        config.address_requests_per_second = 1;
        config.address_requests_burst = 4;
    });
    let mut refused = 0;
    for _ in 0..10 {
        let stream = TcpStream::connect(edge.handle.address()).await.unwrap();
        let url = format!("ws://{}/v1/connect", edge.handle.address());
        match tokio_tungstenite::client_async(url, stream).await {
            Ok(_) => {}
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!(response.status().as_u16(), 429);
                assert!(response.headers().contains_key("retry-after"));
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused >= 5, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_back_takes_its_place() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let ann = edge.user("ann").await;
    let mut old = ann.connect("phone").await;
    let mut other = ann.connect("laptop").await;
    let _new = ann.connect("phone").await;
    assert_eq!(old.closed().await, 4503);
    assert!(other.call("watch_presence", json!({"user_ids": []})).await["ok"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_reset_in_the_middle_frees_everything() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let ann = edge.user("ann").await;
    for _ in 0..50 {
        let client = ann.connect("phone").await;
        let stream = client.socket.into_inner();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
    }
    let gone = async {
        while edge.metric("tidings_edge_connections") > 0.0 || edge.metric("tidings_edge_sessions") > 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_and_its_connection_with_it() {
    let backend = Backend::start();
    let edge = backend.edge_with(|_| {}, |auth| auth.token_lifetime_seconds = 2);
    let ann = edge.user("ann").await;
    let mut client = ann.connect("phone").await;
    assert_eq!(client.closed().await, 4502);
    let mut late = Client::open(ann.address).await;
    let reply = late.call("hello", json!({"token": ann.token, "device_id": "phone"})).await;
    assert_eq!(reply["error"]["code"], json!("unauthenticated"));
    assert_eq!(late.closed().await, 4502);
}

/// A stage that is down for a while: what is sent meanwhile is durable, and its place follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_verdict_a_send_is_queued_and_the_verdict_follows() {
    let mut backend = Backend::start();
    let edge = backend.edge(|config| config.verdict_timeout_ms = 200);
    let (ann, bob, eve) = (edge.user("ann").await, edge.user("bob").await, edge.user("eve").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let (mut anns, mut eves) = (ann.connect("phone").await, eve.connect("phone").await);
    backend.stop_stages().await;
    let queued = anns.say(&chat, "m1", "anybody there?").await;
    let message_id = queued["queued"]["message_id"].clone();
    assert!(message_id.is_string(), "{queued}");
    assert!(eves.say(&chat, "e1", "let me in").await["queued"].is_object());
    let edit = anns.call("edit_message", json!({"conversation_id": chat, "message_id": message_id, "text": "x"})).await;
    assert_eq!(edit["error"]["code"], json!("not_found"), "{edit}");

    backend.start_stages();
    let update = anns.until(|frame| frame["update"]["message"]["client_message_id"] == json!("m1")).await;
    assert_eq!(update["update"]["message"]["message_id"], message_id);
    let rejected = eves.until(|frame| frame["rejected"].is_object()).await["rejected"].clone();
    assert_eq!((&rejected["client_message_id"], &rejected["error"]["code"]), (&json!("e1"), &json!("not_a_member")));
    let again = anns.say(&chat, "m1", "anybody there?").await;
    assert_eq!(again["sent"]["message"]["message_id"], message_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_receipts_is_a_few_records() {
    let backend = Backend::start();
    let edge = backend.edge(|config| config.receipt_interval_ms = 100);
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let (mut anns, mut bobs) = (ann.connect("phone").await, bob.connect("phone").await);
    for n in 0..20 {
        anns.say(&chat, &format!("m{n}"), "read").await;
    }
    // Now he is known to be a member, and what follows is only receipts.
    bobs.call("receipt", json!({"conversation_id": chat, "delivered_seq": 1})).await;
    let before = backend.records(Topic::Events);
    let mut ids = Vec::new();
    for n in 0..200 {
        ids.push(bobs.tell("receipt", json!({"conversation_id": chat, "seen_seq": n / 10 + 1})).await);
    }
    for id in ids {
        assert!(bobs.reply(id).await["ok"].is_object());
    }
    let records = backend.records(Topic::Events) - before;
    assert!((1..=10).contains(&records), "{records} records");
    anns.until(|frame| frame["update"]["receipt"]["seen_seq"] == json!("20")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_one_conversation_are_spaced_and_the_first_goes_at_once() {
    let backend = Backend::start();
    let edge = backend.edge(|config| config.receipt_interval_ms = 400);
    let (ann, bob, cid) = (edge.user("ann").await, edge.user("bob").await, edge.user("cid").await);
    let (with_bob, with_cid) = (ann.conversation("direct", &[&bob]).await, ann.conversation("direct", &[&cid]).await);
    let mut anns = ann.connect("phone").await;
    let receipt = |chat: &str| json!({"conversation_id": chat, "seen_seq": 1});
    let begin = Instant::now();
    anns.call("receipt", receipt(&with_bob)).await;
    anns.call("receipt", receipt(&with_cid)).await;
    let first_two = begin.elapsed();
    anns.call("receipt", receipt(&with_bob)).await;
    anns.call("receipt", receipt(&with_bob)).await;
    // Each of these waited for the end of an interval; the first two did not.
    assert!(begin.elapsed() >= Duration::from_millis(700), "{:?}", begin.elapsed());
    assert!(first_two < begin.elapsed() - Duration::from_millis(300), "{first_two:?}");
}

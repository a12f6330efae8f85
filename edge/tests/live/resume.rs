//! The update stream: every update once, in order, whatever happens to connections and edges.

use serde_json::{Value, json};

use crate::support::{
    Backend, Client,
    client::{Received, number},
};

/// Collects updates until one says this text; checks that offsets are contiguous from `after` on.
async fn texts_until(client: &mut Client, mut after: u64, last: &str) -> (Vec<String>, u64) {
    let mut texts = Vec::new();
    loop {
        let update = client.update().await;
        assert_eq!(number(&update["offset"]), after + 1, "{update}");
        after += 1;
        if let Some(text) = update["message"]["text"].as_str().filter(|text| !text.is_empty()) {
            texts.push(text.to_owned());
            if text == last {
                return (texts, after);
            }
        }
    }
}

fn epoch(client: &Client) -> String {
    client.welcome["epoch"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_gets_what_it_missed_and_then_what_is_new() {
    let backend = Backend::start();
    let edge = backend.edge(|config| config.user_sends_per_second = 0);
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let bobs = bob.connect("phone").await;
    let begin = number(&bobs.welcome["offset"]);
    let epoch = epoch(&bobs);
    bobs.leave().await;
    let mut anns = ann.connect("phone").await;
    for n in 0..300 {
        anns.say(&chat, &format!("m{n}"), &format!("text {n}")).await;
    }
    let mut bobs = bob.resume("phone", Some((&epoch, begin))).await;
    assert_eq!(bobs.welcome["resync_required"], json!(false));
    let (texts, at) = texts_until(&mut bobs, begin, "text 299").await;
    assert_eq!(texts, (0..300).map(|n| format!("text {n}")).collect::<Vec<_>>());
    anns.say(&chat, "live", "live").await;
    let (texts, _) = texts_until(&mut bobs, at, "live").await;
    assert_eq!(texts, ["live"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_edges_while_messages_come() {
    let backend = Backend::start();
    let first = backend.edge(|config| config.user_sends_per_second = 0);
    let second = backend.edge(|config| config.user_sends_per_second = 0);
    let (ann, bob) = (first.user("ann").await, first.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut client = bob.connect("phone").await;
    let (epoch, mut offset) = (epoch(&client), number(&client.welcome["offset"]));
    let mut anns = ann.at(second.handle.address()).connect("phone").await;
    let sends = tokio::spawn(async move {
        for n in 0..400 {
            anns.say(&chat, &format!("m{n}"), &format!("{n}")).await;
        }
    });
    // The device goes from edge to edge, with and without a goodbye, in the middle of it.
    let mut texts: Vec<String> = Vec::new();
    let mut hops = 0;
    while texts.last().is_none_or(|last| last != "399") {
        let update = client.update().await;
        assert_eq!(number(&update["offset"]), offset + 1);
        offset += 1;
        texts.extend(update["message"]["text"].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
        if offset % 40 == 0 && texts.last().is_none_or(|last| last != "399") {
            hops += 1;
            if hops % 2 == 0 {
                client.leave().await;
            }
            let edge = if hops % 3 == 0 { &first } else { &second };
            client = bob.at(edge.handle.address()).resume("phone", Some((&epoch, offset))).await;
        }
    }
    sends.await.unwrap();
    assert_eq!(texts, (0..400).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(hops > 5, "{hops}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_this_one_must_be_read_anew() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut anns = ann.connect("phone").await;
    anns.say(&chat, "m1", "one").await;
    anns.update_of("message").await;
    let epoch = epoch(&anns);
    for resume in [("0123456789abcdef", 0), ("", 1), (epoch.as_str(), 1_000_000)] {
        let mut bobs = bob.resume("phone", Some(resume)).await;
        assert_eq!(bobs.welcome["resync_required"], json!(true), "{resume:?}");
        let offset = number(&bobs.welcome["offset"]);
        anns.say(&chat, &format!("m{offset}"), "news").await;
        let update = bobs.update().await;
        assert_eq!(number(&update["offset"]), offset + 1);
        bobs.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_one_user_have_one_stream() {
    let backend = Backend::start();
    let edge = backend.edge(|_| {});
    let (ann, bob) = (edge.user("ann").await, edge.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut devices = vec![bob.connect("one").await, bob.connect("two").await, bob.connect("three").await];
    let mut anns = ann.connect("phone").await;
    for n in 0..20 {
        anns.say(&chat, &format!("m{n}"), &format!("{n}")).await;
    }
    let mut streams: Vec<Vec<Value>> = Vec::new();
    for device in &mut devices {
        let mut updates = Vec::new();
        while updates.last().is_none_or(|update: &Value| update["message"]["text"] != json!("19")) {
            updates.push(device.update().await);
        }
        streams.push(updates);
    }
    // Each began at its own moment; what they have in common is the same.
    let common = streams.iter().map(Vec::len).min().unwrap();
    assert!(common >= 20);
    for stream in &streams[1..] {
        assert_eq!(stream[stream.len() - common..], streams[0][streams[0].len() - common..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_drains_says_goodbye_and_loses_nothing() {
    let backend = Backend::start();
    let first = backend.edge(|config| config.drain_delay_ms = 50);
    let second = backend.edge(|_| ());
    let (ann, bob) = (first.user("ann").await, first.user("bob").await);
    let chat = ann.conversation("direct", &[&bob]).await;
    let mut bobs = bob.connect("phone").await;
    let (epoch, offset) = (epoch(&bobs), number(&bobs.welcome["offset"]));
    let address = first.handle.address();
    let drained = tokio::spawn(first.handle.shutdown());
    let goaway = bobs.until(|frame| frame["goaway"].is_object()).await;
    assert!(goaway["goaway"]["reconnect_after_ms"].as_u64().unwrap() > 0);
    assert_eq!(bobs.receive().await, Received::Closed(4000));
    drained.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "it still listens");

    let mut anns = ann.at(second.handle.address()).connect("phone").await;
    anns.say(&chat, "m1", "still there?").await;
    let mut bobs = bob.at(second.handle.address()).resume("phone", Some((&epoch, offset))).await;
    let (texts, _) = texts_until(&mut bobs, offset, "still there?").await;
    assert_eq!(texts, ["still there?"]);
}

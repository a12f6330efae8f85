//! Messages, and the update stream that they make.

use serde_json::{Value, json};

use crate::node::Node;

fn seqs(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().unwrap();
    messages.iter().map(|message| message["seq"].as_str().unwrap().parse().unwrap()).collect()
}

/// What the updates are.
fn kinds(stream: &Value) -> Vec<String> {
    let updates = stream["updates"].as_array().unwrap().iter();
    updates.map(|update| update.as_object().unwrap().keys().find(|key| *key != "offset").unwrap().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_yields_the_same_message() {
    let node = Node::start().await;
    let ann = node.user("ann").await;
    let group = node.group(&ann, &[]).await;
    let path = format!("/v1/conversations/{group}/messages");
    let first = node.send(&ann, &group, "the same", "hello").await;
    assert_eq!((first["seq"].as_str(), first["kind"].as_str()), (Some("2"), Some("text")));
    let body = json!({"client_message_id": "the same", "text": "something else", "conversation_id": "ignored"});
    let repeat = node.call(&ann, "POST", &path, body).await;
    assert_eq!((repeat.status, repeat.json()), (200, first.clone()));
    assert_eq!(seqs(&node.get(&ann, &path).await.json()), [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_pages_in_both_directions() {
    let node = Node::start().await;
    let ann = node.user("ann").await;
    let group = node.group(&ann, &[]).await;
    for number in 0..9 {
        node.send(&ann, &group, &number.to_string(), "hello").await;
    }
    let path = format!("/v1/conversations/{group}/messages");
    let page = async |query: &str| node.get(&ann, &format!("{path}?{query}")).await.json();

    let newest = page("limit=4").await;
    assert_eq!(seqs(&newest), [10, 9, 8, 7]);
    let token = newest["next_page_token"].as_str().unwrap().to_owned();
    assert_eq!(seqs(&page(&format!("limit=4&page_token={token}")).await), [6, 5, 4, 3]);
    let last = page("limit=4&before_seq=3").await;
    assert_eq!((seqs(&last), last["next_page_token"].as_str()), (vec![2, 1], Some("")));

    let oldest = page("limit=4&after_seq=0").await;
    assert_eq!(seqs(&oldest), [1, 2, 3, 4]);
    let token = oldest["next_page_token"].as_str().unwrap().to_owned();
    assert_eq!(seqs(&page(&format!("limit=4&page_token={token}")).await), [5, 6, 7, 8]);
    let last = page("limit=4&after_seq=8").await;
    assert_eq!((seqs(&last), last["next_page_token"].as_str()), (vec![9, 10], Some("")));
    let exact = page("limit=2&after_seq=8").await;
    assert_eq!((seqs(&exact), exact["next_page_token"].as_str()), (vec![9, 10], Some("")));
    for beyond in ["after_seq=10", "after_seq=18446744073709551615", "before_seq=1", "before_seq=0"] {
        assert_eq!(seqs(&page(beyond).await), [] as [u64; 0], "{beyond}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_sees_what_was_said_while_a_member() {
    let node = Node::start().await;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let group = node.group(&ann, &[]).await;
    let path = format!("/v1/conversations/{group}/messages");
    let member = format!("/v1/conversations/{group}/members/{}", bob.id);
    let put = || node.request("PUT", &member).token(&ann.token).send();
    let delete = || node.request("DELETE", &member).token(&ann.token).send();
    node.send(&ann, &group, "2", "before").await;
    assert_eq!(put().await.status, 200);
    node.send(&ann, &group, "4", "during the first stay").await;
    assert_eq!(delete().await.status, 200);
    node.send(&ann, &group, "6", "in between").await;
    assert_eq!(put().await.status, 200);
    node.send(&ann, &group, "8", "during the second stay").await;

    assert_eq!(seqs(&node.get(&bob, &path).await.json()), [8, 7, 5, 4, 3]);
    assert_eq!(seqs(&node.get(&bob, &format!("{path}?after_seq=0")).await.json()), [3, 4, 5, 7, 8]);
    let first = node.get(&bob, &format!("{path}?after_seq=0&limit=3")).await.json();
    assert_eq!(seqs(&first), [3, 4, 5]);
    let token = first["next_page_token"].as_str().unwrap();
    assert_eq!(seqs(&node.get(&bob, &format!("{path}?page_token={token}")).await.json()), [7, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_and_deletions_show_everywhere() {
    let node = Node::start().await;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let group = node.group(&ann, &[&bob]).await;
    let path = format!("/v1/conversations/{group}/messages");
    let message = node.send(&bob, &group, "one", "helo").await;
    let at = format!("{path}/{}", message["message_id"].as_str().unwrap());

    let denied = node.call(&ann, "PATCH", &at, json!({"text": "hijacked"})).await;
    assert_eq!((denied.status, denied.code().as_str()), (403, "permission_denied"));
    let edited = node.call(&bob, "PATCH", &at, json!({"text": "hello"})).await;
    assert_eq!((edited.status, edited.json()["text"].as_str()), (200, Some("hello")), "{}", edited.body);
    let listed = node.get(&ann, &path).await.json()["messages"][0].clone();
    assert_eq!((listed["text"].as_str(), listed["edited_at"].is_string()), (Some("hello"), true));

    let deleted = node.request("DELETE", &at).token(&ann.token).send().await;
    assert_eq!((deleted.status, deleted.json()["text"].as_str()), (200, Some("")), "{}", deleted.body);
    let listed = node.get(&bob, &path).await.json()["messages"][0].clone();
    assert_eq!((listed["text"].as_str(), listed["deleted_at"].is_string()), (Some(""), true));
    assert_eq!(listed["seq"], message["seq"], "it keeps its place");
    let late = node.call(&bob, "PATCH", &at, json!({"text": "again"})).await;
    assert_eq!((late.status, late.code().as_str()), (404, "not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_update_stream_is_numbered_without_a_gap() {
    let node = Node::start().await;
    let (ann, bob) = (node.user("ann").await, node.user("bob").await);
    let group = node.group(&ann, &[&bob]).await;
    let message = node.send(&ann, &group, "one", "hello").await;
    let path = format!("/v1/conversations/{group}/messages/{}", message["message_id"].as_str().unwrap());
    assert_eq!(node.call(&ann, "PATCH", &path, json!({"text": "hello!"})).await.status, 200);
    assert_eq!(
        node.call(&ann, "PATCH", &format!("/v1/conversations/{group}"), json!({"title": "x"})).await.status,
        200
    );

    // The edge has not spoken of the rename's updates yet, so its reads don't wait for them.
    let stream = loop {
        let stream = node.get(&bob, "/v1/updates").await.json();
        if kinds(&stream).iter().filter(|kind| *kind == "conversation").count() == 2 {
            break stream;
        }
        tokio::task::yield_now().await;
    };
    let updates = stream["updates"].as_array().unwrap();
    for (expected, update) in (1_u64..).zip(updates) {
        assert_eq!(update["offset"], expected.to_string(), "{stream}");
    }
    // Receipts come between: in a group of two, a message is also the sender's own cursor.
    let said: Vec<String> = kinds(&stream).into_iter().filter(|kind| kind != "receipt").collect();
    assert_eq!(said, ["message", "conversation", "message", "message_changed", "message", "conversation"]);
    let of_kind = |kind: &str| updates.iter().rev().find_map(|update| update.get(kind)).unwrap();
    assert_eq!(of_kind("message_changed")["text"], "hello!");
    assert_eq!(of_kind("conversation")["title"], "x");
    assert_eq!(stream["epoch"].as_str().map(str::len), Some(16));

    let last = updates.len();
    assert_eq!(stream["last_offset"], last.to_string());
    let rest = node.get(&bob, "/v1/updates?after_offset=4&limit=1").await.json();
    assert_eq!((rest["updates"].as_array().unwrap().len(), rest["updates"][0]["offset"].as_str()), (1, Some("5")));
    let end = node.get(&bob, &format!("/v1/updates?after_offset={last}")).await.json();
    assert_eq!((end["updates"].as_array().unwrap().len(), end["resync_required"].as_bool()), (0, Some(false)));
    let beyond = node.get(&bob, "/v1/updates?after_offset=600").await.json();
    assert_eq!(beyond["resync_required"], true);
    for (epoch, resync_required) in [(stream["epoch"].as_str().unwrap(), false), ("0000000000000000", true)] {
        let page = node.get(&bob, &format!("/v1/updates?after_offset=4&epoch={epoch}")).await.json();
        assert_eq!(page["resync_required"], resync_required, "{epoch}");
    }
}

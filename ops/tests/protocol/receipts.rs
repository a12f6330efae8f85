//! Delivered and seen.

use serde_json::Value;
use tidings_schemas::client::{Receipt, SendReceipt, Update, client_frame::Command, server_frame::Body, update::Kind};

use super::harness::{Connection, Person, Server, eventually, text};

fn receipt(conversation: &str, delivered_seq: u64, seen_seq: u64) -> Command {
    Command::Receipt(SendReceipt { conversation_id: conversation.to_owned(), delivered_seq, seen_seq })
}

fn receipts(update: &Update) -> Option<Receipt> {
    match &update.kind {
        Some(Kind::Receipt(receipt)) => Some(receipt.clone()),
        _ => None,
    }
}

async fn acknowledge(connection: &mut Connection, conversation: &str, delivered: u64, seen: u64) {
    assert!(matches!(connection.ask(receipt(conversation, delivered, seen)).await, Body::Ok(_)));
}

async fn cursors(person: &Person, conversation: &str, name: &str) -> (u64, u64) {
    let members = person.get(&format!("/v1/conversations/{conversation}/members")).await;
    let member = members["members"].as_array().unwrap().iter().find(|m| m["username"] == name).unwrap().clone();
    let number = |value: &Value| text(value).parse().unwrap();
    (number(&member["delivered_seq"]), number(&member["seen_seq"]))
}

#[tokio::test]
async fn in_a_direct_chat_the_sender_sees_the_ticks_change() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut anns = ann.connect().await;
    let mut bobs = bob.connect().await;
    let mut bobs_other = bob.connect_as("other", &Default::default()).await;
    let sent = anns.send(&chat, "m1", "hello").await;

    acknowledge(&mut bobs, &chat, sent.seq, 0).await;
    let delivered = anns.until(receipts).await;
    assert_eq!(delivered.user_id.as_deref(), Some(bob.user_id.as_str()));
    assert_eq!((delivered.delivered_seq, delivered.delivered_to_all_seq), (sent.seq, sent.seq));
    assert!(delivered.seen_seq < sent.seq);

    acknowledge(&mut bobs, &chat, 0, sent.seq).await;
    let seen = anns.until(receipts).await;
    assert_eq!((seen.seen_seq, seen.seen_by_all_seq, seen.delivered_seq), (sent.seq, sent.seq, sent.seq));
    let own = bobs_other.until(receipts).await;
    assert_eq!((own.user_id.as_deref(), own.seen_seq), (Some(bob.user_id.as_str()), sent.seq), "one's other devices");
}

#[tokio::test]
async fn cursors_only_move_forward_and_never_past_the_end() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    for number in 0..3 {
        ann.post(&chat, &format!("m{number}"), "x").await;
    }
    let mut bobs = bob.connect().await;
    acknowledge(&mut bobs, &chat, 0, 3).await;
    acknowledge(&mut bobs, &chat, 2, 2).await;
    eventually("seen implies delivered, and nothing goes back", || async {
        (cursors(&ann, &chat, "bob").await == (3, 3)).then_some(())
    })
    .await;
    acknowledge(&mut bobs, &chat, 1_000, 0).await;
    eventually("cut to the end", || async { (cursors(&ann, &chat, "bob").await == (4, 3)).then_some(()) }).await;
    assert_eq!(cursors(&ann, &chat, "ann").await, (4, 4), "one's own messages are seen by oneself");
}

#[tokio::test]
async fn in_a_group_only_the_all_cursors_are_told() {
    let server = Server::start().await;
    let (ann, bob, carl) = (server.person("ann").await, server.person("bob").await, server.person("carl").await);
    let group = ann.group("Lunch", &[&bob, &carl]).await;
    let mut anns = ann.connect().await;
    let (mut bobs, mut carls) = (bob.connect().await, carl.connect().await);
    let sent = anns.send(&group, "m1", "soup?").await;
    acknowledge(&mut bobs, &group, 0, sent.seq).await;
    acknowledge(&mut carls, &group, sent.seq, 0).await;
    let told = anns.until(|update| receipts(update).filter(|r| r.delivered_to_all_seq == sent.seq)).await;
    assert!(told.user_id.is_none() && told.seen_by_all_seq < sent.seq, "{told:?}");
    acknowledge(&mut carls, &group, 0, sent.seq).await;
    let told = anns.until(|update| receipts(update).filter(|r| r.seen_by_all_seq == sent.seq)).await;
    assert!(told.user_id.is_none());
}

#[tokio::test]
async fn a_receipt_for_anothers_conversation_is_refused() {
    let server = Server::start().await;
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let chat = ann.chat_with(&bob).await;
    let mut eves = eve.connect().await;
    assert_eq!(eves.refused(receipt(&chat, 1, 1)).await, "not_a_member");
    assert_eq!(eves.refused(receipt("00000000-0000-4000-8000-000000000000", 1, 1)).await, "not_found");
    assert_eq!(eves.refused(receipt("nonsense", 1, 1)).await, "not_found");
}

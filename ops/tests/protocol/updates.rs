//! The update stream: contiguous offsets, the same on all devices, resumed without a gap.

use tidings_schemas::client::{Update, update::Kind};

use super::harness::{Connection, Server, send, text};

async fn take(connection: &mut Connection, count: usize) -> Vec<Update> {
    let mut updates = Vec::new();
    while updates.len() < count {
        updates.push(connection.update().await);
    }
    updates
}

#[tokio::test]
async fn offsets_are_contiguous_and_the_same_on_all_devices() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let mut phone = bob.connect_as("phone", &Default::default()).await;
    let mut laptop = bob.connect_as("laptop", &Default::default()).await;
    assert_eq!(phone.welcome.offset, 0);
    let chat = ann.chat_with(&bob).await;
    for number in 0..10 {
        ann.post(&chat, &format!("m{number}"), "x").await;
    }
    let seen = take(&mut phone, 12).await;
    assert_eq!(seen.iter().map(|update| update.offset).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    assert_eq!(take(&mut laptop, 12).await, seen);
}

#[tokio::test]
async fn a_resume_gives_what_was_missed_and_then_goes_on() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut bobs = bob.connect().await;
    let start = bobs.welcome.offset;
    ann.post(&chat, "m0", "0").await;
    let last = bobs.until(|update| matches!(&update.kind, Some(Kind::Message(_))).then_some(update.offset)).await;
    assert_eq!(last, start + 1);
    let resume = bobs.resume_after(last);
    bobs.socket.close().await;
    for number in 1..=20 {
        ann.post(&chat, &format!("m{number}"), &number.to_string()).await;
    }
    let mut again = bob.connect_as("device", &resume).await;
    assert!(!again.welcome.resync_required);
    ann.post(&chat, "m21", "21").await;
    let missed = take(&mut again, 21).await;
    assert_eq!(missed.iter().map(|u| u.offset).collect::<Vec<_>>(), (last + 1..=last + 21).collect::<Vec<_>>());
    let texts: Vec<String> = missed
        .iter()
        .map(|update| match &update.kind {
            Some(Kind::Message(message)) => message.text.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, (1..=21).map(|n: u32| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_resume_only_what_is_new() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    ann.post(&chat, "m1", "old").await;
    let mut bobs = bob.connect().await;
    ann.post(&chat, "m2", "new").await;
    let update = bobs.update().await;
    assert_eq!(update.offset, bobs.welcome.offset + 1);
    assert!(matches!(update.kind, Some(Kind::Message(message)) if message.text == "new"));
}

#[tokio::test]
async fn another_epoch_requires_a_resync() {
    let server = Server::start().await;
    let ann = server.person("ann").await;
    let mut resume = ann.connect().await.resume_after(0);
    resume.epoch = "another".to_owned();
    assert!(ann.connect_as("device", &resume).await.welcome.resync_required);
    resume.epoch = ann.connect().await.welcome.epoch;
    resume.offset = 1_000_000;
    assert!(ann.connect_as("device", &resume).await.welcome.resync_required, "an offset from the future");
}

#[tokio::test]
async fn the_same_stream_over_http() {
    let server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let mut bobs = bob.connect().await;
    let chat = ann.chat_with(&bob).await;
    for number in 0..5 {
        ann.post(&chat, &format!("m{number}"), "x").await;
    }
    let live = take(&mut bobs, 7).await;
    let page = bob.get("/v1/updates?after_offset=0&limit=4").await;
    let offsets: Vec<String> = page["updates"].as_array().unwrap().iter().map(|u| text(&u["offset"])).collect();
    assert_eq!(offsets, ["1", "2", "3", "4"]);
    let rest = bob.get("/v1/updates?after_offset=4").await;
    assert_eq!(rest["updates"].as_array().unwrap().len(), 3);
    assert_eq!(rest["updates"][2], serde_json::to_value(&live[6]).unwrap());
}

#[tokio::test]
async fn kill_9_in_mid_conversation_loses_repeats_and_reorders_nothing() {
    let mut server = Server::start().await;
    let (ann, bob) = (server.person("ann").await, server.person("bob").await);
    let chat = ann.chat_with(&bob).await;
    let mut bobs = bob.connect().await;
    let mut handled = bobs.welcome.offset;
    let mut texts = Vec::new();
    for round in 0..3_u32 {
        let mut anns = ann.connect().await;
        for number in 0..20 {
            anns.tell(send(&chat, &format!("m{round}-{number}"), &format!("{round}-{number}"))).await;
        }
        // Somewhere in the middle of them.
        for _ in 0..5 {
            let update = bobs.update().await;
            assert_eq!(update.offset, handled + 1);
            handled = update.offset;
            if let Some(Kind::Message(message)) = update.kind {
                texts.push(message.text);
            }
        }
        let resume = bobs.resume_after(handled);
        server.kill();
        server.restart().await;
        // Whatever was not acknowledged is sent again, as any client does.
        let mut again = ann.connect().await;
        for number in 0..20 {
            again.send(&chat, &format!("m{round}-{number}"), &format!("{round}-{number}")).await;
        }
        bobs = bob.connect_as("device", &resume).await;
        assert!(!bobs.welcome.resync_required);
        while texts.len() < 20 * (round as usize + 1) {
            let update = bobs.update().await;
            assert_eq!(update.offset, handled + 1);
            handled = update.offset;
            if let Some(Kind::Message(message)) = update.kind {
                texts.push(message.text);
            }
        }
    }
    let expected: Vec<String> = (0..3).flat_map(|round| (0..20).map(move |n| format!("{round}-{n}"))).collect();
    assert_eq!(texts, expected);
}

//! A little history that several tests begin with.

use super::harness::{Person, Server};

/// What was made.
pub(crate) struct Chats {
    pub(crate) ann: Person,
    pub(crate) bob: Person,
    /// The id of Ann's chat with Bob.
    pub(crate) chat: String,
    /// The id of the group of the two and Eve.
    pub(crate) group: String,
}

/// A chat of two and a group of three, made by Ann, with five messages each: twelve events.
pub(crate) async fn chats(server: &Server) -> Chats {
    let (ann, bob, eve) = (server.person("ann").await, server.person("bob").await, server.person("eve").await);
    let chat = ann.chat_with(&bob).await;
    let group = ann.group("the three", &[&bob, &eve]).await;
    for number in 0..5 {
        ann.post(&chat, &format!("c{number}"), &format!("chat {number}")).await;
        bob.post(&group, &format!("g{number}"), &format!("group {number}")).await;
    }
    Chats { ann, bob, chat, group }
}

//! Reads all rows of a store back into the model's form.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    ops::Bound,
};

use bytes::Bytes;
use prost::Message;
use tidings_schemas::{
    ids::{ConversationId, MessageId, UserId},
    views::{Key, Scan, Table, ViewStore, number_of},
};

use crate::model::Model;

async fn scan(views: &dyn ViewStore, table: Table, owner: u128) -> Vec<(Bytes, Bytes)> {
    let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
    loop {
        let from = rows.last().map_or(Bound::Unbounded, |(sort, _)| Bound::Excluded(sort.clone()));
        let page = Scan { table, owner, from, to: Bound::Unbounded, reverse: false, limit: 1_000 };
        let page = views.scan(page).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

fn id(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes.try_into().unwrap())
}

/// All rows of the owners that the model knows, in every table.
pub(crate) async fn read(views: &dyn ViewStore, model: &Model) -> Model {
    let mut found = Model::default();
    for conversation in model.conversations.keys().copied() {
        for (_, value) in scan(views, Table::Conversations, conversation.0).await {
            found.conversations.insert(conversation, Message::decode(value).unwrap());
        }
        for (sort, value) in scan(views, Table::Members, conversation.0).await {
            found.members.insert((conversation, UserId(id(&sort))), Message::decode(value).unwrap());
        }
        for (sort, value) in scan(views, Table::Entries, conversation.0).await {
            found.entries.insert((conversation, number_of(&sort).unwrap()), Message::decode(value).unwrap());
        }
        for (sort, value) in scan(views, Table::MessageIndex, conversation.0).await {
            found.message_index.insert((conversation, MessageId(id(&sort))), number_of(&value).unwrap());
        }
    }
    let users: BTreeSet<UserId> = model
        .members
        .keys()
        .map(|(_, user)| *user)
        .chain(model.inbox.keys().map(|(user, _)| *user))
        .chain(model.users.keys().copied())
        .collect();
    for user in users {
        for (sort, _) in scan(views, Table::UserConversations, user.0).await {
            found.user_conversations.insert((user, ConversationId(id(&sort))), ());
        }
        for (sort, value) in scan(views, Table::Inbox, user.0).await {
            found.inbox.insert((user, number_of(&sort).unwrap()), Message::decode(value).unwrap());
        }
        for (_, value) in scan(views, Table::Users, user.0).await {
            found.users.insert(user, Message::decode(value).unwrap());
        }
    }
    for name in model.usernames.keys() {
        for (sort, value) in scan(views, Table::Usernames, Key::username(name).owner).await {
            found.usernames.insert(String::from_utf8(sort.to_vec()).unwrap(), UserId(id(&value)));
        }
    }
    found
}

/// Says the first row that differs, not all of them.
pub(crate) fn assert_same(found: &Model, expected: &Model, context: &str) {
    same("conversation", &found.conversations, &expected.conversations, context);
    same("member", &found.members, &expected.members, context);
    same("user's conversation", &found.user_conversations, &expected.user_conversations, context);
    same("entry", &found.entries, &expected.entries, context);
    same("message", &found.message_index, &expected.message_index, context);
    same("update", &found.inbox, &expected.inbox, context);
    same("user", &found.users, &expected.users, context);
    same("user name", &found.usernames, &expected.usernames, context);
}

fn same<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
    context: &str,
) {
    for key in found.keys().chain(expected.keys()) {
        let (found, expected) = (found.get(key), expected.get(key));
        assert!(found == expected, "{context}: {what} {key:?}\nfound    {found:?}\nexpected {expected:?}");
    }
}

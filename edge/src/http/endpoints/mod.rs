//! The endpoints of the client contract, one a file.

mod change_password;
mod create_account;
mod create_conversation;
mod create_token;
mod delete_conversation;
mod delete_message;
mod delete_token;
mod delete_tokens;
mod edit_message;
mod find_user;
mod get_conversation;
mod get_presence;
mod get_user;
mod list_conversations;
mod list_members;
mod list_messages;
mod list_updates;
mod put_member;
mod remove_member;
mod rename_conversation;
mod send_message;

use super::endpoint::Endpoint;

/// All of them, in the order in which the API reference shows them.
pub(crate) fn all() -> Vec<Endpoint> {
    vec![
        create_account::endpoint(),
        create_token::endpoint(),
        delete_token::endpoint(),
        delete_tokens::endpoint(),
        change_password::endpoint(),
        find_user::endpoint(),
        get_user::endpoint(),
        get_presence::endpoint(),
        create_conversation::endpoint(),
        list_conversations::endpoint(),
        get_conversation::endpoint(),
        rename_conversation::endpoint(),
        delete_conversation::endpoint(),
        list_members::endpoint(),
        put_member::endpoint(),
        remove_member::endpoint(),
        send_message::endpoint(),
        list_messages::endpoint(),
        edit_message::endpoint(),
        delete_message::endpoint(),
        list_updates::endpoint(),
    ]
}

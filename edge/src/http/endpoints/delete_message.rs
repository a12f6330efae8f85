//! `DELETE /v1/conversations/{conversation_id}/messages/{message_id}`: takes a message back.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::{
    client,
    ids::{ConversationId, MessageId},
};

use crate::{
    error::{ApiError, ErrorCode},
    http::{
        App,
        endpoint::Endpoint,
        extract::{Caller, Ids},
        openapi::Operation,
        reply::Reply,
    },
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("deleteMessage", "Messages", "Delete a message")
        .describe("The message keeps its place; its content goes. The sender, the owner and admins may do it.")
        .answers(200, "The message, without its content.", "Message")
        .refuses(ErrorCode::NotFound, "There is no such conversation or message.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.")
        .refuses(ErrorCode::PermissionDenied, "The caller is neither the sender nor owner nor admin.")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::DELETE, "/v1/conversations/{conversation_id}/messages/{message_id}", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation, message)): Ids<(ConversationId, MessageId)>,
) -> Result<Reply<client::Message>, ApiError> {
    app.http.commands.delete_message(caller, conversation, message).await.map(Reply::ok)
}

//! `DELETE /v1/conversations/{conversation_id}`: ends a group.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::{client, ids::ConversationId};

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
    let operation = Operation::new("deleteConversation", "Conversations", "Delete a group, for everybody")
        .answers(200, "The conversation, deleted.", "Conversation")
        .refuses(ErrorCode::NotFound, "There is no such conversation, or it was deleted.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.")
        .refuses(ErrorCode::PermissionDenied, "The caller is not the owner, or it is a direct chat.")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::DELETE, "/v1/conversations/{conversation_id}", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation,)): Ids<(ConversationId,)>,
) -> Result<Reply<client::Conversation>, ApiError> {
    app.http.commands.delete_conversation(caller, conversation).await.map(Reply::ok)
}

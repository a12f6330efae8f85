//! `DELETE /v1/conversations/{conversation_id}/members/{user_id}`: removes a member, or leaves.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::{
    client,
    ids::{ConversationId, UserId},
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
    let operation = Operation::new("removeMember", "Members", "Remove a member, or leave")
        .describe("With one's own id: leave. The owner's leaving passes ownership to the longest-standing admin, else member.")
        .answers(200, "The conversation as it now stands.", "Conversation")
        .refuses(ErrorCode::NotFound, "There is no such conversation, or no such member in it.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.")
        .refuses(ErrorCode::PermissionDenied, "The caller's role does not allow it, or it is a direct chat.")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::DELETE, "/v1/conversations/{conversation_id}/members/{user_id}", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation, user)): Ids<(ConversationId, UserId)>,
) -> Result<Reply<client::Conversation>, ApiError> {
    app.http.commands.remove_member(caller, conversation, user).await.map(Reply::ok)
}

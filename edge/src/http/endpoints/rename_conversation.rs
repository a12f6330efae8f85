//! `PATCH /v1/conversations/{conversation_id}`: renames a group.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::{client, ids::ConversationId};

use crate::{
    error::{ApiError, ErrorCode},
    http::{
        App,
        endpoint::Endpoint,
        extract::{Caller, Ids, JsonBody},
        openapi::Operation,
        reply::Reply,
    },
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("renameConversation", "Conversations", "Rename a group")
        .describe("Without `title` nothing changes.")
        .body("PatchConversationRequest", &[], &[])
        .answers(200, "The conversation as it now stands.", "Conversation")
        .refuses(ErrorCode::NotFound, "There is no such conversation, or it was deleted.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.")
        .refuses(ErrorCode::PermissionDenied, "The caller is neither owner nor admin, or it is a direct chat.")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::PATCH, "/v1/conversations/{conversation_id}", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation,)): Ids<(ConversationId,)>,
    JsonBody(request): JsonBody<client::PatchConversationRequest>,
) -> Result<Reply<client::Conversation>, ApiError> {
    let changed = match request.title {
        Some(title) => app.http.commands.rename_conversation(caller, conversation, title).await?,
        None => app.http.reads.conversation_for(caller, conversation).await?,
    };
    Ok(Reply::ok(changed))
}

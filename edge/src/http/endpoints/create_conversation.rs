//! `POST /v1/conversations`: makes a group or a direct chat.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::client;

use crate::{
    error::{ApiError, ErrorCode},
    http::{
        App,
        endpoint::Endpoint,
        extract::{Caller, JsonBody},
        openapi::Operation,
        reply::Reply,
    },
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("createConversation", "Conversations", "Make a group or a direct chat")
        .describe("The caller becomes a member and, in a group, its owner. A direct chat has one other member; a second one between the same two is the first one.")
        .body("CreateConversation", &[], &["kind", "member_ids"])
        .answers(201, "The conversation as it stands for the caller.", "Conversation")
        .refuses(ErrorCode::NotFound, "A member is no user.")
        .refuses(ErrorCode::ConversationFull, "More members than a group may have.")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::POST, "/v1/conversations", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    JsonBody(request): JsonBody<client::CreateConversation>,
) -> Result<Reply<client::Conversation>, ApiError> {
    app.http.commands.create_conversation(caller, request).await.map(Reply::created)
}

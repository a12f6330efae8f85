//! `PATCH /v1/conversations/{conversation_id}/messages/{message_id}`: gives a message another text.

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
        extract::{Caller, Ids, JsonBody},
        openapi::Operation,
        reply::Reply,
    },
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("editMessage", "Messages", "Edit a message")
        .body("PatchMessageRequest", &[], &["text"])
        .answers(200, "The message, whole.", "Message")
        .refuses(ErrorCode::NotFound, "There is no such conversation or message.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.")
        .refuses(ErrorCode::PermissionDenied, "The caller did not send it.")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::PATCH, "/v1/conversations/{conversation_id}/messages/{message_id}", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation, message)): Ids<(ConversationId, MessageId)>,
    JsonBody(request): JsonBody<client::PatchMessageRequest>,
) -> Result<Reply<client::Message>, ApiError> {
    app.http.commands.edit_message(caller, conversation, message, request.text).await.map(Reply::ok)
}

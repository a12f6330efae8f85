//! `POST /v1/conversations/{conversation_id}/messages`: sends a message.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::MethodFilter,
};
use tidings_schemas::{client, ids::ConversationId};

use crate::{
    commands::SendOutcome,
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
    let operation = Operation::new("sendMessage", "Messages", "Send a message")
        .describe(
            "`client_message_id` is a UUID of the client's choosing, and a new one for each new message: sending it \
             again within 24 hours yields the same message and never a second one, so it is safe to try again after an \
             error. A text has at most 16 KiB.",
        )
        .body("Send", &["conversation_id"], &["client_message_id"])
        .answers(201, "The message, durable and in its place.", "Message")
        .answers(200, "The message that an earlier request with this `client_message_id` has sent.", "Message")
        .answers(202, "Durable, but its place is not known yet: it comes as an update.", "Queued")
        .refuses(ErrorCode::NotFound, "There is no such conversation, or it was deleted.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.")
        .refuses(ErrorCode::TooLarge, "The text or the body is too long.")
        .refuses(ErrorCode::RateLimited, "Too many messages of this user.");
    Endpoint::new(MethodFilter::POST, "/v1/conversations/{conversation_id}/messages", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation,)): Ids<(ConversationId,)>,
    JsonBody(mut request): JsonBody<client::Send>,
) -> Result<Response, ApiError> {
    // The path says where to; whatever the body says is an unknown field.
    request.conversation_id = conversation.to_string();
    Ok(match app.http.commands.send(caller, request).await? {
        SendOutcome::Sent { message, repeated: false } => Reply::created(message).into_response(),
        SendOutcome::Sent { message, repeated: true } => Reply::ok(message).into_response(),
        SendOutcome::Queued(id) => {
            Reply(StatusCode::ACCEPTED, client::Queued { message_id: id.to_string() }).into_response()
        }
    })
}

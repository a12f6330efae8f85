//! `PUT /v1/conversations/{conversation_id}/members/{user_id}`: adds a member or changes a role.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::{
    client,
    ids::{ConversationId, UserId},
};

use crate::{
    commands::validate,
    error::{ApiError, ErrorCode},
    http::{
        App,
        endpoint::Endpoint,
        extract::{Caller, Ids, OptionalJsonBody},
        openapi::Operation,
        reply::Reply,
    },
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("putMember", "Members", "Add a member, or change a role")
        .describe("Without a role (or without a body) a new member is a `member`, and a present one stays what they are. Giving `owner` passes ownership on: the caller becomes an admin.")
        .optional_body("PutMemberRequest")
        .answers(200, "The conversation as it now stands.", "Conversation")
        .refuses(ErrorCode::NotFound, "There is no such conversation or user.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.")
        .refuses(ErrorCode::PermissionDenied, "The caller's role does not allow it, or it is a direct chat.")
        .refuses(ErrorCode::ConversationFull, "The group has as many members as it may.")
        .refuses(ErrorCode::LastOwner, "The owner cannot step down without passing ownership on.")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::PUT, "/v1/conversations/{conversation_id}/members/{user_id}", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation, user)): Ids<(ConversationId, UserId)>,
    OptionalJsonBody(request): OptionalJsonBody<client::PutMemberRequest>,
) -> Result<Reply<client::Conversation>, ApiError> {
    let role = validate::role(&request.role)?;
    app.http.commands.put_member(caller, conversation, user, role).await.map(Reply::ok)
}

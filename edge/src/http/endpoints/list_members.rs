//! `GET /v1/conversations/{conversation_id}/members`: who is in a conversation.

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
    let operation = Operation::new("listMembers", "Members", "List the members")
        .describe("By when they joined.")
        .answers(200, "All members, with their roles and cursors.", "ListMembersResponse")
        .refuses(ErrorCode::NotFound, "There is no such conversation, or it was deleted.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.");
    Endpoint::new(MethodFilter::GET, "/v1/conversations/{conversation_id}/members", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation,)): Ids<(ConversationId,)>,
) -> Result<Reply<client::ListMembersResponse>, ApiError> {
    app.http.reads.members(caller, conversation).await.map(Reply::ok)
}

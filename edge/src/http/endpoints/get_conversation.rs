//! `GET /v1/conversations/{conversation_id}`: a conversation.

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
    let operation = Operation::new("getConversation", "Conversations", "Read a conversation")
        .answers(200, "The conversation as it stands for the caller.", "Conversation")
        .refuses(ErrorCode::NotFound, "There is no such conversation, or it was deleted.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.");
    Endpoint::new(MethodFilter::GET, "/v1/conversations/{conversation_id}", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation,)): Ids<(ConversationId,)>,
) -> Result<Reply<client::Conversation>, ApiError> {
    app.http.reads.conversation_for(caller, conversation).await.map(Reply::ok)
}

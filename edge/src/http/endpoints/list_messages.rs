//! `GET /v1/conversations/{conversation_id}/messages`: what was said.

use axum::{extract::State, routing::MethodFilter};
use serde::Deserialize;
use tidings_schemas::{client, ids::ConversationId};

use crate::{
    error::{ApiError, ErrorCode},
    http::{
        App,
        endpoint::Endpoint,
        extract::{Caller, Ids, Parameters, page_limit},
        openapi::Operation,
        reply::Reply,
    },
    read::{MessagesFrom, page_token::MessagesPlace},
};

#[derive(Deserialize)]
struct Query {
    limit: Option<usize>,
    before_seq: Option<u64>,
    after_seq: Option<u64>,
    page_token: Option<String>,
}

impl Query {
    /// Where the page begins.
    fn from(&self) -> Result<MessagesFrom, ApiError> {
        let token = self.page_token.as_deref().filter(|token| !token.is_empty());
        match (self.before_seq, self.after_seq, token) {
            (None, None, None) => Ok(MessagesFrom::Newest),
            (Some(seq), None, None) => Ok(MessagesFrom::Place(MessagesPlace::Before(seq))),
            (None, Some(seq), None) => Ok(MessagesFrom::Place(MessagesPlace::After(seq))),
            (None, None, Some(token)) => MessagesPlace::decode(token).map(MessagesFrom::Place),
            _ => Err(ApiError::invalid_argument("give at most one of before_seq, after_seq and page_token")),
        }
    }
}

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("listMessages", "Messages", "List messages")
        .describe("Newest first with `before_seq` or none of the three, oldest first with `after_seq`. A member sees what was said while a member.")
        .page()
        .query("before_seq", "uint64", "Only messages below this `seq`, newest first.", false)
        .query("after_seq", "uint64", "Only messages above this `seq`, oldest first.", false)
        .answers(200, "A page. An empty `next_page_token`: it is the last one.", "ListMessagesResponse")
        .refuses(ErrorCode::NotFound, "There is no such conversation, or it was deleted.")
        .refuses(ErrorCode::NotAMember, "The caller is not a member.");
    Endpoint::new(MethodFilter::GET, "/v1/conversations/{conversation_id}/messages", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Ids((conversation,)): Ids<(ConversationId,)>,
    Parameters(query): Parameters<Query>,
) -> Result<Reply<client::ListMessagesResponse>, ApiError> {
    let limit = page_limit(query.limit)?;
    let page = app.http.reads.messages(caller, conversation, query.from()?, limit).await?;
    let next_page_token = page.next.map(MessagesPlace::encode).unwrap_or_default();
    Ok(Reply::ok(client::ListMessagesResponse { messages: page.messages, next_page_token }))
}

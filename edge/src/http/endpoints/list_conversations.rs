//! `GET /v1/conversations`: the caller's conversations.

use axum::{extract::State, routing::MethodFilter};
use serde::Deserialize;
use tidings_schemas::client;

use crate::{
    error::ApiError,
    http::{
        App,
        endpoint::Endpoint,
        extract::{Caller, Parameters, page_limit},
        openapi::Operation,
        reply::Reply,
    },
    read::page_token::AfterConversation,
};

#[derive(Deserialize)]
struct Query {
    limit: Option<usize>,
    page_token: Option<String>,
}

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("listConversations", "Conversations", "List one's conversations")
        .describe("Newest activity first. The cursors are the caller's own; the `_all_` ones are the least of the other members'.")
        .page()
        .answers(200, "A page. An empty `next_page_token`: it is the last one.", "ListConversationsResponse");
    Endpoint::new(MethodFilter::GET, "/v1/conversations", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Parameters(query): Parameters<Query>,
) -> Result<Reply<client::ListConversationsResponse>, ApiError> {
    let limit = page_limit(query.limit)?;
    let after =
        query.page_token.as_deref().filter(|token| !token.is_empty()).map(AfterConversation::decode).transpose()?;
    app.http.reads.conversations(caller, after, limit).await.map(Reply::ok)
}

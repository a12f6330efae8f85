//! `GET /v1/updates`: the update stream.

use axum::{extract::State, routing::MethodFilter};
use serde::Deserialize;
use tidings_schemas::{
    client,
    limits::{PAGE_ITEMS_DEFAULT, UPDATES_PAGE_ITEMS_MAX},
};

use crate::{
    error::ApiError,
    http::{
        App,
        endpoint::Endpoint,
        extract::{Caller, Parameters, page_limit_of},
        openapi::Operation,
        reply::Reply,
    },
};

#[derive(Deserialize)]
struct Query {
    after_offset: Option<u64>,
    limit: Option<usize>,
}

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("listUpdates", "Updates", "Read the update stream")
        .describe("The same stream as on the WebSocket, with the same offsets. `resync_required`: the stream cannot be continued from this offset; read conversations and messages anew.")
        .query("after_offset", "uint64", "The last offset that was handled; 0 or left out: from the beginning.", false)
        .query("limit", "uint32", "How many updates at the most: 50 if left out, at most 1,000.", false)
        .answers(200, "Updates with ascending offsets.", "ListUpdatesResponse");
    Endpoint::new(MethodFilter::GET, "/v1/updates", handle, operation)
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Parameters(query): Parameters<Query>,
) -> Result<Reply<client::ListUpdatesResponse>, ApiError> {
    let limit = page_limit_of(query.limit, PAGE_ITEMS_DEFAULT, UPDATES_PAGE_ITEMS_MAX)?;
    let found = app.http.reads.updates(caller, query.after_offset.unwrap_or(0), None, limit).await?;
    Ok(Reply::ok(client::ListUpdatesResponse {
        epoch: app.http.epoch.clone(),
        updates: found.updates,
        resync_required: found.resync_required,
        last_offset: found.last_offset,
    }))
}

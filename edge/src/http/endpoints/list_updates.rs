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
    epoch: Option<String>,
    limit: Option<usize>,
}

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("listUpdates", "Updates", "Read the update stream")
        .describe("The same stream as on the WebSocket, with the same offsets. `resync_required`: the stream cannot be continued from this offset; read conversations and messages anew.")
        .query("after_offset", "uint64", "The last offset that was handled; 0 or left out: from the beginning.", false)
        .query("epoch", "string", "The epoch that the offset is of. Another one than now: `resync_required`.", false)
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
    if query.epoch.is_some_and(|epoch| epoch != app.http.epoch) {
        let last_offset = app.http.reads.last_offset(caller).await?;
        let epoch = app.http.epoch.clone();
        return Ok(Reply::ok(client::ListUpdatesResponse {
            epoch,
            updates: Vec::new(),
            resync_required: true,
            last_offset,
        }));
    }
    let found = app.http.reads.updates(caller, query.after_offset.unwrap_or(0), None, limit).await?;
    Ok(Reply::ok(client::ListUpdatesResponse {
        epoch: app.http.epoch.clone(),
        updates: found.updates,
        resync_required: found.resync_required,
        last_offset: found.last_offset,
    }))
}

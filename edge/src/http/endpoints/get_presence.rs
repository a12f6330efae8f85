//! `GET /v1/users/{user_id}/presence`: whether a user is online.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::{client, ids::UserId};

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
    let operation = Operation::new("getPresence", "Users", "Read whether a user is online")
        .describe("On the WebSocket, `watch_presence` gives the same and every change.")
        .answers(200, "Online now, or when last seen. Without `last_seen_at`: never.", "Presence")
        .refuses(ErrorCode::NotFound, "There is no such user.");
    Endpoint::new(MethodFilter::GET, "/v1/users/{user_id}/presence", handle, operation)
}

async fn handle(
    State(app): State<App>,
    _: Caller,
    Ids((user,)): Ids<(UserId,)>,
) -> Result<Reply<client::Presence>, ApiError> {
    app.http.commands.presence(user).await.map(Reply::ok)
}

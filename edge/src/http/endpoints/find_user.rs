//! `GET /v1/users`: a user by name.

use axum::{extract::State, routing::MethodFilter};
use serde::Deserialize;
use tidings_schemas::client;

use crate::{
    auth::usernames::lookup_username,
    error::{ApiError, ErrorCode},
    http::{
        App,
        endpoint::Endpoint,
        extract::{Caller, Parameters},
        openapi::Operation,
        reply::Reply,
    },
    read::convert,
};

#[derive(Deserialize)]
struct Query {
    username: Option<String>,
}

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("findUser", "Users", "Find a user by name")
        .query("username", "string", "The user name. Capitals are taken as small letters.", true)
        .answers(200, "The user.", "User")
        .refuses(ErrorCode::InvalidArgument, "`username` is missing or cannot be a name.")
        .refuses(ErrorCode::NotFound, "Nobody has this name.");
    Endpoint::new(MethodFilter::GET, "/v1/users", handle, operation)
}

async fn handle(
    State(app): State<App>,
    _: Caller,
    Parameters(query): Parameters<Query>,
) -> Result<Reply<client::User>, ApiError> {
    let username = query.username.ok_or_else(|| ApiError::invalid_argument("say whom to find: ?username=…"))?;
    let row = app.http.reads.user_row_by_username(&lookup_username(&username)?).await?;
    let row = row.ok_or_else(|| ApiError::not_found("nobody has this user name"))?;
    Ok(Reply::ok(convert::user(&row)))
}

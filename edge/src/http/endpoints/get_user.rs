//! `GET /v1/users/{user_id}`: a user by id.

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
    let operation = Operation::new("getUser", "Users", "Read a user")
        .answers(200, "The user.", "User")
        .refuses(ErrorCode::NotFound, "There is no such user.");
    Endpoint::new(MethodFilter::GET, "/v1/users/{user_id}", handle, operation)
}

async fn handle(
    State(app): State<App>,
    _: Caller,
    Ids((user,)): Ids<(UserId,)>,
) -> Result<Reply<client::User>, ApiError> {
    let user = app.http.reads.user(user).await?;
    user.map(Reply::ok).ok_or_else(|| ApiError::not_found("there is no such user"))
}

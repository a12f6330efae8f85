//! `POST /v1/accounts`: makes an account and signs it in.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::client;

use crate::{
    error::{ApiError, ErrorCode},
    http::{
        App,
        endpoint::Endpoint,
        extract::{Anonymous, JsonBody},
        openapi::Operation,
        reply::Reply,
    },
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("createAccount", "Accounts", "Make an account")
        .describe("A user name is 1 to 64 of the characters `a-z`, `0-9`, `.`, `_` and `-`; capitals are taken as small letters. A password is 8 to 1,024 bytes long. The display name may be anything; left out, it is the user name.")
        .without_token()
        .body("CreateAccountRequest", &[], &["username", "password"])
        .answers(201, "The account, signed in.", "TokenResponse")
        .refuses(ErrorCode::AlreadyExists, "Somebody has this user name.")
        .refuses(ErrorCode::PermissionDenied, "Registration is closed.")
        .refuses(ErrorCode::RateLimited, "Too many requests from this address.");
    Endpoint::new(MethodFilter::POST, "/v1/accounts", handle, operation)
}

async fn handle(
    State(app): State<App>,
    _: Anonymous,
    JsonBody(request): JsonBody<client::CreateAccountRequest>,
) -> Result<Reply<client::TokenResponse>, ApiError> {
    app.http.auth.register(request).await.map(Reply::created)
}

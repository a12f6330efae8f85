//! `POST /v1/tokens`: signs in.

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
    let operation = Operation::new("createToken", "Accounts", "Sign in")
        .describe("The token goes into the header `Authorization: Bearer …` of the other requests, and into `hello` on the WebSocket. The token of an outside identity provider works instead, if the operator has set it up.")
        .without_token()
        .body("CreateTokenRequest", &[], &["username", "password"])
        .answers(200, "A token.", "TokenResponse")
        .refuses(ErrorCode::Unauthenticated, "The user name or the password is wrong.")
        .refuses(ErrorCode::RateLimited, "Too many requests from this address.");
    Endpoint::new(MethodFilter::POST, "/v1/tokens", handle, operation)
}

async fn handle(
    State(app): State<App>,
    _: Anonymous,
    JsonBody(request): JsonBody<client::CreateTokenRequest>,
) -> Result<Reply<client::TokenResponse>, ApiError> {
    app.http.auth.sign_in(request).await.map(Reply::ok)
}

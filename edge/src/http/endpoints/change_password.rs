//! `PATCH /v1/accounts/me`: takes another password.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::client;

use crate::{
    error::{ApiError, ErrorCode},
    http::{
        App,
        endpoint::Endpoint,
        extract::{Anonymous, CallerToken, JsonBody},
        openapi::Operation,
        reply::Reply,
    },
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("changePassword", "Accounts", "Change the password")
        .describe("All tokens of the user that were issued before end, as by signing out everywhere; the answer has a new one.")
        .body("ChangePasswordRequest", &[], &["password", "new_password"])
        .answers(200, "A new token.", "TokenResponse")
        .refuses(ErrorCode::PermissionDenied, "The present password is another, or the account is an identity provider's.")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user, or requests from this address.");
    Endpoint::new(MethodFilter::PATCH, "/v1/accounts/me", handle, operation)
}

async fn handle(
    State(app): State<App>,
    // As guarded as signing in: who has a token may still guess at the password.
    _: Anonymous,
    CallerToken(caller): CallerToken,
    JsonBody(request): JsonBody<client::ChangePasswordRequest>,
) -> Result<Reply<client::TokenResponse>, ApiError> {
    app.http.commands.take_from_rate(caller.user_id)?;
    app.http.auth.change_password(&caller, request).await.map(Reply::ok)
}

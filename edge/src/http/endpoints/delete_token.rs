//! `DELETE /v1/tokens/current`: signs out.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::client;

use crate::{
    error::{ApiError, ErrorCode},
    http::{App, endpoint::Endpoint, extract::CallerToken, openapi::Operation, reply::Reply},
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("deleteToken", "Accounts", "Sign out")
        .describe("The token that the request carries ends: connections opened with it are closed with 4500 at once, requests with it are refused on every edge within seconds.")
        .answers(200, "It has ended.", "Ok")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::DELETE, "/v1/tokens/current", handle, operation)
}

async fn handle(State(app): State<App>, CallerToken(caller): CallerToken) -> Result<Reply<client::Ok>, ApiError> {
    app.http.commands.take_from_rate(caller.user_id)?;
    app.http.auth.sign_out(&caller).await?;
    Ok(Reply::ok(client::Ok {}))
}

//! `DELETE /v1/tokens`: signs out everywhere.

use axum::{extract::State, routing::MethodFilter};
use tidings_schemas::client;

use crate::{
    error::{ApiError, ErrorCode},
    http::{App, endpoint::Endpoint, extract::CallerToken, openapi::Operation, reply::Reply},
};

pub(super) fn endpoint() -> Endpoint {
    let operation = Operation::new("deleteTokens", "Accounts", "Sign out everywhere")
        .describe("All tokens of the user that were issued before now end, the request's own too: connections opened with them are closed with 4500 at once, requests with them are refused on every edge within seconds. The tokens of an outside identity provider end by their `iat`.")
        .answers(200, "They have ended.", "Ok")
        .refuses(ErrorCode::RateLimited, "Too many changes of this user.");
    Endpoint::new(MethodFilter::DELETE, "/v1/tokens", handle, operation)
}

async fn handle(State(app): State<App>, CallerToken(caller): CallerToken) -> Result<Reply<client::Ok>, ApiError> {
    app.http.commands.take_from_rate(caller.user_id)?;
    app.http.auth.sign_out_everywhere(&caller).await?;
    Ok(Reply::ok(client::Ok {}))
}

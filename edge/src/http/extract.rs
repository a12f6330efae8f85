//! What comes in: the caller, the JSON body, the query and the ids of the path, each with its error.

use std::{net::IpAddr, str::FromStr};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Query},
    http::{HeaderMap, Request, header, request::Parts},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tidings_schemas::{
    ids::UserId,
    limits::{ID_BYTES_MAX, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX},
};

use super::{App, PeerAddress};
use crate::{
    auth::Authenticated,
    error::{ApiError, ErrorCode},
};

/// The user whose token the request carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) UserId);

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(CallerToken::from_request_parts(parts, app).await?.0.user_id))
    }
}

/// The user whose token the request carries, and which token it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallerToken(pub(crate) Authenticated);

impl FromRequestParts<App> for CallerToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = bearer_token(&parts.headers)?;
        Ok(Self(app.http.auth.verify(token).await?))
    }
}

/// The token of an `Authorization: Bearer …` header.
fn bearer_token(headers: &HeaderMap) -> Result<&str, ApiError> {
    let hint = "send the header 'Authorization: Bearer TOKEN' with a token from POST /v1/tokens";
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| ApiError::unauthenticated(hint))?;
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(ApiError::unauthenticated(hint));
    }
    Ok(token.trim())
}

/// A request without a user, let through by the limit on its address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anonymous;

impl FromRequestParts<App> for Anonymous {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // The server knows every request's address; without one it is all the same one.
        let unknown = PeerAddress(IpAddr::from([0, 0, 0, 0]));
        let PeerAddress(address) = parts.extensions.get().copied().unwrap_or(unknown);
        let taken = app.http.address_limit.take(address);
        taken
            .map_err(|wait| ApiError::rate_limited("too many requests from this address: wait and try again", wait))?;
        Ok(Self)
    }
}

/// A JSON body of the client contract.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, app: &App) -> Result<Self, ApiError> {
        let bytes = json_bytes(request, app).await?;
        if bytes.is_empty() {
            return Err(ApiError::invalid_argument("the request needs a JSON body"));
        }
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub(crate) struct OptionalJsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalJsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, app: &App) -> Result<Self, ApiError> {
        let bytes = json_bytes(request, app).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| ApiError::invalid_argument(format!("the body is wrong: {error}")))
}

async fn json_bytes(request: Request<Body>, app: &App) -> Result<Vec<u8>, ApiError> {
    let limit = app.http.config.body_bytes_max;
    let too_large = || ApiError::new(ErrorCode::TooLarge, format!("the body may have at most {limit} bytes"));
    let headers = request.headers();
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse().ok()).is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large());
    }
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| !kind.to_str().is_ok_and(is_json)) {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the body must be JSON: send the header 'Content-Type: application/json'",
        ));
    }
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(ApiError::invalid_argument("the body ended early: send it again")),
    }
}

/// Whether a content type is JSON in UTF-8.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_json = kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    is_json
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
                value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

/// The query's parameters. Unknown ones are ignored.
#[derive(Debug)]
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(parameters) =
            query.map_err(|error| ApiError::invalid_argument(format!("the query is wrong: {}", error.body_text())))?;
        Ok(Self(parameters))
    }
}

/// The ids of the path: one, or a tuple of them in the path's order.
#[derive(Debug)]
pub(crate) struct Ids<T>(pub(crate) T);

impl<T: PathIds> FromRequestParts<App> for Ids<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let texts = Path::<T::Texts>::from_request_parts(parts, app).await;
        let Path(texts) = texts.map_err(|_| ApiError::invalid_argument("the path is not UTF-8"))?;
        T::parse(texts).map(Self)
    }
}

/// Ids that a path holds.
pub(crate) trait PathIds: Sized {
    /// Their texts.
    type Texts: DeserializeOwned + Send;
    /// From their texts.
    ///
    /// # Errors
    /// `invalid_argument`: too long for an id. `not_found`: no id of ours, so there is nothing by that id.
    fn parse(texts: Self::Texts) -> Result<Self, ApiError>;
}

impl<A: FromStr> PathIds for (A,) {
    type Texts = (String,);
    fn parse((a,): (String,)) -> Result<Self, ApiError> {
        Ok((id(&a)?,))
    }
}

impl<A: FromStr, B: FromStr> PathIds for (A, B) {
    type Texts = (String, String);
    fn parse((a, b): (String, String)) -> Result<Self, ApiError> {
        Ok((id(&a)?, id(&b)?))
    }
}

/// An id is opaque to clients, so one that cannot be ours is one of nothing.
fn id<T: FromStr>(text: &str) -> Result<T, ApiError> {
    if text.len() > ID_BYTES_MAX {
        return Err(ApiError::invalid_argument(format!("an id has at most {ID_BYTES_MAX} characters")));
    }
    text.parse().map_err(|_| ApiError::not_found("there is nothing by this id"))
}

/// The number of items that a page is to have.
///
/// # Errors
/// `invalid_argument`: none.
pub(crate) fn page_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    page_limit_of(limit, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX)
}

/// [`page_limit`] with bounds of one's own.
///
/// # Errors
/// `invalid_argument`: none.
pub(crate) fn page_limit_of(limit: Option<usize>, default: usize, most: usize) -> Result<usize, ApiError> {
    match limit {
        Some(0) => Err(ApiError::invalid_argument("limit must be at least 1")),
        Some(limit) => Ok(limit.min(most)),
        None => Ok(default),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use tidings_schemas::ids::ConversationId;

    use super::*;

    #[test]
    fn only_a_bearer_token_is_one() {
        let token = |value: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
            bearer_token(&headers).map(str::to_owned)
        };
        assert_eq!(token(b"Bearer abc").as_deref(), Ok("abc"));
        assert_eq!(token(b"bearer  abc ").as_deref(), Ok("abc"));
        for bad in [&b"Basic abc"[..], b"Bearer", b"Bearer ", b"abc", b"", b"Bearer \xff"] {
            assert_eq!(token(bad).map_err(|error| error.code), Err(ErrorCode::Unauthenticated));
        }
        assert!(bearer_token(&HeaderMap::new()).is_err());
    }

    #[test]
    fn json_is_told_by_its_content_type() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/merge-patch+json"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["text/plain", "", "application/x-www-form-urlencoded", "application/json; charset=latin1"] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn a_foreign_id_is_of_nothing() {
        assert!(id::<ConversationId>(&ConversationId::random(7).to_string()).is_ok());
        assert_eq!(id::<ConversationId>("x").map_err(|error| error.code), Err(ErrorCode::NotFound));
        let long = "x".repeat(ID_BYTES_MAX + 1);
        assert_eq!(id::<ConversationId>(&long).map_err(|error| error.code), Err(ErrorCode::InvalidArgument));
    }

    #[test]
    fn a_page_is_bounded() {
        assert_eq!(page_limit(None), Ok(PAGE_ITEMS_DEFAULT));
        assert_eq!(page_limit(Some(usize::MAX)), Ok(PAGE_ITEMS_MAX));
        assert!(page_limit(Some(0)).is_err());
    }
}

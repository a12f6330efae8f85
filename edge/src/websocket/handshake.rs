//! The WebSocket handshake (RFC 6455, section 4.2): from a request to `/v1/connect` to the answer that makes the
//! connection a WebSocket, or to an error that says what is missing.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header},
    response::IntoResponse,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::format::Format;
use crate::error::{ApiError, ErrorCode};

/// The only version there is.
const VERSION: &str = "13";
/// Bytes of a `Sec-WebSocket-Key`, decoded.
const KEY_BYTES: usize = 16;

/// A handshake that is to be answered with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The format of the connection's frames.
    pub format: Format,
    accept_key: String,
    /// Whether the client asked for a subprotocol, and so must be told.
    named: bool,
}

/// Checks a request.
///
/// # Errors
/// The response that says what is wrong.
pub fn check<B>(request: &Request<B>) -> Result<Accepted, Box<Response<Body>>> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is opened with GET"));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") || !has_token(headers, header::UPGRADE, "websocket") {
        let mut response =
            refusal(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: open it with a WebSocket client");
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return Err(response);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        let mut response = refusal(StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13");
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        return Err(response);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let Some(key) = key.filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == KEY_BYTES)) else {
        return Err(refusal(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64"));
    };
    let mut offered = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).peekable();
    let named = offered.peek().is_some();
    let Some(format) = (if named { offered.find_map(Format::from_subprotocol) } else { Some(Format::Json) }) else {
        let message = "none of the subprotocols offered is known: offer tidings.v1.json or tidings.v1.protobuf";
        return Err(refusal(StatusCode::BAD_REQUEST, message));
    };
    Ok(Accepted { format, accept_key: derive_accept_key(key), named })
}

impl Accepted {
    /// The answer; the connection is a WebSocket after it.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(key) = HeaderValue::from_str(&self.accept_key) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
        }
        if self.named {
            let name = HeaderValue::from_static(self.format.subprotocol());
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
        }
        response
    }
}

fn refusal(status: StatusCode, message: &str) -> Box<Response<Body>> {
    let mut response = ApiError::new(ErrorCode::InvalidArgument, message).into_response();
    *response.status_mut() = status;
    Box::new(response)
}

/// The comma-separated values of a header, which may be there more than once.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Request<()> {
        Request::get("/v1/connect")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap()
    }

    fn with(name: &'static str, value: &'static str) -> Request<()> {
        let mut request = good();
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        request
    }

    #[test]
    fn the_example_of_the_rfc() {
        let response = check(&good()).unwrap().response();
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn the_first_known_subprotocol_is_taken() {
        for (offered, format) in [
            ("tidings.v1.json", Format::Json),
            ("tidings.v1.protobuf", Format::Protobuf),
            ("tidings.v2, tidings.v1.protobuf, tidings.v1.json", Format::Protobuf),
        ] {
            let accepted = check(&with("sec-websocket-protocol", offered)).unwrap();
            assert_eq!(accepted.format, format);
            assert_eq!(accepted.response().headers()[header::SEC_WEBSOCKET_PROTOCOL], format.subprotocol());
        }
    }

    #[test]
    fn bad_handshakes_are_told_what_is_wrong() {
        let mut post = good();
        *post.method_mut() = Method::POST;
        let mut plain = good();
        plain.headers_mut().remove(header::UPGRADE);
        let mut keyless = good();
        keyless.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
        for (request, status) in [
            (post, 405),
            (plain, 426),
            (keyless, 400),
            (with("connection", "keep-alive"), 426),
            (with("upgrade", "h2c"), 426),
            (with("sec-websocket-version", "8"), 426),
            (with("sec-websocket-key", "c2hvcnQ="), 400),
            (with("sec-websocket-key", "not base64"), 400),
            (with("sec-websocket-protocol", "graphql-ws"), 400),
        ] {
            assert_eq!(check(&request).unwrap_err().status().as_u16(), status, "{request:?}");
        }
    }
}

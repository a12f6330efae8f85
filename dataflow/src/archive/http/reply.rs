//! What the port answers, as a ClickHouse server would.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use super::compression::Encoding;
use crate::archive::{
    analyst::AnalystLimits,
    libchdb::{EngineError, Output, error::code},
};

pub(super) type Reply = Response<Full<Bytes>>;

/// A request that is not answered with a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: i32,
    message: String,
}

/// ClickHouse's code for what it has not.
const NOT_IMPLEMENTED: i32 = 48;
/// ClickHouse's code for arguments that make no sense.
const BAD_ARGUMENTS: i32 = 36;
/// ClickHouse's code for a wrong user or password.
const AUTHENTICATION_FAILED: i32 = 516;
/// ClickHouse's code for too much.
const QUERY_IS_TOO_LARGE: i32 = 307;

impl Refusal {
    fn new(status: StatusCode, code: i32, name: &str, message: &str) -> Self {
        Self { status, code, message: format!("Code: {code}. DB::Exception: {message}. ({name})") }
    }

    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, BAD_ARGUMENTS, "BAD_ARGUMENTS", message)
    }

    pub(super) fn not_implemented(message: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message)
    }

    pub(super) fn too_large() -> Self {
        let message = "The body is larger than this port takes: insert less at a time";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, QUERY_IS_TOO_LARGE, "QUERY_IS_TOO_LARGE", message)
    }

    pub(super) fn read_only() -> Self {
        let message = "This port answers queries and changes nothing: one statement that only reads";
        Self::new(StatusCode::FORBIDDEN, code::READONLY, "READONLY", message)
    }

    pub(super) fn denied(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code::ACCESS_DENIED, "ACCESS_DENIED", message)
    }

    pub(super) fn beyond_limit(message: &str) -> Self {
        let (code, name) = (code::SETTING_CONSTRAINT_VIOLATION, "SETTING_CONSTRAINT_VIOLATION");
        Self::new(StatusCode::FORBIDDEN, code, name, message)
    }

    /// The same whatever was wrong.
    pub(super) fn not_authenticated() -> Self {
        let message = "Authentication failed: the user or the password is not right, or there is none";
        Self::new(StatusCode::FORBIDDEN, AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED", message)
    }

    pub(super) fn busy() -> Self {
        let message = "Other queries are running: try again";
        let name = "TOO_MANY_SIMULTANEOUS_QUERIES";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code::TOO_MANY_SIMULTANEOUS_QUERIES, name, message)
    }

    /// Without the engine's words about the question by which it was found.
    pub(super) fn without_scope(mut self) -> Self {
        if let (Some(scope), Some(name)) = (self.message.find(": In scope "), self.message.rfind(" (")) {
            self.message = format!("{}.{}", &self.message[..scope], &self.message[name.max(scope)..]);
        }
        self
    }

    /// Says, where it comes of a limit, which one and how to ask differently.
    pub(super) fn with_hint(mut self, limits: &AnalystLimits) -> Self {
        if let Some(hint) = limits.hint(self.code) {
            self.message = format!("{}\n{hint}", self.message.trim_end());
        }
        self
    }

    /// As text with ClickHouse's headers.
    pub(super) fn reply(self) -> Reply {
        let mut reply = Response::new(Full::new(Bytes::from(self.message + "\n")));
        *reply.status_mut() = self.status;
        put(&mut reply, CONTENT_TYPE.as_str(), "text/plain; charset=UTF-8");
        put(&mut reply, "x-clickhouse-exception-code", &self.code.to_string());
        put_common(&mut reply);
        reply
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let Some(code) = error.code() else {
            tracing::error!(%error, "the archive cannot be queried");
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, 0, "UNAVAILABLE", &error.to_string());
        };
        Self { status: status(code), code, message: error.to_string() }
    }
}

/// The status that ClickHouse sends with an error code.
fn status(code: i32) -> StatusCode {
    /// Columns, functions, formats, settings … that are not there.
    const UNKNOWN: [i32; 8] = [16, 46, 47, 50, 60, 73, 81, 115];
    /// What cannot be parsed or makes no sense.
    const BAD: [i32; 21] = [6, 26, 27, 34, 36, 38, 41, 42, 43, 44, 53, 62, 69, 70, 72, 117, 130, 179, 184, 456, 457];
    match code {
        code::READONLY | code::ACCESS_DENIED | code::SETTING_CONSTRAINT_VIOLATION => StatusCode::FORBIDDEN,
        code::TIMEOUT_EXCEEDED => StatusCode::REQUEST_TIMEOUT,
        code::TOO_MANY_SIMULTANEOUS_QUERIES => StatusCode::SERVICE_UNAVAILABLE,
        NOT_IMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
        QUERY_IS_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        code if UNKNOWN.contains(&code) => StatusCode::NOT_FOUND,
        code if BAD.contains(&code) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A result, compressed as the client takes it.
pub(super) fn result(output: Output, format: &str, query_id: &str, accepts: Option<Encoding>) -> Reply {
    let summary = format!(
        "{{\"read_rows\":\"{}\",\"read_bytes\":\"{}\",\"written_rows\":\"{}\",\"result_bytes\":\"{}\"}}",
        output.rows_read,
        output.bytes_read,
        output.rows_written,
        output.bytes.len()
    );
    let packed = accepts.and_then(|encoding| Some((encoding, encoding.encoded(&output.bytes)?)));
    let (encoding, bytes) = packed.map_or((None, output.bytes), |(encoding, bytes)| (Some(encoding), bytes));
    let mut reply = Response::new(Full::new(Bytes::from(bytes)));
    put(&mut reply, CONTENT_TYPE.as_str(), content_type(format));
    if let Some(encoding) = encoding {
        put(&mut reply, CONTENT_ENCODING.as_str(), encoding.name());
    }
    put(&mut reply, "x-clickhouse-format", format);
    put(&mut reply, "x-clickhouse-query-id", query_id);
    put(&mut reply, "x-clickhouse-summary", &summary);
    put_common(&mut reply);
    reply
}

/// A plain text.
pub(super) fn text(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *reply.status_mut() = status;
    put(&mut reply, CONTENT_TYPE.as_str(), "text/plain; charset=UTF-8");
    reply
}

fn put_common(reply: &mut Reply) {
    put(reply, "x-clickhouse-server-display-name", "tidings");
    put(reply, "x-clickhouse-timezone", "UTC");
}

/// Sets a header, unless its value cannot be one (a client's odd query id).
fn put(reply: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = hyper::header::HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

fn content_type(format: &str) -> &'static str {
    if format.starts_with("TabSeparated") || format.starts_with("TSV") {
        "text/tab-separated-values; charset=UTF-8"
    } else if format.starts_with("CSV") {
        "text/csv; charset=UTF-8; header=absent"
    } else if format.starts_with("JSON") {
        "application/json; charset=UTF-8"
    } else if format.starts_with("Pretty") || matches!(format, "Vertical" | "Values" | "Markdown") {
        "text/plain; charset=UTF-8"
    } else {
        "application/octet-stream"
    }
}

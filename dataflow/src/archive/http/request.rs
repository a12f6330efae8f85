//! A request of a ClickHouse client, taken from the URL, the headers and the body.

use bytes::Bytes;
use hyper::HeaderMap;
use tidings_schemas::limits;

use super::{compression::Encoding, reply::Refusal};

/// What a client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SqlRequest {
    /// The statement, and the data behind it.
    pub(super) text: Bytes,
    /// The database that names without one are looked up in, unless it is the default one.
    pub(super) database: Option<String>,
    /// The format of the result when the statement names none.
    pub(super) format: Option<String>,
    /// The client's own name for the statement.
    pub(super) query_id: Option<String>,
    /// Settings, checked to be names.
    pub(super) settings: Vec<(String, String)>,
    /// Values for `{name:Type}` placeholders.
    pub(super) parameters: Vec<(String, String)>,
    /// How the answer may be compressed.
    pub(super) accepts: Option<Encoding>,
}

/// Arguments that are about the connection and no settings.
const NO_SETTINGS: [&str; 17] = [
    "user",
    "password",
    "quota_key",
    "role",
    "stacktrace",
    "buffer_size",
    "wait_end_of_query",
    "session_id",
    "session_timeout",
    "session_check",
    "close_session",
    "client_protocol_version",
    "enable_http_compression",
    "http_zlib_compression_level",
    "compress",
    "decompress",
    "http_native_compression_disable_checksumming_on_decompress",
];

/// Puts the parts of a request together.
pub(super) fn parse(url_query: &str, headers: &HeaderMap, body: Bytes) -> Result<SqlRequest, Refusal> {
    let mut request = SqlRequest::default();
    let mut query = String::new();
    for (name, value) in arguments(url_query) {
        let value = value.ok_or_else(|| Refusal::bad_request("an argument of the URL is not UTF-8"))?;
        match name.as_str() {
            "query" => query = value,
            "database" => request.database = Some(value).filter(|name| !name.is_empty()),
            "default_format" => request.format = Some(value).filter(|name| !name.is_empty()),
            "query_id" => request.query_id = Some(value),
            "compress" | "decompress" if value != "0" && !value.is_empty() => {
                return Err(Refusal::not_implemented(
                    "compression of ClickHouse's own kind: turn it off in the client; gzip and lz4 of HTTP's own work",
                ));
            }
            name if NO_SETTINGS.contains(&name) => {}
            name => match name.strip_prefix("param_") {
                Some(parameter) => request.parameters.push((parameter.to_owned(), value)),
                None if is_name(name) => request.settings.push((name.to_owned(), value)),
                None => return Err(Refusal::bad_request("an argument of the URL is not the name of a setting")),
            },
        }
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    request.accepts = Encoding::accepted(headers);
    request.database = request.database.or_else(|| header("x-clickhouse-database"));
    request.format = request.format.or_else(|| header("x-clickhouse-format"));
    request.text = match (query.is_empty(), body.is_empty()) {
        (true, _) => body,
        (false, true) => query.into(),
        // What follows the statement's line is its data.
        (false, false) => [query.as_bytes(), b"\n", &body].concat().into(),
    };
    if request.text.is_empty() {
        return Err(Refusal::bad_request("the request has no statement: give one as ?query= or as the body"));
    }
    Ok(request)
}

impl SqlRequest {
    /// The statement part, when it is text of an allowed size.
    pub(super) fn sql(bytes: &[u8]) -> Result<&str, Refusal> {
        if bytes.len() > limits::ARCHIVE_SQL_QUERY_BYTES_MAX {
            return Err(Refusal::bad_request("the statement is longer than 256 KiB"));
        }
        std::str::from_utf8(bytes).map_err(|_| Refusal::bad_request("the statement is not UTF-8"))
    }
}

/// Whether a setting may be called that: then it can stand in a statement as it is.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The arguments of a URL, decoded; a value that is not UTF-8 is `None`.
pub(super) fn arguments(url_query: &str) -> impl Iterator<Item = (String, Option<String>)> + '_ {
    url_query.split('&').filter(|argument| !argument.is_empty()).map(|argument| {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        (String::from_utf8(decoded(name)).unwrap_or_default(), String::from_utf8(decoded(value)).ok())
    })
}

/// Percent-decoded, with `+` for a blank.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url_query: &str, body: &str) -> Result<SqlRequest, Refusal> {
        parse(url_query, &HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn arguments_are_told_apart() {
        let request = parsed(
            "query=SELECT+%7Bx%3AString%7D%20+%25&database=d&default_format=JSON&param_x=a%26b&user=u&password=p&max_threads=1",
            "",
        );
        let expected = SqlRequest {
            text: Bytes::from_static(b"SELECT {x:String}  %"),
            database: Some("d".into()),
            format: Some("JSON".into()),
            settings: vec![("max_threads".into(), "1".into())],
            parameters: vec![("x".into(), "a&b".into())],
            query_id: None,
            accepts: None,
        };
        assert_eq!(request.ok(), Some(expected));
    }

    #[test]
    fn a_body_follows_the_statement() {
        assert_eq!(
            parsed("query=INSERT+INTO+t+FORMAT+CSV", "1").map(|request| request.text).ok(),
            Some("INSERT INTO t FORMAT CSV\n1".into())
        );
        assert_eq!(parsed("", "SELECT 1").map(|request| request.text).ok(), Some("SELECT 1".into()));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for url_query in
            ["", "query=", "query=%ff", "query=SELECT+1&a%20b=1", "query=SELECT+1&x'=1", "query=SELECT+1&compress=1"]
        {
            assert!(parsed(url_query, "").is_err(), "{url_query}");
        }
        for odd in ["query=%", "query=%4", "query=%zz", "query=100%25%", "query=%%41", "query=ä%C3%A4"] {
            assert!(parsed(odd, "").is_ok(), "{odd}");
        }
    }
}

//! Asking over ClickHouse's HTTP interface.

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;

use super::SqlArgs;
use crate::client::{
    Server,
    http::{HttpClient, http_client},
};

/// Where statements are asked, and how.
pub(super) struct Connection {
    server: Server,
    client: HttpClient,
    user: String,
    password: Option<String>,
    arguments: String,
}

/// Why there is no answer.
pub(super) enum Failed {
    /// Ctrl-C.
    Cancelled,
    /// It was refused, or failed.
    Error(anyhow::Error),
}

impl Connection {
    pub(super) fn new(server: Server, args: &SqlArgs, password: Option<String>, format: &str) -> Self {
        let mut arguments = format!("default_format={format}&database={}", encoded(&args.database));
        for (name, value) in &args.param {
            arguments += &format!("&param_{name}={}", encoded(value));
        }
        // On a terminal the engine may colour; a table that goes elsewhere is plain text.
        let is_terminal = args.output_file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stdout());
        arguments += if is_terminal { "&output_format_pretty_color=1" } else { "&output_format_pretty_color=0" };
        // An empty field is what other programs take for nothing; of `\N` only ClickHouse knows.
        arguments += "&format_csv_null_representation=";
        // A real server stops when the client goes away, as ours does; an error in the middle is an error.
        arguments += "&cancel_http_readonly_queries_on_client_close=1&wait_end_of_query=1";
        let client = http_client(&server);
        Self { server, client, user: args.user.clone(), password, arguments }
    }

    /// The answer to one statement, in its format. Ctrl-C cancels it.
    pub(super) async fn ask(&self, statement: &str) -> Result<Vec<u8>, Failed> {
        tokio::select! {
            answer = self.answer(statement) => answer.map_err(Failed::Error),
            interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
                Ok(()) => Failed::Cancelled,
                Err(error) => Failed::Error(error.into()),
            }),
        }
    }

    async fn answer(&self, statement: &str) -> Result<Vec<u8>> {
        let url = self.server.url();
        let mut request = Request::post(format!("{url}/?{}", self.arguments)).header("x-clickhouse-user", &self.user);
        if let Some(password) = &self.password {
            request = request.header("x-clickhouse-key", password);
        }
        let body = Full::new(Bytes::copy_from_slice(statement.as_bytes()));
        let request = request.body(body).context("the user, the password or the address cannot be sent")?;
        let response = self.client.request(request).await.with_context(|| {
            format!("cannot reach {url} (hint: does `tidings up` run there? for one that does not run: --data DIR)")
        })?;
        let status = response.status();
        let is_clickhouse = response.headers().contains_key("x-clickhouse-server-display-name")
            || response.headers().contains_key("x-clickhouse-summary")
            || response.headers().contains_key("x-clickhouse-exception-code");
        let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
        if !is_clickhouse {
            return Err(anyhow!(
                "{url} answers {status} and is no SQL port (hint: that is 8123 unless archive.http_listen says another)"
            ));
        }
        if status.is_success() {
            return Ok(body.to_vec());
        }
        Err(anyhow!("{}", readable(&String::from_utf8_lossy(&body))))
    }
}

/// An error of the engine's without what is for its developers.
fn readable(error: &str) -> String {
    let error = error.trim();
    let error = error.split_once("DB::Exception: ").map_or(error, |(_, error)| error);
    let error = error.find(" (version ").map_or(error, |at| &error[..at]);
    if error.contains("(UNKNOWN_QUERY_PARAMETER)") {
        return format!("{error} (hint: --param NAME=VALUE)");
    }
    // Of a hundred things that the parser would have taken, the first few say as much.
    match error.split_once(EXPECTED) {
        Some((before, rest)) if rest.matches(", ").count() > EXPECTED_MAX => {
            let some: Vec<&str> = rest.split(", ").take(EXPECTED_MAX).collect();
            format!("{before}{EXPECTED}{} … (SYNTAX_ERROR)", some.join(", "))
        }
        _ => error.to_owned(),
    }
}

const EXPECTED: &str = "Expected one of: ";
const EXPECTED_MAX: usize = 16;

/// Percent-encodes a value for a URL.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_for_people() {
        let error =
            "Code: 60. DB::Exception: Unknown table expression identifier 'x'. (UNKNOWN_TABLE) (version 26.7.3.1)\n";
        assert_eq!(readable(error), "Unknown table expression identifier 'x'. (UNKNOWN_TABLE)");
        assert_eq!(readable("no more\n"), "no more");
        let error = readable("Code: 456. DB::Exception: Substitution `day` is not set. (UNKNOWN_QUERY_PARAMETER)");
        assert_eq!(error, "Substitution `day` is not set. (UNKNOWN_QUERY_PARAMETER) (hint: --param NAME=VALUE)");
        let expected = (0..40).map(|number| format!("token {number}")).collect::<Vec<_>>().join(", ");
        let error = readable(&format!("Syntax error: x. Expected one of: {expected}. (SYNTAX_ERROR)"));
        assert!(error.ends_with("token 15 … (SYNTAX_ERROR)"), "{error}");
        assert_eq!(encoded("a b&ä"), "a%20b%26%C3%A4");
    }
}

//! Who may use the port: one user with a password, given in any of the ways that ClickHouse takes them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::{reply::Refusal, request};

/// A user and a password. Only the password's digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: [u8; 32],
}

impl Credentials {
    /// Of a user with that password.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: digest(password) }
    }

    /// Refuses a request without them: in `X-ClickHouse-User` and `X-ClickHouse-Key`, in basic authorisation, or in the
    /// arguments `user` and `password` of the URL. The first way that is used counts.
    pub(super) fn check(&self, url_query: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let (user, password) = given(url_query, headers);
        // Digests have one length: comparing them tells nothing of the password.
        let fits = digest(&user) == digest(&self.user) && digest(&password) == self.password;
        if fits { Ok(()) } else { Err(Refusal::not_authenticated()) }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The user and the password that a request gives; ClickHouse's default user and no password where it gives none.
fn given(url_query: &str, headers: &HeaderMap) -> (String, String) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let of = |user: Option<String>, password: Option<String>| {
        let is_given = user.is_some() || password.is_some();
        is_given.then(|| (user.unwrap_or_else(|| "default".to_owned()), password.unwrap_or_default()))
    };
    let basic = || {
        let value = header(header::AUTHORIZATION.as_str())?;
        let text = String::from_utf8(STANDARD.decode(value.strip_prefix("Basic ")?).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    };
    let in_url = || {
        let argument = |wanted: &str| request::arguments(url_query).find(|(name, _)| name == wanted)?.1;
        of(argument("user"), argument("password"))
    };
    let in_headers = of(header("x-clickhouse-user"), header("x-clickhouse-key"));
    in_headers.or_else(basic).or_else(in_url).unwrap_or_else(|| ("default".to_owned(), String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(url_query: &str, headers: &[(&'static str, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), header::HeaderValue::from_str(value).unwrap())
        });
        Credentials::new("me", "p:ss w\u{f6}rd").check(url_query, &headers.collect()).is_ok()
    }

    #[test]
    fn each_of_clickhouse_s_ways_is_taken() {
        let basic = format!("Basic {}", STANDARD.encode("me:p:ss w\u{f6}rd"));
        assert!(admits("", &[("authorization", &basic)]));
        assert!(admits("user=me&password=p%3Ass+w%C3%B6rd&query=x", &[]));
        let ascii = Credentials::new("me", "pass");
        let key = |key: &'static str| {
            let pairs = [("x-clickhouse-user", "me"), ("x-clickhouse-key", key)];
            pairs
                .into_iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
                .collect()
        };
        assert!(ascii.check("", &key("pass")).is_ok());
        assert!(ascii.check("", &key("Pass")).is_err());
        assert!(Credentials::new("default", "pass").check("password=pass", &HeaderMap::new()).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        for url_query in
            ["", "user=me", "user=me&password=", "password=p%3Ass+w%C3%B6rd", "user=you&password=x", "password=%ff"]
        {
            assert!(!admits(url_query, &[]), "{url_query}");
        }
        for value in ["", "Basic", "Basic ????", "Basic bWU=", "Bearer abc"] {
            assert!(!admits("", &[("authorization", value)]), "{value}");
        }
        // What comes first counts, also when it is wrong.
        assert!(!admits("user=me&password=p%3Ass+w%C3%B6rd", &[("x-clickhouse-user", "me")]));
        assert!(!format!("{:?}", Credentials::new("me", "secret")).contains("secret"));
    }
}

//! Whose pages a request comes from. A browser names the page's origin itself, and the page cannot change that; programs
//! that are no browsers name none. So a page of another origin, which somebody was led to, is told apart, unless the
//! settings allow it.

use axum::http::{HeaderMap, HeaderValue, header};

/// The origins whose pages may call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    allowed: Vec<String>,
}

/// Where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// No page that says so.
    None,
    /// A page that this very address has served.
    Same,
    /// A page of an origin that the settings allow.
    Allowed(HeaderValue),
    /// Any other page.
    Foreign,
}

/// What a page of another origin is told.
pub(crate) const FOREIGN: &str =
    "pages of this origin may not call this server: its operator allows others by the setting http.allowed_origins";

impl Origins {
    /// The server's own, and these: `https://app.example`, or `*` for all.
    pub(crate) fn new(allowed: &[String]) -> Self {
        let normal = |origin: &String| origin.trim_end_matches('/').to_ascii_lowercase();
        Self { allowed: allowed.iter().map(normal).collect() }
    }

    /// Whether another origin than the server's own may be allowed.
    pub(crate) fn allows_others(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Whose page the request is from.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Origin {
        let Some(value) = headers.get(header::ORIGIN) else { return Origin::None };
        let Ok(origin) = value.to_str() else { return Origin::Foreign };
        let origin = origin.to_ascii_lowercase();
        if self.allowed.iter().any(|allowed| allowed == "*" || *allowed == origin) {
            return Origin::Allowed(value.clone());
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if host.is_some_and(|host| is_same(&origin, &host.to_ascii_lowercase())) {
            Origin::Same
        } else {
            Origin::Foreign
        }
    }
}

/// Whether an origin is of that host and port. The scheme is not compared: behind a proxy that ends TLS we don't know it.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let name = |authority: &str| authority.strip_suffix(default_port).unwrap_or(authority).to_owned();
    name(authority) == name(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(allowed: &[&str], host: &'static str, origin: Option<&'static str>) -> Origin {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        let allowed: Vec<String> = allowed.iter().map(|&origin| origin.to_owned()).collect();
        Origins::new(&allowed).of(&headers)
    }

    #[test]
    fn the_own_origin_is_the_host_that_was_asked() {
        assert_eq!(of(&[], "chat.example", None), Origin::None, "no browser");
        for (host, origin) in [
            ("chat.example", "https://chat.example"),
            ("chat.example:443", "https://chat.example"),
            ("chat.example", "http://chat.example"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("Chat.Example", "https://chat.example"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(of(&[], host, Some(origin)), Origin::Same, "{origin} at {host}");
        }
        for origin in [
            "https://evil.example",
            "https://chat.example.evil.example",
            "https://chat.example:8443",
            "http://chat.example:443",
            "chrome-extension://chat.example",
            "null",
            "chat.example",
            "",
        ] {
            assert_eq!(of(&[], "chat.example", Some(origin)), Origin::Foreign, "{origin}");
        }
    }

    #[test]
    fn others_are_allowed_by_name_only() {
        let app = Some("https://app.example");
        assert!(matches!(
            of(&["https://other.example", "https://App.example/"], "chat.example", app),
            Origin::Allowed(_)
        ));
        assert!(matches!(of(&["*"], "chat.example", app), Origin::Allowed(_)));
        assert_eq!(of(&["https://app.example.org", "http://app.example"], "chat.example", app), Origin::Foreign);
        assert_eq!(of(&["*"], "chat.example", None), Origin::None);
    }
}

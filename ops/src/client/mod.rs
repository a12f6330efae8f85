//! A client of the public contract, for the terminal client and the load generator. It knows nothing of the inside.

pub mod http;
pub mod socket;

pub use http::Api;
pub use socket::{Format, Socket};

use anyhow::{Context, Result, bail};

/// Where a server is: the authority of an `http://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Host and port, such as `127.0.0.1:8080`.
    pub authority: String,
}

impl Server {
    /// From `http://host:port`, `ws://host:port` or `host:port`.
    pub fn parse(url: &str) -> Result<Self> {
        let authority = match url.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some((scheme, _)) => {
                bail!(
                    "the address {url:?} begins with {scheme}://, but only http:// is spoken (hint: put TLS in front)"
                )
            }
            None => url,
        };
        let authority = authority.trim_end_matches('/');
        if authority.is_empty() || authority.contains('/') {
            bail!("{url:?} is not the address of a server (hint: such as http://127.0.0.1:8080)");
        }
        let authority =
            if authority.rsplit_once(':').is_some() { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { authority })
    }

    /// Opens a TCP connection to it.
    pub async fn dial(&self) -> Result<tokio::net::TcpStream> {
        let stream = tokio::net::TcpStream::connect(&self.authority).await.with_context(|| {
            format!("cannot reach http://{} (hint: is `tidings up` running there?)", self.authority)
        })?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_form() {
        for url in ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "ws://127.0.0.1:8080", "127.0.0.1:8080"] {
            assert_eq!(Server::parse(url).unwrap().authority, "127.0.0.1:8080");
        }
        assert_eq!(Server::parse("http://chat.example").unwrap().authority, "chat.example:80");
        assert!(Server::parse("https://127.0.0.1").unwrap_err().to_string().contains("hint"));
        assert!(Server::parse("http://a/b").is_err());
    }
}

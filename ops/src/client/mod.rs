//! A client of the public contract, for the terminal client and the load generator. It knows nothing of the inside.
//!
//! - [`http`] and [`socket`]: the two halves of the contract. [`stream`]: a connection with or without TLS.

pub mod http;
pub mod socket;
pub mod stream;

pub use http::Api;
pub use socket::{Format, Socket};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

use self::stream::Stream;

/// Which server, from the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// For https: trust the certificates that this authority (or this very certificate, in PEM) vouches for, instead of
    /// those that the system trusts.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl ServerArgs {
    /// The server.
    pub fn server(&self) -> Result<Server> {
        Server::parse(&self.url, self.ca.as_deref())
    }
}

/// Where a server is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Server {
    /// Host and port, such as `127.0.0.1:8080`.
    pub authority: String,
    is_secure: bool,
    tls: Arc<ClientConfig>,
}

impl Server {
    /// From `http://host:port`, `https://host:port` (or `ws`, `wss`), or `host:port`. `ca`: whom to trust over https.
    pub fn parse(url: &str, ca: Option<&Path>) -> Result<Self> {
        let (is_secure, authority) = match url.split_once("://") {
            Some(("http" | "ws", rest)) => (false, rest),
            Some(("https" | "wss", rest)) => (true, rest),
            Some((scheme, _)) => {
                bail!("the address {url:?} begins with {scheme}:// (hint: http:// and https:// are spoken)")
            }
            None => (false, url),
        };
        if ca.is_some() && !is_secure {
            bail!("--ca is for https, and the address is {url} (hint: https://{authority})");
        }
        let authority = authority.trim_end_matches('/');
        if authority.is_empty() || authority.contains('/') {
            bail!("{url:?} is not the address of a server (hint: such as http://127.0.0.1:8080)");
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let default_port = if is_secure { 443 } else { 80 };
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
        let roots = if is_secure { roots(ca)? } else { RootCertStore::empty() };
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be spoken")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { authority, is_secure, tls: Arc::new(tls) })
    }

    /// Its address, as `http://host:port` or `https://host:port`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.authority)
    }

    /// Opens a connection to it.
    pub async fn dial(&self) -> Result<Stream> {
        let unreachable = || format!("cannot reach {} (hint: is `tidings up` running there?)", self.url());
        let stream = tokio::net::TcpStream::connect(&self.authority).await.with_context(unreachable)?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        if !self.is_secure {
            return Ok(Stream::Plain(stream));
        }
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .with_context(|| format!("{host} is no name that a certificate can be for"))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        let stream = stream.with_context(|| format!("no TLS with {} (hint: --ca names whom to trust)", self.url()))?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// Whom to trust: who is named, or whom the system trusts.
fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            bail!("the system names no certificate authority that it trusts (hint: --ca FILE)");
        }
        return Ok(roots);
    };
    let certificates =
        CertificateDer::pem_file_iter(file).with_context(|| format!("cannot read {}", file.display()))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("{} is no certificate in PEM", file.display()))?;
        roots.add(certificate).with_context(|| format!("{} holds a certificate that is no good", file.display()))?;
    }
    if roots.is_empty() {
        bail!("{} holds no certificate in PEM", file.display());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_form() {
        let url = |url: &str| Server::parse(url, None).unwrap().url();
        for same in ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "ws://127.0.0.1:8080", "127.0.0.1:8080"] {
            assert_eq!(url(same), "http://127.0.0.1:8080");
        }
        assert_eq!(url("http://chat.example"), "http://chat.example:80");
        assert_eq!(url("http://[::1]"), "http://[::1]:80");
        assert_eq!(url("http://[::1]:8080"), "http://[::1]:8080");
        assert!(Server::parse("ftp://127.0.0.1", None).unwrap_err().to_string().contains("hint"));
        assert!(Server::parse("http://a/b", None).is_err());
    }

    #[test]
    fn trust_is_for_https_and_comes_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        let server = Server::parse("https://localhost", Some(&file)).unwrap();
        assert_eq!(server.url(), "https://localhost:443");
        assert!(Server::parse("http://localhost", Some(&file)).is_err());
        assert!(Server::parse("https://localhost", Some(Path::new("/nowhere"))).is_err());
        std::fs::write(&file, "nothing in PEM").unwrap();
        assert!(Server::parse("https://localhost", Some(&file)).is_err());
    }
}

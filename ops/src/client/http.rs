//! The HTTP half of the contract.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};
use tidings_schemas::client;

use super::Server;

/// An error that the server answered with.
#[derive(Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The contract's error.
    pub error: client::Error,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.error.message, self.error.code)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// The API's error behind an [`anyhow::Error`], if it is one.
    pub fn of(error: &anyhow::Error) -> Option<&Self> {
        error.downcast_ref()
    }
}

/// Calls to one server, with connections kept open.
#[derive(Debug, Clone)]
pub struct Api {
    server: Server,
    client: HttpClient,
}

/// Speaks HTTP and HTTPS, with connections kept open.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// For this server, and whom it is trusted by.
pub fn http_client(server: &Server) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(rustls::ClientConfig::clone(&server.tls))
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Client::builder(TokioExecutor::new()).build(connector)
}

impl Api {
    /// For this server.
    pub fn new(server: Server) -> Self {
        let client = http_client(&server);
        Self { server, client }
    }

    /// Makes an account.
    pub async fn create_account(&self, username: &str, password: &str, name: &str) -> Result<client::TokenResponse> {
        let request = client::CreateAccountRequest {
            username: username.to_owned(),
            password: password.to_owned(),
            display_name: name.to_owned(),
        };
        self.call(Method::POST, "/v1/accounts", "", Some(&request)).await
    }

    /// Signs in.
    pub async fn create_token(&self, username: &str, password: &str) -> Result<client::TokenResponse> {
        let request = client::CreateTokenRequest { username: username.to_owned(), password: password.to_owned() };
        self.call(Method::POST, "/v1/tokens", "", Some(&request)).await
    }

    /// Calls `path` and reads the answer.
    pub async fn call<Request_: Serialize, Response: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Request_>,
    ) -> Result<Response> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).context("cannot encode the request")?,
            None => Vec::new(),
        };
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.server.url()))
            .header("content-type", "application/json");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body.into())).context("cannot build the request")?;
        let response =
            self.client.request(request).await.with_context(|| {
                format!("cannot reach {} (hint: is `tidings up` running there?)", self.server.url())
            })?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).with_context(|| format!("cannot read the answer to {method} {path}"));
        }
        let error = serde_json::from_slice::<client::ErrorResponse>(&body)
            .ok()
            .and_then(|response| response.error)
            .unwrap_or_else(|| client::Error {
                code: "internal".to_owned(),
                message: format!("HTTP {status}: {}", String::from_utf8_lossy(&body)),
                ..Default::default()
            });
        Err(ApiError { status, error }.into())
    }

    /// What a path that is not of the API says, as text.
    pub async fn text(&self, path: &str) -> Result<String> {
        let url = format!("{}{path}", self.server.url());
        let request = Request::builder().uri(&url).body(Full::default()).context("cannot build the request")?;
        let response = self.client.request(request).await.with_context(|| format!("cannot reach {url}"))?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
        anyhow::ensure!(status.is_success(), "{url} answered {status}");
        String::from_utf8(body.into()).with_context(|| format!("{url} did not answer with text"))
    }

    /// A `GET`.
    pub async fn get<Response: DeserializeOwned>(&self, path: &str, token: &str) -> Result<Response> {
        self.call::<(), _>(Method::GET, path, token, None).await
    }
}

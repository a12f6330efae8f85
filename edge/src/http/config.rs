//! Settings of the HTTP door.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidings_schemas::limits;

/// The HTTP door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The folder of the built web client. Left out, or without an `index.html`: `/` says how to build it.
    pub web_directory: Option<PathBuf>,
    /// Other origins whose pages may call the API and open WebSockets, such as `https://app.example.com`; `*`: all. The
    /// web client that this edge serves needs none, as long as a proxy in front passes on the `Host` that it was asked
    /// for. Programs that are no browsers name no origin and are not held up.
    pub allowed_origins: Vec<String>,
    /// A request must be answered within this.
    pub request_timeout_ms: u64,
    /// A JSON body in bytes. Over: 413.
    pub body_bytes_max: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            web_directory: None,
            allowed_origins: Vec::new(),
            request_timeout_ms: u64::try_from(limits::HTTP_REQUEST_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
            body_bytes_max: limits::HTTP_BODY_BYTES_MAX,
        }
    }
}

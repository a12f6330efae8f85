//! TLS on the port, if the settings name a certificate: 1.2 and 1.3, with ring.
//!
//! - [`certificate`]: certificate and key, read again when their files change.
//! - [`stream`]: a connection with or without TLS, for HTTP. [`socket`]: the same for a WebSocket, which asks for bytes
//!   without waiting and keeps no buffers between.

pub mod certificate;
pub mod socket;
pub mod stream;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::{
    certificate::{Certificate, TlsError},
    socket::Socket,
    stream::Stream,
};

/// TLS. Both files or none; without them the port speaks plain HTTP, and TLS ends at a proxy in front.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and those that lead to its authority, in PEM, the server's own first. Read again within a minute
    /// after the file changes; connections that are open keep what they have.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM. Only its owner and group may read the file.
    pub key: Option<PathBuf>,
}

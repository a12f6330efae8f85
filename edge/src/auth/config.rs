//! Settings of accounts and tokens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidings_schemas::limits;

/// Accounts and tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether anybody may make an account with a password.
    pub registration_open: bool,
    /// How long a token is valid.
    pub token_lifetime_seconds: u64,
    /// The file with the keys that tokens are signed with; all edges of a fleet need the same one. Made at first start.
    /// Left out: `keys/tokens.json` in the data folder.
    pub keys_file: Option<PathBuf>,
    /// Memory that one password hash takes (argon2id), in KiB. Less is quicker and weaker.
    pub password_hash_memory_kib: u32,
    /// Passes of a password hash over its memory.
    pub password_hash_iterations: u32,
    /// Outside issuers whose JWTs are taken.
    pub issuers: Vec<IssuerConfig>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            registration_open: true,
            token_lifetime_seconds: limits::TOKEN_LIFETIME_DEFAULT.as_secs(),
            keys_file: None,
            // The least that OWASP recommends for argon2id with one lane.
            password_hash_memory_kib: 19 * 1024,
            password_hash_iterations: 2,
            issuers: Vec::new(),
        }
    }
}

/// An outside issuer. Exactly one of the key files is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The `iss` claim, exactly.
    pub issuer: String,
    /// What the `aud` claim must hold.
    pub audience: String,
    /// The one algorithm that is taken: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`,
    /// `HS256`, `HS384` or `HS512`.
    pub algorithm: String,
    /// A file with the issuer's public key in PEM.
    #[serde(default)]
    pub public_key_file: Option<PathBuf>,
    /// A file with the issuer's JWKS.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// A file with the shared secret (for `HS…`).
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The claim that tells users apart and never changes.
    #[serde(default = "default_user_claim")]
    pub user_claim: String,
    /// The claim with the name to show. Used when the user is first seen.
    #[serde(default = "default_name_claim")]
    pub name_claim: String,
}

fn default_user_claim() -> String {
    "sub".to_owned()
}

fn default_name_claim() -> String {
    "name".to_owned()
}

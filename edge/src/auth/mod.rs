//! Who a client is: accounts of our own with a password, tokens, and the tokens of outside issuers.
//!
//! - [`config`]: the settings. [`usernames`]: their canonical form, and what else an account is made of.
//! - [`passwords`]: argon2id, on threads of its own and never more than a few at once.
//! - [`keys`]: the keys that our tokens are signed with. [`tokens`]: giving and checking them.
//! - [`issuers`]: tokens of others. [`accounts`]: registration and signing in, through the directory.
//! - [`credentials`]: another password, and the end of tokens. [`standing`]: whether a token was ended before its time.

pub mod accounts;
pub mod config;
pub mod credentials;
pub mod issuers;
pub mod keys;
pub mod passwords;
pub mod standing;
pub mod tokens;
pub mod usernames;

use std::{path::Path, sync::Arc};

use tidings_ingest::Log;
use tidings_schemas::{
    clock::{Clock, Entropy},
    ids::UserId,
    limits::TOKEN_BYTES_MAX,
};

pub use self::{
    config::{AuthConfig, IssuerConfig},
    keys::KeysError,
};
use self::{issuers::Issuers, keys::SigningKeys, passwords::Passwords, standing::Standings};
use crate::{error::ApiError, read::Reads};

/// Whose request it is, and with which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authenticated {
    /// The user.
    pub user_id: UserId,
    /// When the token ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: i64,
    /// Which token it is.
    pub token: TokenMark,
}

/// What it takes to tell whether a token was ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenMark {
    /// See [`tokens::token_id`].
    pub id: u128,
    /// When it was issued, in milliseconds since the Unix epoch; zero: it does not say.
    pub issued_at_ms: i64,
}

/// Why a token is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired: sign in again")]
    Expired,
    /// It is none of ours, nor of an issuer that we know.
    #[error("the token is not valid: sign in again")]
    Invalid,
    /// It was ended: its user has signed out with it, or everywhere, or has changed the password.
    #[error("the token was ended: sign in again")]
    Revoked,
    /// It may be good, but the user cannot be looked up now.
    #[error(transparent)]
    Unavailable(ApiError),
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired | TokenError::Invalid | TokenError::Revoked => Self::unauthenticated(error.to_string()),
            TokenError::Unavailable(error) => error,
        }
    }
}

/// Accounts and tokens of an edge.
pub struct Auth {
    config: AuthConfig,
    keys: SigningKeys,
    issuers: Issuers,
    passwords: Passwords,
    standings: Standings,
    log: Arc<dyn Log>,
    reads: Arc<Reads>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Auth {
    /// Loads the keys, or makes them at the first start (in `data_directory`, unless the settings name another place).
    ///
    /// # Errors
    /// A key file cannot be read, made or understood, or is open to other users of the machine; a setting is wrong.
    pub fn open(
        config: AuthConfig,
        data_directory: &Path,
        log: Arc<dyn Log>,
        reads: Arc<Reads>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KeysError> {
        let keys_file = config.keys_file.clone().unwrap_or_else(|| data_directory.join(keys::DEFAULT_FILE));
        let keys = SigningKeys::open(&keys_file, clock.as_ref(), entropy.as_ref())?;
        let issuers = Issuers::open(&config.issuers)?;
        let passwords = Passwords::new(&config, entropy.as_ref())?;
        let standings = Standings::new(Arc::clone(&reads), Arc::clone(&clock));
        Ok(Self { config, keys, issuers, passwords, standings, log, reads, clock, entropy })
    }

    /// Whose token this is. The user of an outside issuer's token is registered when first seen.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn verify(&self, token: &str) -> Result<Authenticated, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let now_ms = self.clock.now_ms();
        let authenticated = match tokens::verify(&self.keys, token, now_ms) {
            Some(verified) => verified?,
            None => {
                let identity = self.issuers.verify(token, now_ms)?;
                let user_id = self.outside_user(&identity).await.map_err(TokenError::Unavailable)?;
                let token = TokenMark { id: tokens::token_id(token), issued_at_ms: identity.issued_at_ms };
                Authenticated { user_id, expires_at_ms: identity.expires_at_ms, token }
            }
        };
        self.standings.check(authenticated.user_id, &authenticated.token).await?;
        Ok(authenticated)
    }

    /// Whether tokens were ended before their time.
    pub fn standings(&self) -> &Standings {
        &self.standings
    }
}

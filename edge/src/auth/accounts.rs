//! Accounts: registering and signing in. Who has a name is decided by the order in its partition of `directory` (first
//! wins): append, wait until the views have passed the record, and read who holds the name.

use bytes::Bytes;
use prost::Message as _;
use tidings_ingest::{LogExt as _, NewRecord};
use tidings_schemas::{
    client,
    ids::UserId,
    limits::{PASSWORD_BYTES, VIEW_WAIT_TIMEOUT},
    time::Timestamp,
    topics::{Topic, username_partition},
    wire::{self, directory_record::Body},
};

use super::{
    Auth,
    issuers::OutsideIdentity,
    tokens,
    usernames::{canonical_username, check_password, display_name, outside_username},
};
use crate::error::{ApiError, ErrorCode};

impl Auth {
    /// Makes an account and signs it in.
    ///
    /// # Errors
    /// `invalid_argument`; `already_exists`: somebody has the name; `permission_denied`: registration is closed;
    /// `unavailable`.
    pub async fn register(&self, request: client::CreateAccountRequest) -> Result<client::TokenResponse, ApiError> {
        if !self.config.registration_open {
            return Err(ApiError::new(
                ErrorCode::PermissionDenied,
                "accounts are not made here: ask the operator for one, or sign in with your identity provider",
            ));
        }
        let username = canonical_username(&request.username)?;
        let display_name = display_name(&request.display_name, request.username.trim())?;
        check_password(&request.password)?;
        // Most taken names are found here, before any work. The directory decides the rest.
        if self.reads.user_row_by_username(&username).await?.is_some() {
            return Err(taken());
        }
        let password_hash = self.passwords.hash(request.password, self.entropy.next_u128()).await?;
        let user_id = UserId::random(self.entropy.next_u128());
        if self.claim_username(user_id, username, display_name, password_hash).await? != user_id {
            return Err(taken());
        }
        self.token_for(user_id)
    }

    /// Signs in. Takes as long for a name that nobody has as for a wrong password.
    ///
    /// # Errors
    /// `unauthenticated`: no such pair. `unavailable`.
    pub async fn sign_in(&self, request: client::CreateTokenRequest) -> Result<client::TokenResponse, ApiError> {
        let row = match canonical_username(&request.username) {
            Ok(username) => self.reads.user_row_by_username(&username).await?,
            Err(_) => None,
        };
        let (user_id, stored) = row.map(|row| (row.user_id.map(UserId::from), row.password_hash)).unwrap_or_default();
        let mut password = request.password;
        let fits = password.len() <= *PASSWORD_BYTES.end();
        if !fits {
            password.clear();
        }
        let matches = self.passwords.verify(password, Some(stored)).await?;
        match user_id {
            Some(user_id) if matches && fits => self.token_for(user_id),
            _ => Err(ApiError::unauthenticated("the user name or the password is wrong")),
        }
    }

    /// The user of an outside issuer's token, registered when first seen.
    pub(super) async fn outside_user(&self, identity: &OutsideIdentity) -> Result<UserId, ApiError> {
        let username = outside_username(&identity.issuer, &identity.subject);
        if let Some(row) = self.reads.user_row_by_username(&username).await? {
            return row.user_id.map(UserId::from).ok_or_else(|| ApiError::internal("a stored row cannot be read"));
        }
        let name = display_name(&identity.name, &identity.subject);
        let name = name.or_else(|_| display_name("", "user")).unwrap_or_default();
        // Another device of the same user may be first: then the user is the one that it made.
        self.claim_username(UserId::random(self.entropy.next_u128()), username, name, String::new()).await
    }

    /// Claims a name for a new user. Gives the user who holds it in the end.
    async fn claim_username(
        &self,
        user_id: UserId,
        username: String,
        display_name: String,
        password_hash: String,
    ) -> Result<UserId, ApiError> {
        let register = wire::RegisterUser {
            user_id: Some(user_id.into()),
            username: username.clone(),
            display_name,
            password_hash,
        };
        let key = Bytes::copy_from_slice(username.as_bytes());
        self.enter(&username, key, Body::RegisterUser(register)).await?;
        let holder = self.reads.user_row_by_username(&username).await?.and_then(|row| row.user_id);
        holder.map(UserId::from).ok_or_else(|| ApiError::internal("the registration left no trace"))
    }

    /// Writes something about the holder of a name into the directory, and waits until the views have it.
    pub(super) async fn enter(&self, username: &str, key: Bytes, body: Body) -> Result<(), ApiError> {
        let partition = username_partition(username, self.log.partitions(Topic::Directory));
        let record = wire::DirectoryRecord { stamped_at_ms: self.clock.now_ms(), body: Some(body) };
        let value = record.encode_to_vec().into();
        let offsets = self.log.append(vec![NewRecord { topic: Topic::Directory, partition, key, value }]).await?;
        let offset = *offsets.first().ok_or_else(|| ApiError::internal("the log gave no offset"))?;
        Ok(self.reads.views().wait_past(Topic::Directory, partition, offset, VIEW_WAIT_TIMEOUT).await?)
    }

    /// A token that is given now.
    pub(super) fn token_for(&self, user_id: UserId) -> Result<client::TokenResponse, ApiError> {
        self.token_issued_at(user_id, self.clock.now_ms())
    }

    /// A token that is given at a moment.
    pub(super) fn token_issued_at(&self, user_id: UserId, now_ms: i64) -> Result<client::TokenResponse, ApiError> {
        let lifetime_ms = i64::try_from(self.config.token_lifetime_seconds).unwrap_or(i64::MAX).saturating_mul(1000);
        // A token says whole seconds, so the answer says the same.
        let expires_at_ms = now_ms.saturating_add(lifetime_ms).min(EXPIRES_AT_MS_MAX) / 1000 * 1000;
        let token = tokens::issue(&self.keys, user_id, self.entropy.next_u128(), now_ms, expires_at_ms)?;
        let expires_at = Some(Timestamp::from_millis(expires_at_ms));
        Ok(client::TokenResponse { user_id: user_id.to_string(), token, expires_at })
    }
}

/// The end of the year 9999: the last moment that RFC 3339 can write.
const EXPIRES_AT_MS_MAX: i64 = 253_402_300_799_000;

fn taken() -> ApiError {
    ApiError::new(ErrorCode::AlreadyExists, "this user name is taken: choose another")
}

//! What becomes of an account after it was made: another password, and the end of tokens. All of it is events in the
//! directory, in the partition of the user's name and so after the registration.

use bytes::Bytes;
use tidings_schemas::{
    client,
    ids::UserId,
    limits::PASSWORD_BYTES,
    wire::{self, directory_record::Body},
};

use super::{Auth, Authenticated, usernames::check_password};
use crate::error::{ApiError, ErrorCode};

impl Auth {
    /// Signs out: the caller's token ends.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn sign_out(&self, caller: &Authenticated) -> Result<(), ApiError> {
        let row = self.row(caller.user_id).await?;
        let token = wire::RevokedToken {
            token_id: Bytes::copy_from_slice(&caller.token.id.to_be_bytes()),
            issued_at_ms: caller.token.issued_at_ms,
            expires_at_ms: caller.expires_at_ms,
        };
        let key = key(&row.username, &caller.token.id.to_be_bytes());
        let body = Body::RevokeToken(wire::RevokeToken { user_id: row.user_id, token: Some(token) });
        self.enter(&row.username, key, body).await?;
        self.standings.ended(caller.user_id);
        Ok(())
    }

    /// Signs out everywhere: all tokens of the user end, the caller's too.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn sign_out_everywhere(&self, caller: &Authenticated) -> Result<(), ApiError> {
        let row = self.row(caller.user_id).await?;
        let body = wire::RevokeTokens { user_id: row.user_id, valid_from_ms: self.end_of(caller) };
        self.enter(&row.username, key(&row.username, b"everywhere"), Body::RevokeTokens(body)).await?;
        self.standings.ended(caller.user_id);
        Ok(())
    }

    /// Takes another password. All tokens of the user end; the answer has a new one.
    ///
    /// # Errors
    /// `permission_denied`: the present password is another, or there is none (an outside account);
    /// `invalid_argument`: the new one is too short or too long; `unavailable`.
    pub async fn change_password(
        &self,
        caller: &Authenticated,
        request: client::ChangePasswordRequest,
    ) -> Result<client::TokenResponse, ApiError> {
        let denied = |message: &str| ApiError::new(ErrorCode::PermissionDenied, message);
        let row = self.row(caller.user_id).await?;
        if row.password_hash.is_empty() {
            return Err(denied("this account has no password: it belongs to your identity provider"));
        }
        check_password(&request.new_password)?;
        let fits = request.password.len() <= *PASSWORD_BYTES.end();
        let password = if fits { request.password } else { String::new() };
        if !self.passwords.verify(password, Some(row.password_hash)).await? || !fits {
            return Err(denied("the present password is another"));
        }
        let password_hash = self.passwords.hash(request.new_password, self.entropy.next_u128()).await?;
        let tokens_valid_from_ms = self.end_of(caller);
        let body = wire::ChangePassword { user_id: row.user_id, password_hash, tokens_valid_from_ms };
        self.enter(&row.username, key(&row.username, b"password"), Body::ChangePassword(body)).await?;
        self.standings.ended(caller.user_id);
        self.token_issued_at(caller.user_id, self.clock.now_ms().max(tokens_valid_from_ms))
    }

    /// Now, and after the caller's own token.
    fn end_of(&self, caller: &Authenticated) -> i64 {
        self.clock.now_ms().max(caller.token.issued_at_ms.saturating_add(1))
    }

    async fn row(&self, user: UserId) -> Result<wire::UserRow, ApiError> {
        let row = self.reads.user_row(user).await?;
        row.ok_or_else(|| ApiError::unavailable("the views are being brought up to date: try again"))
    }
}

/// A key of its own for each kind of record of a name: of each, only the newest counts.
fn key(username: &str, kind: &[u8]) -> Bytes {
    [username.as_bytes(), b"\0", kind].concat().into()
}

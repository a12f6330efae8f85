//! The first frame: whose token it is, and the session that follows from it.

use std::{sync::Arc, time::Duration};

use tidings_schemas::{
    client,
    errors::CloseCode,
    ids::SessionId,
    limits::{FRAME_BYTES_MAX, ID_BYTES_MAX},
};
use tokio::time::timeout;

use super::{
    task::{ATTACH_RETRY_INTERVAL, Task},
    transport::Transport,
};
use crate::{
    auth::TokenError,
    commands::validate,
    error::ApiError,
    sessions::{Session, session::Hello},
};

impl<S: Transport> Task<S> {
    pub(super) async fn say_hello(&mut self, id: u32, hello: client::Hello) {
        if let Err(error) = validate::bounded("device_id", &hello.device_id, ID_BYTES_MAX) {
            return self.refuse_hello(id, &error, CloseCode::ProtocolError);
        }
        let generation = self.context.auth.standings().generation();
        // Boxed: a connection is this large once, for a moment.
        let verify = Box::pin(self.context.auth.verify(&hello.token));
        let verified = timeout(self.context.hello_timeout, verify).await;
        let authenticated = match verified {
            Ok(Ok(authenticated)) => authenticated,
            Ok(Err(error)) => return self.refuse_token(id, error),
            Err(_) => {
                let error = ApiError::unavailable("the token cannot be checked at the moment: try again");
                return self.refuse_hello(id, &error, CloseCode::Overloaded);
            }
        };
        let (user_id, token) = (authenticated.user_id, authenticated.token);
        let hello = Hello { id, user_id, token, device_id: hello.device_id, resume: hello.resume };
        let session = Arc::new(Session::new(
            Arc::clone(&self.context.session_context),
            Arc::clone(&self.connection),
            SessionId(self.context.entropy.next_u64()),
            hello,
        ));
        if let Err(error) = self.context.sessions.open(&session) {
            return self.refuse_hello(id, &error, CloseCode::Overloaded);
        }
        // The session can be found now. If tokens ended since the check, this one may have, unseen by either side.
        let standings = self.context.auth.standings();
        if standings.generation() != generation
            && let Err(error) = Box::pin(standings.check(user_id, &token)).await
        {
            self.context.sessions.close(&session);
            return self.refuse_token(id, error);
        }
        let count = i64::try_from(self.context.sessions.len()).unwrap_or(i64::MAX);
        self.context.metrics.sessions.set(count);
        self.decoder.set_message_bytes_max(FRAME_BYTES_MAX);
        let now = self.context.clock.monotonic();
        let valid_ms = authenticated.expires_at_ms.saturating_sub(self.context.clock.now_ms());
        self.token_expires_at = now.saturating_add(Duration::from_millis(valid_ms.max(0).unsigned_abs()));
        self.attach_retry_at = now + ATTACH_RETRY_INTERVAL;
        self.open_session(&session);
        self.guard.session = Some(Arc::clone(&session));
        self.session = Some(session);
    }

    pub(super) fn open_session(&self, session: &Session) {
        self.context.signals.session_opened(session.user_id(), session.session_id(), session.device_id());
    }

    fn refuse_token(&self, id: u32, error: TokenError) {
        let code = match error {
            TokenError::Expired => CloseCode::TokenExpired,
            TokenError::Invalid | TokenError::Revoked => CloseCode::Unauthenticated,
            TokenError::Unavailable(_) => CloseCode::Overloaded,
        };
        self.refuse_hello(id, &error.into(), code);
    }

    pub(super) fn refuse_hello(&self, id: u32, error: &ApiError, code: CloseCode) {
        self.connection.reply_error(id, error);
        self.connection.close(code);
    }
}

//! How a connection ends: the client gets to read why, and everybody else sees that it is gone.

use std::{future::poll_fn, io::ErrorKind, sync::Arc};

use tidings_schemas::{errors::CloseCode, limits::CLOSE_LINGER};
use tokio::time::timeout;

use super::{
    codec,
    queue::Connection,
    task::{Context, SCRATCH},
    transport::Transport,
};
use crate::{metrics::Metrics, sessions::Session, tls::Socket};

/// Closes a connection right after its handshake, because there is no room for it.
pub async fn refuse(mut socket: Socket, metrics: &Metrics) {
    let mut frame = Vec::new();
    codec::put_close(&mut frame, Some(CloseCode::Overloaded as u16), CloseCode::Overloaded.reason());
    metrics.closed(CloseCode::Overloaded);
    // A fresh socket takes so few bytes at once.
    if socket.writable().await.is_ok() && socket.try_write(&frame).is_ok() {
        linger(socket).await;
    }
}

/// Lets the client read the close frame: a socket that is closed with unread bytes resets the connection, and what was
/// under way is lost.
pub(super) async fn linger<S: Transport>(mut stream: S) {
    if stream.finish_writing().is_err() {
        return;
    }
    let end = async {
        loop {
            poll_fn(|context| stream.poll_readable(context)).await;
            let read = SCRATCH.with_borrow_mut(|scratch| stream.try_read(scratch));
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    // Whether it answered or not, this is the end.
    let _ = timeout(CLOSE_LINGER, end).await;
}

/// What others see of a connection, until this is dropped, also by a panic.
pub(super) struct Guard {
    pub(super) context: Arc<Context>,
    connection: Arc<Connection>,
    place: u64,
    pub(super) session: Option<Arc<Session>>,
    pub(super) said_goodbye: bool,
    pub(super) timed_out: bool,
}

impl Guard {
    pub(super) fn new(context: &Arc<Context>, connection: &Arc<Connection>) -> Self {
        let place = context.connections.enter(connection);
        let (context, connection) = (Arc::clone(context), Arc::clone(connection));
        Self { context, connection, place, session: None, said_goodbye: false, timed_out: false }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Whoever closes a connection knows that the client is gone from it; so does the client who said so.
        let is_clean = (self.said_goodbye || !self.connection.is_open()) && !self.timed_out;
        if self.said_goodbye {
            self.context.metrics.ended("client");
        }
        self.connection.gone();
        self.context.connections.leave(self.place);
        if let Some(session) = self.session.take() {
            self.context.sessions.close(&session);
            let count = i64::try_from(self.context.sessions.len()).unwrap_or(i64::MAX);
            self.context.metrics.sessions.set(count);
            let signals = &self.context.signals;
            session.watched().end(|watched| {
                signals.watch(session.session_id(), watched, false);
                signals.session_closed(session.user_id(), session.session_id(), is_clean);
            });
        }
    }
}

//! The one task of a connection. It alone touches the socket: it writes what is in the queue, reads and decodes what the
//! client sends, and keeps the connection's times. It is one future without buffers, so that an idle connection is small.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, ErrorKind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tidings_schemas::{
    client::{self, ClientFrame, client_frame::Command},
    clock::{Clock, Entropy},
    errors::CloseCode,
    limits::{CLOSE_LINGER, COMMANDS_IN_FLIGHT_MAX, HELLO_FRAME_BYTES_MAX, PINGS_UNANSWERED_MAX},
};
use tokio::time::{Instant, Sleep, sleep};

use super::{
    codec::{self, CodecError, Decoder, Flow, Incoming},
    dispatch::dispatch,
    ending::{Guard, linger},
    format::{Format, FrameError},
    queue::Connection,
    transport::Transport,
};
use crate::{
    auth::Auth,
    commands::Commands,
    connections::Connections,
    error::ApiError,
    metrics::Metrics,
    sessions::{Session, SessionContext, Sessions},
    signals::Signals,
};

/// What all connections share.
pub struct Context {
    /// Who a token belongs to.
    pub auth: Arc<Auth>,
    /// What clients ask for.
    pub commands: Arc<Commands>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// What all sessions share.
    pub session_context: Arc<SessionContext>,
    /// Sessions, presence, typing.
    pub signals: Arc<Signals>,
    /// All connections, those without a session too.
    pub connections: Arc<Connections>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For session ids.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// `hello` must come within this.
    pub hello_timeout: Duration,
    /// The server pings this often.
    pub ping_interval: Duration,
    /// Of one connection's outgoing queue.
    pub outgoing_queue_bytes_max: usize,
}

/// What the connections of a thread read into: each decodes its bytes before the next one reads.
const SCRATCH_BYTES: usize = 16 * 1024;
/// How long the stage has to answer a `SessionOpened` before it is said again.
pub(super) const ATTACH_RETRY_INTERVAL: Duration = Duration::from_secs(2);

thread_local! {
    pub(super) static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// Why a connection's task ends without a closing handshake of ours.
enum End {
    /// The client is gone without a goodbye.
    Broken,
    /// All is said, the close frame included.
    Closed,
}

pub(super) struct Task<S> {
    pub(super) context: Arc<Context>,
    stream: S,
    pub(super) connection: Arc<Connection>,
    pub(super) guard: Guard,
    pub(super) decoder: Decoder,
    /// The decoder may hold whole messages, because it was paused.
    decoder_paused: bool,
    pub(super) session: Option<Arc<Session>>,
    /// The first frame, until it is dealt with. Boxed: every connection has room for it, few have it.
    hello: Option<Box<(u32, client::Hello)>>,
    writing: Vec<u8>,
    written: usize,
    write_blocked: bool,
    pings_unanswered: u32,
    opened_at: Duration,
    next_ping_at: Duration,
    /// Next time to say `SessionOpened` again, while the stage has not answered.
    pub(super) attach_retry_at: Duration,
    pub(super) token_expires_at: Duration,
    /// Set once the connection is being closed: when to give up on it.
    close_by: Option<Duration>,
}

/// Serves a connection after its handshake, until it ends. `already_read`: what came right behind the handshake.
pub async fn serve<S: Transport>(context: Arc<Context>, stream: S, already_read: Vec<u8>, format: Format) {
    let connection = Arc::new(Connection::new(format, context.outgoing_queue_bytes_max, Arc::clone(&context.metrics)));
    let guard = Guard::new(&context, &connection);
    let now = context.clock.monotonic();
    let next_ping_at = now + context.ping_interval;
    let mut task = Task {
        context,
        stream,
        connection,
        guard,
        decoder: Decoder::new(HELLO_FRAME_BYTES_MAX),
        decoder_paused: false,
        session: None,
        hello: None,
        writing: Vec::new(),
        written: 0,
        write_blocked: false,
        pings_unanswered: 0,
        opened_at: now,
        next_ping_at,
        attach_retry_at: Duration::MAX,
        token_expires_at: Duration::MAX,
        close_by: None,
    };
    task.feed(&mut already_read.into_boxed_slice());
    let end = task.run().await;
    let Task { stream, guard, .. } = task;
    match end {
        End::Broken => guard.context.metrics.ended("broken"),
        End::Closed => {
            drop(guard);
            linger(stream).await;
        }
    }
}

impl<S: Transport> Task<S> {
    async fn run(&mut self) -> End {
        let mut timer = pin!(sleep(Duration::ZERO));
        let mut timer_at = Duration::ZERO;
        loop {
            if let Some(hello) = self.hello.take() {
                let (id, hello) = *hello;
                self.say_hello(id, hello).await;
            }
            self.check_times();
            if self.read().is_err() {
                return End::Broken;
            }
            match self.write() {
                Ok(true) => return End::Closed,
                Ok(false) => {}
                Err(_) => return End::Broken,
            }
            if self.hello.is_some() {
                continue;
            }
            let (now, next) = (self.context.clock.monotonic(), self.next_time());
            // A timer that rings too early does no harm; setting it anew for each frame would.
            if next < timer_at || timer_at <= now {
                timer.as_mut().reset(Instant::now() + next.saturating_sub(now));
                timer_at = next;
            }
            self.wait(timer.as_mut()).await;
        }
    }

    /// Waits until there is something to write, to read or to do, whichever comes first.
    async fn wait(&mut self, mut timer: Pin<&mut Sleep>) {
        let is_paused = self.is_paused();
        poll_fn(|context| {
            self.connection.waker().register(context.waker());
            if self.connection.take_wake() || timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            if self.write_blocked && self.stream.poll_writable(context).is_ready() {
                return Poll::Ready(());
            }
            if !is_paused && self.stream.poll_readable(context).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Nothing is read while the client waits for `welcome`, or for too many replies, or is being closed.
    fn is_paused(&self) -> bool {
        self.hello.is_some()
            || self.close_by.is_some()
            || self.session.as_ref().is_some_and(|session| !session.is_welcomed())
            || self.connection.commands_in_flight() >= COMMANDS_IN_FLIGHT_MAX
    }

    // ---- writing ----

    /// Writes what there is, as far as the socket takes it. True: the close frame is written.
    fn write(&mut self) -> io::Result<bool> {
        loop {
            if self.written == self.writing.len() {
                let taken = self.connection.take();
                if taken.bytes.is_empty() {
                    self.writing = Vec::new();
                    self.written = 0;
                    self.write_blocked = !self.stream.try_flush()?;
                    return Ok(taken.is_last && (!self.write_blocked || self.is_given_up()));
                }
                self.writing = taken.bytes;
                self.written = 0;
            } else if let Some(close) = self.connection.take_cut_off() {
                // The frame that the client has the beginning of must be finished.
                self.writing.truncate(codec::frame_boundary(&self.writing, self.written));
                self.writing.extend_from_slice(&close);
            }
            let unwritten = self.writing.get(self.written..).unwrap_or_default();
            match self.stream.try_write(unwritten) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.write_blocked = false;
                    self.context.metrics.socket_writes.inc();
                    self.context.metrics.sent_bytes.inc_by(count as u64);
                    self.connection.set_unwritten(self.writing.len() - self.written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.write_blocked = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    // ---- reading ----

    /// Reads once, and decodes it.
    fn read(&mut self) -> io::Result<()> {
        if self.is_paused() {
            return Ok(());
        }
        if self.decoder_paused {
            self.decoder_paused = false;
            self.feed(&mut []);
            // There may be more where that came from.
            self.connection.wake();
            return Ok(());
        }
        SCRATCH.with_borrow_mut(|scratch| match self.stream.try_read(scratch) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.context.metrics.received_bytes.inc_by(count as u64);
                self.feed(scratch.get_mut(..count).unwrap_or_default());
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        })
    }

    fn feed(&mut self, input: &mut [u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        let result = decoder.feed(input, |incoming| self.take(incoming));
        self.decoder = decoder;
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: CodecError) {
        tracing::debug!(%error, "a connection is closed for what it sent");
        self.connection.close(error.close_code());
    }

    fn take(&mut self, incoming: Incoming<'_>) -> Flow {
        self.pings_unanswered = 0;
        self.sign_of_life();
        match incoming {
            Incoming::Ping(payload) => self.connection.push_control(|out| codec::put_pong(out, payload)),
            Incoming::Pong => {}
            Incoming::Close(code) => {
                self.guard.said_goodbye = true;
                self.connection.close_in_reply(code);
            }
            Incoming::Text(text) => self.message(true, text.as_bytes()),
            Incoming::Binary(bytes) => self.message(false, bytes),
        }
        if self.is_paused() || !self.connection.is_open() {
            self.decoder_paused = true;
            return Flow::Pause;
        }
        Flow::Continue
    }

    fn sign_of_life(&self) {
        if let Some(session) = &self.session
            && session.sign_of_life()
        {
            self.context.signals.heartbeat(session.user_id(), session.session_id());
        }
    }

    fn message(&mut self, is_text: bool, payload: &[u8]) {
        self.context.metrics.frames_received.inc();
        let format = self.connection.format();
        if is_text != format.is_text() {
            return self.fail(CodecError::Protocol("a message of the other format's kind"));
        }
        match format.decode(payload) {
            Ok(frame) => self.frame(frame),
            Err(FrameError::Wrong { id, message }) if self.session.is_some() => {
                self.connection.reply_error(id, &ApiError::invalid_argument(message));
            }
            Err(_) => self.fail(CodecError::Protocol("a message that is no frame")),
        }
    }

    fn frame(&mut self, frame: ClientFrame) {
        match (&self.session, frame.command) {
            (None, Some(Command::Hello(hello))) => self.hello = Some(Box::new((frame.id, hello))),
            (None, _) => {
                let error = ApiError::unauthenticated("the first frame must be hello, with a token");
                self.connection.reply_error(frame.id, &error);
                self.connection.close(CloseCode::Unauthenticated);
            }
            (Some(session), command) => {
                dispatch(&self.context, session, ClientFrame { id: frame.id, command });
            }
        }
    }

    // ---- times ----

    /// When there is something to do next, if nothing comes before.
    fn next_time(&self) -> Duration {
        if let Some(close_by) = self.close_by {
            return close_by;
        }
        let hello_by = match &self.session {
            None => self.opened_at + self.context.hello_timeout,
            Some(session) if !session.is_welcomed() => self.attach_retry_at,
            Some(_) => Duration::MAX,
        };
        hello_by.min(self.next_ping_at).min(self.token_expires_at)
    }

    /// Whether the client has had its time to take what was left.
    fn is_given_up(&self) -> bool {
        self.close_by.is_some_and(|close_by| close_by <= self.context.clock.monotonic())
    }

    fn check_times(&mut self) {
        let now = self.context.clock.monotonic();
        if self.close_by.is_none() && !self.connection.is_open() {
            self.close_by = Some(now + CLOSE_LINGER);
        }
        if self.close_by.is_some() {
            if self.is_given_up() {
                // What the client does not take within this it does not get.
                self.writing = Vec::new();
                self.written = 0;
            }
            // Nothing else is due. To close it once more would wake this task, which would close it once more.
            return;
        }
        match &self.session {
            None if self.opened_at + self.context.hello_timeout <= now => {
                self.connection.close(CloseCode::Unauthenticated);
            }
            Some(session) if !session.is_welcomed() && self.attach_retry_at <= now => {
                self.attach_retry_at = now + ATTACH_RETRY_INTERVAL;
                if self.opened_at + 2 * self.context.hello_timeout <= now {
                    let error = ApiError::unavailable("the session cannot be opened at the moment: come back");
                    let id = session.hello_id();
                    self.refuse_hello(id, &error, CloseCode::Overloaded);
                } else {
                    self.open_session(session);
                }
            }
            _ => {}
        }
        if self.token_expires_at <= now {
            self.connection.close(CloseCode::TokenExpired);
        }
        if self.next_ping_at <= now {
            self.next_ping_at = now + self.context.ping_interval;
            if self.pings_unanswered >= PINGS_UNANSWERED_MAX {
                self.guard.timed_out = true;
                self.connection.close(CloseCode::PingTimeout);
            } else {
                self.pings_unanswered += 1;
                self.connection.push_control(codec::put_ping);
            }
        }
    }
}

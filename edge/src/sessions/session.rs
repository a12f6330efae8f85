//! One session: a connection that said `hello`, and the stream of updates that goes through it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;
use tidings_schemas::{
    client::{self, server_frame::Body},
    clock::Clock,
    errors::CloseCode,
    ids::{ConversationId, SessionId, UserId},
    limits::{CATCH_UP_PAGE_ITEMS, SIGN_OF_LIFE_INTERVAL, TYPING_INTERVAL},
    time::Timestamp,
};
use tokio::time::sleep;

use super::{
    stream::{Next, Step, Stream},
    watched::Watched,
};
use crate::{
    auth::TokenMark,
    error::ApiError,
    metrics::{Metrics, seconds},
    read::{Reads, Updates},
    websocket::{
        format::{SharedUpdate, reply},
        queue::{Connection, Queued},
    },
};

/// Reads that fail before a session is given up (closed with 4003, to come back later).
const CATCH_UP_ATTEMPTS_MAX: u32 = 5;
/// Conversations whose last `typing` a session remembers; more, and it forgets all of them.
const TYPING_REMEMBERED_MAX: usize = 64;

/// What all sessions of an edge share.
pub struct SessionContext {
    /// Where missing updates are read.
    pub reads: Arc<Reads>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The identity of the log that offsets are of.
    pub epoch: String,
    /// How often clients are asked for a heartbeat.
    pub heartbeat_interval_ms: u32,
}

/// A session.
pub struct Session {
    context: Arc<SessionContext>,
    connection: Arc<Connection>,
    user_id: UserId,
    token: TokenMark,
    session_id: SessionId,
    device_id: Box<str>,
    /// The id of the `hello` frame, which `welcome` answers.
    hello_id: u32,
    /// The device asked to resume a stream that is not this one.
    wrong_epoch: bool,
    opened_at: Duration,
    welcomed: AtomicBool,
    stream: Mutex<Stream>,
    /// Milliseconds of monotonic time.
    sign_of_life_at_ms: AtomicU64,
    watched: Watched,
    typing: Mutex<Option<Box<HashMap<ConversationId, Duration>>>>,
}

/// What `hello` said, once its token was found good.
pub struct Hello {
    /// The frame's id.
    pub id: u32,
    /// Whose token it is.
    pub user_id: UserId,
    /// Which token it is.
    pub token: TokenMark,
    /// Empty: a device of its own.
    pub device_id: String,
    /// Where the device is in the stream.
    pub resume: Option<client::Resume>,
}

impl Session {
    /// A new session, not yet entered or attached.
    pub fn new(context: Arc<SessionContext>, connection: Arc<Connection>, session_id: SessionId, hello: Hello) -> Self {
        let wrong_epoch = hello.resume.as_ref().is_some_and(|resume| resume.epoch != context.epoch);
        let resume = hello.resume.filter(|_| !wrong_epoch).map(|resume| resume.offset);
        let opened_at = context.clock.monotonic();
        Self {
            context,
            connection,
            user_id: hello.user_id,
            token: hello.token,
            session_id,
            device_id: hello.device_id.into(),
            hello_id: hello.id,
            wrong_epoch,
            opened_at,
            welcomed: AtomicBool::new(false),
            stream: Mutex::new(Stream::new(resume)),
            sign_of_life_at_ms: AtomicU64::new(millis(opened_at)),
            watched: Watched::default(),
            typing: Mutex::default(),
        }
    }

    /// Whose it is.
    pub fn user_id(&self) -> UserId {
        self.user_id
    }

    /// The token that it was opened with.
    pub fn token(&self) -> TokenMark {
        self.token
    }

    /// Its id.
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// The device that the client named.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The id of the frame that `welcome` answers.
    pub fn hello_id(&self) -> u32 {
        self.hello_id
    }

    /// Its connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Whether both are of one device of one user.
    pub fn is_same_device(&self, other: &Self) -> bool {
        self.user_id == other.user_id && !self.device_id.is_empty() && self.device_id == other.device_id
    }

    /// Whether `welcome` is in the queue; before that, nothing else may be.
    pub fn is_welcomed(&self) -> bool {
        self.welcomed.load(Ordering::Acquire)
    }

    /// The stage pushes every update after `offset`. Runs inside the runtime.
    pub fn attached(self: &Arc<Self>, offset: u64) {
        let mut stream = self.stream();
        let first = stream.is_attaching();
        match stream.attached(offset) {
            Step::Write => self.welcome(offset, self.wrong_epoch),
            Step::Resynchronise => self.welcome(offset, true),
            Step::CatchUp if first => self.start_catch_up(Some(offset)),
            Step::CatchUp => self.start_catch_up(None),
            Step::Nothing => {}
        }
    }

    /// An update was pushed. Returns whether its connection is to be woken.
    pub fn pushed(self: &Arc<Self>, offset: u64, update: &Arc<SharedUpdate>) -> bool {
        let mut stream = self.stream();
        match stream.pushed(offset, update) {
            // Under the stream's lock, so that nobody writes the next one before.
            Step::Write => self.write(offset, update) == Queued::Yes,
            Step::CatchUp => {
                self.start_catch_up(None);
                false
            }
            Step::Nothing | Step::Resynchronise => false,
        }
    }

    /// An update was pushed that has to be read: it is not the same for all its recipients.
    pub fn pushed_to_read(self: &Arc<Self>, offset: u64) {
        if self.stream().reach(offset) == Step::CatchUp {
            self.start_catch_up(None);
        }
    }

    fn write(&self, offset: u64, update: &SharedUpdate) -> Queued {
        update.with_offset(self.connection.format(), offset, |parts| self.connection.push(parts))
    }

    fn welcome(&self, offset: u64, resync_required: bool) {
        let now = self.context.clock.monotonic();
        self.context.metrics.attach_seconds.observe(seconds(self.opened_at, now));
        let welcome = client::Welcome {
            user_id: self.user_id.to_string(),
            session_id: self.session_id.to_string(),
            epoch: self.context.epoch.clone(),
            offset,
            heartbeat_interval_ms: self.context.heartbeat_interval_ms,
            server_time: Some(Timestamp::from_millis(self.context.clock.now_ms())),
            resync_required,
        };
        let frame = reply(self.hello_id, Body::Welcome(welcome));
        self.connection.push(&[&self.connection.format().encode(&frame)]);
        self.welcomed.store(true, Ordering::Release);
        self.connection.wake();
    }

    fn start_catch_up(self: &Arc<Self>, welcome_at: Option<u64>) {
        self.context.metrics.catch_ups.inc();
        let session = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = session.catch_up(welcome_at).await {
                tracing::warn!(%error, "a session cannot read what it missed");
                if !session.is_welcomed() {
                    session.connection.reply_error(session.hello_id, &error);
                }
                session.connection.close(CloseCode::Overloaded);
            }
        });
    }

    /// Writes what is missing, as it comes from the views. With `welcome_at`, says welcome first.
    async fn catch_up(&self, mut welcome_at: Option<u64>) -> Result<(), ApiError> {
        while self.connection.is_open() {
            let next = {
                let mut stream = self.stream();
                let next = stream.next_step();
                if let Next::Write(offset, update) = &next {
                    self.write(*offset, update);
                    self.connection.wake();
                }
                next
            };
            match next {
                Next::Done => return Ok(()),
                Next::Write(..) => self.connection.room().await,
                Next::Read { last, target } => {
                    let page = self.read(last, target).await?;
                    if page.resync_required {
                        let Some(offset) = welcome_at.take() else {
                            return Err(ApiError::unavailable("updates were dropped before they could be read"));
                        };
                        let mut stream = self.stream();
                        stream.resynchronise(offset);
                        self.welcome(offset, true);
                    } else {
                        if let Some(offset) = welcome_at.take() {
                            self.welcome(offset, false);
                        }
                        self.write_page(page).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn write_page(&self, page: Updates) {
        self.context.metrics.catch_up_updates.inc_by(page.updates.len() as u64);
        for update in page.updates {
            let offset = update.offset;
            let update = SharedUpdate::new(update.kind);
            {
                let mut stream = self.stream();
                if stream.wrote(offset) {
                    self.write(offset, &update);
                }
            }
            self.connection.room().await;
        }
        self.connection.wake();
    }

    /// The next page. The views may be behind for a moment.
    async fn read(&self, last: u64, target: u64) -> Result<Updates, ApiError> {
        let mut attempt = 0;
        loop {
            match self.context.reads.updates(self.user_id, last, Some(target), CATCH_UP_PAGE_ITEMS).await {
                Ok(page) if page.updates.is_empty() && !page.resync_required => {
                    return Err(ApiError::internal("the views have fewer updates than they say"));
                }
                Ok(page) => return Ok(page),
                Err(error) => {
                    attempt += 1;
                    if attempt == CATCH_UP_ATTEMPTS_MAX || !error.code.is_retryable() {
                        return Err(error);
                    }
                    sleep(Duration::from_millis(50) * attempt).await;
                }
            }
        }
    }

    /// Notes that the client gave a sign of life. Returns whether it is time to pass it on.
    pub fn sign_of_life(&self) -> bool {
        let now = millis(self.context.clock.monotonic());
        let before = self.sign_of_life_at_ms.load(Ordering::Relaxed);
        if now.saturating_sub(before) < millis(SIGN_OF_LIFE_INTERVAL) {
            return false;
        }
        self.sign_of_life_at_ms.store(now, Ordering::Relaxed);
        true
    }

    /// Whether it is time to pass on that the client types in this conversation.
    pub fn may_type(&self, conversation: ConversationId) -> bool {
        let now = self.context.clock.monotonic();
        let mut typing = self.typing.lock().unwrap_or_else(PoisonError::into_inner);
        let typing = typing.get_or_insert_default();
        if typing.get(&conversation).is_some_and(|since| now.saturating_sub(*since) < TYPING_INTERVAL) {
            return false;
        }
        if typing.len() >= TYPING_REMEMBERED_MAX {
            typing.clear();
        }
        typing.insert(conversation, now);
        true
    }

    /// Whom it watches.
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

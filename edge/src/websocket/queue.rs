//! What the rest of the edge holds of a connection: its outgoing queue. Anybody adds whole frames to it; the connection's
//! task takes all that has come together and writes it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use futures_util::task::AtomicWaker;
use tidings_schemas::{
    client::{ServerFrame, server_frame::Body},
    errors::CloseCode,
};
use tokio::sync::Notify;

use super::{
    codec,
    format::{Format, reply},
};
use crate::{
    error::ApiError,
    metrics::{Door, Metrics},
};

/// A connection as others see it.
pub struct Connection {
    format: Format,
    bytes_max: usize,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    /// Somebody wants the task to look: at the queue, or at whether it may go on reading.
    wake_asked: AtomicBool,
    commands_in_flight: AtomicU32,
    room: Notify,
}

struct Queue {
    /// Whole frames.
    bytes: Vec<u8>,
    /// Bytes that the task has taken and not yet written.
    unwritten: usize,
    state: State,
    /// Somebody waits for the queue to be less than half full.
    room_wanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The close frame is in the queue; nothing may follow it.
    Closing,
    /// The close frame is in the queue, and what was before it is dropped, as far as not a byte of it is written.
    CutOff,
    /// The task is gone.
    Gone,
}

/// What the task finds when it looks at the queue.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) bytes: Vec<u8>,
    /// The close frame is among the bytes, or was before.
    pub(super) is_last: bool,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It is in the queue. The connection's task is to be woken, by [`Connection::wake`], which may wait until more is in.
    Yes,
    /// It was dropped, because the queue is too full for this kind.
    Dropped,
    /// The connection is being closed: nobody gets it.
    Closed,
}

impl Connection {
    /// A new connection's queue, of at most so many bytes.
    pub fn new(format: Format, bytes_max: usize, metrics: Arc<Metrics>) -> Self {
        let queue = Queue { bytes: Vec::new(), unwritten: 0, state: State::Open, room_wanted: false };
        Self {
            format,
            bytes_max,
            metrics,
            queue: Mutex::new(queue),
            waker: AtomicWaker::new(),
            wake_asked: AtomicBool::new(false),
            commands_in_flight: AtomicU32::new(0),
            room: Notify::new(),
        }
    }

    /// How its frames are encoded.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Adds a frame made of parts of a payload in the connection's format. When there is no room for it the client is
    /// too slow, and the connection is closed with 4001: its updates are durable, so it loses none.
    pub fn push(&self, parts: &[&[u8]]) -> Queued {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut queue = self.lock();
        if queue.state != State::Open {
            return Queued::Closed;
        }
        if queue.waiting() + length + codec::HEADER_BYTES_MAX > self.bytes_max {
            self.metrics.dropped("slow_consumer");
            self.close_locked(&mut queue, CloseCode::SlowConsumer);
            drop(queue);
            self.wake();
            return Queued::Closed;
        }
        codec::put_data(&mut queue.bytes, self.format.is_text(), parts);
        self.metrics.frames_sent.inc();
        Queued::Yes
    }

    /// Adds a frame that may be dropped: past half of the queue it is.
    pub fn push_droppable(&self, frame: &ServerFrame, reason: &'static str) -> Queued {
        if self.lock().waiting() > self.bytes_max / 2 {
            self.metrics.dropped(reason);
            return Queued::Dropped;
        }
        self.push(&[&self.format.encode(frame)])
    }

    /// Adds a frame and wakes the task.
    pub fn send(&self, frame: &ServerFrame) {
        if self.push(&[&self.format.encode(frame)]) == Queued::Yes {
            self.wake();
        }
    }

    /// Answers the client's frame `id`.
    pub fn reply(&self, id: u32, body: Body) {
        self.send(&reply(id, body));
    }

    /// Answers the client's frame `id` with an error.
    pub fn reply_error(&self, id: u32, error: &ApiError) {
        self.metrics.error(Door::WebSocket, error.code);
        self.reply(id, Body::Error(error.to_client()));
    }

    /// Adds a control frame, as large as 125 bytes and as few as the client asks for: they count like the rest.
    pub(super) fn push_control(&self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut queue = self.lock();
        if queue.state == State::Open && queue.waiting() < self.bytes_max {
            put(&mut queue.bytes);
        }
    }

    /// Closes the connection after what is in the queue (and, for a slow consumer, instead of it).
    pub fn close(&self, code: CloseCode) {
        self.close_locked(&mut self.lock(), code);
        self.wake();
    }

    fn close_locked(&self, queue: &mut Queue, code: CloseCode) {
        if queue.state != State::Open {
            return;
        }
        queue.state = State::Closing;
        if code == CloseCode::SlowConsumer {
            queue.bytes = Vec::new();
            queue.state = State::CutOff;
        }
        codec::put_close(&mut queue.bytes, Some(code as u16), code.reason());
        self.metrics.closed(code);
    }

    /// Answers the client's goodbye.
    pub(super) fn close_in_reply(&self, code: Option<u16>) {
        let mut queue = self.lock();
        if queue.state == State::Open {
            queue.state = State::Closing;
            codec::put_close(&mut queue.bytes, code, "");
        }
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.lock().waiting()
    }

    /// Whether frames are still taken.
    pub fn is_open(&self) -> bool {
        self.lock().state == State::Open
    }

    /// Has the connection's task look at the queue.
    pub fn wake(&self) {
        if !self.wake_asked.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Waits until the queue is less than half full; at once when the connection is being closed.
    pub async fn room(&self) {
        loop {
            let room = self.room.notified();
            {
                let mut queue = self.lock();
                if queue.state != State::Open || queue.waiting() < self.bytes_max / 2 {
                    return;
                }
                queue.room_wanted = true;
            }
            self.wake();
            room.await;
        }
    }

    /// Another command that is not answered yet; dropping the guard says that it is.
    pub(super) fn command_begins(self: &Arc<Self>) -> InFlight {
        self.commands_in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(self))
    }

    /// How many commands are not answered yet.
    pub(super) fn commands_in_flight(&self) -> usize {
        self.commands_in_flight.load(Ordering::Acquire) as usize
    }

    pub(super) fn waker(&self) -> &AtomicWaker {
        &self.waker
    }

    /// Whether anybody has called [`Connection::wake`] since the last time.
    pub(super) fn take_wake(&self) -> bool {
        self.wake_asked.swap(false, Ordering::AcqRel)
    }

    /// For the task: the frames to write, all of them.
    pub(super) fn take(&self) -> Taken {
        let mut queue = self.lock();
        let bytes = std::mem::take(&mut queue.bytes);
        queue.unwritten += bytes.len();
        Taken { bytes, is_last: queue.state != State::Open }
    }

    /// For the task, while it still has something to write: the close frame, if that is to be dropped for it.
    pub(super) fn take_cut_off(&self) -> Option<Vec<u8>> {
        let mut queue = self.lock();
        (queue.state == State::CutOff && !queue.bytes.is_empty()).then(|| std::mem::take(&mut queue.bytes))
    }

    /// For the task: so many bytes of what it took are still to be written.
    pub(super) fn set_unwritten(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.unwritten = bytes;
        if queue.room_wanted && queue.waiting() < self.bytes_max / 2 {
            queue.room_wanted = false;
            drop(queue);
            self.room.notify_waiters();
        }
    }

    /// For the task: it ends.
    pub(super) fn gone(&self) {
        let mut queue = self.lock();
        queue.state = State::Gone;
        queue.bytes = Vec::new();
        queue.unwritten = 0;
        drop(queue);
        self.room.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn waiting(&self) -> usize {
        self.bytes.len() + self.unwritten
    }
}

/// A command that is not answered yet.
pub struct InFlight(Arc<Connection>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.commands_in_flight.fetch_sub(1, Ordering::AcqRel);
        self.0.wake();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use tidings_schemas::client;

    use super::*;
    use crate::websocket::format::notice;

    fn connection(bytes_max: usize) -> Arc<Connection> {
        let metrics = Arc::new(Metrics::new(&mut Registry::default()));
        Arc::new(Connection::new(Format::Json, bytes_max, metrics))
    }

    fn typing() -> ServerFrame {
        notice(Body::Typing(client::Typing::default()))
    }

    #[test]
    fn past_half_the_droppable_is_dropped_and_past_all_the_connection_is_closed() {
        let connection = connection(1_000);
        assert_eq!(connection.push_droppable(&typing(), "typing"), Queued::Yes);
        assert_eq!(connection.push(&[&[b'x'; 600]]), Queued::Yes);
        assert_eq!(connection.push_droppable(&typing(), "typing"), Queued::Dropped);
        assert_eq!(connection.push(&[&[b'x'; 600]]), Queued::Closed);
        assert!(!connection.is_open());
        let mut close = Vec::new();
        codec::put_close(&mut close, Some(4001), "slow_consumer");
        let taken = connection.take();
        assert!(taken.is_last);
        assert_eq!(taken.bytes, close, "nothing but the close frame is left");
        assert_eq!(connection.push(&[b"late"]), Queued::Closed);
    }

    #[test]
    fn what_is_taken_and_not_written_counts() {
        let connection = connection(1_000);
        assert_eq!(connection.push(&[&[b'x'; 900]]), Queued::Yes);
        let taken = connection.take();
        assert_eq!(connection.push(&[&[b'x'; 200]]), Queued::Closed);
        assert!(connection.take_cut_off().is_some_and(|close| close.len() < 100));
        assert_eq!(taken.bytes.len(), 904);
    }

    #[tokio::test]
    async fn who_waits_for_room_gets_it_when_half_is_written() {
        let connection = connection(1_000);
        connection.push(&[&[b'x'; 900]]);
        let waiter = tokio::spawn({
            let connection = Arc::clone(&connection);
            async move { connection.room().await }
        });
        while !connection.take_wake() {
            tokio::task::yield_now().await;
        }
        let taken = connection.take().bytes.len();
        connection.set_unwritten(taken - 100);
        assert!(!waiter.is_finished());
        connection.set_unwritten(0);
        waiter.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_goes_keeps_nobody_waiting() {
        let connection = connection(1_000);
        connection.push(&[&[b'x'; 900]]);
        let waiter = tokio::spawn({
            let connection = Arc::clone(&connection);
            async move { connection.room().await }
        });
        while !connection.take_wake() {
            tokio::task::yield_now().await;
        }
        connection.gone();
        waiter.await.unwrap();
    }
}

//! A connection between a client and an edge: bytes both ways, which break off at either end. On the client's side the
//! WebSocket's frames, as small as a client may make them.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use prost::Message;
use tidings_edge::websocket::transport::Transport;
use tidings_schemas::client::{ClientFrame, ServerFrame};

use super::gate::Gate;

/// What one direction holds before its writer must wait.
const CAPACITY_BYTES: usize = 64 * 1024;

#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    /// No more comes.
    is_finished: bool,
}

#[derive(Default)]
struct State {
    to_server: Way,
    to_client: Way,
    /// The edge's writes go nowhere, and the edge does not know.
    is_deaf: bool,
    /// Both ends see an error.
    is_broken: bool,
    server: Option<Waker>,
    client: Option<Waker>,
}

/// See the module.
pub(super) struct Pipe {
    state: Mutex<State>,
    gate: Arc<Gate>,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// What was on its way is lost, in both directions.
    All,
    /// What the client sent still gets there, what the edge answers does not.
    Replies,
    /// The client is gone, and the edge only finds out by its pings.
    Silent,
}

impl Pipe {
    /// A connection to a node.
    pub(super) fn new(gate: &Arc<Gate>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), gate: Arc::clone(gate) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts it.
    pub(super) fn cut(&self, how: Cut) {
        let mut state = self.lock();
        match how {
            Cut::All => {
                state.is_broken = true;
                state.to_server.bytes.clear();
            }
            Cut::Replies => {
                state.is_deaf = true;
                state.to_server.is_finished = true;
            }
            Cut::Silent => state.is_deaf = true,
        }
        state.to_client.bytes.clear();
        state.to_client.is_finished = true;
        wake(state);
    }

    /// The edge may go on.
    pub(super) fn wake(&self) {
        wake(self.lock());
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let (server, client) = (state.server.take(), state.client.take());
    drop(state);
    server.into_iter().chain(client).for_each(Waker::wake);
}

/// The edge's end.
pub(super) struct ServerEnd(pub(super) Arc<Pipe>);

impl Transport for ServerEnd {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        let is_ready = !state.to_server.bytes.is_empty() || state.to_server.is_finished || state.is_broken;
        if is_ready && self.0.gate.is_open() {
            return Poll::Ready(());
        }
        state.server = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if self.0.gate.is_open() && (state.to_client.bytes.len() < CAPACITY_BYTES || state.is_deaf || state.is_broken) {
            return Poll::Ready(());
        }
        state.server = Some(context.waker().clone());
        Poll::Pending
    }

    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.0.gate.is_open() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut state = self.0.lock();
        if state.is_broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let count = into.len().min(state.to_server.bytes.len());
        if count == 0 && !state.to_server.is_finished {
            return Err(ErrorKind::WouldBlock.into());
        }
        for (place, byte) in into.iter_mut().zip(state.to_server.bytes.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.0.gate.is_open() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut state = self.0.lock();
        if state.is_broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if state.is_deaf {
            return Ok(bytes.len());
        }
        let room = CAPACITY_BYTES.saturating_sub(state.to_client.bytes.len());
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = room.min(bytes.len());
        state.to_client.bytes.extend(bytes.iter().take(count));
        wake_client(state);
        Ok(count)
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.to_client.is_finished = true;
        wake_client(state);
        Ok(())
    }
}

fn wake_client(mut state: MutexGuard<'_, State>) {
    let client = state.client.take();
    drop(state);
    client.into_iter().for_each(Waker::wake);
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.to_client.is_finished = true;
        wake_client(state);
    }
}

/// The client's end.
pub(super) struct ClientEnd {
    pub(super) pipe: Arc<Pipe>,
    unread: Vec<u8>,
}

/// What a client reads.
#[derive(Debug)]
pub(super) enum Incoming {
    Frame(Box<ServerFrame>),
    /// The end, with the code of the close frame if there was one.
    End(Option<u16>),
    /// What no server may send.
    Garbage(&'static str),
}

impl ClientEnd {
    pub(super) fn new(pipe: Arc<Pipe>) -> Self {
        Self { pipe, unread: Vec::new() }
    }

    /// Sends a frame; where to, is the pipe's affair.
    pub(super) fn send(&self, frame: &ClientFrame) {
        self.put(0x2, &frame.encode_to_vec());
    }

    /// Says goodbye.
    pub(super) fn close(&self) {
        self.put(0x8, &1000_u16.to_be_bytes());
    }

    /// A masked frame, with a mask that changes nothing.
    fn put(&self, opcode: u8, payload: &[u8]) {
        let mut state = self.pipe.lock();
        let way = &mut state.to_server.bytes;
        way.push_back(0x80 | opcode);
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => way.push_back(0x80 | length),
            _ => {
                way.push_back(0x80 | 126);
                way.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
            }
        }
        way.extend([0; 4]);
        way.extend(payload);
        let server = state.server.take();
        drop(state);
        server.into_iter().for_each(Waker::wake);
    }

    /// Waits for the next frame. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            match self.decode() {
                Some(Ok((0x2, payload))) => match ServerFrame::decode(&payload[..]) {
                    Ok(frame) => return Incoming::Frame(Box::new(frame)),
                    Err(_) => return Incoming::Garbage("a frame that cannot be decoded"),
                },
                Some(Ok((0x8, payload))) => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Incoming::End(code);
                }
                Some(Ok((0x9, payload))) => self.put(0xa, &payload),
                Some(Ok((0xa, _))) => {}
                Some(Ok(_)) => return Incoming::Garbage("a frame of another kind"),
                Some(Err(what)) => return Incoming::Garbage(what),
                None => {
                    if !self.more().await {
                        return Incoming::End(None);
                    }
                }
            }
        }
    }

    /// The next whole frame that was read.
    fn decode(&mut self) -> Option<Result<(u8, Vec<u8>), &'static str>> {
        let (head, length) = match self.unread.get(..2)? {
            [_, length] if length & 0x80 != 0 => return Some(Err("a masked frame from the server")),
            [_, 126] => (4, u16::from_be_bytes(*self.unread.get(2..4)?.first_chunk()?) as usize),
            [_, 127] => (10, usize::try_from(u64::from_be_bytes(*self.unread.get(2..10)?.first_chunk()?)).ok()?),
            [_, length] => (2, usize::from(*length)),
            _ => return None,
        };
        let payload = self.unread.get(head..head + length)?.to_vec();
        let opcode = self.unread[0] & 0xf;
        self.unread.drain(..head + length);
        Some(Ok((opcode, payload)))
    }

    /// Reads more; false: there is no more.
    async fn more(&mut self) -> bool {
        let (pipe, unread) = (&self.pipe, &mut self.unread);
        poll_fn(|context| {
            let mut state = pipe.lock();
            if !state.to_client.bytes.is_empty() {
                unread.extend(state.to_client.bytes.drain(..));
                let server = state.server.take();
                drop(state);
                server.into_iter().for_each(Waker::wake);
                return Poll::Ready(true);
            }
            if state.to_client.is_finished || state.is_broken {
                return Poll::Ready(false);
            }
            state.client = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        // A cut has said already what the edge gets to know.
        if !state.is_deaf {
            state.to_server.is_finished = true;
            wake(state);
        }
    }
}

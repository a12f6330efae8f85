//! WebSocket frames as a server reads and writes them (RFC 6455, without extensions). Decoding works on the bytes where
//! they were read: what is complete is unmasked in place and lent to the caller.

use std::ops::Range;

use tidings_schemas::errors::CloseCode;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as StandardCloseCode;

/// The opcodes of RFC 6455, section 5.2.
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const FINAL_BIT: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const MASK_BIT: u8 = 0x80;
/// A control frame's payload, at the most (section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// To be answered with a pong of the same bytes.
    Ping(&'a [u8]),
    /// The answer to a ping.
    Pong,
    /// A goodbye, to be answered with the same code.
    Close(Option<u16>),
}

/// Whether the caller takes more now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// What follows is kept for the next call.
    Pause,
}

/// Why the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not a frame that a client may send.
    #[error("{0}")]
    Protocol(&'static str),
    /// A frame, or a message of several, over the limit.
    #[error("a frame or message over the limit")]
    TooLarge,
}

impl CodecError {
    /// The code to close with.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol(_) => CloseCode::ProtocolError,
            Self::TooLarge => CloseCode::TooLarge,
        }
    }
}

/// Puts a client's bytes together to messages. Holds bytes only while a frame or message is incomplete, or the caller
/// has paused.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes that were not decoded yet.
    backlog: Vec<u8>,
    /// The opcode and the bytes so far of a message of several frames.
    fragmented: Option<(u8, Vec<u8>)>,
    message_bytes_max: usize,
}

struct Frame {
    opcode: u8,
    is_final: bool,
    mask: [u8; 4],
    payload: Range<usize>,
}

impl Decoder {
    /// Refuses messages of more than so many bytes.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, ..Self::default() }
    }

    /// Changes the limit.
    pub fn set_message_bytes_max(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
    }

    /// How many bytes are held.
    pub fn held_bytes(&self) -> usize {
        self.backlog.len() + self.fragmented.as_ref().map_or(0, |(_, message)| message.len())
    }

    /// Decodes what was kept and then `input` (which is overwritten), and hands each message to `take` until it says to
    /// pause.
    ///
    /// # Errors
    /// [`CodecError`]: nothing more can be decoded from this connection.
    pub fn feed(&mut self, input: &mut [u8], mut take: impl FnMut(Incoming<'_>) -> Flow) -> Result<(), CodecError> {
        if self.backlog.is_empty() {
            let consumed = self.decode(input, &mut take)?;
            self.backlog.extend_from_slice(input.get(consumed..).unwrap_or_default());
            return Ok(());
        }
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.extend_from_slice(input);
        let consumed = self.decode(&mut backlog, &mut take)?;
        if consumed < backlog.len() {
            backlog.drain(..consumed);
            self.backlog = backlog;
        }
        Ok(())
    }

    /// Returns how many bytes are done with.
    fn decode(&mut self, bytes: &mut [u8], take: &mut impl FnMut(Incoming<'_>) -> Flow) -> Result<usize, CodecError> {
        let mut consumed = 0;
        while let Some(rest) = bytes.get_mut(consumed..) {
            let Some(frame) = parse(rest, self.message_bytes_max)? else { break };
            consumed += frame.payload.end;
            let payload = rest.get_mut(frame.payload.clone()).unwrap_or_default();
            unmask(payload, frame.mask);
            if self.frame(&frame, payload, take)? == Flow::Pause {
                break;
            }
        }
        Ok(consumed)
    }

    fn frame(
        &mut self,
        frame: &Frame,
        payload: &[u8],
        take: &mut impl FnMut(Incoming<'_>) -> Flow,
    ) -> Result<Flow, CodecError> {
        match (frame.opcode, self.fragmented.as_mut()) {
            (CLOSE, _) => Ok(take(Incoming::Close(close_code(payload)?))),
            (PING, _) => Ok(take(Incoming::Ping(payload))),
            (PONG, _) => Ok(take(Incoming::Pong)),
            (CONTINUATION, None) => Err(CodecError::Protocol("a continuation of nothing")),
            (CONTINUATION, Some((_, message))) => {
                if message.len() + payload.len() > self.message_bytes_max {
                    return Err(CodecError::TooLarge);
                }
                message.extend_from_slice(payload);
                if !frame.is_final {
                    return Ok(Flow::Continue);
                }
                let (opcode, message) = self.fragmented.take().unwrap_or_default();
                whole_message(opcode, &message, take)
            }
            (_, Some(_)) => Err(CodecError::Protocol("a new message inside a message")),
            (opcode, None) if frame.is_final => whole_message(opcode, payload, take),
            (opcode, None) => {
                self.fragmented = Some((opcode, payload.to_vec()));
                Ok(Flow::Continue)
            }
        }
    }
}

fn whole_message(opcode: u8, payload: &[u8], take: &mut impl FnMut(Incoming<'_>) -> Flow) -> Result<Flow, CodecError> {
    if opcode == BINARY {
        return Ok(take(Incoming::Binary(payload)));
    }
    match std::str::from_utf8(payload) {
        Ok(text) => Ok(take(Incoming::Text(text))),
        Err(_) => Err(CodecError::Protocol("a text message that is not UTF-8")),
    }
}

/// The first frame in `bytes`, or nothing when it is incomplete.
fn parse(bytes: &[u8], payload_bytes_max: usize) -> Result<Option<Frame>, CodecError> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
    let (opcode, is_final) = (first & 0x0f, first & FINAL_BIT != 0);
    if first & RESERVED_BITS != 0 {
        return Err(CodecError::Protocol("reserved bits are set, but no extension was agreed on"));
    }
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(CodecError::Protocol("an unknown opcode"));
    }
    if second & MASK_BIT == 0 {
        return Err(CodecError::Protocol("a client's frames must be masked"));
    }
    let short_length = second & !MASK_BIT;
    let (length, length_bytes) = match short_length {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length), 8),
            None => return Ok(None),
        },
        length => (u64::from(length), 0),
    };
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= payload_bytes_max) else {
        return Err(CodecError::TooLarge);
    };
    if opcode >= CLOSE && (!is_final || length > CONTROL_BYTES_MAX) {
        return Err(CodecError::Protocol("a control frame in parts, or too long"));
    }
    let Some(mask) = rest.get(length_bytes..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
    let start = 2 + length_bytes + 4;
    let payload = start..start + length;
    Ok((bytes.len() >= payload.end).then_some(Frame { opcode, is_final, mask: *mask, payload }))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u32::from_ne_bytes(mask);
    let (words, rest) = payload.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// The code of a close frame's payload (section 5.5.1), where it has one.
fn close_code(payload: &[u8]) -> Result<Option<u16>, CodecError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(CodecError::Protocol("half a close code")) };
    };
    let code = u16::from_be_bytes(*code);
    if !StandardCloseCode::from(code).is_allowed() || std::str::from_utf8(reason).is_err() {
        return Err(CodecError::Protocol("a close code or reason that may not be sent"));
    }
    Ok(Some(code))
}

/// Adds the header of an unmasked, unfragmented frame; the payload of `length` bytes is to follow.
fn put_header(out: &mut Vec<u8>, opcode: u8, length: usize) {
    out.push(FINAL_BIT | opcode);
    if length <= CONTROL_BYTES_MAX {
        out.push(u8::try_from(length).unwrap_or_default());
    } else if let Ok(length) = u16::try_from(length) {
        out.push(126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

/// Bytes that a data frame's header takes, at the most.
pub const HEADER_BYTES_MAX: usize = 10;

/// Adds a data frame made of parts.
pub fn put_data(out: &mut Vec<u8>, is_text: bool, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum();
    out.reserve(HEADER_BYTES_MAX + length);
    put_header(out, if is_text { TEXT } else { BINARY }, length);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Adds a ping without payload.
pub fn put_ping(out: &mut Vec<u8>) {
    put_header(out, PING, 0);
}

/// Adds the answer to a ping.
pub fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    put_header(out, PONG, payload.len());
    out.extend_from_slice(payload);
}

/// Adds a close frame; no code: the answer to one without.
pub fn put_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else { return put_header(out, CLOSE, 0) };
    let reason = reason.as_bytes().get(..CONTROL_BYTES_MAX - 2).unwrap_or(reason.as_bytes());
    put_header(out, CLOSE, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

/// Where, at or after `position`, the next frame begins in `written`, which begins with a frame and was made by this
/// module.
pub fn frame_boundary(written: &[u8], position: usize) -> usize {
    let mut boundary = 0;
    while boundary < position {
        let Some(rest) = written.get(boundary..) else { break };
        let (header, length) = match rest.get(1) {
            Some(126) => {
                (4, rest.get(2..4).map_or(0, |bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | *byte as usize)))
            }
            Some(127) => {
                (10, rest.get(2..10).map_or(0, |bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | *byte as usize)))
            }
            Some(length) => (2, *length as usize),
            None => break,
        };
        boundary += header + length;
    }
    boundary.min(written.len())
}

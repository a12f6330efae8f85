//! A WebSocket connection, from handshake to close.
//!
//! - [`handshake`]: the HTTP side. [`codec`]: frames (RFC 6455), server side. [`format`]: JSON and protobuf.
//! - [`queue`]: what waits to be written to a connection, bounded in bytes; what others hold of a connection.
//! - [`task`]: the one task of a connection: it alone touches the socket. `hello`: its first frame.
//!   [`dispatch`]: from a client's frame to a command. [`ending`]: how it ends. [`transport`]: what its bytes go through.
//!
//! An idle connection holds no buffer at all: bytes are read into a buffer that the thread's connections share, and
//! decoded there; only what is left of an incomplete frame is kept. The outgoing queue is the bytes of ready frames, so
//! that whatever has come together meanwhile leaves with one write.

pub mod codec;
pub mod dispatch;
pub mod ending;
pub mod format;
pub mod handshake;
mod hello;
pub mod queue;
pub mod task;
pub mod transport;

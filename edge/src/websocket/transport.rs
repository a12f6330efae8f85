//! What a connection's bytes go through: a socket, or in a simulation a pipe.

use std::{
    io,
    task::{Context, Poll},
};

use crate::tls::Socket;

/// A stream of bytes both ways that never blocks. One task uses it.
pub trait Transport: Send + Sync + 'static {
    /// Ready when a read may give something, the end or an error; may be so without need.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Ready when a write may be taken, or fails; may be so without need.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Reads what is there; 0: the other end has finished.
    ///
    /// # Errors
    /// `WouldBlock`: there is nothing yet. Else the connection is broken.
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes what is taken.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is taken now. Else the connection is broken.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Sends what was taken and has not left yet. False: not all of it could.
    ///
    /// # Errors
    /// The connection is broken.
    fn try_flush(&mut self) -> io::Result<bool>;

    /// Tells the other end that no more comes. What it still says can be read, to be thrown away.
    ///
    /// # Errors
    /// The connection is broken.
    fn finish_writing(&mut self) -> io::Result<()>;
}

impl Transport for Socket {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // An error shows again when it is read.
        self.poll_read_ready(context).map(drop)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_write_ready(context).map(drop)
    }

    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, into)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        Self::try_flush(self)
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        self.finish()
    }
}

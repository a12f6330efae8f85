//! What a connection's bytes go through: a socket, or in a simulation a pipe.

use std::{
    io,
    net::Shutdown,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::net::TcpStream;

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
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes what is taken.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is taken now. Else the connection is broken.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Tells the other end that no more comes.
    ///
    /// # Errors
    /// The connection is broken.
    fn finish_writing(&self) -> io::Result<()>;
}

impl Transport for TcpStream {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // An error shows again when it is read.
        self.poll_read_ready(context).map(drop)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_write_ready(context).map(drop)
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, into)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn finish_writing(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

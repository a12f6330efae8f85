//! A WebSocket's bytes, with or without TLS. Asked without waiting, as `TcpStream` is with `try_read` and `try_write`: the
//! connection's one task waits for everything at once, and what it reads into belongs to its thread.

use std::{
    io::{self, ErrorKind, Read, Write as _},
    net::Shutdown,
    task::{Context, Poll},
};

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::net::TcpStream;

/// What is encrypted at a time: a record of TLS.
const RECORD_BYTES: usize = 16 * 1024;

/// A connection.
pub struct Socket {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
}

struct Tls {
    session: ServerConnection,
    /// There is decrypted text that was not asked for yet: the socket need not become readable for it.
    has_text: bool,
}

/// A socket as `rustls` reads and writes it.
struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl io::Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    /// Without TLS.
    pub fn plain(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    /// With TLS, after the handshake. Something may have been decrypted already.
    pub fn tls(stream: TcpStream, session: ServerConnection) -> Self {
        Self { stream, tls: Some(Box::new(Tls { session, has_text: true })) }
    }

    /// Reads what is there; zero: the client has ended its side.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is there. Else the connection is broken.
    pub fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.try_read(into) };
        loop {
            match tls.session.reader().read(into) {
                Ok(count) => {
                    tls.has_text = count == into.len();
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => tls.has_text = false,
                Err(error) => return Err(error),
            }
            if tls.session.read_tls(&mut Raw(&self.stream))? == 0 {
                return Ok(0);
            }
            let processed = tls.session.process_new_packets();
            // An answer, or what is wrong with what came.
            tls.flush(&self.stream)?;
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    /// Writes as much as is taken at once.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is taken. Else the connection is broken.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.try_write(bytes) };
        if !tls.flush(&self.stream)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = tls.session.writer().write(bytes.get(..RECORD_BYTES).unwrap_or(bytes))?;
        tls.flush(&self.stream)?;
        Ok(count)
    }

    /// Sends what was taken and is only encrypted yet. False: not all of it could be.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        self.tls.as_mut().map_or(Ok(true), |tls| tls.flush(&self.stream))
    }

    /// Ready when there may be something to read.
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tls.as_ref().is_some_and(|tls| tls.has_text) {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_read_ready(context)
    }

    /// Ready when something may be taken.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(context)
    }

    /// Waits until something may be taken.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Says that nothing more comes. What the client still sends is from now on read as it is, encrypted or not.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(mut tls) = self.tls.take() {
            tls.session.send_close_notify();
            // A client that takes nothing more does not get this either.
            tls.flush(&self.stream)?;
        }
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }
}

impl Tls {
    /// Sends what is encrypted. False: not all of it was taken.
    fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Raw(stream)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

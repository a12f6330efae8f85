//! The WebSocket half of the contract.

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use tidings_schemas::client::{self, ClientFrame, ServerFrame, client_frame::Command, server_frame::Body};
use tokio::time::Instant;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::HeaderValue,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{Server, stream::Stream};

/// The subprotocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text frames.
    Json,
    /// Binary frames.
    Protobuf,
}

impl Format {
    fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "tidings.v1.json",
            Self::Protobuf => "tidings.v1.protobuf",
        }
    }
}

/// Why a connection ended: the server's close code and reason.
#[derive(Debug)]
pub struct Closed {
    /// The close code, 1006 where there was none.
    pub code: u16,
    /// The reason.
    pub reason: String,
}

impl Closed {
    /// Whether a client may come back with the same token and the same commands.
    pub fn may_come_back(&self) -> bool {
        self.code < 4500
    }
}

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the connection was closed ({} {})", self.code, self.reason)
    }
}

impl std::error::Error for Closed {}

/// An open connection.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<Stream>,
    format: Format,
    heard_at: Instant,
}

/// What a device needs to go on where it stopped.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// The epoch of the last `welcome`; empty: a first connection.
    pub epoch: String,
    /// The last offset handled.
    pub offset: u64,
}

impl Socket {
    /// Opens a WebSocket, without `hello`.
    pub async fn open(server: &Server, format: Format) -> Result<Self> {
        let stream = server.dial().await?;
        let mut request = format!("ws://{}/v1/connect", server.authority)
            .into_client_request()
            .context("not the address of a server")?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(format.subprotocol()));
        // Small, since a load generator holds many; longer messages still work.
        let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
        let (stream, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .context("the server refused the WebSocket")?;
        Ok(Self { stream, format, heard_at: Instant::now() })
    }

    /// Opens a WebSocket and says `hello`.
    pub async fn connect(
        server: &Server,
        format: Format,
        token: &str,
        device_id: &str,
        resume: &Resume,
    ) -> Result<(Self, client::Welcome)> {
        let mut socket = Self::open(server, format).await?;
        let resume =
            (!resume.epoch.is_empty()).then(|| client::Resume { epoch: resume.epoch.clone(), offset: resume.offset });
        let hello = client::Hello { token: token.to_owned(), device_id: device_id.to_owned(), resume };
        socket.send(0, Command::Hello(hello)).await?;
        match socket.next().await?.body {
            Some(Body::Welcome(welcome)) => Ok((socket, welcome)),
            Some(Body::Error(error)) => bail!("{} ({})", error.message, error.code),
            other => Err(anyhow!("expected a welcome, got {other:?}")),
        }
    }

    /// Sends a command and flushes it.
    pub async fn send(&mut self, id: u32, command: Command) -> Result<()> {
        let frame = ClientFrame { id, command: Some(command) };
        let message = match self.format {
            Format::Json => Message::text(serde_json::to_string(&frame).context("cannot encode the frame")?),
            Format::Protobuf => Message::binary(frame.encode_to_vec()),
        };
        Ok(self.stream.send(message).await?)
    }

    /// The next frame. An ended connection is the error [`Closed`]. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<ServerFrame> {
        loop {
            let next = self.stream.next().await;
            self.heard_at = Instant::now();
            match next {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).with_context(|| format!("cannot read the frame {text}"));
                }
                Some(Ok(Message::Binary(bytes))) => {
                    return ServerFrame::decode(bytes).context("cannot read the frame");
                }
                Some(Ok(Message::Close(frame))) => return Err(closed(frame).into()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Closed { code: 1006, reason: error.to_string() }.into()),
                None => return Err(closed(None).into()),
            }
        }
    }

    /// When anything, if only a ping, last came from the server.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        // The other side may be gone already: either way the connection is over.
        let _ = self.stream.close(None).await;
    }
}

fn closed(frame: Option<CloseFrame>) -> Closed {
    match frame {
        Some(frame) => Closed { code: frame.code.into(), reason: frame.reason.to_string() },
        None => Closed { code: 1006, reason: "without a goodbye".to_owned() },
    }
}

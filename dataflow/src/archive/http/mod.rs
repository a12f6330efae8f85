//! A local ClickHouse-compatible HTTP port on the embedded archive, so that analysts' tools work unchanged.
//!
//! - [`access`]: who may. [`request`]: what a client wants. [`statement`]: where an INSERT's data begin, and what is called.
//! - [`session`]: one request's statement, in a session of its own. [`reply`]: answers and errors as ClickHouse's.
//! - [`guard`]: what a reading port does not run. [`compression`]: gzip and LZ4, both ways.
//!
//! It is for this machine's people, or, with a user and a password, for whoever has those. Unless told otherwise it only
//! reads; it gives no access to files or to other servers; time, memory, results and bodies are bounded. No sessions, no
//! progress, no compression of ClickHouse's own kind (`compress=1`). Queries read with `final`, so that no repeat is visible in any table.

mod access;
mod compression;
mod guard;
mod reply;
mod request;
mod session;
mod statement;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, Request, StatusCode, body::Incoming, header::HOST, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tidings_schemas::limits;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
};

pub use self::access::Credentials;
use self::{
    compression::Encoding,
    reply::{Refusal, Reply},
    session::Rules,
};
use super::{analyst::AnalystLimits, embedded::EmbeddedArchive, libchdb::Engine};

/// Settings of the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address and port. Port 0: any free one.
    pub listen: SocketAddr,
    /// Whether statements may change something. Everybody who may use the port may, then.
    pub writable: bool,
    /// What one statement may take. The archive is opened with the same (`EngineConfiguration::analyst`), which is what
    /// no statement can lift.
    pub limits: AnalystLimits,
    /// Who may use the port: without this, everybody who reaches it.
    pub credentials: Option<Credentials>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8123)),
            writable: false,
            limits: AnalystLimits::default(),
            credentials: None,
        }
    }
}

/// The running port. Dropping it closes the port; [`HttpHandle::shutdown`] also waits for what runs.
pub struct HttpHandle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl HttpHandle {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits for the connections to end: at most as long as a statement may run.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        if self.accepting.await.is_err() {
            tracing::error!("the archive's SQL port panicked");
        }
    }
}

struct Port {
    engine: Engine,
    rules: Rules,
    credentials: Option<Credentials>,
    listens_on_loopback: bool,
    running: Semaphore,
    queries: AtomicU64,
}

/// Opens the port on an archive.
///
/// # Errors
/// The address is taken or cannot be listened on.
pub async fn serve(config: &HttpConfig, archive: &EmbeddedArchive) -> io::Result<HttpHandle> {
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let port = Arc::new(Port {
        engine: archive.engine().clone(),
        rules: Rules {
            database: archive.settings().database.clone(),
            writable: config.writable,
            limits: config.limits,
        },
        credentials: config.credentials.clone(),
        listens_on_loopback: address.ip().is_loopback(),
        running: Semaphore::new(limits::ARCHIVE_SQL_QUERIES_MAX),
        queries: AtomicU64::new(0),
    });
    let (stop, stopped) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, port, stopped));
    Ok(HttpHandle { address, stop, accepting })
}

async fn accept(listener: TcpListener, port: Arc<Port>, mut stopped: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(limits::ARCHIVE_SQL_CONNECTIONS_MAX));
    loop {
        // Over the limit nothing is accepted: the next ones wait in the operating system's queue.
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = told_to_stop(&mut stopped) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (port, stopped) = (Arc::clone(&port), stopped.clone());
                tokio::spawn(async move {
                    connection(stream, port, stopped).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the archive's SQL port cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(limits::ARCHIVE_SQL_CONNECTIONS_MAX).unwrap_or(u32::MAX);
    drop(connections.acquire_many(all).await);
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone, which asks for the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn connection(stream: TcpStream, port: Arc<Port>, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let port = Arc::clone(&port);
        async move { Ok::<_, Infallible>(port.answer(request).await.unwrap_or_else(Refusal::reply)) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits::HTTP_HEAD_TIMEOUT);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = told_to_stop(&mut stopped) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the archive's SQL port broke");
    }
}

impl Port {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Reply, Refusal> {
        if self.listens_on_loopback && !names_this_machine(&request) {
            // A page that a browser shows can have any name point here: without this it could read every message.
            return Err(Refusal::denied("This port is for this machine: call it by localhost or 127.0.0.1"));
        }
        let has_query = request.uri().query().is_some_and(|query| !query.is_empty());
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/ping" | "/replicas_status") => {
                return Ok(reply::text(StatusCode::OK, "Ok.\n"));
            }
            (&Method::GET | &Method::HEAD, "/") if !has_query => return Ok(reply::text(StatusCode::OK, "Ok.\n")),
            (&Method::GET | &Method::POST, "/") => {}
            (&Method::GET | &Method::POST | &Method::HEAD, _) => {
                let hint = "There is no such page. Send SQL to / as ?query= or as the body of a POST\n";
                return Ok(reply::text(StatusCode::NOT_FOUND, hint));
            }
            _ => return Ok(reply::text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and POST\n")),
        }
        let (head, body) = request.into_parts();
        if let Some(credentials) = &self.credentials {
            // Before a body is taken in.
            credentials.check(head.uri.query().unwrap_or_default(), &head.headers)?;
        }
        let mut body = read(body).await?;
        if let Some(encoding) = Encoding::of_body(&head.headers)? {
            let decoded = tokio::task::spawn_blocking(move || encoding.decoded(&body));
            body = decoded.await.unwrap_or_else(|_| Err(Refusal::busy()))?;
        }
        let request = request::parse(head.uri.query().unwrap_or_default(), &head.headers, body)?;

        let waiting = tokio::time::timeout(limits::ARCHIVE_SQL_WAIT_MAX, self.running.acquire());
        let Ok(Ok(_permit)) = waiting.await else { return Err(Refusal::busy()) };
        let number = self.queries.fetch_add(1, Ordering::Relaxed);
        // Its client may go away before the answer: this is dropped, then.
        let mut abandoned = Abandoned { engine: self.engine.clone(), number: Some(number) };
        let port = Arc::clone(&self);
        let run = tokio::task::spawn_blocking(move || {
            let query_id = request.query_id.clone().unwrap_or_else(|| format!("tidings-{number}"));
            session::run(&port.engine, &port.rules, &request, &query_id, number)
                .map_err(|refusal| refusal.with_hint(&port.rules.limits))
        });
        let answer = run.await.unwrap_or_else(|_| Err(Refusal::busy()));
        abandoned.number = None;
        answer
    }
}

/// Cancels the statement when it is dropped with its number.
struct Abandoned {
    engine: Engine,
    number: Option<u64>,
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let (Some(number), Ok(runtime)) = (self.number, tokio::runtime::Handle::try_current()) {
            let engine = self.engine.clone();
            runtime.spawn_blocking(move || {
                if let Err(error) = session::cancel(&engine, number) {
                    tracing::warn!(%error, "a statement whose client went away runs on");
                }
            });
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let limited = Limited::new(body, limits::ARCHIVE_SQL_BODY_BYTES_MAX);
    match tokio::time::timeout(limits::ARCHIVE_SQL_TIME_MAX, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::too_large()),
        _ => Err(Refusal::bad_request("The body did not come whole, or not in time")),
    }
}

/// Whether the request calls the port by a name or an address of this machine's own.
fn names_this_machine(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

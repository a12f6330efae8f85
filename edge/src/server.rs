//! One port, two doors. A connection begins as HTTP; a good request to `/v1/connect` makes it a WebSocket, which then has
//! its socket to itself, without anything of HTTP left around it.

use std::{
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::HeaderMap, response::IntoResponse};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::{Domain, Protocol, Type};
use tidings_schemas::limits::{CLOSE_LINGER, HTTP_HEAD_BYTES_MAX, HTTP_HEAD_TIMEOUT};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    error::{ApiError, ErrorCode},
    http::{
        PeerAddress,
        origins::{FOREIGN, Origin, Origins},
    },
    metrics::{Door, Metrics},
    proxies::{Network, client_address},
    rate_limits::AddressLimit,
    tls::{Certificate, Socket, Stream},
    websocket::{
        ending,
        handshake::{self, Accepted},
        task,
    },
};

/// Where a WebSocket is opened.
const CONNECT_PATH: &str = "/v1/connect";
/// Connections that the operating system holds for us before we accept them: clients of a dead edge come all at once.
const LISTEN_BACKLOG: i32 = 4_096;
/// After an error of `accept` (no more file descriptors, most likely), to let some connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What serves a connection.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) websocket: Arc<task::Context>,
    /// With it, the port speaks TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) address_limit: Arc<AddressLimit>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) connections_max: usize,
    /// All connections, of both doors.
    pub(crate) open: Arc<AtomicUsize>,
    /// Set once the edge is going away.
    pub(crate) draining: watch::Receiver<bool>,
}

/// Listens on an address; port 0 is any free one.
///
/// # Errors
/// The address is taken or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port that a killed edge has left behind can be taken at once.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Server {
    /// Accepts connections until the edge is going away.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut draining = self.draining.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = draining.wait_for(|draining| *draining) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer.ip()),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    self.metrics.dropped("accept_failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(self: &Arc<Self>, stream: TcpStream, peer: IpAddr) {
        let (counted, open) = Counted::new(&self.open, &self.metrics);
        self.metrics.connections_accepted.inc();
        // A few more than the limit get an answer that says so; the rest only the end of the connection.
        if open > self.connections_max + self.connections_max / 16 + 1 {
            return self.metrics.dropped("connections_max");
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
        let overloaded = open > self.connections_max;
        let server = Arc::clone(self);
        let tls = self.certificate.as_ref().map(|certificate| certificate.current());
        tokio::spawn(async move {
            let stream = match tls {
                None => Stream::Plain(stream),
                // Boxed: a connection is this large once, for a moment.
                Some(config) => match timeout(HTTP_HEAD_TIMEOUT, Box::pin(Stream::accept(stream, config))).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a TLS handshake failed");
                        return server.metrics.dropped("tls_handshake_failed");
                    }
                    Err(_) => return server.metrics.dropped("tls_handshake_timeout"),
                },
            };
            server.serve_http(stream, peer, overloaded, counted).await;
        });
    }

    async fn serve_http(self: Arc<Self>, stream: Stream, peer: IpAddr, overloaded: bool, counted: Counted) {
        let accepted = Arc::new(Mutex::new(None));
        let gate = Gate {
            router: TowerToHyperService::new(self.router.clone()),
            peer,
            overloaded,
            accepted: Arc::clone(&accepted),
            server: Arc::clone(&self),
        };
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HTTP_HEAD_TIMEOUT)
            .max_buf_size(HTTP_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), gate);
        let mut draining = self.draining.clone();
        let ended = {
            let mut going_away = pin!(draining.wait_for(|draining| *draining));
            let mut told = false;
            poll_fn(|context| {
                if !told && going_away.as_mut().poll(context).is_ready() {
                    told = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                connection.poll_without_shutdown(context)
            })
            .await
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an HTTP connection ended");
        }
        let accepted = accepted.lock().unwrap_or_else(PoisonError::into_inner).take();
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        if let Some(accepted) = accepted {
            self.serve_websocket(stream.into_socket(), parts.read_buf.to_vec(), &accepted, overloaded, counted);
        } else if matches!(stream, Stream::Tls(_)) {
            // So that the client knows the end from a cut. It may be gone already.
            let _ = timeout(CLOSE_LINGER, stream.shutdown()).await;
        }
    }

    /// A task of its own, so that nothing of the HTTP connection stays in memory.
    fn serve_websocket(
        &self,
        socket: Socket,
        already_read: Vec<u8>,
        accepted: &Accepted,
        overloaded: bool,
        counted: Counted,
    ) {
        let (context, metrics, format) = (Arc::clone(&self.websocket), Arc::clone(&self.metrics), accepted.format);
        if overloaded || *self.draining.borrow() {
            tokio::spawn(async move {
                ending::refuse(socket, &metrics).await;
                drop(counted);
            });
        } else {
            tokio::spawn(async move {
                task::serve(context, socket, already_read, format).await;
                drop(counted);
            });
        }
    }
}

/// What a connection's requests come to first.
struct Gate {
    server: Arc<Server>,
    router: TowerToHyperService<Router>,
    peer: IpAddr,
    overloaded: bool,
    /// Set when the connection is to be a WebSocket after the response.
    accepted: Arc<Mutex<Option<Accepted>>>,
}

impl Gate {
    fn connect(&self, request: &Request<Incoming>) -> Response<Body> {
        if let Err(wait) = self.server.address_limit.take(self.client(request.headers())) {
            let error = ApiError::rate_limited("too many connects from this address: wait and try again", wait);
            return self.refusal(&error);
        }
        // Browsers let any page open a WebSocket to anywhere: this is what keeps others' pages out.
        if self.server.origins.of(request.headers()) == Origin::Foreign {
            return self.refusal(&ApiError::new(ErrorCode::PermissionDenied, FOREIGN));
        }
        match handshake::check(request) {
            Ok(accepted) => {
                let response = accepted.response();
                *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepted);
                response
            }
            Err(response) => *response,
        }
    }

    /// Whose request it is, as far as the proxies that we trust know.
    fn client(&self, headers: &HeaderMap) -> IpAddr {
        client_address(self.peer, headers, &self.server.trusted_proxies)
    }

    fn refusal(&self, error: &ApiError) -> Response<Body> {
        self.server.metrics.error(Door::Http, error.code);
        error.clone().into_response()
    }
}

impl Service<Request<Incoming>> for Gate {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if request.uri().path() == CONNECT_PATH {
            let response = self.connect(&request);
            return Box::pin(async move { Ok(response) });
        }
        if self.overloaded {
            let response = self.refusal(&ApiError::unavailable("this server has no room for more: try again later"));
            return Box::pin(async move { Ok(response) });
        }
        let client = self.client(request.headers());
        request.extensions_mut().insert(PeerAddress(client));
        Box::pin(self.router.call(request))
    }
}

/// Errors of `accept` that concern only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// How many are open, for the limit. Counts down when dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>, Arc<Metrics>);

impl Counted {
    /// One more. Also returns how many there are with it.
    fn new(count: &Arc<AtomicUsize>, metrics: &Arc<Metrics>) -> (Self, usize) {
        let open = count.fetch_add(1, Ordering::AcqRel) + 1;
        metrics.connections.inc();
        (Self(Arc::clone(count), Arc::clone(metrics)), open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        self.1.connections.dec();
    }
}

//! An edge node as a whole: put together, started, drained and stopped.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus_client::registry::Registry;
use tidings_ingest::{Log, LogError};
use tidings_schemas::{
    client::{self, server_frame::Body},
    clock::{Clock, Entropy},
    errors::CloseCode,
    limits::{DRAIN_TIMEOUT, HEARTBEAT_BATCH_INTERVAL, TLS_RELOAD_INTERVAL},
    views::ViewStore,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    auth::{Auth, AuthConfig, KeysError},
    commands::Commands,
    config::Config,
    connections::Connections,
    deliveries::Deliveries,
    http::{self, Host, Http, HttpConfig, origins::Origins},
    leases::EdgeIdentity,
    membership::Membership,
    metrics::Metrics,
    rate_limits::{AddressLimit, RateLimit},
    read::{HistoryCache, HistoryReader, Reads},
    receipts::Receipts,
    revocations::Revocations,
    server::{self, Server},
    sessions::{SessionContext, Sessions},
    shared_limits::SharedLimits,
    signals::Signals,
    tls::{Certificate, TlsError},
    verdicts::Verdicts,
    websocket::{format::notice, task},
};

/// How often time-outs of verdicts are looked for.
const VERDICTS_EXPIRE_INTERVAL: Duration = Duration::from_millis(50);
/// How often the outgoing queues are summed up for the metrics.
const QUEUES_SUM_INTERVAL: Duration = Duration::from_secs(1);

/// What an edge is started with.
pub struct Dependencies {
    /// Which edge this is: leased, or the only one.
    pub identity: EdgeIdentity,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The views.
    pub views: Arc<dyn ViewStore>,
    /// What is older than the views' tails; without it, lists end there.
    pub history: Option<Arc<dyn HistoryReader>>,
    /// The process around the edge: readiness and metrics.
    pub host: Arc<dyn Host>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The folder where keys are kept, unless the settings name another one.
    pub data_directory: PathBuf,
    /// The most members of a group (the stage's setting), for messages.
    pub group_members_max: u32,
}

/// Why an edge does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {error} (is another server running there?)")]
    Listen {
        /// The address of the settings.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The keys of the tokens, or an issuer's.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The log has no partition for this edge, or cannot be read.
    #[error(
        "the deliveries of edge {edge_id} cannot be read: {error} (hint: is its number below the partitions of deliveries?)"
    )]
    Deliveries {
        /// The number of the settings.
        edge_id: u32,
        /// What the log says.
        error: LogError,
    },
    /// The certificate of the port, or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What edges tell each other cannot be read.
    #[error("the edges' leases cannot be read: {error} (is the log there?)")]
    Leases {
        /// What the log says.
        error: LogError,
    },
    /// The log's directory cannot be read.
    #[error("the directory cannot be read: {error} (is the log there?)")]
    Directory {
        /// What the log says.
        error: LogError,
    },
}

/// A running edge. Dropping it stops nothing: call [`Handle::shutdown`].
pub struct Handle {
    address: SocketAddr,
    config: Config,
    entropy: Arc<dyn Entropy>,
    connections: Arc<Connections>,
    /// Open connections, of both doors.
    open: Arc<AtomicUsize>,
    draining: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts an edge inside the running tokio runtime.
///
/// # Errors
/// [`StartError`].
pub fn start(
    config: Config,
    auth: AuthConfig,
    http: HttpConfig,
    dependencies: Dependencies,
    registry: &mut Registry,
) -> Result<Handle, StartError> {
    let certificate = Certificate::open(&config.tls)?.map(Arc::new);
    let listen_failed = |error| StartError::Listen { address: config.listen, error };
    let listener = server::listen(config.listen).map_err(listen_failed)?;
    let address = listener.local_addr().map_err(listen_failed)?;
    let (identity, host) = (dependencies.identity, Arc::clone(&dependencies.host));
    let core = Core::new(&config, auth, dependencies, registry)?;
    let address_limit = Arc::new(AddressLimit::new(
        Arc::clone(&core.clock),
        config.address_requests_per_second,
        config.address_requests_burst,
        config.limit_loopback,
    ));
    let origins = Arc::new(Origins::new(&http.allowed_origins));
    let router = http::router(
        Http {
            config: http,
            commands: Arc::clone(&core.commands),
            reads: Arc::clone(&core.reads),
            auth: Arc::clone(&core.websocket.auth),
            address_limit: Arc::clone(&address_limit),
            host,
            metrics: Arc::clone(&core.metrics),
            clock: Arc::clone(&core.clock),
            epoch: core.websocket.session_context.epoch.clone(),
        },
        Arc::clone(&origins),
        registry,
    );
    let (draining, on_draining) = watch::channel(false);
    let open = Arc::new(AtomicUsize::new(0));
    let server = Arc::new(Server {
        router,
        websocket: Arc::clone(&core.websocket),
        certificate: certificate.clone(),
        origins,
        trusted_proxies: config.trusted_proxies.clone(),
        address_limit,
        metrics: Arc::clone(&core.metrics),
        connections_max: config.connections_max,
        open: Arc::clone(&open),
        draining: on_draining,
    });
    let connections = Arc::clone(&core.websocket.connections);
    let entropy = Arc::clone(&core.websocket.entropy);
    let mut tasks = core.start()?;
    tasks.push(tokio::spawn(server.accept(listener)));
    tasks.extend(certificate.map(reload_certificate));
    tracing::info!(%address, edge_id = identity.edge_id, "the edge is listening");
    Ok(Handle { address, config, entropy, connections, open, draining, tasks })
}

/// An edge without its doors.
struct Core {
    log: Arc<dyn Log>,
    identity: EdgeIdentity,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    reads: Arc<Reads>,
    commands: Arc<Commands>,
    websocket: Arc<task::Context>,
}

impl Core {
    fn new(
        config: &Config,
        auth: AuthConfig,
        dependencies: Dependencies,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let Dependencies { identity, log, views, history, clock, entropy, data_directory, group_members_max, .. } =
            dependencies;
        let metrics = Arc::new(Metrics::new(registry));
        let history = history.map(|history| {
            let clock = Arc::clone(&clock);
            HistoryCache::new(history, config.history_cache_bytes, clock, registry) as Arc<dyn HistoryReader>
        });
        let reads = Arc::new(Reads::new(views, history, log.partition_counts()));
        let auth_service = Auth::open(
            auth,
            &data_directory,
            Arc::clone(&log),
            Arc::clone(&reads),
            Arc::clone(&clock),
            Arc::clone(&entropy),
        )?;
        let verdict_timeout = Duration::from_millis(config.verdict_timeout_ms);
        let verdicts = Arc::new(Verdicts::new(Arc::clone(&clock), entropy.as_ref(), verdict_timeout));
        let signals = Signals::new(&log, identity, Arc::clone(&clock), entropy.as_ref(), Arc::clone(&metrics));
        let signals = Arc::new(signals);
        let membership = Arc::new(Membership::new(Arc::clone(&log), Arc::clone(&reads), Arc::clone(&clock)));
        let receipts = Arc::new(Receipts::new(
            &log,
            Arc::clone(&membership),
            Duration::from_millis(config.receipt_interval_ms),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        ));
        let commands = Arc::new(Commands {
            log: Arc::clone(&log),
            reads: Arc::clone(&reads),
            verdicts,
            signals: Arc::clone(&signals),
            receipts,
            membership,
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            metrics: Arc::clone(&metrics),
            user_sends: Arc::new(RateLimit::new(
                Arc::clone(&clock),
                config.user_sends_per_second,
                config.user_sends_burst,
            )),
            edge_id: identity.edge_id,
            group_members_max,
        });
        let session_context = Arc::new(SessionContext {
            reads: Arc::clone(&reads),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            epoch: epoch(log.log_id()),
            heartbeat_interval_ms: config.heartbeat_interval_ms,
        });
        let websocket = Arc::new(task::Context {
            auth: Arc::new(auth_service),
            commands: Arc::clone(&commands),
            sessions: Arc::new(Sessions::default()),
            session_context,
            signals,
            connections: Arc::new(Connections::default()),
            clock: Arc::clone(&clock),
            entropy,
            metrics: Arc::clone(&metrics),
            hello_timeout: Duration::from_millis(config.hello_timeout_ms),
            ping_interval: Duration::from_millis(config.ping_interval_ms),
            outgoing_queue_bytes_max: config.outgoing_queue_bytes_max,
        });
        Ok(Self { log, identity, clock, metrics, reads, commands, websocket })
    }

    /// Starts what runs besides the connections.
    fn start(self) -> Result<Vec<JoinHandle<()>>, StartError> {
        let Self { log, identity, clock, metrics, reads, commands, websocket } = self;
        let (sessions, signals) = (&websocket.sessions, &websocket.signals);
        let revocations = Revocations {
            sessions: Arc::clone(sessions),
            auth: Arc::clone(&websocket.auth),
            reads: Arc::clone(&reads),
            metrics: Arc::clone(&metrics),
        };
        let deliveries = Deliveries {
            sessions: Arc::clone(sessions),
            verdicts: Arc::clone(&commands.verdicts),
            signals: Arc::clone(signals),
            reads,
            clock,
            metrics: Arc::clone(&metrics),
        };
        let limit = Arc::clone(&commands.user_sends);
        let shared_limits = SharedLimits::open(&log, identity, limit, Arc::clone(&metrics))
            .map_err(|error| StartError::Leases { error })?;
        let edge_id = identity.edge_id;
        let deliveries = deliveries.start(&log, edge_id).map_err(|error| StartError::Deliveries { edge_id, error })?;
        let revocations = revocations.start(&log).map_err(|error| StartError::Directory { error })?;
        let mut tasks = vec![
            deliveries,
            tick_signals(Arc::clone(signals), Arc::clone(sessions)),
            sum_queues(Arc::clone(&websocket.connections), Arc::clone(&metrics)),
            expire_verdicts(Arc::clone(&commands.verdicts), metrics),
            commands.receipts.start(),
            shared_limits.start(),
        ];
        tasks.extend(revocations);
        Ok(tasks)
    }
}

/// An edge without a port, for simulations (feature `simulation`): its connections are handed in, as they are after the
/// handshake. Dropping it ends what runs besides the connections.
#[cfg(feature = "simulation")]
pub struct Portless {
    websocket: Arc<task::Context>,
    tasks: Vec<JoinHandle<()>>,
}

#[cfg(feature = "simulation")]
impl Portless {
    /// Starts it inside the running tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: &Config,
        auth: AuthConfig,
        dependencies: Dependencies,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let core = Core::new(config, auth, dependencies, registry)?;
        let websocket = Arc::clone(&core.websocket);
        Ok(Self { websocket, tasks: core.start()? })
    }

    /// Serves a connection until it ends.
    pub fn connect(
        &self,
        stream: impl crate::websocket::transport::Transport,
        format: crate::websocket::format::Format,
    ) -> JoinHandle<()> {
        tokio::spawn(task::serve(Arc::clone(&self.websocket), stream, Vec::new(), format))
    }
}

#[cfg(feature = "simulation")]
impl Drop for Portless {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for browsers: `https://` when it speaks TLS itself.
    pub fn url(&self) -> String {
        let scheme = if self.config.tls.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Goes away in good order: accepts nothing more, says `goaway`, closes with 4000 after a moment, waits (at most
    /// `DRAIN_TIMEOUT`) until all connections are gone, and stops.
    pub async fn shutdown(self) {
        // Nobody listens if all HTTP connections and the acceptor are gone already.
        let _ = self.draining.send(true);
        for connection in self.connections.all() {
            let base = u64::from(self.config.drain_reconnect_after_ms);
            let after = base + self.entropy.next_u64() % base.max(1);
            let reconnect_after_ms = u32::try_from(after).unwrap_or(u32::MAX);
            connection.send(&notice(Body::Goaway(client::GoAway { reconnect_after_ms })));
        }
        let gone = timeout(Duration::from_millis(self.config.drain_delay_ms), self.all_gone());
        if gone.await.is_err() {
            for connection in self.connections.all() {
                connection.close(CloseCode::GoingAway);
            }
            if timeout(DRAIN_TIMEOUT, self.all_gone()).await.is_err() {
                tracing::warn!("some connections did not end in time");
            }
        }
        for task in self.tasks {
            task.abort();
            // Aborted, or ended before: both are the end.
            let _ = task.await;
        }
    }

    async fn all_gone(&self) {
        while self.open.load(Ordering::Acquire) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The identity of a log's update streams: clients hand it back when they resume.
pub fn epoch(log_id: u128) -> String {
    format!("{:016x}", u64::try_from(log_id >> 64).unwrap_or_default())
}

/// The edge's sign of life, and what has waited for it. Sessions that the stage may have given up are opened again.
fn tick_signals(signals: Arc<Signals>, sessions: Arc<Sessions>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(HEARTBEAT_BATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let silent = signals.tick();
            if silent.is_empty() {
                continue;
            }
            for session in sessions.all() {
                if silent.contains(&signals.partition(session.user_id())) {
                    session.watched().again(|watched| {
                        signals.session_opened(session.user_id(), session.session_id(), session.device_id());
                        signals.watch(session.session_id(), watched, true);
                    });
                }
            }
        }
    })
}

/// Takes up a renewed certificate.
fn reload_certificate(certificate: Arc<Certificate>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(TLS_RELOAD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let certificate = Arc::clone(&certificate);
            match tokio::task::spawn_blocking(move || certificate.reload()).await {
                Ok(Ok(true)) => tracing::info!("the certificate has changed: new connections get the new one"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::error!(%error, "the changed certificate is no good: the old one stays"),
                Err(error) => tracing::error!(%error, "the certificate cannot be read again"),
            }
        }
    })
}

/// Sums what waits in all outgoing queues. Now and then, so that a frame on its way costs nothing for it.
fn sum_queues(connections: Arc<Connections>, metrics: Arc<Metrics>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(QUEUES_SUM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            metrics.outgoing_queue_bytes.set(i64::try_from(connections.queued_bytes()).unwrap_or(i64::MAX));
        }
    })
}

fn expire_verdicts(verdicts: Arc<Verdicts>, metrics: Arc<Metrics>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(VERDICTS_EXPIRE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let late = verdicts.expire();
            if late > 0 {
                tracing::warn!(late, "verdicts did not come in time");
            }
            metrics.verdicts_pending.set(i64::try_from(verdicts.pending()).unwrap_or(i64::MAX));
        }
    })
}

//! The edge of a process, with the number that it has leased.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tidings_edge::{
    self as edge, Dependencies,
    auth::AuthConfig,
    http::HttpConfig,
    leases::{EdgeIdentity, EdgeLease},
};

use super::health::Probe;

/// A running edge.
pub(super) struct RunningEdge {
    handle: edge::Handle,
    lease: Option<EdgeLease>,
}

impl RunningEdge {
    /// Starts an edge. `is_leased`: other edges may be there; else this one is known to be alone.
    pub(super) async fn start(
        config: edge::Config,
        auth: AuthConfig,
        mut http: HttpConfig,
        mut dependencies: Dependencies,
        is_leased: bool,
        registry: &mut Registry,
    ) -> Result<Self> {
        http.web_directory = http.web_directory.or_else(web_directory);
        let lease = if is_leased {
            let log = dependencies.log.clone();
            let lease =
                EdgeLease::acquire(log, &config, dependencies.clock.clone(), dependencies.entropy.as_ref()).await;
            Some(lease.context("this edge gets no number")?)
        } else {
            None
        };
        // Alone, the time is later than any earlier run's.
        let alone = EdgeIdentity { edge_id: 0, run: dependencies.clock.now_ms().cast_unsigned() };
        dependencies.identity = lease.as_ref().map_or(alone, EdgeLease::identity);
        let handle = edge::start(config, auth, http, dependencies, registry).context("cannot start the edge")?;
        Ok(Self { handle, lease })
    }

    /// Whether it is well.
    pub(super) fn probe(&self) -> Option<Probe> {
        self.lease.as_ref().map(|lease| Box::new(lease.probe()) as Probe)
    }

    /// Its address for browsers.
    pub(super) fn url(&self) -> String {
        self.handle.url()
    }

    /// Waits until the edge must not go on, and says why.
    pub(super) async fn failure(&mut self) -> String {
        match &mut self.lease {
            Some(lease) => {
                lease.lost().await;
                "another edge has this edge's number, since this one was away for too long (hint: start it again)"
                    .to_owned()
            }
            None => std::future::pending().await,
        }
    }

    /// Sends the clients away, and gives the number back.
    pub(super) async fn shutdown(self) {
        self.handle.shutdown().await;
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

/// The built web client: beside the program in a checkout, or below the working folder.
fn web_directory() -> Option<PathBuf> {
    let in_checkout = |folder: &Path| {
        let dist = folder.join("edge/web/dist");
        dist.join("index.html").is_file().then_some(dist)
    };
    let program = std::env::current_exe().ok();
    program
        .iter()
        .flat_map(|program| program.ancestors().skip(1))
        .find_map(in_checkout)
        .or_else(|| in_checkout(&std::env::current_dir().ok()?))
}

//! The views of a process, by its settings: the store, and the projection that writes it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tidings_dataflow::{
    assignment::{Assignment, Partitions},
    views::{
        projection::{self, ProjectionConfig},
        redis::RedisViews,
        store::FjallViews,
    },
};
use tidings_ingest::Log;
use tidings_schemas::{clock::Entropy, views::ViewStore};

use super::health::Health;
use crate::config::{Settings, ViewsKind};

/// The store.
#[derive(Clone)]
pub(super) struct OpenViews {
    /// For the projection.
    store: Arc<dyn ViewStore>,
    /// For the edge.
    pub(super) for_readers: Arc<dyn ViewStore>,
    embedded: Option<FjallViews>,
}

impl OpenViews {
    /// Opens the store that the settings name.
    pub(super) fn open(settings: &Settings, data: &Path, log: &dyn Log, entropy: &dyn Entropy) -> Result<Self> {
        match settings.node.views {
            ViewsKind::Embedded => {
                let views = FjallViews::open(&data.join("views"), log.log_id(), &settings.views);
                let views = views.context("cannot open the views")?;
                let for_readers = Arc::new(views.for_readers());
                Ok(Self { store: Arc::new(views.clone()), for_readers, embedded: Some(views) })
            }
            ViewsKind::Redis => {
                let views = RedisViews::new(&settings.redis, log.log_id(), entropy.next_u64());
                let views = views.context("the settings of redis cannot be used")?;
                let partitions = u32::try_from(projection::all_partitions(log).len()).unwrap_or(u32::MAX);
                let for_readers = Arc::new(views.for_readers(partitions));
                Ok(Self { store: Arc::new(views), for_readers, embedded: None })
            }
        }
    }

    /// The store in the data folder, if it is that.
    pub(super) fn embedded(&self) -> Option<FjallViews> {
        self.embedded.clone()
    }

    /// The last word at the end of the process.
    pub(super) fn close(&self) {
        if let Some(Err(error)) = self.embedded.as_ref().map(FjallViews::sync) {
            tracing::warn!(%error, "the views are not synced: they are brought up to date at the next start");
        }
    }
}

/// What writes the views.
pub(super) struct RunningProjection {
    handle: Arc<projection::Handle>,
}

impl RunningProjection {
    /// Starts it on these partitions; the process is ready once they have been caught up with.
    pub(super) fn start(
        config: &ProjectionConfig,
        partitions: Partitions,
        log: &Arc<dyn Log>,
        views: &OpenViews,
        health: &Health,
        registry: &mut Registry,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let store = Arc::clone(&views.store);
        let handle = projection::start(config, partitions, Arc::clone(log), store, runtime, registry)
            .context("cannot start the views' projection")?;
        let handle = Arc::new(handle);
        let progress = Arc::downgrade(&handle);
        let was_ready = AtomicBool::new(false);
        health.add(
            "views",
            Box::new(move || {
                // Once caught up, being a moment behind is how it works.
                let ready = was_ready.load(Ordering::Relaxed)
                    || progress.upgrade().is_some_and(|projection| projection.is_caught_up());
                was_ready.store(ready, Ordering::Relaxed);
                (!ready).then(|| "the views are still being brought up to date from the log".to_owned())
            }),
        );
        Ok(Self { handle })
    }

    /// Which partitions it follows, to be changed.
    pub(super) fn assignment(&self) -> Assignment {
        self.handle.assignment()
    }

    /// Stops after the batch at hand.
    pub(super) async fn shutdown(self) {
        if let Some(handle) = Arc::into_inner(self.handle) {
            handle.shutdown().await;
        }
    }
}

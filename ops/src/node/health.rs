//! What the process says of itself: whether it is ready, and what it counts.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tidings_edge::http::{Check, Host};

/// Whether one part is well: what is wrong, or nothing.
pub(super) type Probe = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The process around the edge.
#[derive(Default)]
pub(super) struct Health {
    probes: Mutex<Vec<(&'static str, Probe)>>,
    registry: OnceLock<Arc<Registry>>,
}

impl Health {
    /// Adds a part to readiness.
    pub(super) fn add(&self, name: &'static str, probe: Probe) {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).push((name, probe));
    }

    /// From now on these metrics are shown.
    pub(super) fn show(&self, registry: Arc<Registry>) {
        // Set once, when everything is started.
        let _ = self.registry.set(registry);
    }
}

#[async_trait]
impl Host for Health {
    async fn checks(&self) -> Vec<Check> {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.iter().map(|(name, probe)| Check { name, problem: probe() }).collect()
    }

    fn metrics_text(&self) -> String {
        let mut text = String::new();
        if let Some(registry) = self.registry.get() {
            // Writing to a string does not fail.
            let _ = encode(&mut text, registry);
        }
        text
    }
}

//! What the process around the edge answers: whether it is ready, and its metrics.

use async_trait::async_trait;
use serde::Serialize;

/// One thing that must be well for the process to be ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is checked, such as `log` or `views`.
    pub name: &'static str,
    /// What is wrong; `None`: nothing.
    pub problem: Option<String>,
}

/// The process around the edge.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// All checks, each within a second or so.
    async fn checks(&self) -> Vec<Check>;

    /// All metrics, in the OpenMetrics text format.
    fn metrics_text(&self) -> String;
}

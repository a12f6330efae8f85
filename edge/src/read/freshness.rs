//! What this edge has already told somebody, so that it never reads anything older afterwards: a client that has its
//! verdict, or was pushed an update, finds it in the next read on the same edge.

use std::sync::atomic::{AtomicU64, Ordering};

use tidings_schemas::{
    limits::VIEW_WAIT_TIMEOUT,
    topics::{Partitions, Topic},
    views::{ViewError, ViewStore},
    wire,
};

/// For each partition of `events` and `fanout`, the position after the newest record that this edge has spoken of.
#[derive(Debug)]
pub struct Freshness {
    events: Vec<AtomicU64>,
    fanout: Vec<AtomicU64>,
}

impl Freshness {
    /// Nothing spoken of yet.
    pub fn new(partitions: Partitions) -> Self {
        let zeros = |topic| (0..partitions.of(topic)).map(|_| AtomicU64::new(0)).collect();
        Self { events: zeros(Topic::Events), fanout: zeros(Topic::Fanout) }
    }

    /// What follows from this record of `events` has been shown to a client.
    pub fn note_events(&self, source: &wire::Source) {
        note(&self.events, source);
    }

    /// What follows from this record of `fanout` has been shown to a client.
    pub fn note_fanout(&self, source: &wire::Source) {
        note(&self.fanout, source);
    }

    /// Waits until the views hold all that this edge has shown from one partition of `events`.
    pub(super) async fn wait_events(&self, views: &dyn ViewStore, partition: u32) -> Result<(), ViewError> {
        wait(views, Topic::Events, partition, self.events.get(partition as usize)).await
    }

    /// Waits until the views hold all that this edge has shown from any partition of `events`.
    pub(super) async fn wait_all_events(&self, views: &dyn ViewStore) -> Result<(), ViewError> {
        for (partition, next) in (0..).zip(&self.events) {
            wait(views, Topic::Events, partition, Some(next)).await?;
        }
        Ok(())
    }

    /// Waits until the views hold all that this edge has shown from one partition of `fanout`.
    pub(super) async fn wait_fanout(&self, views: &dyn ViewStore, partition: u32) -> Result<(), ViewError> {
        wait(views, Topic::Fanout, partition, self.fanout.get(partition as usize)).await
    }
}

fn note(positions: &[AtomicU64], source: &wire::Source) {
    if let Some(next) = positions.get(source.partition as usize) {
        next.fetch_max(source.offset.saturating_add(1), Ordering::Relaxed);
    }
}

async fn wait(views: &dyn ViewStore, topic: Topic, partition: u32, next: Option<&AtomicU64>) -> Result<(), ViewError> {
    match next.map(|next| next.load(Ordering::Relaxed)) {
        None | Some(0) => Ok(()),
        Some(next) => views.wait_past(topic, partition, next - 1, VIEW_WAIT_TIMEOUT).await,
    }
}

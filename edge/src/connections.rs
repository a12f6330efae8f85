//! All open WebSockets of this edge, with a session or not yet: for saying goodbye to all of them.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::websocket::queue::Connection;

/// The open connections.
#[derive(Default)]
pub struct Connections {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next_place: u64,
    by_place: HashMap<u64, Arc<Connection>>,
}

impl Connections {
    /// Enters a connection. Returns its place, to leave with.
    pub fn enter(&self, connection: &Arc<Connection>) -> u64 {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = open.next_place;
        open.next_place += 1;
        open.by_place.insert(place, Arc::clone(connection));
        place
    }

    /// The connection is closed.
    pub fn leave(&self, place: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).by_place.remove(&place);
    }

    /// Bytes that wait in all their outgoing queues.
    pub fn queued_bytes(&self) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_place.values().map(|connection| connection.queued_bytes()).sum()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).by_place.values().cloned().collect()
    }
}

//! The thread that syncs the journal now and then, so that a power cut takes no more than the last moment away.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use fjall::{Database, PersistMode};

/// Stops, after a last sync, when dropped.
pub(super) struct JournalSync {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl JournalSync {
    pub(super) fn start(database: Database, interval: Duration) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("views-sync".to_owned()).spawn(move || {
            let (flag, changed) = &*stopped;
            let mut synced_at = None;
            loop {
                let guard = flag.lock().unwrap_or_else(PoisonError::into_inner);
                let (guard, _) =
                    changed.wait_timeout_while(guard, interval, |stop| !*stop).unwrap_or_else(PoisonError::into_inner);
                let stop = *guard;
                drop(guard);
                // Nothing new, nothing to sync: an idle server leaves the disk alone.
                let written_at = database.seqno();
                if synced_at != Some(written_at) {
                    match database.persist(PersistMode::SyncData) {
                        Ok(()) => synced_at = Some(written_at),
                        Err(error) => tracing::error!(%error, "the views' journal cannot be synced: check the disk"),
                    }
                }
                if stop {
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for JournalSync {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread panics on nothing; were it to, there would be nothing left to stop.
            let _ = thread.join();
        }
    }
}
